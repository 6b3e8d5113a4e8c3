"""A platform that shows items to users: a simulation whose every probability is known, so that estimates have a truth.

    relevance r(u, i) = σ(intercept + slope · ⟨taste_u, feature_i⟩)    a logistic choice; both vectors have norm 1
    P(click at position k) = examination_k · r(u, i)                   the examination hypothesis
    examination_k = (1 / k)^η,  k = 1 … P                              Joachims et al. 2017, arXiv:1608.04468
    seconds after a click = min(T, length_i),  P(T > t) = exp(−(t / λ)^s),  λ = patience · r(u, i)

The examination hypothesis is the simplest model of position bias; Craswell, Zoeter, Taylor and Ramsey (2008, WSDM)
compare it with others and find a cascade down the list closer to the clicks on the first ranks. Dwell times are
Weibull with shape s < 1 on most pages (Liu, White and Dumais 2010, SIGIR): who has stayed is likely to stay on. That
the scale λ grows with the relevance is an assumption made here. Watching is censored: nobody watches beyond the end.

The social graph grows by preferential attachment with triangles (Holme and Kim 2002, Phys. Rev. E 65, 026107): a few
have very many friends, and friends of friends are friends. Unlike in life, friends' tastes are not alike.

Axis letters: U users, I items, K features, B requests, P positions.
"""

import copy
import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import networkx as nx
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PlatformConfig:
    """Sizes and laws of a platform; the defaults give clicks on about one impression in ten."""

    n_users: int = 2000
    n_items: int = 200
    n_features: int = 8
    n_positions: int = 5
    agreement: float = 0.5  # how much of a taste all users share; 0: tastes point anywhere
    intercept: float = -2.0  # log odds that an item is relevant which has nothing to do with the taste
    slope: float = 3.0  # log odds between that and an item which is the taste itself
    position_exponent: float = 1.0  # η; 0: every position is looked at
    patience: float = 90.0  # seconds: scale of the watch time at relevance 1
    watch_shape: float = 0.8  # s; 1: leaving is equally likely at any moment
    median_length: float = 30.0  # seconds
    length_spread: float = 0.5  # standard deviation of the logarithm of the length
    n_friends: int = 4  # that a user who joins makes at once
    triangles: float = 0.6  # probability that a new friend brings one of his own along

    def __post_init__(self) -> None:
        sizes = {"n_users": 2, "n_items": 1, "n_features": 2, "n_positions": 1, "n_friends": 1}
        for name, smallest in sizes.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"{name} has to be at least {smallest}, got {getattr(self, name)}")
        for name in ("patience", "watch_shape", "median_length"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} has to be positive and finite, got {getattr(self, name)}")
        if min(self.agreement, self.position_exponent, self.length_spread) < 0 or not 0 <= self.triangles <= 1:
            raise ValueError(
                f"agreement, position_exponent and length_spread have to be ≥ 0, triangles in 0 to 1: {self}"
            )
        if self.n_friends >= self.n_users:
            raise ValueError(f"n_friends has to be less than n_users, got {self.n_friends} of {self.n_users}")


class Feedback(NamedTuple):
    """What the platform sees of a request."""

    clicks: Tensor  # (B, P) bool
    watch_seconds: Tensor  # (B, P) float64; 0 where nobody clicked


class Platform:
    """Users with tastes, items with features and lengths, and a graph of friends.

    Attributes:
        tastes: (U, K) float64, rows of norm 1.
        features: (I, K) float64, rows of norm 1.
        lengths: (I,) float64, seconds.
        examination: (n_positions,) float64, probability that each position is looked at; 1 for the first.
    """

    def __init__(self, config: PlatformConfig, *, generator: torch.Generator) -> None:
        self.config = config
        k = config.n_features

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        shared = F.normalize(draw(k), dim=0)
        self.tastes = F.normalize(config.agreement * shared + draw(config.n_users, k) / math.sqrt(k), dim=1)
        self.features = F.normalize(draw(config.n_items, k), dim=1)
        self.lengths = config.median_length * (config.length_spread * draw(config.n_items)).exp()
        ranks = torch.arange(1, config.n_positions + 1, dtype=torch.float64)
        self.examination = ranks**-config.position_exponent
        self._graph_seed = int(torch.randint(2**31, (), generator=generator))

    @cached_property
    def graph(self) -> nx.Graph:
        """Who is whose friend; nodes are the users 0 … U − 1. Grown when it is first asked for."""
        c = self.config
        return nx.powerlaw_cluster_graph(c.n_users, c.n_friends, c.triangles, seed=self._graph_seed)

    def with_items(self, features: Tensor, lengths: Tensor | None = None) -> "Platform":
        """The same users and friends before other items, such as generated variants.

        Args:
            features: (I', K), rows of norm 1: a variant may differ in kind, not be "more of everything".
            lengths: (I',) seconds, positive; None: `config.median_length` for all.

        Raises:
            ValueError: another shape or norm, or lengths that are not positive.
        """
        features = features.double()
        if features.ndim != 2 or not len(features) or features.shape[1] != self.config.n_features:
            raise ValueError(f"expected features (I, {self.config.n_features}), got {tuple(features.shape)}")
        if not torch.allclose(features.norm(dim=1), torch.ones(len(features), dtype=torch.float64), atol=1e-5):
            raise ValueError("every row of features has to have norm 1: divide it by its norm")
        if lengths is None:
            lengths = torch.full((len(features),), self.config.median_length)
        if lengths.shape != features.shape[:1] or not (lengths > 0).all():
            raise ValueError(f"expected {len(features)} positive lengths in seconds, got {tuple(lengths.shape)}")
        other = copy.copy(self)
        other.features, other.lengths = features, lengths.double()
        return other

    def relevance(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        """P(click | looked at).

        Args:
            users: (B,) int64.
            items: (B,) or (B, P) int64; None: all items for each user.

        Returns:
            float64 in (0, 1), in the shape of `items`, or (B, I).

        Raises:
            ValueError: another shape or kind of tensor, or a number that names no user or item.
        """
        self._require_numbers("users", users, len(self.tastes), (1,))
        if items is None:
            affinity = self.tastes[users] @ self.features.T  # (B, I)
        else:
            self._require_numbers("items", items, len(self.features), (1, 2))
            if len(items) != len(users):
                raise ValueError(f"expected one row of items for each of {len(users)} users, got {len(items)}")
            affinity = torch.einsum("bk,b...k->b...", self.tastes[users], self.features[items])
        return torch.sigmoid(self.config.intercept + self.config.slope * affinity)

    def expected_seconds(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        """E[seconds watched | click] in closed form, float64; arguments and shapes as in `relevance`.

        The integral of P(T > t) from 0 to the item's length is λ Γ(1 + 1/s) P(1/s, (length/λ)^s), where P is the
        regularised lower incomplete gamma function.
        """
        scale = self.config.patience * self.relevance(users, items)
        lengths = self.lengths if items is None else self.lengths[items]
        power = torch.tensor(1 / self.config.watch_shape, dtype=torch.float64)
        whole = torch.exp(torch.lgamma(1 + power)) * scale  # the mean of T
        return whole * torch.special.gammainc(power, (lengths / scale) ** self.config.watch_shape)

    def show(self, users: Tensor, items: Tensor, *, generator: torch.Generator) -> Feedback:
        """Show each user a list of items, the first position first; users act independently of each other.

        Args:
            users: (B,) int64; the same user may come more than once.
            items: (B, P) int64 with P ≤ `config.n_positions`.

        Raises:
            ValueError: as `relevance`, or more items than positions.
        """
        if items.ndim != 2 or items.shape[1] > self.config.n_positions:
            raise ValueError(f"expected items (B, P), P ≤ {self.config.n_positions}, got {tuple(items.shape)}")
        relevance = self.relevance(users, items)
        chance = self.examination[: items.shape[1]] * relevance
        clicks = torch.rand(items.shape, generator=generator, dtype=torch.float64) < chance
        stays = torch.empty_like(chance).exponential_(generator=generator) ** (1 / self.config.watch_shape)
        seconds = torch.minimum(self.config.patience * relevance * stays, self.lengths[items])
        return Feedback(clicks, seconds * clicks)

    @staticmethod
    def _require_numbers(name: str, numbers: Tensor, size: int, ranks: tuple[int, ...]) -> None:
        if numbers.dtype != torch.int64 or numbers.ndim not in ranks or not numbers.numel():
            axes = " or ".join(("(B,)", "(B, P)")[rank - 1] for rank in ranks)
            raise ValueError(f"{name} have to be int64 {axes}, B ≥ 1; got {tuple(numbers.shape)}, {numbers.dtype}")
        if not 0 <= int(numbers.min()) <= int(numbers.max()) < size:
            raise ValueError(f"{name} have to be 0 to {size - 1}, got {int(numbers.min())} to {int(numbers.max())}")


def degree_exponent(graph: nx.Graph, *, smallest: int) -> float:
    """α of P(degree = d) ∝ d^−α for d ≥ `smallest`, by maximum likelihood.

    Clauset, Shalizi and Newman (2009, SIAM Review 51, arXiv:0706.1062), equation 3.7: their approximation for whole
    numbers, good to about 1 % from `smallest` = 6 on.

    Raises:
        ValueError: `smallest` < 1, or no degree reaches it.
    """
    tail = torch.tensor([d for _, d in graph.degree if d >= smallest], dtype=torch.float64)
    if smallest < 1 or not len(tail):
        raise ValueError(f"smallest has to be at least 1 and reached by some degree, got {smallest}")
    return 1 + len(tail) / (tail / (smallest - 0.5)).log().sum().item()
