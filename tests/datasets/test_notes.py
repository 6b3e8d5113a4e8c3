"""Notes played by a soundfont: at their pitch, from their beginning, and what is held out is not heard in training."""

import pytest
import torch

from aigc_lib import datasets
from aigc_lib.datasets import notes
from aigc_lib.datasets.base import SPLITS, MissingDataPackage
from aigc_lib.datasets.provenance import info


@pytest.fixture(scope="module")
def splits():
    return {split: datasets.load("notes", split) for split in SPLITS}


def pitch_of(audio: torch.Tensor, sample_rate: int, pitch: int) -> float:
    """Semitones: among the lags within one of `pitch`, that of the highest autocorrelation, refined by a parabola."""
    sound = audio[sample_rate // 10 : sample_rate // 2].double()
    spectrum = torch.fft.rfft(sound, 4 * len(sound))
    correlation = torch.fft.irfft(spectrum.abs().square())
    period = sample_rate / (440 * 2 ** ((pitch - 69) / 12))
    low, high = int(period / 2 ** (1 / 12)), int(period * 2 ** (1 / 12)) + 2
    lag = low + int(correlation[low:high].argmax())
    before, here, after = correlation[lag - 1 : lag + 2].tolist()
    lag += (before - after) / (2 * (before - 2 * here + after))
    return 69 + 12 * torch.tensor(sample_rate / lag / 440).log2().item()


def test_counts_are_as_recorded_and_no_pair_of_instrument_and_pitch_lies_in_two_splits(splits):
    assert {split: len(data) for split, data in splits.items()} == dict(info("notes").counts)
    pairs = {split: {(item.instrument, item.pitch) for item in data} for split, data in splits.items()}
    assert sum(map(len, pairs.values())) == len(set.union(*pairs.values())) == 8 * 37
    for i, of in enumerate((set(notes.INSTRUMENTS), set(notes.PITCHES))):
        assert {pair[i] for pair in pairs["train"]} == of


def test_a_note_is_a_second_of_16_bits_that_begins_within_20_milliseconds_and_fades(splits):
    for item in splits["test"]:
        assert item.audio.shape == (16_000,)
        assert torch.equal(item.audio * 2**15, (item.audio * 2**15).round())
        assert item.audio.abs().max() <= 0.9
        assert item.audio[:480].abs().max() > 0.01 * item.audio.abs().max()
        assert item.audio[-800:].abs().max() < 0.45 * item.audio.abs().max()


@pytest.mark.parametrize("instrument", ["piano", "violin", "trumpet", "clarinet", "flute", "guitar"])
def test_a_note_sounds_at_its_pitch(splits, instrument):
    """Autocorrelation knows nothing of MIDI. Marimba bars and organ stops are left out: overtones, or octaves below."""
    found = [
        item for item in splits["test"] if item.instrument == instrument and item.velocity == 80 and item.pitch < 77
    ]
    assert len(found) >= 1
    for item in found:
        assert pitch_of(item.audio, 16_000, item.pitch) == pytest.approx(item.pitch, abs=0.35)


def test_harder_notes_are_louder(splits):
    power = {item.key: item.audio.square().mean() for data in splits.values() for item in data}
    for item in splits["test"]:
        soft, middle, hard = (power[f"{item.instrument}/{item.pitch}/{velocity}"] for velocity in notes.VELOCITIES)
        assert soft < middle < hard


def test_a_tune_holds_its_notes_where_the_score_has_them():
    score = torch.tensor([[0, 1, 60, 0], [1, 1, 67, 0], [3, 1, 64, 0]]).float()
    audio = notes.play(score, "clarinet", quarter=0.5)
    assert len(audio) == (2 + 1) * 16_000
    assert audio.abs().max().item() == pytest.approx(0.9)
    for onset, pitch in ((0.0, 60), (0.5, 67), (1.5, 64)):
        assert pitch_of(audio[round(onset * 16_000) :], 16_000, pitch) == pytest.approx(pitch, abs=0.35)
    rest = audio[round(1.35 * 16_000) : round(1.5 * 16_000)]  # the third quarter is a rest
    assert rest.abs().max() < 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: datasets.load("notes", sample_rate=44_100), "8000, 16000, 24000 hertz, got 44100"),
        (lambda: notes.play(torch.zeros(0, 4), "piano"), r"notes \(N ≥ 1, 4\), got \(0, 4\)"),
        (lambda: notes.play(torch.ones(1, 4), "kazoo"), "unknown instrument 'kazoo'; there are: piano"),
        (lambda: notes.play(torch.ones(1, 4), "piano", 11_025), "got 11025"),
        (lambda: notes.play(torch.tensor([[0.0, 1, 200, 0]]), "piano"), "pitches of 0 to 127, got notes from .*200"),
        (lambda: notes.play(torch.tensor([[-1.0, 1, 60, 0]]), "piano"), "onsets of at least 0"),
        (lambda: notes.play(torch.full((1, 4), torch.nan), "piano"), "onsets of at least 0"),
        (lambda: notes.play(torch.ones(1, 4), "piano", quarter=0), "a quarter above 0"),
    ],
)
def test_what_cannot_be_played_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_the_renderer_the_command_to_install_it_is_named(monkeypatch):
    monkeypatch.setattr(notes.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingDataPackage, match=r"pip install midirenderer==0\.1\.3 pretty_midi=="):
        notes.play(torch.ones(1, 4), "piano")
