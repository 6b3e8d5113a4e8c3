"""The commands below `aigc make`: one a film, sound, piece or page. The library is imported inside them (see `cli`)."""

import argparse
from collections.abc import Callable
from pathlib import Path


def make_slow_motion(arguments: argparse.Namespace) -> int:
    from aigc_lib.applications.slow_motion import slow_motion

    options = {"factor": arguments.factor, "beyond": arguments.beyond, "device": arguments.device}
    print(slow_motion(arguments.source, arguments.out, **options))
    return 0


def make_enhance(arguments: argparse.Namespace) -> int:
    from aigc_lib.applications.enhancement import enhance

    options = {"scale": arguments.scale, "noise": arguments.noise, "device": arguments.device}
    print(enhance(arguments.source, arguments.out, **options))
    return 0


def make_edit(arguments: argparse.Namespace) -> int:
    from aigc_lib.applications.editing import edit

    given = ("seconds", "music", "match_colours", "transition")
    clips = edit(arguments.source, arguments.out, **{name: getattr(arguments, name) for name in given})
    print(f"{arguments.out} and {arguments.out.with_suffix('.edl').name}: {len(clips)} clips")
    return 0


def make_latent_film(arguments: argparse.Namespace) -> int:
    from aigc_lib.applications.latent_film import latent_film

    print(latent_film(arguments.out, seconds=arguments.seconds, seed=arguments.seed, device=arguments.device))
    return 0


def make_effect(arguments: argparse.Namespace) -> int:
    from aigc_lib.applications.sound_effects import sound_effect

    options = {"seconds": arguments.seconds, "seed": arguments.seed, "device": arguments.device}
    print(sound_effect(arguments.kind, arguments.out, **options))
    return 0


def make_music(arguments: argparse.Namespace) -> int:
    from aigc_lib.applications.music import music

    given = ("melody", "metre", "bars", "temperature", "seed", "device")
    print(*music(arguments.task, arguments.out, **{name: getattr(arguments, name) for name in given}), sep="\n")
    return 0


def make_presenter(arguments: argparse.Namespace) -> int:
    from aigc_lib.applications.presenter import presenter

    options = {name: getattr(arguments, name) for name in ("language", "expression", "seed", "subtitles")}
    print(presenter(arguments.text, arguments.out, size=tuple(arguments.size), **options))
    return 0


def make_captions(arguments: argparse.Namespace) -> int:
    from aigc_lib.applications.captions import captions

    transcript = arguments.transcript.read_text(encoding="utf-8") if arguments.transcript else None
    made = captions(
        arguments.source,
        arguments.out,
        language=arguments.language,
        recogniser=arguments.recogniser,
        transcript=transcript,
        translate=arguments.translate,
        burn=arguments.burn,
    )
    print(f"{arguments.out}: {len(made)} captions")
    return 0


def make_scene(arguments: argparse.Namespace) -> int:
    from aigc_lib.applications.scene import scene

    given = ("light", "sounds", "music", "seconds", "level", "height", "seed")
    print(scene(arguments.out, **{name: getattr(arguments, name) for name in given}))
    return 0


def make_clip(arguments: argparse.Namespace) -> int:
    from aigc_lib.applications.clip import clip

    print(clip(arguments.sentence, arguments.out, size=tuple(arguments.size), seed=arguments.seed))
    return 0


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


def add_commands(
    make: argparse._SubParsersAction,
    command: Callable[..., argparse.ArgumentParser],
    placed: argparse.ArgumentParser,
    seeded: argparse.ArgumentParser,
) -> None:
    """Declare them. `command` adds one to a group; `placed` and `seeded` hold the options --device and --seed."""
    made = command(make, "slow-motion", make_slow_motion, "stretch a film with new frames between its frames", placed)
    made.add_argument("source", type=Path, help="video file of constant frame rate")
    made.add_argument("out", type=Path, help="file to write, .mp4")
    made.add_argument("--factor", type=positive, default=4, help="how many times as long, up to 16 (4)")
    made.add_argument("--beyond", type=int, default=0, help="frames to predict after the end (0)")
    made = command(make, "enhance", make_enhance, "enlarge a film twice, or take noise away", placed)
    made.add_argument("source", type=Path, help="video file of constant frame rate")
    made.add_argument("out", type=Path, help="file to write, .mp4")
    made.add_argument("--scale", type=int, choices=(1, 2), default=2, help="times the height and width (2)")
    made.add_argument("--noise", type=float, help="in grey levels of 255, 0 to 25 (estimated)")
    made = command(make, "edit", make_edit, "cut a film to its liveliest moments, with an edit decision list")
    made.add_argument("source", type=Path, help="video file of constant frame rate")
    made.add_argument("out", type=Path, help="file to write, .mp4; the list goes beside it, .edl")
    made.add_argument("--seconds", type=float, required=True, help="how long the new film is")
    made.add_argument("--music", type=Path, help="sound file to be heard instead; clips begin on its beats")
    made.add_argument("--match-colours", action="store_true", help="give all clips the same mean and spread of colour")
    made.add_argument("--transition", default="cut", help="cut, dissolve or wipe (cut)")
    made = command(make, "latent-film", make_latent_film, "let StyleGAN walk in a circle, with music", seeded)
    made.add_argument("out", type=Path, help="file to write, .mp4")
    made.add_argument("--seconds", type=float, default=5.0, help="1 to 60 (5)")

    made = command(make, "effect", make_effect, "make a sound effect, or an ambience without a seam", seeded)
    made.add_argument("kind", help="such as bell or rain; a wrong one lists all")
    made.add_argument("out", type=Path, help="file to write, .wav, .flac or .ogg")
    made.add_argument("--seconds", type=float, help="effects 0.25 to 1 (0.7), ambiences 2 to 60 (8)")

    made = command(make, "music", make_music, "continue a melody, harmonise one, or invent a rhythm", seeded)
    made.add_argument("task", choices=("continue", "harmonise", "rhythm"))
    made.add_argument("out", type=Path, help=".musicxml, .mid, .wav or .png (a piano roll); without a suffix all four")
    made.add_argument("--melody", type=Path, help="ABC, MIDI or MusicXML file (one that the models never saw)")
    made.add_argument("--metre", help="of a rhythm, such as 6/8")
    made.add_argument("--bars", type=positive, default=8, help="to add or invent, up to 64 (8)")
    made.add_argument("--temperature", type=float, default=0.9, help="1 is the model's own distribution (0.9)")

    made = command(make, "presenter", make_presenter, "let a drawn presenter say a text")
    made.add_argument("text", help="what to say")
    made.add_argument("out", type=Path, help="file to write, .mp4")
    made.add_argument("--language", default="en", help="en, or zh with espeakng-loader (en)")
    made.add_argument("--expression", default="neutral", help="neutral, happy or serious (neutral)")
    made.add_argument("--size", type=positive, nargs=2, default=(320, 320), metavar=("H", "W"), help="pixels (320 320)")
    made.add_argument("--seed", type=int, default=0, help="of looks and motion (0)")
    made.add_argument("--no-subtitles", dest="subtitles", action="store_false", help="leave the captions out")

    made = command(make, "captions", make_captions, "caption what is said in a recording or a film")
    made.add_argument("source", type=Path, help="sound file, or film with sound")
    made.add_argument("out", type=Path, help="file to write: .srt, .vtt, or .mp4 for the film with a track of captions")
    made.add_argument("--language", default="en", help="en or zh, which needs a transcript (en)")
    made.add_argument("--recogniser", default="pocketsphinx", help="pocketsphinx or whisper (pocketsphinx)")
    made.add_argument("--transcript", type=Path, help="text file of what is said, to be timed instead of recognised")
    made.add_argument("--translate", action="store_true", help="from Chinese: an English line below each")
    made.add_argument("--burn", action="store_true", help="put the captions into the pictures of the .mp4")

    made = command(make, "scene", make_scene, "make a world all around, with sounds and a game, for any browser")
    made.add_argument("out", type=Path, help="file to write, .html; the game's note map is put beside it, .json")
    made.add_argument("--light", default="dusk", help="day, dusk or night (dusk)")
    made.add_argument("--sounds", nargs="*", default=("fire", "chirp", "bell"), help="a wrong one lists all")
    made.add_argument("--music", type=Path, help="sound file to play to (a tune with a drum is made)")
    made.add_argument("--seconds", type=float, default=24.0, help="that the made tune lasts, 6 to 120 (24)")
    made.add_argument("--level", default="normal", help="of the game: easy, normal or expert (normal)")
    made.add_argument("--height", type=positive, default=1536, help="of the panorama in pixels (1536)")
    made.add_argument("--seed", type=int, default=0, help="of everything random (0)")

    made = command(make, "clip", make_clip, "make a film of a sentence: pictures, voice, music, captions, credentials")
    made.add_argument("sentence", help="English, about 30 words at most")
    made.add_argument("out", type=Path, help="file to write, .mp4")
    made.add_argument("--size", type=positive, nargs=2, default=(360, 640), metavar=("H", "W"), help="pixels (360 640)")
    made.add_argument("--seed", type=int, default=0, help="of music, looks and effects (0)")
