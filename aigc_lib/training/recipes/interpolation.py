"""Training frames in between on a film: three frames are known, the middle one is left out and made again."""

from collections import defaultdict
from collections.abc import Iterator
from statistics import mean
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR

from aigc_lib import datasets
from aigc_lib.datasets.video import without_repeats
from aigc_lib.metrics.video import moving, psnr, ssim
from aigc_lib.models.interpolation import FrameSynthesis, InterpolationConfig, both_flows
from aigc_lib.models.warping import interpolate
from aigc_lib.training.checkpoints import load
from aigc_lib.training.recipe import Budget, Context, Recipe

HEIGHT = 144  # of the film's frames; they are 256 wide
WINDOW = 5  # frames: two that are given, up to four steps apart, and what lies between
CROP, STRIDE = 96, 8  # pixels: the side of a piece, a multiple of FlowNet's 32, and from one place of it to the next
MOST = 0.01  # a pair counts if at least so much of it moves: of fewer pixels a mean says little


class FilmInterpolation(Recipe):
    """Flow comes from the shipped FlowNet, which is not trained further."""

    name = "interpolation-film"
    config_class = InterpolationConfig
    main_part = "synthesis"
    dataset = "big-buck-bunny"
    flow_network: ClassVar[str] = "flownet-objects"
    learning_rate: ClassVar[float] = 5e-4
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=4, batch_size=2, log_every=2),
        "laptop": Budget(steps=40, batch_size=4, log_every=5, checkpoint_every=250),
        "gpu": Budget(steps=40_000, batch_size=32, log_every=100, checkpoint_every=2_000),
    }

    @staticmethod
    def build(config: InterpolationConfig) -> dict[str, nn.Module]:
        return {"synthesis": FrameSynthesis(config)}

    @classmethod
    def flow(cls, device: torch.device) -> nn.Module:
        """The network that estimates flow."""
        return load(cls.flow_network).to(device).requires_grad_(False)

    def prepare(self, context: Context, total_steps: int) -> None:
        self.context = context
        self.frames = film("train")
        self.estimator = self.flow(context.device)
        self.parts = {name: part.to(context.device) for name, part in self.build(self.config).items()}
        network = self.parts["synthesis"]
        optimiser = Adam(network.parameters())
        self.optimisers = {"synthesis": optimiser}
        self.schedulers = {"synthesis": OneCycleLR(optimiser, self.learning_rate, total_steps=max(total_steps, 2))}

    @property
    def n_examples(self) -> int:
        return len(self.frames) - WINDOW + 1

    def batch(self, indices: Tensor) -> tuple[Tensor]:
        return (self.frames[indices[:, None] + torch.arange(WINDOW)],)  # (B, WINDOW, C, H, W)

    def step(self, windows: Tensor) -> dict[str, Tensor]:
        """One time t for the whole batch, with other frames, pieces and directions for every window."""
        context = self.context
        distance = int(torch.randint(2, WINDOW, (), generator=context.generator))
        middle = int(torch.randint(1, distance, (), generator=context.generator))
        first, true, second = self.varied(windows[:, [0, middle, distance]]).unbind(1)
        with context.accelerator.autocast():
            with torch.no_grad():
                forward, backward = both_flows(self.estimator, first, second)
            made = self.parts["synthesis"](first, second, forward, backward, middle / distance).float()
        loss = (made - true).abs().mean()
        context.update(loss, self.optimisers["synthesis"], max_norm=1.0)
        self.schedulers["synthesis"].step()
        with torch.no_grad():
            plain = interpolate(first, second, forward, backward, middle / distance)
        return {"error": loss.detach(), "error of warping alone": (plain - true).abs().mean()}

    def varied(self, windows: Tensor) -> Tensor:
        """Pieces of (B, 3, C, H, W), the likelier the more happens in them; mirrored, in other colours, at random."""
        context, channels, columns = self.context, windows.shape[2], (windows.shape[4] - CROP) // STRIDE + 1
        change = (windows[:, 2] - windows[:, 0]).abs().mean(dim=1, keepdim=True)
        likely = F.avg_pool2d(change, CROP, STRIDE).flatten(1).cpu() + 1e-3  # everything has its chance
        draws = torch.rand(context.batch_size, likely.shape[1] + 2 + channels, generator=context.generator)
        race, coins, colours = context.share(draws).split([likely.shape[1], 2, channels], dim=1)
        winners = (likely / -race.log()).argmax(dim=1).tolist()  # of an exponential race: in proportion to `likely`
        pieces = []
        for window, place, coin, colour in zip(
            windows, winners, (coins < 0.5).tolist(), colours.argsort(), strict=True
        ):
            y, x = place // columns * STRIDE, place % columns * STRIDE
            piece = window[:, colour.to(window.device), y : y + CROP, x : x + CROP]
            pieces.append(piece.flip([3] * coin[0] + [2] * coin[1]))
        return torch.stack(pieces)

    @classmethod
    @torch.no_grad()
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """PSNR (dB) and SSIM on moving pixels, between at most `n` held-out pairs, beside averaging and warping alone.

        The frames of a pair are two or four steps of the film apart. Means over the frames between them.
        """
        network = parts["synthesis"]
        place = next(network.parameters()).device
        estimator = cls.flow(place)
        scores: dict[str, list[float]] = defaultdict(list)
        for first, second, between in held_out(n):
            where = moving(first, second)
            first, second = first.to(place), second.to(place)
            flows = both_flows(estimator, first, second)
            for t, true in between.items():
                makers = {
                    "averaging": torch.lerp(first, second, t),
                    "warping alone": interpolate(first, second, *flows, t),
                    "synthesis": network(first, second, *flows, t),
                }
                for name, made in makers.items():
                    scores[f"PSNR, {name}"].append(psnr(made.cpu(), true, where).item())
                    scores[f"SSIM, {name}"].append(ssim(made.cpu(), true, where).item())
        return {name: mean(values) for name, values in scores.items()}


def film(split: str) -> Tensor:
    """The frames of a split, (F, 3, 144, 256), without those that are shown twice."""
    clips = datasets.load("big-buck-bunny", split, resolution=HEIGHT)
    return without_repeats(torch.cat([clip.frames for clip in clips]))


def held_out(n: int) -> Iterator[tuple[Tensor, Tensor, dict[float, Tensor]]]:
    """At most `n` pairs of frames in which at least a hundredth of the pixels moves, and the true frames between them.

    Yields:
        The frames of a pair, (1, 3, H, W) each, and for each time t in (0, 1) the frame that was filmed then.
    """
    frames, found = film("test").split(1), 0
    for distance in (2, WINDOW - 1):
        for given in range(len(frames) - distance):
            first, *between, second = frames[given : given + distance + 1]
            if found < n and moving(first, second).float().mean() >= MOST:
                found += 1
                yield first, second, {i / distance: frame for i, frame in enumerate(between, start=1)}
