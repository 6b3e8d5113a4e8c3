"""Cuts and dissolves of made films are found and motion is not; the clips chosen are the best there are."""

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lib import datasets
from aigc_lib.applications import shots
from aigc_lib.applications.shots import choose, even_cuts, find_changes, liveliness, thumbnails
from aigc_lib.datasets.cut_films import Change, cut_film
from aigc_lib.datasets.provenance import info
from aigc_lib.datasets.sources import verify
from aigc_lib.datasets.street import BEGINS
from aigc_lib.datasets.video_files import open_video
from aigc_lib.metrics.events import detected

WITHIN = 2  # frames between the middle of a change that is found and the true one


def found_in(frames):
    return find_changes(thumbnails(frames))


def f1(found, truth, kind):
    middles = ([change.middle for change in changes if change.kind == kind] for changes in (found, truth))
    return detected(*middles, within=WITHIN).f1


@pytest.fixture(scope="module")
def sources():
    """The photographs and the stretch of film on which no threshold was set."""
    splits = ("validation", "test")
    pictures = [item.image for split in splits for item in datasets.load("photographs", split)]
    clips = [item.frames for split in splits for item in datasets.load("big-buck-bunny", split, n_frames=18)]
    return pictures, [torch.cat(clips)]


def test_cuts_and_dissolves_of_unseen_films_are_found(sources):
    films = [cut_film(*sources, 20, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    scores = {kind: [f1(found_in(frames), truth, kind) for frames, truth in films] for kind in ("cut", "dissolve")}
    assert min(scores["cut"]) > 0.9
    assert sum(scores["dissolve"]) / 3 > 0.85


def test_the_made_films_are_what_their_list_says(sources):
    frames, truth = cut_film(*sources, 8, generator=torch.Generator().manual_seed(3))
    assert len(truth) == 7
    assert all(before.end + 15 < after.start for before, after in pairwise(truth))
    for change in truth:
        jump = (frames[change.end] - frames[change.start - 1]).abs().mean()
        calm = (frames[change.start - 1] - frames[change.start - 2]).abs().mean()
        assert jump > 2 * calm
    assert frames.shape == (len(frames), 3, 72, 128)
    assert -1 <= frames.min() < frames.max() <= 1


def test_the_cuts_of_a_real_camera_s_film_are_found_and_no_others():
    (path,) = verify(info("street")).values()
    video = open_video(path)
    thumbs = torch.cat([thumbnails(frames) for frames in video.chunks()])
    assert find_changes(thumbs) == [Change(begin, begin) for begin in BEGINS[1:]]


def test_a_shot_of_a_real_film_has_no_change():
    splits = ("train", "validation", "test")
    frames = torch.cat([item.frames for split in splits for item in datasets.load("big-buck-bunny", split)])
    assert found_in(frames) == []


def test_a_flash_and_a_still_are_no_change():
    frames = 0.3 * torch.rand(1, 3, 36, 64, generator=torch.Generator().manual_seed(0)).repeat(40, 1, 1, 1)
    assert found_in(frames) == []
    frames[20] = 1
    assert found_in(frames) == []
    assert found_in(frames[:1]) == []


def test_a_pure_dissolve_is_found_to_the_frame():
    first, second = torch.rand(2, 1, 3, 36, 64, generator=torch.Generator().manual_seed(0)).round() * 2 - 1
    first, second = (shots.F.interpolate(x[..., :4, :8], (36, 64)) for x in (first, second))
    share = ((torch.arange(10) + 1) / 11).view(-1, 1, 1, 1)
    mixed = (1 - share) * first + share * second
    frames = torch.cat([first.repeat(20, 1, 1, 1), mixed, second.repeat(20, 1, 1, 1)])
    assert found_in(frames) == [Change(20, 30)]


def test_long_films_are_looked_through_in_blocks(sources, monkeypatch):
    frames, _ = cut_film(*sources, 8, generator=torch.Generator().manual_seed(4))
    whole = found_in(frames)
    monkeypatch.setattr(shots, "_BLOCK", 50)
    assert found_in(frames) == whole


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-5, 5), min_size=8, max_size=14),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.integers(0, 1),
    st.lists(st.integers(1, 10), max_size=3, unique=True),
)
def test_no_other_choice_of_clips_is_better(score, lengths, overlap, cuts):
    needs = [length + overlap for length in lengths[:-1]] + [lengths[-1]]
    if sum(needs) > len(score):
        return
    changes = [Change(cut, cut) for cut in cuts if cut < len(score)]

    def value(starts):
        crossed = sum(
            any(s < change.start < s + need for change in changes) for s, need in zip(starts, needs, strict=True)
        )
        return -crossed, sum(sum(score[s : s + n]) for s, n in zip(starts, lengths, strict=True))

    def possible(starts):
        ends = [s + need for s, need in zip(starts, needs, strict=True)]
        return ends[-1] <= len(score) and all(a <= b for a, b in zip(ends, starts[1:], strict=False))

    starts = choose(torch.tensor(score), lengths, changes, overlap=overlap)
    assert possible(starts)
    everything = combinations(range(len(score)), len(lengths))
    assert value(starts) == max(value(other) for other in everything if possible(other))


def test_a_constant_added_to_all_scores_changes_nothing():
    score = torch.randn(100, generator=torch.Generator().manual_seed(0))
    assert choose(score, [10, 20, 10]) == choose(score + 7, [10, 20, 10])


def test_clips_that_need_more_frames_than_there_are():
    with pytest.raises(ValueError, match="need 14 frames, transitions included, and the film has 12"):
        choose(torch.zeros(12), [5, 5], overlap=4)


def test_lively_is_what_moves_and_what_is_heard():
    thumbs = torch.zeros(40, 6, dtype=torch.uint8)
    thumbs[10:20:2] = 50  # moves
    thumbs[30:] = 200  # a cut
    energy = torch.full((40,), 1e-4)
    energy[22:26] = 0.1
    score = liveliness(thumbs, energy, [Change(30, 30)])
    lively = set(range(10, 20)) | set(range(22, 26))
    assert set((score > 0).nonzero().flatten().tolist()) == lively
    torch.testing.assert_close(liveliness(thumbs[:5], None, []), torch.zeros(5, dtype=torch.float64))


@pytest.mark.parametrize(("n", "rate", "cuts"), [(250, 25, [50, 100, 150, 200]), (20, 25, []), (90, 29.97, [45])])
def test_clips_last_about_two_seconds(n, rate, cuts):
    assert even_cuts(n, rate) == cuts
