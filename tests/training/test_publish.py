"""What is shipped: weights in half precision, and a record measured on exactly these."""

import json
from types import SimpleNamespace

import pytest
import torch

from aigc_lib.training import checkpoints, publish
from tests.training.toy import Toy, ToyConfig


class Measured(Toy):
    @classmethod
    def evaluate(cls, parts, *, n, generator):
        return {"rest": (parts["follower"].weight.double() - 0.1).sum().item()}


def result(weight=None):
    """A finished run of the toy, as far as `publish` looks at it."""
    recipe = Measured(ToyConfig(width=4))
    recipe.parts = recipe.build(recipe.config)
    recipe.context = SimpleNamespace(device=torch.device("cpu"))
    if weight is not None:
        torch.nn.init.constant_(recipe.parts["follower"].weight, weight)
    previews = [(1, torch.zeros(2, dtype=torch.uint8)), (2, torch.ones(2, dtype=torch.uint8))]
    return SimpleNamespace(recipe=recipe, step=2, seed=0, seconds=60.0, previews=previews)


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(publish, "data_dir", lambda: tmp_path)
    digest = SimpleNamespace(info=SimpleNamespace(digest="0" * 64))
    monkeypatch.setattr(publish.datasets, "load", lambda name: digest)


def test_weights_are_stored_in_half_and_everything_else_as_it_is():
    state = checkpoints.read(publish.publish(result(), command="aigc train toy"))
    assert {t.dtype for part in state["parts"].values() for t in part.values()} == {torch.float16}
    previews = checkpoints.unpacked(state["trajectory"]["previews"])
    assert previews.dtype == torch.uint8
    assert previews.tolist() == [[0, 0], [1, 1]]
    assert state["config"] == {"width": 4}


def test_a_recipe_may_keep_its_previews_to_itself(monkeypatch):
    monkeypatch.setattr(Measured, "ships_previews", False)
    state = checkpoints.read(publish.publish(result(), command="aigc train toy"))
    assert "trajectory" not in state


def test_the_metrics_are_those_of_the_stored_weights():
    path = publish.publish(result(weight=0.1), command="aigc train toy")  # 0.1 is no number of float16
    record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    stored = checkpoints.read(path)["parts"]["follower"]["weight"]
    assert record["metrics"]["rest"] == pytest.approx((stored.double() - 0.1).sum().item(), rel=1e-3)
    assert record["metrics"]["rest"] != 0
    assert record["command"] == "aigc train toy"
    assert record["sha256"] == checkpoints.digest_of_file(path)


@pytest.mark.parametrize("weight", [1e5, float("nan"), float("inf")])
def test_what_half_precision_does_not_hold_is_refused(weight):
    with pytest.raises(ValueError, match="cannot be stored in float16"):
        publish.publish(result(weight), command="aigc train toy")


def test_a_file_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(publish, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="at most 6 MB"):
        publish.publish(result(), command="aigc train toy")
