"""What is shown is measured rightly, and a recommender that eats its own clicks narrows, as published."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lib.dissemination.feedback import effective_number, exposure, feedback_loop, gini
from aigc_lib.dissemination.platform import Platform, PlatformConfig

COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any).map(torch.tensor)


@pytest.fixture(scope="module")
def platform():
    return Platform(PlatformConfig(n_users=200, n_items=120), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def loops(platform):
    """Last rounds of: the loop, the loop with what was not seen left open, with trials on top, and fitted to chance."""

    def last(**kw):
        return feedback_loop(platform, n_rounds=25, generator=torch.Generator().manual_seed(1), **kw)[-1]

    return {
        "loop": last(missing_is_no=True),
        "open": last(missing_is_no=False),
        "trials": last(missing_is_no=False, exploration=0.1),
        "chance": last(missing_is_no=True, exploration=1.0),
    }


@given(COUNTS)
def test_gini_is_the_mean_difference_of_all_pairs(counts):
    pairs = [abs(a - b) for a, b in itertools.product(counts.tolist(), repeat=2)]
    mean = counts.double().mean().item()
    assert gini(counts) == pytest.approx(sum(pairs) / len(pairs) / (2 * mean), abs=1e-9)


@given(COUNTS)
def test_the_effective_number_lies_between_one_and_all(counts):
    assert 1 - 1e-9 <= effective_number(counts) <= (counts > 0).sum().item() + 1e-9


@pytest.mark.parametrize("n", [1, 5, 40])
def test_equal_counts_and_a_single_winner_are_the_extremes(n):
    equal, winner = torch.full((n,), 3), torch.eye(n, dtype=torch.int64)[0]
    assert (gini(equal), effective_number(equal)) == pytest.approx((0, n))
    assert (gini(winner), effective_number(winner)) == pytest.approx((1 - 1 / n, 1))


def test_one_round_by_hand():
    lists = torch.tensor([[0, 1], [1, 2], [1, 0]])
    relevance = torch.tensor([[0.5, 0.2, 0.0, 0.0], [0.0, 0.6, 0.4, 0.0], [0.1, 0.3, 0.0, 0.0]]).double()
    measured = exposure(lists, relevance, torch.tensor([1.0, 0.5]).double())
    assert measured.value == pytest.approx((0.6 + 0.8 + 0.35) / 3)
    assert measured.coverage == 0.75
    assert measured.gini == pytest.approx(gini(torch.tensor([2, 3, 1, 0])))
    assert measured.overlap == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)  # two lists share 1 of 3, 2 of 2, 1 of 3 items


def test_the_first_round_is_chance(platform):
    first = feedback_loop(platform, n_rounds=2, missing_is_no=True, generator=torch.Generator().manual_seed(2))[0]
    users = torch.arange(200)
    expected = platform.relevance(users).mean() * platform.examination.sum()
    assert first.shown == first.ranked
    assert first.shown.value == pytest.approx(expected.item(), rel=0.1)
    assert first.shown.coverage > 0.95


def test_the_same_seed_lives_the_same_life(platform):
    one, two = (
        feedback_loop(platform, n_rounds=3, missing_is_no=False, generator=torch.Generator().manual_seed(5))
        for _ in range(2)
    )
    assert one == two


def test_the_loop_narrows_more_than_the_same_model_fitted_to_chance(loops):
    loop, control = loops["loop"].ranked, loops["chance"].ranked
    assert loop.effective_items < 0.7 * control.effective_items
    assert loop.coverage < 0.7 * control.coverage
    assert loop.overlap > 1.5 * control.overlap
    assert loop.gini > control.gini


def test_and_gains_nothing_by_it(platform, loops):
    """Lives differ by a tenth or so, so that three decide."""
    gains = [loops["loop"].ranked.value - loops["chance"].ranked.value]
    for seed in (2, 3):
        lives = [
            feedback_loop(
                platform,
                n_rounds=25,
                missing_is_no=True,
                exploration=exploration,
                generator=torch.Generator().manual_seed(seed),
            )
            for exploration in (0.0, 1.0)
        ]
        gains.append(lives[0][-1].ranked.value - lives[1][-1].ranked.value)
    assert sum(gains) / 3 < 0.03


def test_leaving_open_what_was_not_seen_is_worth_more(loops):
    assert loops["open"].shown.value > 1.1 * loops["loop"].shown.value


def test_trials_widen_what_is_shown_at_a_small_price(loops):
    trials = loops["trials"]
    assert trials.shown.coverage > 2 * loops["open"].shown.coverage
    assert trials.shown.effective_items > 1.3 * loops["open"].shown.effective_items
    assert 0.88 * trials.ranked.value < trials.shown.value < trials.ranked.value


def test_shown_is_ranked_without_exploration(loops):
    assert loops["loop"].shown == loops["loop"].ranked
    assert loops["chance"].shown != loops["chance"].ranked


@pytest.mark.parametrize(
    ("change", "message"),
    [({"n_rounds": 1}, "n_rounds"), ({"exploration": 1.5}, "exploration"), ({"n_factors": 0}, "n_factors")],
)
def test_an_impossible_loop_is_refused(platform, change, message):
    arguments = {"n_rounds": 3, "missing_is_no": True} | change
    with pytest.raises(ValueError, match=message):
        feedback_loop(platform, generator=torch.Generator(), **arguments)


def test_a_platform_with_too_little_to_choose_from_is_refused(platform):
    small = platform.with_items(platform.features[:9])
    with pytest.raises(ValueError, match="at least 10 items"):
        feedback_loop(small, n_rounds=3, missing_is_no=True, generator=torch.Generator())


@pytest.mark.parametrize("counts", [torch.zeros(3), torch.tensor([1, -1]), torch.ones(2, 2), torch.ones(0)])
def test_counts_that_are_none_are_refused(counts):
    with pytest.raises(ValueError, match="counts"):
        gini(counts)


@pytest.mark.parametrize(
    ("lists", "message"), [(torch.tensor([[0, 0], [1, 2]]), "twice"), (torch.tensor([[0, 1]]), "2 users")]
)
def test_lists_that_are_none_are_refused(lists, message):
    with pytest.raises(ValueError, match=message):
        exposure(lists, torch.ones(2, 4).double(), torch.ones(2).double())
