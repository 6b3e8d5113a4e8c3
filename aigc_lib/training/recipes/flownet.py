"""Training FlowNet on made pairs: the end-point error at every level, on a first look and on a second one."""

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from aigc_lib import datasets
from aigc_lib.datasets.base import FlowItem
from aigc_lib.models.flownet import FlowNet, FlowNetConfig, end_point_error, estimate_flow, multiscale_loss, warp
from aigc_lib.training.recipe import Budget, Context, Recipe

# Motion up to 24 pixels and more (of 128): the real pair, at a third of its size, moves as far. A photograph's pieces
# in the outlines of emoji: what moves is otherwise flat and gaudy, and what does not is a photograph.
DATA = {"resolution": 128, "motion": 1.5, "n_objects": 8, "cutouts": 0.5}
N_PAIRS = 50_000  # 6,250 steps of the laptop's batches until the first one comes again
N_HELD_OUT = 200
REAL_SCALES = (0.125, 0.25, 0.5)  # of the motorcycle's 741 × 500 pixels: one to eight pixels of motion at first
# What turns both frames and their flow, (B, 8, H, W), and the signs that flow has afterwards.
TURNS = (
    (lambda x: x.flip(3), (-1, 1)),
    (lambda x: x.flip(2), (1, -1)),
    (lambda x: x.mT[:, [0, 1, 2, 3, 4, 5, 7, 6]], (1, 1)),
)


class ObjectsFlowNet(Recipe):
    name = "flownet-objects"
    config_class = FlowNetConfig
    main_part = "flownet"
    dataset = "moving-objects"
    learning_rate: ClassVar[float] = 1e-3
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=8, batch_size=4, log_every=2, n_previews=2),
        "laptop": Budget(steps=60, batch_size=8, log_every=10, checkpoint_every=250, n_previews=8),
        "gpu": Budget(steps=40_000, batch_size=32, log_every=100, checkpoint_every=2_000, n_previews=8),
    }

    @classmethod
    def default_config(cls) -> FlowNetConfig:
        return FlowNetConfig(correlation=True)

    @staticmethod
    def build(config: FlowNetConfig) -> dict[str, nn.Module]:
        return {"flownet": FlowNet(config)}

    def prepare(self, context: Context, total_steps: int) -> None:
        self.context = context
        self.pairs = datasets.load(self.dataset, n=N_PAIRS, **DATA)
        self.parts = {name: part.to(context.device) for name, part in self.build(self.config).items()}
        network = self.parts["flownet"]
        optimiser = Adam(network.parameters())
        self.optimisers = {"flownet": optimiser}
        self.schedulers = {"flownet": OneCycleLR(optimiser, self.learning_rate, max(total_steps, 2), pct_start=0.05)}
        self.ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.999))
        self.pyramid = context.compiled(network.pyramid)

    @property
    def n_examples(self) -> int:
        return len(self.pairs)

    def batch(self, indices: Tensor) -> tuple[Tensor, ...]:
        return _stacked([self.pairs[i] for i in indices.tolist()])

    def step(self, first: Tensor, second: Tensor, flow: Tensor) -> dict[str, Tensor]:
        context = self.context
        first, second, flow = self.varied(first, second, flow)
        again = len(first) // 2  # the second half of the pairs is looked at again, warped by what was found
        with context.accelerator.autocast():
            with torch.no_grad():
                found = self.parts["flownet"](first[again:], second[again:]).float()
            second = torch.cat([second[:again], warp(second[again:], found)])
            target = torch.cat([flow[:again], flow[again:] - found])
            flows = [each.float() for each in self.pyramid(first, second)]
        loss = multiscale_loss(flows, target)
        context.update(loss, self.optimisers["flownet"], max_norm=10.0)
        self.schedulers["flownet"].step()
        self.ema.update_parameters(self.parts["flownet"])
        return {"loss": loss.detach(), "EPE of the first look": end_point_error(found, flow[again:])}

    def varied(self, first: Tensor, second: Tensor, flow: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs mirrored, turned and recoloured at random; both frames nearly alike, as two exposures are."""
        noise = self.context.noise
        x = torch.cat([first, second, flow], dim=1)  # (B, 8, H, W)
        for (turned, signs), coin in zip(TURNS, noise(len(TURNS), 1, 1, 1).unbind(1), strict=True):
            x = torch.where(coin > 0, turned(x) * x.new_tensor([*[1] * 6, *signs]).view(1, 8, 1, 1), x)
        frames = x[:, :6].unflatten(1, (2, 3))  # (B, which, colour, H, W)
        contrast, brightness, grain = noise(3, 1, 3, 1, 1).unbind(1)
        difference = noise(2, 2, 1, 1, 1).unbind(1)
        frames = frames * (0.3 * contrast + 0.05 * difference[0]).exp() + 0.2 * brightness + 0.05 * difference[1]
        frames = (frames + 0.03 * grain * noise(*frames.shape[1:])).clamp(-1, 1)
        return frames[:, 0], frames[:, 1], x[:, 6:]

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Flow of four held-out pairs at a quarter of the resolution, in its pixels: (4, 2, 32, 32) float16."""
        first, second, _ = _stacked(list(pairs_for("validation", 4)))
        network = self.ema.module
        return network.pyramid(*(each.to(self.context.device) for each in (first, second)))[-1].half().cpu()

    @classmethod
    @torch.no_grad()
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """End-point errors in pixels: of held-out made pairs, 128 × 128, and of the real pair, 741 × 500.

        On made pairs every pixel counts; on the real one every pixel whose flow is known, hidden ones too.
        """
        network = parts["flownet"]
        place = next(network.parameters()).device
        looks = {
            "EPE, made pairs": partial(estimate_flow, network, scales=(1.0, 1.0)),
            "EPE, made pairs, one look": network,
            "EPE, made pairs, zero flow": lambda first, second: 0 * first[:, :2],
        }
        errors, pairs = dict.fromkeys(looks, 0.0), list(pairs_for("test", n))
        for start in range(0, len(pairs), 20):
            first, second, flow = (each.to(place) for each in _stacked(pairs[start : start + 20]))
            for name, look in looks.items():
                errors[name] += end_point_error(look(first, second), flow).item() * len(first) / len(pairs)
        real = datasets.load("motorcycle", "test")[0]
        known = (real.valid | real.occluded)[None].to(place)
        first, second, flow = (each.to(place) for each in _stacked([real]))
        found = estimate_flow(network, first, second, scales=REAL_SCALES)
        return errors | {
            "EPE, motorcycle": end_point_error(found, flow, known).item(),
            "EPE, motorcycle, zero flow": end_point_error(0 * flow, flow, known).item(),
        }


def pairs_for(split: str, n: int) -> datasets.Dataset[FlowItem]:
    """Made pairs that move as those of the training do; of the held-out splits at most 200."""
    return datasets.load("moving-objects", split, n=min(n, N_HELD_OUT), **DATA)


def _stacked(items: list[FlowItem]) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.stack([getattr(item, name) for item in items]) for name in ("first", "second", "flow"))
