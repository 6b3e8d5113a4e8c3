"""Both forms of the modulated convolution, where they cross, and what a training step costs with either.

Run by hand: `python tests/benchmarks/bench_stylegan.py`. Ratios of processor time within one process, one thread.
"""

import time
from collections.abc import Callable
from functools import partial

import torch

from aigc_lib.models import stylegan_layers
from aigc_lib.models.stylegan import modulated_conv2d
from aigc_lib.training.engine import run
from aigc_lib.training.recipes.stylegan import EmojiStyleGAN

ROUNDS = 7
MAPS = ((96, 4), (96, 8), (64, 16), (32, 32), (64, 64))  # channels and height; all but the last are stylegan-emoji's


def milliseconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Of the quickest of some rounds."""
    spent = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return 1000 * min(spent)


def convolve(channels: int, size: int, batch: int, *, train: bool, grouped: bool) -> float:
    x = torch.randn(batch, channels, size, size).to(memory_format=torch.channels_last).requires_grad_(train)
    weight = (torch.randn(channels, channels, 3, 3) / (3 * channels**0.5)).requires_grad_(train)
    style = (torch.rand(batch, channels) + 0.5).requires_grad_(train)

    def work() -> None:
        y = modulated_conv2d(x, weight, style, grouped=grouped)
        if train:
            y.sum().backward()

    return milliseconds(work)


def step(grouped: bool) -> float:
    stylegan_layers.modulated_conv2d = partial(modulated_conv2d, grouped=grouped)
    recipe = run(EmojiStyleGAN(), profile="laptop", device="cpu", steps=1, progress=False).recipe
    batch = recipe.batch(torch.arange(recipe.context.batch_size))
    return milliseconds(lambda: recipe.step(*batch), 3)


def main() -> None:
    torch.set_num_threads(1)
    for train in (False, True):
        print("forward and backward" if train else "forward", "(scaled ms, grouped / scaled)")
        for channels, size in MAPS:
            cells = []
            for batch in (1, 4, 16):
                scaled, groups = (convolve(channels, size, batch, train=train, grouped=g) for g in (False, True))
                cells.append(f"batch {batch:2}: {scaled:7.2f}, {groups / scaled:5.2f}")
            print(f"  {channels:3} channels of {size}×{size}:", " | ".join(cells))
    scaled, groups = step(False), step(True)
    print(f"a training step of {EmojiStyleGAN.name}: {scaled:.0f} ms scaled, {groups / scaled:.2f} × grouped")


if __name__ == "__main__":
    main()
