"""Files with flow: what is written is read again, and means what Middlebury and KITTI say; and its colours."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aigc_lib.datasets.flow_files import flow_colors, read_flo, read_kitti, write_flo, write_kitti


def test_nothing_is_read_where_nothing_is(tmp_path):
    for read in (read_flo, read_kitti):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_flow_survives_its_file(tmp_path_factory, height, width, seed):
    path = tmp_path_factory.mktemp("flo") / "a.flo"
    flow = torch.randn(2, height, width, generator=torch.Generator().manual_seed(seed))
    write_flo(path, flow)
    assert torch.equal(read_flo(path), flow)
    write_flo(path, flow.bfloat16())
    assert torch.equal(read_flo(path), flow.bfloat16().float())


def test_a_flo_file_has_the_bytes_that_middlebury_describes(tmp_path):
    write_flo(tmp_path / "a.flo", torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]]))
    content = (tmp_path / "a.flo").read_bytes()
    assert content[:4] == b"PIEH"
    assert np.frombuffer(content[4:12], dtype="<i4").tolist() == [2, 1]
    assert np.frombuffer(content[12:], dtype="<f4").tolist() == [1, 3, 2, 4]  # right and down, point by point


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"short", "has 5 bytes"),
        (b"HIEP" + bytes(16), "it is not a .flo file"),
        (b"PIEH" + np.array([2, 2], dtype="<i4").tobytes() + bytes(8), "says 2×2, which needs 44 bytes, but it has 20"),
    ],
)
def test_a_damaged_flo_file_is_refused(tmp_path, content, message):
    (tmp_path / "bad.flo").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_flo(tmp_path / "bad.flo")


def test_only_flow_can_be_written(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(2, H, W\), got \(3, 4, 4\)"):
        write_flo(tmp_path / "a.flo", torch.zeros(3, 4, 4))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_kitti_flow_survives_its_file_to_a_128th_of_a_pixel(tmp_path_factory, height, width, seed):
    path = tmp_path_factory.mktemp("kitti") / "a.png"
    generator = torch.Generator().manual_seed(seed)
    flow = 100 * torch.randn(2, height, width, generator=generator)
    valid = torch.rand(height, width, generator=generator) > 0.3
    write_kitti(path, flow, valid)
    again, known = read_kitti(path)
    assert torch.equal(known, valid)
    assert (again - flow)[:, valid].abs().le(1 / 128 + 1e-5).all()
    assert (again[:, ~valid] == 0).all()


def test_a_kitti_file_has_the_levels_that_its_format_describes(tmp_path):
    write_kitti(tmp_path / "a.png", torch.tensor([[[3.25]], [[-40.5]]]))
    content = (tmp_path / "a.png").read_bytes()
    assert content[24:26] == bytes([16, 2])  # bits a channel, and red, green, blue
    # Pillow keeps the upper byte of each channel.
    expected = (64 * 3.25 + 2**15) // 256, (-64 * 40.5 + 2**15) // 256, 0
    assert Image.open(tmp_path / "a.png").getpixel((0, 0)) == expected


def test_where_nothing_is_known_any_flow_can_be_written(tmp_path):
    flow, valid = torch.tensor([[[1.0, 1e9]], [[2.0, float("nan")]]]), torch.tensor([[True, False]])
    write_kitti(tmp_path / "a.png", flow, valid)
    again, known = read_kitti(tmp_path / "a.png")
    assert again.tolist() == [[[1.0, 0.0]], [[2.0, 0.0]]]
    assert torch.equal(known, valid)


@pytest.mark.parametrize("keep", [0, 20, 0.5, 0.95])
def test_a_damaged_kitti_file_is_refused(tmp_path, keep):
    path = tmp_path / "a.png"
    write_kitti(path, torch.randn(2, 40, 50, generator=torch.Generator().manual_seed(0)))
    content = path.read_bytes()
    path.write_bytes(content[: keep if keep == 0 or keep > 1 else int(keep * len(content))])
    with pytest.raises(ValueError, match="no PNG, or a damaged one"):
        read_kitti(path)


def test_a_picture_of_8_bits_is_no_kitti_flow(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="rgb24 pixels; KITTI's flow has three channels of 16 bits"):
        read_kitti(tmp_path / "a.png")


def test_kitti_holds_flow_up_to_512_pixels(tmp_path):
    with pytest.raises(ValueError, match="from -512 to 512 pixels, got 600"):
        write_kitti(tmp_path / "a.png", torch.full((2, 3, 3), 600.0))
    with pytest.raises(ValueError, match=r"got \(2, 3, 3\) and \(3, 4\)"):
        write_kitti(tmp_path / "a.png", torch.zeros(2, 3, 3), torch.ones(3, 4, dtype=torch.bool))


def test_directions_have_the_hues_of_the_wheel_and_rest_is_white():
    directions = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1], [0, 0]]).T[None, :, None]
    right, down, left, up, rest = ((flow_colors(directions)[0, :, 0].T + 1) / 2).unbind()
    assert right.tolist() == [1, 0, 0]  # red
    assert down.tolist() == pytest.approx([1, 13.75 / 15, 0])  # nearly yellow: a quarter of 55, where yellow is 15
    assert left.tolist() == pytest.approx([0, 1 - 2.5 / 11, 1])  # between cyan and blue
    assert up.tolist() == pytest.approx([(41.25 - 36) / 13, 0, 1])  # between blue and magenta
    assert rest.tolist() == [1, 1, 1]


def test_half_the_length_has_half_the_saturation_and_too_much_is_dark():
    flow = torch.tensor([[[[2.0, 1.0, 4.0]], [[0.0, 0.0, 0.0]]]])
    colors = (flow_colors(flow, longest=2) + 1) / 2
    assert colors[0, :, 0].T.tolist() == [[1, 0, 0], [1, 0.5, 0.5], [0.75, 0, 0]]
    assert torch.equal(flow_colors(flow), flow_colors(10 * flow))


@pytest.mark.parametrize("unknown", [1.7e9, math.inf, math.nan])
def test_unknown_flow_is_black_and_does_not_pale_the_rest(unknown):
    flow = torch.tensor([[[[2.0, unknown, 1.0]], [[0.0, unknown, 0.0]]]])
    colors = (flow_colors(flow) + 1) / 2
    assert colors[0, :, 0].T.tolist() == [[1, 0, 0], [0, 0, 0], [1, 0.5, 0.5]]


def test_the_wheel_has_no_seam():
    angle = torch.linspace(-np.pi, np.pi, 2001, dtype=torch.float64)
    colors = flow_colors(torch.stack([angle.cos(), angle.sin()])[None, :, None])
    assert (colors[..., 1:] - colors[..., :-1]).abs().max() < 0.02
    torch.testing.assert_close(colors[..., 0], colors[..., -1])


def test_what_has_no_colours_is_named():
    with pytest.raises(ValueError, match=r"flow \(B, 2, H, W\), got \(2, 3, 3\)"):
        flow_colors(torch.zeros(2, 3, 3))
    with pytest.raises(ValueError, match="longest must be above 0"):
        flow_colors(torch.zeros(1, 2, 3, 3), longest=0)
