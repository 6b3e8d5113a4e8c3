"""A recipe so small that a test can train it hundreds of times: two players, two optimisers, an average, a schedule.

Run as a program it trains itself into a folder; the tests that kill, interrupt or multiply processes start it so.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from aigc_lib.training.engine import run
from aigc_lib.training.recipe import Budget, Context, Recipe


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    width: int = 8


class Toy(Recipe):
    name = "toy"
    config_class = ToyConfig
    main_part = "follower"
    dataset = "none"
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=60, batch_size=8, log_every=5, checkpoint_every=4),
        "laptop": Budget(steps=200, batch_size=8, log_every=5, checkpoint_every=3),
        "gpu": Budget(steps=60, batch_size=8),
    }

    @staticmethod
    def build(config: ToyConfig) -> dict[str, nn.Module]:
        return {name: nn.Linear(3, config.width) for name in ("leader", "follower")}

    def prepare(self, context: Context, total_steps: int) -> None:
        self.context = context
        self.examples = torch.randn(37, 3, generator=torch.Generator().manual_seed(5))
        self.parts = {name: part.to(context.device) for name, part in self.build(self.config).items()}
        self.optimisers = {name: Adam(part.parameters(), lr=0.01) for name, part in self.parts.items()}
        self.schedulers = {"follower": CosineAnnealingLR(self.optimisers["follower"], total_steps)}
        self.ema = AveragedModel(self.parts["follower"], multi_avg_fn=get_ema_multi_avg_fn(0.9))

    @property
    def n_examples(self) -> int:
        return len(self.examples)

    def batch(self, indices: Tensor) -> tuple[Tensor]:
        return (self.examples[indices],)

    def step(self, x: Tensor) -> dict[str, Tensor]:
        noise = self.context.noise(3)
        with self.context.accelerator.autocast():
            target = self.context.compiled(self.parts["leader"])(x + 0.1 * noise)
            leader = (target.float() - 1).square().mean()
        self.context.update(leader, self.optimisers["leader"])
        follower = (self.parts["follower"](x) - target.detach().float()).square().mean()
        self.context.update(follower, self.optimisers["follower"])
        self.schedulers["follower"].step()
        self.ema.update_parameters(self.parts["follower"])
        return {"leader": leader.detach(), "follower": follower.detach()}

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        return {"weight": parts["follower"].weight.norm().item()}

    def preview(self) -> Tensor:
        return self.ema.module.weight.detach().clone()

    def save_preview(self, preview: Tensor, stem: Path) -> None:
        stem.with_suffix(".json").write_text(json.dumps(preview.tolist()))


if __name__ == "__main__":
    folder, profile, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    print("started", flush=True)
    run(Toy(), profile=profile, device="cpu", steps=steps, out=folder, progress=False)
