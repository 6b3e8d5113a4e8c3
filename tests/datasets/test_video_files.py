"""Video files: what is written comes back, what cannot be read or written says why, and length costs no memory."""

import io
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib.datasets.video_files import open_video, write_video

COLOUR = torch.tensor([1.0, 0.2, -0.5]).view(1, 3, 1, 1)


def fade(n_frames, height=32, width=48):
    """From black towards white, with a tint: every frame has one colour, and no two have the same."""
    return (torch.linspace(-1, 1, n_frames).view(-1, 1, 1, 1) * COLOUR).expand(-1, -1, height, width)


def frames_of(path, n_frames=8):
    return torch.cat(list(open_video(path).chunks(n_frames)))


def encode(path, pictures, *, stamps=None, codec="libx264", rate=25, options=None):
    """A file made without the writer: (H, W, 3) uint8 pictures at time stamps in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def packets_of(path):
    with av.open(str(path)) as source:
        return [packet for packet in source.demux(video=0) if packet.dts is not None]


def rewrite(path, template, packets, *, stamps=None, **options):
    """A file of packets that are encoded already, such as those of `template`."""
    with av.open(str(template)) as source, av.open(str(path), "w", **options) as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for i, packet in enumerate(packets):
            again = av.Packet(bytes(packet))
            again.stream, again.time_base, again.is_keyframe = stream, packet.time_base, packet.is_keyframe
            again.pts, again.dts = (packet.pts, packet.dts) if stamps is None else stamps[i]
            copy.mux(again)
    return path


def pictures(n, height=32, width=48):
    return [np.full((height, width, 3), 20 * i % 256, dtype=np.uint8) for i in range(n)]


@given(
    height=st.integers(2, 40), width=st.integers(2, 40), n=st.integers(1, 9), rate=st.sampled_from([1, 12.5, 24, 120])
)
@settings(deadline=None, max_examples=10)
def test_size_rate_number_and_colours_come_back(tmp_path_factory, height, width, n, rate):
    path = tmp_path_factory.mktemp("video") / "fade.mp4"
    frames = fade(n, height, width)
    write_video(path, frames, rate)
    video = open_video(path)
    assert (video.height, video.width, video.n_frames, video.frame_rate) == (height, width, n, rate)
    torch.testing.assert_close(frames_of(path), frames, atol=0.03, rtol=0)  # four levels of 255


def test_the_rate_of_television_is_exact(tmp_path):
    write_video(tmp_path / "ntsc.mp4", fade(5), 30_000 / 1001)
    assert open_video(tmp_path / "ntsc.mp4").frame_rate == 30_000 / 1001


def test_pieces_in_and_pieces_out_make_no_difference(tmp_path):
    frames = fade(7)
    write_video(tmp_path / "whole.mp4", frames, 25)
    write_video(tmp_path / "pieces.mp4", iter([frames[:1], frames[1:5], frames[5:]]), 25)
    assert (tmp_path / "whole.mp4").read_bytes() == (tmp_path / "pieces.mp4").read_bytes()
    chunks = list(open_video(tmp_path / "whole.mp4").chunks(3))
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    assert torch.equal(torch.cat(chunks), frames_of(tmp_path / "whole.mp4"))


def test_grey_becomes_three_equal_channels(tmp_path):
    write_video(tmp_path / "grey.mp4", torch.full((2, 1, 16, 16), 0.5), 25)
    frames = frames_of(tmp_path / "grey.mp4")
    assert frames.shape == (2, 3, 16, 16)
    torch.testing.assert_close(frames, torch.full_like(frames, 0.5), atol=0.02, rtol=0)


def test_nothing_gets_darker_on_the_way(tmp_path):
    colours = torch.rand(40, 3, 1, 1, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    write_video(tmp_path / "colours.mp4", colours.expand(-1, -1, 32, 48), 25)
    wrong = frames_of(tmp_path / "colours.mp4") - colours
    assert wrong.mean(dim=(0, 2, 3)).abs().max() < 0.5 / 127.5  # half a level of 255


def test_a_file_is_what_browsers_play(tmp_path):
    write_video(tmp_path / "film.mp4", fade(25), 25, sound=torch.zeros(16_000), sample_rate=16_000)
    with av.open(str(tmp_path / "film.mp4")) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert (picture.codec_context.name, picture.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert picture.codec_context.colorspace == 1  # BT.709, said in the file: players need not guess
        assert (sound.codec_context.name, sound.rate, sound.layout.name) == ("aac", 16_000, "mono")
        assert picture.duration * picture.time_base == sound.duration * sound.time_base == 1


def test_sound_stays_where_it_was(tmp_path):
    sound = torch.zeros(48_000)
    sound[24_000:36_000] = 0.5 * torch.sin(torch.arange(12_000) * 0.2)  # half a second of tone, from second 1 on
    write_video(tmp_path / "film.mp4", iter(fade(50).split(8)), 25, sound=sound, sample_rate=24_000)
    with av.open(str(tmp_path / "film.mp4")) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert np.abs(heard[:23_000]).max() < 0.05
    assert np.abs(heard[37_000:48_000]).max() < 0.05
    np.testing.assert_allclose(heard[26_000:34_000], sound[26_000:34_000], atol=0.05)


@pytest.mark.parametrize(("angle", "cosine", "sine"), [(90, 0, 1), (180, -1, 0), (-90, 0, -1)])
def test_a_film_that_was_taken_sideways_stands_upright(tmp_path, angle, cosine, sine):
    picture = np.zeros((32, 48, 3), dtype=np.uint8)
    picture[:16, :24] = 255  # upper left
    path = encode(tmp_path / "phone.mp4", [picture])
    # The matrix in the track header (ISO/IEC 14496-12, 8.3.2): x' = a x + c y, y' = b x + d y, with y pointing down.
    matrix = [each << 16 for each in (cosine, -sine, 0, sine, cosine, 0, 0, 0)] + [1 << 30]
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    content[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    upright = np.rot90(picture, angle // 90)
    video = open_video(path)
    assert (video.height, video.width) == upright.shape[:2]
    (frame,) = frames_of(path)
    assert ((frame > 0) == torch.from_numpy(upright.copy()).permute(2, 0, 1).bool()).float().mean() > 0.98


@pytest.mark.parametrize(
    ("suffix", "codec"), [("webm", "libvpx-vp9"), ("mkv", "libx264"), ("avi", "mpeg4"), ("mov", "mpeg4")]
)
def test_other_containers_and_codecs_are_read(tmp_path, suffix, codec):
    path = encode(tmp_path / f"film.{suffix}", pictures(12), codec=codec)
    video = open_video(path)
    assert (video.n_frames, video.frame_rate) == (12, 25)
    levels = (frames_of(path).mean((1, 2, 3)) + 1) * 127.5
    assert (levels - torch.arange(12) * 20).abs().max() < 4


def test_the_film_of_the_course_is_read_as_the_data_set_reads_it():
    from aigc_lib.datasets import load
    from aigc_lib.datasets.pixels import area_resize
    from aigc_lib.datasets.provenance import info
    from aigc_lib.datasets.sources import verify

    (path,) = verify(info("big-buck-bunny")).values()
    video = open_video(path)
    assert (video.height, video.width, video.frame_rate, video.n_frames) == (720, 1280, 25, 132)
    first = next(video.chunks(1))[0]
    expected = load("big-buck-bunny")[0].frames[0]
    wrong = torch.from_numpy(area_resize(first.numpy(), 72, 128)) - expected
    assert wrong.abs().mean() < 1.5 / 127.5  # levels of 255: the data set rounds colours down


# --- what cannot be read ---------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no video file at .*film\.mp4"):
        open_video(tmp_path / "film.mp4")


def test_an_empty_file_and_one_that_is_no_video_are_refused(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ValueError, match=r"empty\.mp4 is empty"):
        open_video(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_bytes(b"this is no video" * 100)
    with pytest.raises(ValueError, match=r"text\.mp4 is damaged or no video: Invalid data"):
        open_video(tmp_path / "text.mp4")


def test_half_a_file_is_refused(tmp_path):
    write_video(tmp_path / "film.mp4", torch.rand(20, 3, 32, 32) * 2 - 1, 25)
    content = (tmp_path / "film.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(content[: len(content) // 2])  # its index stood at the end
    with pytest.raises(ValueError, match=r"half\.mp4 is damaged"):
        open_video(tmp_path / "half.mp4")
    path = encode(tmp_path / "front.mp4", [*np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)])
    rewrite(tmp_path / "fast.mp4", path, packets_of(path), options={"movflags": "faststart"})
    content = (tmp_path / "fast.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(content[: len(content) // 2])  # its index stands in front
    with pytest.raises(ValueError, match=r"holds \d+ of 20 frames"):
        open_video(tmp_path / "half.mp4")


@pytest.mark.parametrize("shown", [15, 10])
def test_a_film_that_was_cut_without_coding_it_anew_is_whole(tmp_path, shown):
    path = encode(tmp_path / "film.mp4", pictures(20), options={"bf": "0"})
    packets = packets_of(path)
    early = [(p.pts - 5 * p.duration, p.dts - 5 * p.duration) for p in packets]  # films begin at 0
    cut = rewrite(tmp_path / "cut.mp4", path, packets, stamps=early)
    content = bytearray(cut.read_bytes())
    start = content.index(b"elst") + 12  # how long the edit lasts, in milliseconds (ISO/IEC 14496-12, 8.6.6)
    assert struct.unpack(">I", content[start : start + 4]) == (600,)
    content[start : start + 4] = struct.pack(">I", 40 * shown)
    cut.write_bytes(content)
    assert open_video(cut).n_frames == shown
    levels = (frames_of(cut).mean((1, 2, 3)) + 1) * 127.5
    assert (levels - torch.arange(5, 5 + shown) * 20 % 256).abs().max() < 4


def test_a_damaged_frame_is_no_frame(tmp_path):
    path = tmp_path / "film.mp4"
    write_video(path, torch.rand(20, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1, 25)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + len(content) // 2
    content[start : start + 600] = bytes(600)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"film\.mp4.* damaged"):
        frames_of(path)


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match="holds no video, only audio"):
        open_video(tmp_path / "song.mp4")


def test_variable_frame_rate_is_refused_and_rounded_time_stamps_are_not(tmp_path):
    steady = encode(tmp_path / "steady.mkv", pictures(12), stamps=[round(i * 1000 / 30) for i in range(12)], rate=30)
    assert open_video(steady).frame_rate == pytest.approx(30, rel=0.01)
    stamps = [0, 40, 80, 120, 160, 280, 320, 360]
    path = encode(tmp_path / "phone.mkv", pictures(8), stamps=stamps)
    with pytest.raises(
        ValueError, match=r"variable frame rate: frame 5 lasts 0\.1200 s, others 0\.0400 s.*fps_mode cfr"
    ):
        open_video(path)


def test_frames_that_change_their_size_are_refused(tmp_path):
    small, large = (encode(tmp_path / f"{n}.webm", pictures(4, n, n), codec="libvpx-vp9") for n in (32, 64))
    packets = packets_of(small) + packets_of(large)
    path = rewrite(tmp_path / "joined.webm", small, packets, stamps=[(40 * i, 40 * i) for i in range(8)])
    with pytest.raises(ValueError, match=r"frame 5 of 8 is 64 by 64 pixels .*, the first 32 by 32"):
        frames_of(path)


def test_a_chunk_has_a_frame_at_least(tmp_path):
    write_video(tmp_path / "film.mp4", fade(2), 25)
    with pytest.raises(ValueError, match="n_frames has to be at least 1, got 0"):
        next(open_video(tmp_path / "film.mp4").chunks(0))


# --- what cannot be written ------------------------------------------------------------------------------------------

SECOND = torch.zeros(8_000)


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        (fade(3)[0], {}, r"expected float frames \(F ≥ 1, 1 or 3, H, W\), got \(3, 32, 48\)"),
        (fade(3)[:0], {}, "F ≥ 1"),
        ([], {}, "no frames to write"),
        (torch.zeros(3, 3, 8, 8, dtype=torch.uint8), {}, "uint8"),
        (torch.zeros(3, 2, 8, 8), {}, "1 or 3"),
        (fade(3) * 2, {}, r"\[-2, 2\]; clamp or rescale"),
        (fade(3) * torch.nan, {}, "nan"),
        ([fade(3), fade(3, 32, 50)], {}, r"of one size: first 32 by 48 .*, then 32 by 50"),
        (fade(25), {"frame_rate": 1e-4}, r"frame_rate has to be 0\.01 to 120"),
        (fade(25), {"frame_rate": 1_000}, "to 120 frames a second, got 1000"),
        (fade(25), {"sound": SECOND}, "sample_rate has to be 8,000 to 48,000 Hz, got None"),
        (fade(25), {"sound": SECOND, "sample_rate": 96_000}, "got 96000"),
        (fade(25), {"sound": SECOND + 2, "sample_rate": 8_000}, "got up to 2"),
        (fade(25), {"sound": SECOND * torch.nan, "sample_rate": 8_000}, "finite"),
        (fade(25), {"sound": SECOND[None], "sample_rate": 8_000}, r"T ≥ 1.*\(1, 8000\)"),
        (fade(25), {"sound": SECOND[:4000], "sample_rate": 8_000}, r"0\.50 s of sound and 1\.00 s of frames"),
        (fade(10), {"sound": SECOND, "sample_rate": 8_000}, r"1\.00 s of sound and 0\.40 s of frames"),
    ],
)
def test_what_cannot_be_written_says_why_and_leaves_nothing(tmp_path, frames, options, message):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "film.mp4", frames, **({"frame_rate": 25} | options))
    assert list(tmp_path.iterdir()) == []


def test_only_mp4_files_are_written(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.mp4, got 'film\.avi'"):
        write_video(tmp_path / "film.avi", fade(2), 25)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError, ValueError])
def test_a_write_that_is_stopped_leaves_the_old_file_and_nothing_else(tmp_path, stop):
    write_video(tmp_path / "film.mp4", fade(3), 25)
    before = (tmp_path / "film.mp4").read_bytes()

    def interrupted():
        yield fade(4)
        raise stop

    with pytest.raises(stop):
        write_video(tmp_path / "film.mp4", interrupted(), 25)
    assert (tmp_path / "film.mp4").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_a_file_in_memory_is_the_same_as_one_on_disk(tmp_path):
    buffer = io.BytesIO()
    write_video(buffer, fade(3), 25)
    write_video(tmp_path / "deep" / "film.mp4", fade(3), 25)
    assert buffer.getvalue() == (tmp_path / "deep" / "film.mp4").read_bytes()


# --- length ----------------------------------------------------------------------------------------------------------

# The peak of this program alone: getrusage would count what the tests held when they forked.
READ_ALL = r"""
import re, sys
from aigc_lib.datasets.video_files import open_video
video = open_video(sys.argv[1])
n = sum(chunk.shape[0] * (chunk.shape[1:] == (3, 720, 1280)) for chunk in video.chunks(2))
print(n, 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak of one program alone")
def test_two_thousand_frames_of_high_definition_fit_into_a_gigabyte(tmp_path):
    # Encoding them would take minutes: one second is encoded, and its packets are written again and again.
    second = encode(tmp_path / "second.mp4", pictures(25, 720, 1280), options={"preset": "ultrafast"})
    packets = packets_of(second)
    length = len(packets) * packets[0].duration
    stamps = [(p.pts + repeat * length, p.dts + repeat * length) for repeat in range(80) for p in packets]
    rewrite(tmp_path / "long.mp4", second, packets * 80, stamps=stamps)
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(tmp_path / "long.mp4")], capture_output=True, text=True, check=True
    )
    n, peak = map(int, done.stdout.split())
    assert n == 2_000
    assert peak < 1e9
