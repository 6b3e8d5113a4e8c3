"""How the weights that are shipped are averaged over the training."""

from collections.abc import Callable

import torch
from torch import Tensor


def averaging(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    """For `AveragedModel`: exponential, over about 1 / (1 − decay) steps, over a ninth of all while that is less."""

    @torch.no_grad()
    def average(averaged: list[Tensor], current: list[Tensor], n: Tensor | int) -> None:
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + float(n)) / (10 + float(n))))

    return average
