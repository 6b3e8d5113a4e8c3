"""The plays are read in order, the state goes on from step to step and through an interruption, and is not shipped."""

import signal
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from aigc_lib.datasets.text import SHAKESPEARE_CHARACTERS, plays
from aigc_lib.models.rnn import RNNConfig, RNNLanguageModel
from aigc_lib.training import checkpoints
from aigc_lib.training.engine import run
from aigc_lib.training.recipes.rnn import RNNTraining, ShakespeareRNN, surprises

SMALL = {"width": 12, "embedding_dim": 6}
TEXT = plays("test")["tragedies/macbeth"]


@pytest.fixture(autouse=True)
def one_play(monkeypatch):
    """Train on one play: encoding thirty-two takes a second each time."""
    monkeypatch.setattr("aigc_lib.training.recipes.rnn.plays", lambda split: {"tragedies/macbeth": TEXT})


def recipe(cell: str = "lstm", **how) -> ShakespeareRNN:
    return ShakespeareRNN(RNNConfig(cell=cell, **SMALL), RNNTraining(**{"chunk_length": 8} | how))


def trained(steps: int, *, out=None, **how) -> ShakespeareRNN:
    return run(recipe(**how), profile="smoke", device="cpu", steps=steps, out=out, progress=False).recipe


def test_each_step_reads_on_where_the_one_before_ended():
    taken = trained(2)
    (before,) = taken.batch(torch.arange(16))
    assert before.shape == (16, 9)
    next(iter(taken.optimisers["model"].state.values()))["step"] += 1
    assert torch.equal(before[:, -1], taken.batch(torch.arange(16))[0][:, 0])
    streams = taken.streams
    assert torch.equal(streams[:, 16:25], before)
    assert SHAKESPEARE_CHARACTERS.decode(streams.flatten()) == TEXT[: streams.numel()]


def test_after_the_last_chunk_comes_the_first():
    taken = trained(1)
    taken.streams = taken.streams[:, :17]
    assert taken.n_chunks == 2
    assert taken.n_examples == 32
    assert torch.equal(taken.batch(torch.arange(16))[0], taken.streams[:, 8:17])
    next(iter(taken.optimisers["model"].state.values()))["step"] += 1
    assert torch.equal(taken.batch(torch.arange(16))[0], taken.streams[:, :9])


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_the_state_after_some_steps_is_that_of_reading_all_their_text_at_once(cell):
    # At a learning rate of 0 the weights stay, so that one reading is what the steps did.
    taken = trained(3, cell=cell, learning_rate=0.0, forgetting=0.0)
    _, state = taken.model(taken.streams[:, :24])
    carried = taken.parts["carried"].state
    torch.testing.assert_close(carried, torch.stack([s.transpose(0, 1) for s in state], dim=1), atol=1e-6, rtol=0)


def test_a_stream_that_forgets_begins_anew():
    taken = trained(3, learning_rate=0.0, forgetting=1.0)
    _, (hidden, cell) = taken.model(taken.streams[:, 16:24])
    torch.testing.assert_close(taken.parts["carried"].state[:, 0, 0], hidden[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(taken.parts["carried"].state[:, 1, 0], cell[0], atol=1e-6, rtol=0)


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path):
    def stop(text: torch.Tensor, step) -> dict[str, torch.Tensor]:
        signal.raise_signal(signal.SIGINT)  # the loop finishes the step, saves and ends
        return step(text)

    trained(5, out=tmp_path / "whole")
    for _ in range(2):
        stopped = recipe()
        stopped.step = partial(stop, step=stopped.step)
        with pytest.raises(KeyboardInterrupt):
            run(stopped, profile="smoke", device="cpu", steps=5, out=tmp_path / "parts", progress=False)
    trained(5, out=tmp_path / "parts")
    whole, parts = (checkpoints.read(tmp_path / name / "last.safetensors")["states"] for name in ("whole", "parts"))
    assert torch.any(whole["part carried"]["state"] != 0)
    for part in ("part model", "part carried"):
        assert all(torch.equal(whole[part][key], parts[part][key]) for key in whole[part])


def test_the_carried_state_is_not_shipped():
    assert list(trained(1).inference_parts()) == ["model"]


def test_it_learns():
    history = run(
        recipe(chunk_length=32, learning_rate=0.02), profile="smoke", device="cpu", steps=60, progress=False
    ).history
    assert history[0]["nats a character"] > 4
    assert history[-1]["nats a character"] < 3.3


def test_surprise_is_that_of_each_text_read_alone_from_start_to_end():
    torch.manual_seed(0)
    model = RNNLanguageModel(RNNConfig(**SMALL)).eval()
    texts = [torch.randint(69, (length,)) for length in (23, 7, 2)]
    for text, got in zip(texts, surprises(model, texts, at_once=5), strict=True):
        logits, _ = model(text[None, :-1])
        torch.testing.assert_close(got, F.cross_entropy(logits[0], text[1:], reduction="none"), atol=1e-5, rtol=0)


def test_passages_go_into_a_text_file(tmp_path):
    taken = trained(1)
    generator = torch.Generator().manual_seed(0)
    path = ShakespeareRNN.sample(taken.parts, tmp_path / "deep" / "passages.txt", n=3, generator=generator)
    text = path.read_text(encoding="utf-8")
    assert len(text.split("\n\n----\n\n")) == 3
    assert len(text) == 3 * 400 + 2 * len("\n\n----\n\n") + 1
    with pytest.raises(ValueError, match=r"texts go into a \.txt file, got 'passages.png'"):
        ShakespeareRNN.sample(taken.parts, tmp_path / "passages.png", n=1, generator=generator)


def test_previews_are_kept_as_tokens_and_shown_as_text(tmp_path):
    result = run(recipe(), profile="smoke", device="cpu", steps=4, out=tmp_path, progress=False)
    step, preview = result.previews[-1]
    assert step == 4
    assert (preview.dtype, preview.shape) == (torch.uint8, (4, 240))
    shown = (tmp_path / "samples" / "step-0000004.txt").read_text(encoding="utf-8")
    assert shown.startswith(SHAKESPEARE_CHARACTERS.decode(preview[0].long()))


@pytest.mark.parametrize("steps", [1, 2, 10, 11])
def test_a_very_short_run_has_a_schedule_too(steps):
    rate = trained(steps).schedulers["model"].get_last_lr()[0]
    assert 0 < rate <= RNNTraining().learning_rate
