"""The command `aigc`: train, sample, evaluate, make, data, course, gpu-check. The library does the work.

    aigc train gan --profile laptop         python -m aigc_lib.cli …         torchrun … -m aigc_lib.cli train gan

Exit codes: 0 done, 1 it ran and something is wrong (a chapter failed), 2 a mistake in what was asked, 130 stopped.
The library is imported inside the commands, so that `aigc --help` answers at once.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

PROFILES = ("smoke", "laptop", "gpu")
DATA_COLUMNS = ("name", "modality", "train", "validation", "test", "installed", "licence", "packages")


def train(arguments: argparse.Namespace) -> int:
    from aigc_lib import training

    name = training.full_name(arguments.recipe)
    result = training.train(
        name,
        profile=arguments.profile,
        device=arguments.device,
        seed=arguments.seed,
        steps=arguments.steps,
        out=arguments.out or Path("runs") / f"{name}-{arguments.profile}",
        resume=not arguments.fresh,
    )
    if os.environ.get("RANK", "0") == "0":  # torchrun starts several of us; one speaks
        losses = {key: value for key, value in result.history[-1].items() if key != "step"} if result.history else {}
        print(f"{name}: {result.step} steps", *(f"{key} {value:.4g}" for key, value in losses.items()), sep="  ")
        print(f"checkpoint: {result.checkpoint}")
        if arguments.ship:
            from aigc_lib.training.publish import publish

            command = (
                f"aigc train {name} --profile {arguments.profile} --steps {result.step} --seed {arguments.seed} --ship"
            )
            print(f"shipped: {publish(result, command=command)}")
    return 0


def sample(arguments: argparse.Namespace) -> int:
    from aigc_lib import training
    from aigc_lib.training import recipes

    name = training.full_name(arguments.name)
    out = arguments.out or Path(f"{name}{recipes.resolve(name).samples_suffix}")
    print(training.sample(name, n=arguments.n, out=out, seed=arguments.seed, device=arguments.device))
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    from aigc_lib import training

    if arguments.name == "vocoders":
        from aigc_lib.training.vocoders import compare

        rows = compare(n=arguments.n, seed=arguments.seed, device=arguments.device)
        print(table([list(rows[0]), *(list(row.values()) for row in rows)]))
        return 0
    metrics = training.evaluate(arguments.name, n=arguments.n, seed=arguments.seed, device=arguments.device)
    print(table([[metric, f"{value:.4g}"] for metric, value in metrics.items()]))
    return 0


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


def provenance(arguments: argparse.Namespace) -> int:
    from aigc_lib.trust.provenance import read

    found = read(arguments.file)
    rows = [[name, str(value)] for name, value in vars(found).items() if value and name != "ingredients"]
    print(table([*rows, *(["made with", f"{name} {what}"] for name, what in found.ingredients.items())]))
    return 1 if found.state == "tampered" else 0


def data_list(arguments: argparse.Namespace) -> int:
    from aigc_lib.datasets import provenance

    rows = [row for row in provenance.rows() if row["name"] in (arguments.names or [row["name"]])]
    for name in arguments.names:
        provenance.info(name)  # an unknown one is an error that lists the known
    print(table([DATA_COLUMNS, *([row[column] for column in DATA_COLUMNS] for row in rows)]))
    return 0


def data_check(arguments: argparse.Namespace) -> int:
    from aigc_lib.datasets import provenance

    for name in arguments.names or ["all"]:
        for found in provenance.check(name):
            print(f"✓ {found.name}: {found.n_files} files, sha256 {found.digest[:12]}…", *found.notes, sep="; ")
    return 0


def data_prepare(arguments: argparse.Namespace) -> int:
    from aigc_lib import datasets

    datasets.prepare(arguments.names or None)
    return 0


def course_run(arguments: argparse.Namespace) -> int:
    from aigc_lib.teaching import course

    report = course.run(
        arguments.chapters,
        profile=arguments.profile,
        seed=arguments.seed,
        device=arguments.device,
        out=arguments.out,
        fresh=arguments.fresh,
        jobs=arguments.jobs,
        notebooks=arguments.notebooks,
    )
    print(f"report: {arguments.out / 'report.html'}")
    print(f"{report.n_passed} passed, {report.n_failed} failed")
    return 1 if report.n_failed else 0


def course_list(arguments: argparse.Namespace) -> int:
    from aigc_lib.teaching import course

    print(table([[chapter.path.name, chapter.title] for chapter in course.chapters(arguments.notebooks)]))
    return 0


def course_coverage(arguments: argparse.Namespace) -> int:
    from aigc_lib.teaching import course_map

    print(course_map.coverage_report())
    return 0


def gpu_check(arguments: argparse.Namespace) -> int:
    from aigc_lib.training import gpu_check as check

    return check.main()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="aigc", description="Train and use the course's models; run the course.")
    root.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = root.add_subparsers(required=True, metavar="command", title="commands")

    placed = argparse.ArgumentParser(add_help=False)
    placed.add_argument("--device", default="auto", help="auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1, mps")
    seeded = argparse.ArgumentParser(add_help=False, parents=[placed])
    seeded.add_argument("--seed", type=int, default=0, help="of everything random (0)")
    profiled = argparse.ArgumentParser(add_help=False, parents=[seeded])
    profiled.add_argument("--profile", choices=PROFILES, default="laptop", help="the budget (laptop)")

    def command(group: argparse._SubParsersAction, name: str, run, text: str, *parents: argparse.ArgumentParser):
        made = group.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", parents=parents)
        made.set_defaults(run=run)
        return made

    made = command(commands, "train", train, "train a model; the same command again goes on where it stopped", profiled)
    made.add_argument("recipe", help="such as gan-digits; gan means that")
    made.add_argument("--steps", type=positive, help="in all (the profile's)")
    made.add_argument("--out", type=Path, help="folder of the run (runs/RECIPE-PROFILE)")
    made.add_argument("--fresh", action="store_true", help="begin again, even if the folder holds a run")
    made.add_argument("--ship", action="store_true", help="evaluate the result and put it into data/checkpoints")

    made = command(commands, "sample", sample, "draw from a trained model", seeded)
    made.add_argument("name", help="of the checkpoint, such as gan-digits; gan means that")
    made.add_argument("--n", type=positive, default=64, help="how many (64)")
    made.add_argument("--out", type=Path, help="file to write (NAME.png, for texts NAME.txt)")

    made = command(commands, "evaluate", evaluate, "measure a trained model against held-out data", seeded)
    made.add_argument("name", help="of the checkpoint, such as gan-digits; gan means that; vocoders compares all three")
    made.add_argument("--n", type=positive, default=1000, help="samples to draw (1000)")

    make = command(commands, "make", None, "films, music, sounds and captions by trained networks").add_subparsers(
        required=True, metavar="command"
    )
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

    made = command(commands, "provenance", provenance, "show the Content Credentials of a file, and check them")
    made.add_argument("file", type=Path, help=".mp4, .png or .wav")

    data = command(commands, "data", None, "the data sets").add_subparsers(required=True, metavar="command")
    for name, run, text in [
        ("list", data_list, "show what there is, from where, under which licence"),
        ("check", data_check, "recompute the digests and compare them with data/datasets.toml"),
        ("prepare", data_prepare, "make and cache what takes longer than a moment"),
    ]:
        command(data, name, run, text).add_argument("names", nargs="*", metavar="NAME", help="data sets (all)")

    course = command(commands, "course", None, "the ten chapters").add_subparsers(required=True, metavar="command")
    made = command(
        course, "run", course_run, "execute chapters and write a report; what is done is not repeated", profiled
    )
    made.add_argument("chapters", nargs="*", metavar="CHAPTER", help="such as 2 or 02_core_concepts (all)")
    made.add_argument("--out", type=Path, default=Path("build/course"), help="folder to write to (build/course)")
    made.add_argument("--fresh", action="store_true", help="execute again what is done")
    made.add_argument("--jobs", type=positive, default=2, help="chapters at a time; they share the cores (2)")
    made.add_argument("--notebooks", type=Path, help="folder of the chapters (the repository's notebooks/)")
    made = command(course, "list", course_list, "show the chapters")
    made.add_argument("--notebooks", type=Path, help="folder of the chapters (the repository's notebooks/)")
    command(
        course, "coverage", course_coverage, "show which items of the source document are taught, and which not yet"
    )

    command(commands, "gpu-check", gpu_check, "run the GPU's tests and every recipe on it, beside the CPU")
    return root


def says_what_to_do(error: Exception) -> bool:
    """Whether the text of an error is meant for the reader. Only modules that were imported can have raised theirs."""
    ours = [("aigc_lib.training.checkpoints", "CheckpointError"), ("aigc_lib.training.engine", "TrainingDiverged")]
    known = tuple(getattr(sys.modules[module], name) for module, name in ours if module in sys.modules)
    return isinstance(error, (ValueError, OSError, ImportError, *known))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("aigc: stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if options.debug or not says_what_to_do(error):
            raise
        print(f"aigc: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
