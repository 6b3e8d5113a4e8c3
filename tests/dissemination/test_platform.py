"""The simulated platform behaves as its stated laws say, and its graph is shaped like a social one."""

import math

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from aigc_lib.dissemination.platform import Platform, PlatformConfig, degree_exponent


def numbers(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def platform():
    return Platform(PlatformConfig(n_users=1000), generator=numbers())


@pytest.fixture(scope="module")
def requests(platform):
    """100,000 requests of random users for random lists, with what came of them."""
    generator = numbers(1)
    users = torch.randint(1000, (100_000,), generator=generator)
    items = torch.randint(200, (100_000, 5), generator=generator)
    return users, items, platform.show(users, items, generator=generator)


def z_score(sample, mean):
    return ((sample.mean() - mean) / (sample.std() / math.sqrt(sample.numel()))).item()


def test_the_same_seed_makes_the_same_platform():
    one, two = (Platform(PlatformConfig(n_users=50), generator=numbers(3)) for _ in range(2))
    assert torch.equal(one.tastes, two.tastes)
    assert torch.equal(one.lengths, two.lengths)
    assert nx.utils.graphs_equal(one.graph, two.graph)
    other = Platform(PlatformConfig(n_users=50), generator=numbers(4))
    assert not torch.equal(one.tastes, other.tastes)
    assert not nx.utils.graphs_equal(one.graph, other.graph)


def test_relevance_is_the_logistic_of_the_affinity(platform):
    users, items = torch.tensor([3, 7]), torch.tensor([[1, 5], [5, 9]])
    affinity = platform.tastes[7] @ platform.features[5]
    expected = 1 / (1 + math.exp(2 - 3 * affinity))
    assert platform.relevance(users, items)[1, 0].item() == pytest.approx(expected, abs=1e-12)
    everything = platform.relevance(users)
    assert torch.allclose(everything.gather(1, items), platform.relevance(users, items))
    assert torch.allclose(everything[[0, 1], [5, 9]], platform.relevance(users, torch.tensor([5, 9])))


def test_the_best_item_for_a_user_is_his_taste_itself(platform):
    own = platform.with_items(platform.tastes[:20])
    assert torch.equal(own.relevance(torch.arange(20)).argmax(1), torch.arange(20))


def test_clicks_at_each_position_are_examination_times_relevance(platform, requests):
    users, items, feedback = requests
    chance = platform.relevance(users, items)
    for position in range(5):
        surprise = feedback.clicks[:, position].double() - chance[:, position] / (position + 1)
        assert abs(z_score(surprise, 0)) < 4


def test_without_position_bias_every_position_is_looked_at():
    platform = Platform(PlatformConfig(n_users=10, n_friends=2, position_exponent=0.0), generator=numbers())
    assert torch.equal(platform.examination, torch.ones(5, dtype=torch.float64))


def test_mean_watch_time_is_the_closed_form(platform, requests):
    users, items, (clicks, seconds) = requests
    surprise = (seconds - platform.expected_seconds(users, items))[clicks]
    assert abs(z_score(surprise, 0)) < 4


@settings(max_examples=30, deadline=None)
@given(shape=st.floats(0.4, 2), length=st.floats(1, 500), item=st.integers(0, 9))
def test_expected_seconds_agree_with_numerical_integration(shape, length, item):
    config = PlatformConfig(n_users=10, n_items=10, n_friends=2, watch_shape=shape)
    platform = Platform(config, generator=numbers())
    platform = platform.with_items(platform.features, torch.full((10,), length))
    user, item = torch.tensor([4]), torch.tensor([item])
    scale = 90 * platform.relevance(user, item).item()
    expected, _ = integrate.quad(lambda t: stats.weibull_min.sf(t, shape, scale=scale), 0, length, epsrel=1e-10)
    assert platform.expected_seconds(user, item).item() == pytest.approx(expected, rel=1e-6)


def test_watch_time_is_weibull_up_to_the_end_of_the_item(platform):
    users, items = torch.full((20_000,), 7), torch.full((20_000, 1), 3)
    clicks, seconds = platform.show(users, items, generator=numbers(2))
    seconds, length = seconds[clicks], platform.lengths[3].item()
    scale = 90 * platform.relevance(users[:1], items[:1]).item()
    assert seconds.max() == length  # nobody watches beyond the end, and some watch to the end
    to_the_end = (seconds == length).double()
    assert abs(z_score(to_the_end, stats.weibull_min.sf(length, 0.8, scale=scale))) < 4
    left = stats.weibull_min(0.8, scale=scale)
    before = stats.kstest(seconds[seconds < length].numpy(), lambda t: left.cdf(t) / left.cdf(length))
    assert before.pvalue > 1e-3


def test_nobody_watches_what_he_does_not_click(requests):
    clicks, seconds = requests[2]
    assert (seconds[~clicks] == 0).all()
    assert (seconds[clicks] > 0).all()


def test_other_items_leave_users_and_friends_as_they_are(platform):
    other = platform.with_items(platform.features[:3])
    assert other.tastes is platform.tastes
    assert nx.utils.graphs_equal(other.graph, platform.graph)
    assert len(platform.features) == 200
    assert other.lengths.tolist() == [30, 30, 30]


def test_the_graph_has_the_tail_and_the_triangles_of_a_social_one(platform):
    """Preferential attachment has exponent 3 (Barabási and Albert 1999); a random graph has no tail, no triangles."""
    graph, random = platform.graph, nx.gnm_random_graph(1000, platform.graph.number_of_edges(), seed=0)
    assert 2.4 < degree_exponent(graph, smallest=8) < 3.3
    assert degree_exponent(random, smallest=8) > 4
    assert max(degree for _, degree in graph.degree) > 4 * max(degree for _, degree in random.degree)
    assert nx.average_clustering(graph) > 10 * nx.average_clustering(random)


class Degrees:
    """Stands in for a graph of which only the degrees are read."""

    def __init__(self, degrees):
        self.degree = enumerate(degrees)


@settings(max_examples=10, deadline=None)
@given(exponent=st.floats(2.2, 3.5))
def test_the_exponent_of_a_known_tail_is_found(exponent):
    values = torch.arange(6, 10**6, dtype=torch.float64)
    degrees = values[torch.multinomial(values**-exponent, 20_000, replacement=True, generator=numbers())]
    error = (exponent - 1) / math.sqrt(20_000)  # Clauset et al., equation 3.2
    assert degree_exponent(Degrees(degrees.tolist()), smallest=6) == pytest.approx(exponent, abs=0.03 + 4 * error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_users": 1}, "n_users"),
        ({"n_positions": 0}, "n_positions"),
        ({"patience": 0.0}, "patience"),
        ({"watch_shape": math.inf}, "watch_shape"),
        ({"agreement": -1.0}, "agreement"),
        ({"triangles": 1.5}, "triangles"),
        ({"n_users": 4}, "n_friends"),
    ],
)
def test_an_impossible_platform_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        PlatformConfig(**change)


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        (torch.tensor([0.0]), torch.tensor([[0]]), "int64"),
        (torch.tensor([1000]), torch.tensor([[0]]), "0 to 999"),
        (torch.tensor([0]), torch.tensor([[200]]), "0 to 199"),
        (torch.tensor([0]), torch.tensor([[-1]]), "0 to 199"),
        (torch.tensor([0]), torch.tensor([[0], [1]]), "one row"),
        (torch.tensor([0]), torch.tensor([0]), r"\(B, P\)"),
        (torch.tensor([0]), torch.zeros(1, 6, dtype=torch.int64), "P ≤ 5"),
        (torch.zeros(0, dtype=torch.int64), torch.zeros(0, 1, dtype=torch.int64), "B ≥ 1"),
    ],
)
def test_impossible_requests_are_refused(platform, users, items, message):
    with pytest.raises(ValueError, match=message):
        platform.show(users, items, generator=numbers())


@pytest.mark.parametrize(
    ("features", "lengths", "message"),
    [
        (torch.ones(2, 8), None, "norm 1"),
        (torch.full((2, 8), math.nan), None, "norm 1"),
        (torch.eye(7), None, "8"),
        (torch.eye(8), torch.zeros(8), "positive"),
        (torch.eye(8), torch.ones(3), "8 positive"),
    ],
)
def test_impossible_items_are_refused(platform, features, lengths, message):
    with pytest.raises(ValueError, match=message):
        platform.with_items(features, lengths)


def test_a_tail_that_nobody_reaches_is_refused(platform):
    with pytest.raises(ValueError, match="smallest"):
        degree_exponent(platform.graph, smallest=1001)
