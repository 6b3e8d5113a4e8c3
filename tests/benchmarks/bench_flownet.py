"""The correlation against a loop over displacements, and FlowNetS against its layers written down one after another.

Run by hand: `OMP_NUM_THREADS=1 python tests/benchmarks/bench_flownet.py`. Times are the best of several, in seconds of
the processor within one process, so that ratios hold on a busy machine too.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_lib.models.flownet import FlowNet, FlowNetConfig, correlation, multiscale_loss

ROUNDS = 7


def best(*calls: Callable[[], object]) -> list[float]:
    """The least seconds of each, taken in turns."""
    times = [[] for _ in calls]
    for _ in range(ROUNDS):
        for each, taken in zip(calls, times, strict=True):
            start = time.process_time()
            each()
            taken.append(time.process_time() - start)
    return [min(taken[1:]) for taken in times]


def by_loop(first: Tensor, second: Tensor, radius: int) -> Tensor:
    h, w = first.shape[2:]
    framed, steps = F.pad(second, [radius] * 4), range(2 * radius + 1)
    return torch.stack([(first * framed[:, :, y : y + h, x : x + w]).sum(dim=1) for y in steps for x in steps], dim=1)


def all_pairs(first: Tensor, second: Tensor, radius: int) -> Tensor:
    """Every position with every other, and a gather."""
    b, _, h, w = first.shape
    pairs = F.pad((first.flatten(2).mT @ second.flatten(2)).view(b, h, w, h, w), [radius] * 4)
    y, x = torch.arange(h)[:, None], torch.arange(w)
    steps = torch.arange(2 * radius + 1)
    down, right = steps.repeat_interleave(len(steps))[:, None, None], steps.repeat(len(steps))[:, None, None]
    return pairs[:, y, x, y + down, x + right]


def straightforward(network: FlowNet, first: Tensor, second: Tensor) -> Tensor:
    """FlowNetS as the paper draws it: the same layers in a row."""
    quarter = network.look(torch.cat([first, second], dim=1))
    eighth = network.contract[0](quarter)
    sixteenth = network.contract[1](eighth)
    x = network.contract[2](sixteenth)
    flow = network.predict[0](x)
    for i, skip in enumerate((sixteenth, eighth, quarter)):
        flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear")
        x = torch.cat([skip, network.up[i](x), flow], dim=1)
        flow = flow + network.predict[i + 1](network.finish(x) if i == 2 else x)
    return 4 * F.interpolate(flow, scale_factor=4, mode="bilinear")


def ours(first: Tensor, second: Tensor, radius: int) -> Tensor:
    return correlation(first, second, radius=radius)


def with_gradients(how: Callable[..., Tensor], first: Tensor, second: Tensor, radius: int) -> None:
    how(first.clone().requires_grad_(), second.clone().requires_grad_(), radius).square().sum().backward()


def compare_correlations(c: int, h: int, w: int, radius: int) -> None:
    first, second = torch.randn(2, 1, c, h, w)
    hows = by_loop, all_pairs, ours
    for how in hows[1:]:
        torch.testing.assert_close(how(first, second, radius), by_loop(first, second, radius), atol=1e-3, rtol=0)
    forward = best(*(partial(how, first, second, radius) for how in hows))
    train = best(*(partial(with_gradients, how, first, second, radius) for how in hows))
    print(f"correlation of {c}×{h}×{w}, radius {radius}")
    held = 4 * (2 * radius + 1) ** 2 * c * h * w, 4 * (h * w) ** 2, 32 * w * (8 + 2 * radius) ** 2
    for how, one, both, memory in zip(hows, forward, train, held, strict=True):
        print(
            f"  {how.__name__:10} {1e3 * one:6.1f} ms ({forward[0] / one:4.1f} × the loop), with gradients "
            f"{1e3 * both:6.1f} ms ({train[0] / both:4.1f} ×); products {memory / 2**20:6.1f} MiB"
        )


def train_once(network: FlowNet, first: Tensor, second: Tensor, target: Tensor) -> None:
    multiscale_loss(network.pyramid(first, second), target).backward()


def main() -> None:
    print(f"{torch.get_num_threads()} thread(s)")
    compare_correlations(256, 32, 32, 10)
    compare_correlations(48, 64, 96, 8)
    torch.manual_seed(0)
    first, second = torch.randn(2, 4, 3, 128, 128)
    for kind in (False, True):
        network = FlowNet(FlowNetConfig(correlation=kind))
        (step,) = best(partial(train_once, network, first, second, torch.randn(4, 2, 128, 128)))
        millions = sum(p.numel() for p in network.parameters()) / 1e6
        print(f"FlowNet{'SC'[kind]}: {millions:.2f} M parameters, {1e3 * step / 4:.1f} ms a training pair of 128 × 128")
    network = FlowNet(FlowNetConfig(correlation=False)).eval()
    with torch.no_grad():
        torch.testing.assert_close(straightforward(network, first, second), network(first, second))
        plain, built = best(partial(straightforward, network, first, second), partial(network, first, second))
    print(f"FlowNetS forward: {1e3 * built:.1f} ms, straightforward {1e3 * plain:.1f} ms, ratio {built / plain:.2f}")


if __name__ == "__main__":
    main()
