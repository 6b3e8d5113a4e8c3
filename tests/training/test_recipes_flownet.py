"""The FlowNet recipe: what it trains on stays true, a second look is trained, and errors are those of the pixels."""

import pytest
import torch
from torch import nn

from aigc_lib.models.flownet import FlowNetConfig, end_point_error, warp
from aigc_lib.training.engine import run
from aigc_lib.training.recipes.flownet import DATA, ObjectsFlowNet, pairs_for

SMALL = FlowNetConfig(correlation=True, width=4, radius=2)


@pytest.fixture(scope="module")
def result():
    return run(ObjectsFlowNet(SMALL), profile="smoke", device="cpu", progress=False)


def test_it_trains_flownet_c_and_ships_less_than_two_megabytes():
    config = ObjectsFlowNet.default_config()
    assert config.correlation
    n_parameters = sum(p.numel() for p in ObjectsFlowNet.build(config)["flownet"].parameters())
    n_preview = 8 * 4 * 2 * 32 * 32
    assert 2 * (n_parameters + n_preview) < 1.8e6  # two bytes each


def test_a_smoke_run_has_finite_losses_and_shows_what_it_sees(result):
    assert [line["step"] for line in result.history] == [2, 4, 6, 8]
    for step, preview in result.previews:
        assert step in (1, 8)
        assert preview.shape == (4, 2, 32, 32)
        assert preview.dtype == torch.float16
    assert set(result.recipe.inference_parts()) == {"flownet"}


def test_varied_pairs_move_as_their_flow_says(result):
    torch.manual_seed(0)
    first, second, flow = result.recipe.batch(torch.arange(4))
    seen = set()
    for _ in range(8):
        a, b, w = result.recipe.varied(first, second, flow)
        assert a.abs().max() <= 1
        assert not torch.equal(a, first)
        found, stayed = ((other - a).abs().mean(dim=1).flatten(1).median(dim=1).values for other in (warp(b, w), b))
        assert (found < stayed).all()
        torch.testing.assert_close(  # mirrored and turned, no motion becomes longer
            torch.linalg.vector_norm(w, dim=1).mean(dim=(1, 2)), torch.linalg.vector_norm(flow, dim=1).mean(dim=(1, 2))
        )
        seen |= {(round(x, 3), round(y, 3)) for x, y in w.mean(dim=(2, 3)).tolist()}
    assert len(seen) > 12  # of 4 pairs in 8 positions


def test_half_of_a_batch_is_looked_at_again_after_what_was_found(monkeypatch):
    recipe = run(ObjectsFlowNet(SMALL), profile="smoke", device="cpu", steps=1, progress=False).recipe
    first, second, flow = recipe.batch(torch.arange(4))
    monkeypatch.setattr(recipe, "varied", lambda *pair: pair)
    seen = {}
    pyramid, network = recipe.pyramid, recipe.parts["flownet"]
    monkeypatch.setattr(recipe, "pyramid", lambda a, b: (seen.update(first=a, second=b), pyramid(a, b))[1])
    with torch.no_grad():
        found = network(first[2:], second[2:])
    losses = recipe.step(first, second, flow)
    assert torch.equal(seen["second"][:2], second[:2])
    torch.testing.assert_close(seen["second"][2:], warp(second[2:], found), atol=1e-5, rtol=0)
    assert losses["EPE of the first look"].item() == pytest.approx(end_point_error(found, flow[2:]).item(), abs=1e-4)


class Still(nn.Module):
    """A network that says that nothing moves."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, first, second):
        return self.weight * first[:, :2]


def test_who_sees_no_motion_errs_by_its_length():
    metrics = ObjectsFlowNet.evaluate({"flownet": Still()}, n=3, generator=torch.Generator())
    lengths = [torch.linalg.vector_norm(pair.flow, dim=0).mean().item() for pair in pairs_for("test", 3)]
    assert metrics["EPE, made pairs, zero flow"] == pytest.approx(sum(lengths) / 3, rel=1e-5)
    assert metrics["EPE, made pairs"] == metrics["EPE, made pairs, one look"] == metrics["EPE, made pairs, zero flow"]
    assert metrics["EPE, motorcycle"] == metrics["EPE, motorcycle, zero flow"] == pytest.approx(34.3, abs=0.1)


def test_held_out_pairs_move_as_those_of_the_training():
    held_out = pairs_for("test", 1000)
    assert len(held_out) == 200
    assert DATA.items() <= vars(held_out).items()
    assert held_out.split == "test"
