"""Training the enhancement of film: pieces of a film and of photographs are spoilt, and are to be made whole again."""

from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR

from aigc_lib import datasets
from aigc_lib.metrics.video import flicker, psnr, ssim
from aigc_lib.models.enhancement import EnhancementConfig, VideoEnhancer, degrade, enhance_clip, enlarge, shrink
from aigc_lib.models.flownet import resize_flow
from aigc_lib.models.interpolation import both_flows
from aigc_lib.training.checkpoints import load
from aigc_lib.training.previews import save_image_grid, to_uint8
from aigc_lib.training.recipe import Budget, Context, Recipe

HEIGHT = 360  # of the film's frames; they are 640 wide
PIECE, STRIDE = 80, 40  # pixels: the side of a piece, and from one place of it to the next
# Pixels right and down from frame to frame by which a camera pans over a photograph. Odd ones show the spoilt frames
# something new: half a pixel of theirs.
PANS = ((0, 0), (0, 0), (1, 0), (1, 2), (3, 1), (4, 5))
REACH = 5  # the longest of them
MOST_NOISE = 0.2  # 25 grey levels
NOISE = 0.1  # the level at which denoising is measured
CLIP = 3  # frames of each held-out shot


class FilmEnhancement(Recipe):
    """Half of the pieces are without noise. Pieces are mirrored, turned, reversed in time and recoloured at random."""

    name = "enhancement-film"
    config_class = EnhancementConfig
    main_part = "enhancer"
    dataset = "big-buck-bunny"
    ships_previews = False
    learning_rate: ClassVar[float] = 5e-4
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=4, batch_size=2, log_every=2),
        "laptop": Budget(steps=40, batch_size=3, log_every=1, checkpoint_every=250),
        "gpu": Budget(steps=40_000, batch_size=8, log_every=50, checkpoint_every=250),
    }

    @staticmethod
    def build(config: EnhancementConfig) -> dict[str, nn.Module]:
        return {"enhancer": VideoEnhancer(config)}

    def prepare(self, context: Context, total_steps: int) -> None:
        self.context = context
        self.clips = training_clips()
        validation = datasets.load("big-buck-bunny", "validation", resolution=HEIGHT)
        self.shown = validation[0].frames[:3, :, 96:192, 176:272]
        self.windows = [
            (clip, start, y, x)
            for clip, frames in enumerate(self.clips)
            for start in range(len(frames) - 2)
            for y in range(0, frames.shape[2] - PIECE + 1, STRIDE)
            for x in range(0, frames.shape[3] - PIECE + 1, STRIDE)
        ]
        self.parts = {name: part.to(context.device) for name, part in self.build(self.config).items()}
        optimiser = Adam(self.parts["enhancer"].parameters())
        self.optimisers = {"enhancer": optimiser}
        self.schedulers = {"enhancer": OneCycleLR(optimiser, self.learning_rate, total_steps=max(total_steps, 2))}

    @property
    def n_examples(self) -> int:
        return len(self.windows)

    def batch(self, indices: Tensor) -> tuple[Tensor]:
        places = [self.windows[i] for i in indices.tolist()]
        pieces = [self.clips[c][t : t + 3, :, y : y + PIECE, x : x + PIECE] for c, t, y, x in places]
        return (torch.stack(pieces),)  # (B, 3, C, PIECE, PIECE) uint8

    def step(self, pieces: Tensor) -> dict[str, Tensor]:
        """One update by the squared error, weighted by what can be known of it beforehand: the level of the noise.

        A weight that depends on the input alone leaves the best answer to each input what it was, the posterior mean.
        """
        context = self.context
        true = self.varied(pieces.float() / 127.5 - 1)
        draws = context.share(torch.rand(context.batch_size, 2, generator=context.generator)).to(true)
        noise = MOST_NOISE * draws[:, 0] * (draws[:, 1] < 0.5)  # (B,)
        levels = noise.repeat_interleave(true.shape[1]).view(-1, 1, 1, 1)
        seen = degrade(true.flatten(0, 1), levels, generator=context.generator).unflatten(0, true.shape[:2])
        with context.accelerator.autocast():
            made = self.parts["enhancer"](seen, noise).float()
        weights = 1e-3 / (noise.square() + 1e-3)
        error = (made - true[:, 1]).square().mean(dim=(1, 2, 3))
        loss = (weights * error).mean()
        context.update(loss, self.optimisers["enhancer"], max_norm=0.01)  # usual are 0.003 to 0.005
        self.schedulers["enhancer"].step()
        with torch.no_grad():
            bicubic = (enlarge(seen[:, 1]) - true[:, 1]).square().mean(dim=(1, 2, 3))
        return {"error": loss.detach(), "error of bicubic": (weights * bicubic).mean()}

    def varied(self, pieces: Tensor) -> Tensor:
        """(B, 3, C, H, W): each mirrored, transposed, reversed in time, its colours exchanged, by a coin each."""
        context = self.context
        draws = torch.rand(context.batch_size, 4 + pieces.shape[2], generator=context.generator)
        varied = []
        for piece, draw in zip(pieces, context.share(draws), strict=True):
            sides = [side for side, coin in zip((0, 2, 3), draw, strict=False) if coin < 0.5]
            turned = piece.flip(sides)
            varied.append((turned.mT if draw[3] < 0.5 else turned)[:, draw[4:].argsort().to(piece.device)])
        return torch.stack(varied)

    @torch.no_grad()
    def preview(self) -> Tensor:
        """A held-out frame as it was recorded (enlarged), enhanced, and true: (3, 3, 96, 96) uint8."""
        seen = shrink(self.shown)
        made = self.parts["enhancer"](seen[None].to(self.context.device), torch.zeros(1))[0].cpu()
        return to_uint8(torch.stack([enlarge(seen)[1], made, self.shown[1]]))

    def save_preview(self, preview: Tensor, stem: Path) -> None:
        save_image_grid(preview, stem.with_suffix(".png"), n_columns=3)

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """PSNR (dB), SSIM and flicker (levels) of three frames of at most `n` held-out shots, beside bicubic.

        "film" is a later stretch of the film that was trained on, its only shot; "street" is six shots of another one.
        "×2" is shown clean frames of half the size, "×2 + noise" such with noise of 0.1 (13 levels); "noise" keeps the
        size of those. What nothing has been done to is "bicubic", or, without enlargement, "as it is".
        """
        network = parts["enhancer"]
        place = next(network.parameters()).device
        estimator = load("flownet-objects").to(place)
        scores: dict[str, list[float]] = defaultdict(list)
        for where, true in list(held_out().items())[:n]:
            clean, noisy = shrink(true), degrade(true, NOISE, generator=generator)
            both = enhance_clip(network, noisy.to(place), NOISE).cpu()
            ways = {
                "×2": (true, enlarge(clean).clamp(-1, 1), enhance_clip(network, clean.to(place), 0.0).cpu()),
                "×2 + noise": (true, enlarge(noisy).clamp(-1, 1), both),
                "noise": (clean, noisy, shrink(both)),
            }
            flow = both_flows(estimator, clean[:-1].to(place), clean[1:].to(place))[0].cpu()
            for task, (aim, *makers) in ways.items():
                for name, made in zip(("as it is" if task == "noise" else "bicubic", "network"), makers, strict=True):
                    key = f"{where.split()[0]}, {task}, {name}"
                    scores[f"PSNR, {key}"].append(psnr(made, aim).mean().item())
                    scores[f"SSIM, {key}"].append(ssim(made, aim).mean().item())
                    scores[f"flicker, {key}"].append(flicker(made, aim, resize_flow(flow, aim.shape[2:])).mean().item())
        return {name: mean(values) for name, values in scores.items()}


def training_clips() -> list[Tensor]:
    """Clips (F ≥ 3, 3, H, W) as bytes: the film's training frames, and pans over the photographs for training."""
    film = torch.cat([to_uint8(clip.frames) for clip in datasets.load("big-buck-bunny", "train", resolution=HEIGHT)])
    clips = [film]
    for item in datasets.load("photographs", "train"):
        picture = to_uint8(item.image)
        h, w = (side - 2 * REACH for side in picture.shape[1:])
        clips += [
            torch.stack([picture[:, REACH + t * down :, REACH + t * right :][:, :h, :w] for t in (-1, 0, 1)])
            for right, down in PANS
        ]
    return clips


def held_out() -> dict[str, Tensor]:
    """Shots that were not trained on, (CLIP, 3, H, W) with even sides, by name."""
    film = datasets.load("big-buck-bunny", "test", resolution=HEIGHT)[0].frames[:CLIP]
    street = (item.frames[:CLIP] for item in datasets.load("street", "test"))
    return {"film": film} | {f"street {i}": frames for i, frames in enumerate(street, start=1)}
