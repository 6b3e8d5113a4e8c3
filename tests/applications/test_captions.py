"""Captions of recordings and films: words and times of known speech, films in sync, and what cannot be captioned."""

from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
import torch

from aigc_lib.applications import captions as application
from aigc_lib.applications import recognition
from aigc_lib.applications.captions import captions, read_sound
from aigc_lib.applications.subtitles import read_subtitles
from aigc_lib.cli import main
from aigc_lib.datasets.timed_speech import Span, speak
from aigc_lib.datasets.video_files import open_video, write_video

SENTENCE = "The phone has no signal."
FLASH = 1.0  # second at which the test film is bright for one frame and clicks


@pytest.fixture(scope="module")
def said():
    return speak(SENTENCE, 16_000)


@pytest.fixture
def recording(tmp_path, said):
    """Half a second of silence before the sentence."""
    silence = np.zeros(8000, np.float32)
    soundfile.write(tmp_path / "said.wav", np.concatenate([silence, said.audio.numpy(), silence]), 16_000)
    return tmp_path / "said.wav"


def film(path, *, size=(48, 64), n_frames=50, codec=None, offset=0.0):
    """25 frames a second, flash and click in the same moment; `codec` puts both into another container, later."""
    frames = torch.full((n_frames, 3, *size), -0.8)
    frames[int(FLASH * 25) : int(FLASH * 25) + 1] = 0.8
    sound = 0.001 * torch.randn(int(n_frames / 25 * 16_000), generator=torch.Generator().manual_seed(0))
    sound[int(FLASH * 16_000) : int(FLASH * 16_000) + 160] = 0.9
    plain = path if codec is None else path.with_name("plain.mp4")
    write_video(plain, frames, 25, sound=sound, sample_rate=16_000)
    if codec is None:
        return path
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        pictures = target.add_stream_from_template(source.streams.video[0])
        heard = target.add_stream(codec, rate=16_000, layout="mono")
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream, shift = pictures, round(offset / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                target.mux(packet)
        block = av.AudioFrame.from_ndarray((sound.numpy()[None] * 32767).astype(np.int16), format="s16", layout="mono")
        block.sample_rate, block.time_base = 16_000, Fraction(1, 16_000)
        block.pts = round(offset * 16_000)
        target.mux([*heard.encode(block), *heard.encode(None)])
    plain.unlink()
    return path


def moments(path):
    """When it flashes and when it clicks, on the clock of the pictures."""
    frames = torch.cat(list(open_video(path).chunks()))
    half = frames[:, :, : frames.shape[2] // 2]  # captions stand in the lower half
    return half.mean(dim=(1, 2, 3)).argmax().item() / 25, read_sound(path).abs().argmax().item() / 16_000


@pytest.fixture
def speaking(monkeypatch):
    """Somebody speaks from 0.4 to 1.4 s: for what is not about hearing."""
    monkeypatch.setattr(recognition, "voice_activity", lambda sound: [(0.4, 1.4)])
    return {"recogniser": lambda sound: "good evening", "progress": False}


def test_a_recording_says_what_was_said_when_it_was_said(recording, said, tmp_path):
    (caption,) = captions(recording, tmp_path / "said.srt", progress=False)
    assert caption.lines == ("the phone has no signal",)
    assert caption.start == pytest.approx(0.5 + said.words[0].start, abs=0.1)
    assert caption.end >= 0.5 + said.words[-1].end - 0.1
    assert read_subtitles(tmp_path / "said.srt") == [
        type(caption)(lines=caption.lines, start=round(caption.start, 3), end=round(caption.end, 3))
    ]


def test_with_a_transcript_words_are_its_own_and_times_the_sound_s(recording, said):
    sound = read_sound(recording)
    words = application.timed_words(sound, None, transcript=SENTENCE)
    assert [word.text for word in words] == SENTENCE.split()
    for word, truth in zip(words, said.words, strict=True):
        assert word.start == pytest.approx(0.5 + truth.start, abs=0.1)


def test_the_command_times_a_transcript(recording, tmp_path, capsys):
    (tmp_path / "said.txt").write_text(SENTENCE, encoding="utf-8")
    command = ["make", "captions", str(recording), str(tmp_path / "a.vtt"), "--transcript", str(tmp_path / "said.txt")]
    assert main(command) == 0
    assert capsys.readouterr().out.endswith("a.vtt: 1 captions\n")
    assert [caption.lines for caption in read_subtitles(tmp_path / "a.vtt")] == [(SENTENCE,)]
    assert main([*command, "--language", "fr"]) == 2
    assert "unknown language 'fr'" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["not found", "lost"])
def test_a_transcript_that_cannot_be_aligned_is_spread_and_the_user_told(recording, monkeypatch, way):
    def fails(sound, text):
        if way == "not found":
            raise ValueError("the sound does not fit the text")
        return [Span(text=word, start=5.0 + i, end=5.5 + i) for i, word in enumerate(text.split())]

    monkeypatch.setattr(recognition, "align", fails)
    with pytest.warns(UserWarning, match=r"(does not fit the text|differ by .* s); the words .* are spread"):
        words = application.timed_words(read_sound(recording), None, transcript=SENTENCE)
    assert [word.text for word in words] == SENTENCE.split()
    assert words[-1].end < 3


def test_numbers_names_and_dashes_of_a_transcript_keep_their_place():
    text = "He owes me 100 yuan — and Xiomara 1,250."
    said = speak(text, 16_000)
    words = recognition.align(said.audio, text)
    assert [word.text for word in words] == ["He", "owes", "me", "100", "yuan —", "and", "Xiomara", "1,250."]
    for word, truth in zip(words[:4], said.words[:4], strict=True):
        assert word.start == pytest.approx(truth.start, abs=0.1)


@pytest.mark.parametrize(
    ("n", "said"),
    [
        (0, "zero"),
        (85, "eighty five"),
        (100, "one hundred"),
        (1843, "eighteen forty three"),
        (1900, "nineteen hundred"),
        (2_019, "two thousand nineteen"),
        (1_000_300, "one million three hundred"),
    ],
)
def test_numbers_are_spelled_as_they_are_said(n, said):
    assert recognition._spelled(n) == said


def test_chinese_is_dealt_out_by_clauses():
    words = recognition.spread("你好！今天天气很好。", [(1.0, 1.5), (2.0, 3.5)])
    assert "".join(word.text for word in words) == "你好！今天天气很好。"
    assert (words[0].start, words[1].end) == (1.0, 1.5)  # the greeting fills the short stretch
    assert words[2].start == 2.0
    assert words[-1].end == pytest.approx(3.5)


@pytest.mark.parametrize(
    ("name", "codec", "offset"),
    [("a.mp4", None, 0), ("a.mkv", "pcm_s16le", 2.5), ("a.ts", "aac", 1.4)],
)
@pytest.mark.parametrize("burn", [True, False])
def test_a_film_keeps_its_frames_and_its_sound_in_sync(tmp_path, speaking, name, codec, offset, burn):
    source = film(tmp_path / name, codec=codec, offset=offset)
    captions(source, tmp_path / "captioned.mp4", burn=burn, **speaking)
    video = open_video(tmp_path / "captioned.mp4")
    assert (video.n_frames, video.frame_rate, video.height, video.width) == (50, 25, 48, 64)
    flash, click = moments(tmp_path / "captioned.mp4")
    assert flash == FLASH
    assert click == pytest.approx(FLASH, abs=1 / 25)


def test_burned_in_the_captions_are_in_their_frames_alone(tmp_path, speaking):
    source = film(tmp_path / "a.mp4", size=(90, 160))
    (caption,) = captions(source, tmp_path / "b.mp4", burn=True, **speaking)
    before, after = (torch.cat(list(open_video(tmp_path / name).chunks())) for name in ("a.mp4", "b.mp4"))
    changed = (after - before)[:, :, 60:].abs().amax(dim=(1, 2, 3)) > 0.5
    assert changed.nonzero().flatten().tolist() == list(range(round(caption.start * 25), round(caption.end * 25)))


def test_a_track_holds_the_captions_and_the_pictures_stay_as_they_are(tmp_path, speaking):
    source = film(tmp_path / "a.mp4")
    (caption,) = captions(source, tmp_path / "b.mp4", **speaking)
    assert torch.equal(*(torch.cat(list(open_video(tmp_path / name).chunks())) for name in ("a.mp4", "b.mp4")))
    with av.open(str(tmp_path / "b.mp4")) as container:
        (track,) = container.streams.subtitles
        assert (track.metadata["language"], track.codec_context.name) == ("eng", "mov_text")
        (shown,) = [packet for packet in container.demux(track) if packet.size > 2]
        assert bytes(shown)[2:].decode() == "\n".join(caption.lines)
        assert float(shown.pts * shown.time_base) == pytest.approx(caption.start, abs=0.001)
        assert float(shown.duration * shown.time_base) == pytest.approx(caption.end - caption.start, abs=0.002)


@pytest.mark.parametrize("burn", [True, False])
@pytest.mark.parametrize(("size", "n_frames"), [((47, 63), 50), ((48, 64), 1)])
def test_odd_sizes_and_a_single_frame(tmp_path, speaking, size, n_frames, burn):
    source = film(tmp_path / "a.mp4", size=size, n_frames=n_frames) if n_frames > 1 else tmp_path / "a.mp4"
    if n_frames == 1:
        write_video(source, torch.zeros(1, 3, *size), 0.5, sound=torch.zeros(32_000), sample_rate=16_000)
    captions(source, tmp_path / "b.mp4", burn=burn, **speaking)
    video = open_video(tmp_path / "b.mp4")
    assert (video.height, video.width, video.n_frames) == (*size, n_frames)


def test_a_film_may_replace_itself(tmp_path, speaking):
    source = film(tmp_path / "a.mp4")
    captions(source, source, burn=True, **speaking)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert moments(source)[0] == FLASH


def test_stopped_halfway_it_leaves_nothing(tmp_path, speaking, monkeypatch):
    source, drawn = film(tmp_path / "a.mp4"), []

    def stopped(frames, *arguments):
        drawn.append(frames)
        if len(drawn) == 20:
            raise KeyboardInterrupt
        return frames

    monkeypatch.setattr(application, "burn_in", stopped)
    with pytest.raises(KeyboardInterrupt):
        captions(source, tmp_path / "b.mp4", burn=True, **speaking)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_frames_are_drawn_one_at_a_time(tmp_path, speaking, monkeypatch):
    sizes, draw = [], application.burn_in
    monkeypatch.setattr(application, "burn_in", lambda frames, *rest: sizes.append(len(frames)) or draw(frames, *rest))
    captions(film(tmp_path / "a.mp4"), tmp_path / "b.mp4", burn=True, **speaking)
    assert sizes == [1] * 50


def test_chinese_goes_above_english(tmp_path, speaking):
    source = film(tmp_path / "a.mp4")
    (caption,) = captions(
        source, tmp_path / "a.vtt", language="zh", transcript="今天天气很好。", translate=True, progress=False
    )
    assert caption.lines[0] == "今天天气很好。"
    assert caption.lines[1].isascii()
    assert 0.4 == caption.start < caption.end


def test_nobody_speaks(tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(32_000), 16_000)
    time = np.arange(32_000) / 16_000
    soundfile.write(tmp_path / "tone.wav", 0.3 * np.sin(2 * np.pi * 440 * time), 16_000)
    for name in ("silence.wav", "tone.wav"):
        with pytest.raises(ValueError, match=r"no speech was found in .*nothing was written"):
            captions(tmp_path / name, tmp_path / "out.srt", progress=False)
    assert not (tmp_path / "out.srt").exists()


@pytest.mark.parametrize(
    ("options", "said_why"),
    [
        ({"language": "fr"}, "unknown language 'fr'.*en and zh"),
        ({"language": "zh"}, "no recogniser of Chinese"),
        ({"translate": True}, "from Chinese to English alone"),
        ({"transcript": " 1999! "}, "transcript has no words"),
        ({"recogniser": "oracle"}, "unknown recogniser 'oracle'"),
        ({"burn": True}, r"ends in \.mp4, got 'out\.srt'"),
        ({"out": "out.txt"}, r"ends in \.srt, \.vtt or \.mp4, got 'out\.txt'"),
        ({"out": "out.mp4"}, "has no pictures"),
        ({"out": "out.mp4", "burn": True}, "holds no video, only audio"),
    ],
)
def test_what_does_not_go_together_is_said(recording, tmp_path, options, said_why):
    options = {"progress": False} | options
    with pytest.raises(ValueError, match=said_why):
        captions(recording, tmp_path / options.pop("out", "out.srt"), **options)
    assert [path.name for path in tmp_path.iterdir()] == ["said.wav"]


def test_sources_that_cannot_be_heard(tmp_path):
    write_video(tmp_path / "silent.mp4", torch.zeros(5, 3, 16, 16), 5)
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(FileNotFoundError, match=r"none\.wav"):
        captions(tmp_path / "none.wav", tmp_path / "a.srt")
    with pytest.raises(ValueError, match="has no sound"):
        captions(tmp_path / "silent.mp4", tmp_path / "a.srt")
    with pytest.raises(ValueError, match="damaged or no sound"):
        captions(tmp_path / "text.wav", tmp_path / "a.srt")


@pytest.mark.parametrize(("package", "call"), [("silero_vad", recognition.voice_activity), ("faster_whisper", None)])
def test_an_absent_package_is_named(monkeypatch, package, call):
    recognition._whisper.cache_clear()
    find = recognition.importlib.util.find_spec
    monkeypatch.setattr(recognition.importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(ModuleNotFoundError, match="Run: pip install"):
        call(torch.zeros(16_000)) if call else recognition.recogniser("whisper")
