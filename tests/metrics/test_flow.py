"""Classical methods find a known motion and give it our sign; how far things move is counted where it is known."""

import builtins

import pytest
import torch
import torch.nn.functional as F

from aigc_lib import datasets
from aigc_lib.datasets.base import FlowItem
from aigc_lib.metrics.flow import METHODS, classical_flow, displacements
from aigc_lib.models.flownet import end_point_error, estimate_flow


def texture(size: int) -> torch.Tensor:
    """A smooth colour texture, (1, 3, size, size) in [-1, 1]."""
    coarse = torch.rand(1, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(0))
    return 2 * F.interpolate(coarse, size, mode="bicubic").clamp(0, 1) - 1


@pytest.mark.parametrize("method", METHODS)
def test_a_texture_that_moves_right_and_up_has_that_flow(method):
    if method != "tv-l1":
        pytest.importorskip("cv2")
    whole = texture(96)
    first, second = whole[..., 16:80, 16:80], whole[..., 18:82, 13:77]  # 3 pixels to the right, 2 up
    flow = classical_flow(first, second, method=method)
    assert flow.shape == (1, 2, 64, 64)
    assert flow.dtype == torch.float32
    inside = flow[0, :, 12:-12, 12:-12].flatten(1).median(dim=1).values
    torch.testing.assert_close(inside, torch.tensor([3.0, -2.0]), atol=0.2, rtol=0)


@pytest.mark.slow
def test_on_the_real_pair_the_youngest_errs_least():
    pytest.importorskip("cv2")
    real = datasets.load("motorcycle", "test")[0]
    frames, known = (real.first[None], real.second[None]), (real.valid | real.occluded)[None]

    def error(method: str, scales: tuple[float, ...] = (1.0,)) -> float:
        flow = estimate_flow(lambda a, b: classical_flow(a, b, method=method), *frames, scales=scales)
        return end_point_error(flow, real.flow[None], known).item()

    assert error("dis") == pytest.approx(2.63, abs=0.3)
    assert error("tv-l1", (0.5,)) == pytest.approx(7.4, abs=1.0)
    assert error("farneback") == pytest.approx(21.9, abs=1.5)  # standing still errs by 34.3


def test_what_cannot_be_compared_is_named(monkeypatch):
    frames = torch.zeros(2, 1, 3, 16, 16)
    with pytest.raises(ValueError, match="one of farneback, tv-l1, dis, got 'raft'"):
        classical_flow(*frames, method="raft")
    with pytest.raises(ValueError, match=r"got \(1, 3, 16, 16\) and \(1, 3, 16, 8\)"):
        classical_flow(frames[0], frames[1, ..., :8], method="dis")
    real = builtins.__import__

    def without_opencv(name, *rest):
        if name == "cv2":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_opencv)
    with pytest.raises(ModuleNotFoundError, match="pip install opencv-python-headless"):
        classical_flow(*frames, method="dis")


def test_displacements_count_hidden_pixels_but_not_unknown_ones():
    flow = torch.zeros(2, 2, 4)
    flow[:, 0, 0], flow[:, 0, 1], flow[:, 0, 2] = (torch.tensor(v) for v in ([3.0, 4], [0.0, 2], [9.0, 9]))
    valid, occluded = torch.zeros(2, 2, 4, dtype=torch.bool)
    valid[0, 0] = occluded[0, 1] = True
    frame = torch.zeros(3, 2, 4)
    item = FlowItem(first=frame, second=frame, flow=flow, valid=valid, occluded=occluded, key="")
    assert displacements([item]).tolist() == [5, 2]
    assert displacements([item, item], width=2).tolist() == [2.5, 1, 2.5, 1]
