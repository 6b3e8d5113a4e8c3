"""What vocoders are trained on is sound with its own mel, never silence; and the table that compares them."""

import pytest
import torch

from aigc_lib import cli
from aigc_lib.metrics.audio import mel_cepstral_distortion, transcribe, word_error_rate
from aigc_lib.models.hifigan import HiFiGANConfig, HiFiGANGenerator
from aigc_lib.models.mel import MelConfig, log_mel
from aigc_lib.training import vocoders
from aigc_lib.training.recipes.speech_vocoder import SpeechVocoder
from aigc_lib.training.recipes.vocoder import SILENCE, Segments, say, utterances

SENTENCES = 30


@pytest.fixture(scope="module")
def segments():
    return Segments("test", 4096, n_sentences=SENTENCES)


@pytest.fixture(scope="module")
def spoken():
    return utterances("test", n_sentences=SENTENCES)


def test_utterances_are_whole_hops_of_the_voice_with_their_text(spoken):
    for audio, text in spoken:
        assert audio.shape[0] == 1
        assert audio.shape[1] % 256 == 0
        assert text[0].isupper()


def test_a_segment_is_a_stretch_of_an_utterance_with_the_mel_it_has_there(segments, spoken):
    audio, mel = segments.batch(torch.tensor([0, 7, len(segments) - 1]))
    assert audio.shape == (3, 4096)
    assert mel.shape == (3, 80, 16)
    wholes = [(whole[0], log_mel(whole)[0]) for whole, _ in spoken]
    for sound, bands in zip(audio, mel, strict=True):
        found = [
            (start, whole_mel)
            for whole, whole_mel in wholes
            for start in range(0, len(whole) - 4095, 256)
            if torch.equal(whole[start : start + 4096], sound)
        ]
        assert len(found) == 1
        start, whole_mel = found[0]
        assert torch.equal(whole_mel[:, start // 256 : start // 256 + 16], bands)


def test_away_from_its_edges_the_mel_of_a_segment_is_its_own(segments):
    audio, mel = segments.batch(torch.arange(5))
    torch.testing.assert_close(log_mel(audio)[..., 2:-2], mel[..., 2:-2], atol=1e-3, rtol=0)


def test_there_is_a_segment_for_every_frame_it_fits_behind_unless_it_is_silent(segments, spoken):
    audio, _ = segments.batch(torch.arange(len(segments)))
    assert audio.square().mean(dim=1).sqrt().min() >= SILENCE * 0.9999
    stretches = [whole[0].unfold(0, 4096, 256) for whole, _ in spoken]
    loud = sum(int((each.square().mean(dim=1).sqrt() >= SILENCE).sum()) for each in stretches)
    assert len(segments) == loud < sum(map(len, stretches))


def test_the_held_out_sentences_of_a_large_corpus_begin_with_those_of_a_small_one(spoken):
    more = [text for _, text in utterances("test", n_sentences=60)]
    assert more[: len(spoken)] == [text for _, text in spoken]


def test_anybody_can_have_a_sentence_said_in_the_voice_of_the_corpus(spoken):
    audio, text = spoken[0]
    again = say(text)
    assert abs(again.shape[1] - audio.shape[1]) <= 256
    # The noise differs, the voice does not.
    assert mel_cepstral_distortion(again[:, : audio.shape[1]], audio[:, : again.shape[1]]).item() < 3
    text = "The weather is good today."
    assert word_error_rate(transcribe(say(text), 16_000), [text]) <= 0.2
    for nothing in (" ", "!!!"):
        with pytest.raises(ValueError, match=f"an English sentence, got '{nothing}'"):
            say(nothing)


@pytest.mark.parametrize(
    ("n_samples", "message"),
    [
        (4000, "multiple of the hop of 256 samples, got 4000"),
        (0, "got 0"),
        (256 * 10_000, "no utterance of the 'test' split has 2560000"),
    ],
)
def test_impossible_segments_are_refused(n_samples, message):
    with pytest.raises(ValueError, match=message):
        Segments("test", n_samples, n_sentences=SENTENCES)


def test_another_front_end_gives_its_own_rate_and_hop():
    config = MelConfig(sample_rate=8_000, n_fft=512, hop_length=128, n_mels=40, f_max=4_000)
    audio, mel = Segments("test", 2048, config, n_sentences=SENTENCES).batch(torch.arange(2))
    assert audio.shape == (2, 2048)
    assert mel.shape == (2, 40, 16)


def test_the_table_has_the_recordings_griffin_lim_and_what_is_shipped(monkeypatch, capsys):
    monkeypatch.setattr(SpeechVocoder, "n_sentences", SENTENCES)
    monkeypatch.setattr(vocoders, "VOCODERS", ())  # the shipped ones are heard by their own tests
    assert cli.main(["evaluate", "vocoders", "--n", "2", "--device", "cpu"]) == 0
    header, recordings, griffin_lim = capsys.readouterr().out.splitlines()
    for column in ("STFT distance", "STOI", "DNSMOS", "word error rate", "real-time factor", "passes a second"):
        assert column in header
    assert recordings.startswith("recordings")
    assert "–" in recordings
    assert griffin_lim.startswith("Griffin–Lim")
    distances, scores = ([float(row.split()[i]) for row in (recordings, griffin_lim)] for i in (1, 3))
    assert distances[0] == 0 < distances[1]
    assert scores[0] == pytest.approx(1, abs=1e-3)
    assert 0.8 < scores[1] < 1
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        vocoders.compare(n=0)


def test_a_vocoder_has_its_row_and_one_that_is_not_trained_says_how_to_get_it(monkeypatch):
    network = HiFiGANGenerator(HiFiGANConfig(width=8, upsample_rates=(4,)))
    record = {"metrics": {}, "n_parameters": {"generator": 1234}, "minutes": 5.5, "device": "abacus"}

    def record_of(name: str) -> dict:
        if name == "hifigan-speech":
            return record
        raise FileNotFoundError(name)

    monkeypatch.setattr(SpeechVocoder, "n_sentences", SENTENCES)
    monkeypatch.setattr(vocoders, "record_of", record_of)
    monkeypatch.setattr(vocoders, "load_parts", lambda name: {"generator": network})
    rows = {row["system"]: row for row in vocoders.compare(n=1, device="cpu")}
    assert list(rows) == ["recordings", "Griffin–Lim", *vocoders.VOCODERS]
    spoken, missing = rows["hifigan-speech"], rows["wavenet-speech"]
    assert (spoken["parameters"], spoken["training"], spoken["bits a sample"]) == ("1,234", "5.5 min, abacus", "–")
    assert float(spoken["STFT distance"]) > float(rows["Griffin–Lim"]["STFT distance"])  # it has learned nothing
    seconds = utterances("test", n_sentences=SENTENCES)[0][0].shape[1] / 16_000
    assert float(spoken["passes a second"]) == pytest.approx(1 / seconds, rel=1e-3)
    assert float(rows["Griffin–Lim"]["passes a second"]) == pytest.approx(60 / seconds, rel=1e-3)
    assert missing["training"] == "none yet: aigc train wavenet-speech --ship"
    assert missing["STOI"] == "–"
