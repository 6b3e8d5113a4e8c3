"""Training frames in between on a film: three frames are known, the middle one is left out and made again."""

from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR

from aigc_lib import datasets
from aigc_lib.metrics.video import moving, psnr, ssim
from aigc_lib.models.interpolation import FrameSynthesis, InterpolationConfig, both_flows
from aigc_lib.models.warping import interpolate
from aigc_lib.training.checkpoints import load
from aigc_lib.training.recipe import Budget, Context, Recipe

HEIGHT = 144  # of the film's frames; they are 256 wide
WINDOW = 5  # frames: two that are given, up to four steps apart, and what lies between
CROP = 96  # pixels, a multiple of FlowNet's 32
MOST = 0.01  # a frame counts if at least so much of it moves: of fewer pixels a mean says little


class FilmInterpolation(Recipe):
    """Flow comes from the shipped FlowNet, which is not trained further."""

    name = "interpolation-film"
    config_class = InterpolationConfig
    main_part = "synthesis"
    dataset = "big-buck-bunny"
    flow_network: ClassVar[str] = "flownet-objects"
    learning_rate: ClassVar[float] = 1e-3
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
        self.synthesise = context.compiled(network)

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
            made = self.synthesise(first, second, forward, backward, middle / distance).float()
        loss = (made - true).abs().mean()
        context.update(loss, self.optimisers["synthesis"], max_norm=1.0)
        self.schedulers["synthesis"].step()
        with torch.no_grad():
            plain = interpolate(first, second, forward, backward, middle / distance)
        return {"error": loss.detach(), "error of warping alone": (plain - true).abs().mean()}

    def varied(self, windows: Tensor) -> Tensor:
        """Pieces of (B, 3, C, H, W), the likelier the more happens in them; mirrored, in other colours, at random."""
        context, width = self.context, windows.shape[4]
        change = (windows[:, 2] - windows[:, 0]).abs().mean(dim=1, keepdim=True)
        likely = F.avg_pool2d(change, CROP, stride=8).flatten(1) + 1e-3  # everything has its chance
        chances = context.share(torch.rand(context.batch_size, likely.shape[1], generator=context.generator))
        place = (likely.cpu().log() - (-chances.log()).log()).argmax(dim=1)  # Gumbel: drawn in proportion to `likely`
        columns = (width - CROP) // 8 + 1
        corners = zip((place // columns * 8).tolist(), (place % columns * 8).tolist(), strict=True)
        coins = context.share(torch.rand(context.batch_size, 2, generator=context.generator) < 0.5).tolist()
        colours = context.share(torch.rand(context.batch_size, windows.shape[2], generator=context.generator)).argsort()
        pieces = []
        for window, (y, x), coin, colour in zip(windows, corners, coins, colours, strict=True):
            piece = window[:, colour, y : y + CROP, x : x + CROP]
            pieces.append(piece.flip([3] * coin[0] + [2] * coin[1]))
        return torch.stack(pieces)

    @classmethod
    @torch.no_grad()
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """PSNR (dB) and SSIM on moving pixels of at most `n` held-out frames, beside averaging and warping alone.

        Given frames are two and four steps of the film apart. Means over the frames in which at least a hundredth of
        the pixels moves.
        """
        network = parts["synthesis"]
        estimator = cls.flow(next(network.parameters()).device)
        scores: dict[str, list[float]] = {}
        for (first, true, second, where), t in held_out(n):
            first, second = (each.to(next(network.parameters()).device) for each in (first, second))
            flows = both_flows(estimator, first, second)
            makers = {
                "averaging": torch.lerp(first, second, t),
                "warping alone": interpolate(first, second, *flows, t),
                "synthesis": network(first, second, *flows, t),
            }
            for name, made in makers.items():
                scores.setdefault(f"PSNR, {name}", []).append(psnr(made.cpu(), true, where).item())
                scores.setdefault(f"SSIM, {name}", []).append(ssim(made.cpu(), true, where).item())
        return {name: sum(values) / len(values) for name, values in scores.items()} | {
            "frames": float(len(scores["PSNR, synthesis"]))
        }


def film(split: str) -> Tensor:
    """The frames of a split, (F, 3, 144, 256), without those that only repeat the one before.

    The film was made with 24 frames a second and is shown with 25: once a second a frame comes twice, and time stands
    still. A repeated frame differs from the one before it by less than a quarter of what its neighbours do.
    """
    frames = torch.cat([clip.frames for clip in datasets.load("big-buck-bunny", split, resolution=HEIGHT)])
    change = (frames[1:] - frames[:-1]).abs().mean(dim=(1, 2, 3))
    usual = F.pad(change[None, None], (1, 1), mode="replicate").unfold(2, 3, 1).median(dim=-1).values[0, 0]
    return frames[torch.cat([torch.tensor([True]), change > usual / 4])]


def held_out(n: int, split: str = "test") -> Iterator[tuple[tuple[Tensor, Tensor, Tensor, Tensor], float]]:
    """At most `n` of: two given frames and the true one between them (1, 3, H, W), where it moves, and its time t."""
    frames, found = film(split), 0
    for distance in (2, WINDOW - 1):
        for start in range(len(frames) - distance):
            first, second = frames[start : start + 1], frames[start + distance : start + distance + 1]
            where = moving(first, second)
            if where.float().mean() < MOST:
                continue
            for middle in range(1, distance):
                if found < n:
                    found += 1
                    yield (first, frames[start + middle : start + middle + 1], second, where), middle / distance
