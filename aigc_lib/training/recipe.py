"""What a system brings to the training loop: networks, optimisers, data, and one step."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much a profile trains, in steps and sizes, never in seconds.

    Args:
        steps, batch_size: all processes together take `steps` steps on `batch_size` examples.
        log_every, checkpoint_every: in steps.
        n_previews: how often the run shows what it makes, in steps that grow geometrically: early ones change most.
    """

    steps: int
    batch_size: int
    log_every: int = 20
    checkpoint_every: int = 500
    n_previews: int = 24

    def preview_steps(self, total: int) -> set[int]:
        """The steps of a run of `total` steps after which a preview is due; the last one is among them."""
        ratio = max(total, 1) / max(total / 256, 1)
        return {round(total / ratio ** (i / max(self.n_previews - 1, 1))) for i in range(self.n_previews)}


@dataclass(frozen=True, kw_only=True)
class Context:
    """The loop's services to a recipe: device, randomness and gradients, the same on one process or many.

    `batch_size` is that of all processes together. Each process draws the noise of the whole batch and keeps its own
    share, so that two processes compute what one would on the joined batch.
    """

    accelerator: Accelerator
    generator: torch.Generator
    batch_size: int
    compile: bool = False

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def share(self, whole: Tensor) -> Tensor:
        """This process's part of something that is one entry an example of the whole batch."""
        return whole.tensor_split(self.accelerator.num_processes)[self.accelerator.process_index]

    def noise(self, *shape: int) -> Tensor:
        """Standard normal, (this process's share of the batch, *shape), on the device."""
        return self.share(torch.randn(self.batch_size, *shape, generator=self.generator)).to(self.device)

    def compiled(self, network: Callable) -> Callable:
        """`network` under torch.compile where that was asked for. Not for anything differentiated twice."""
        return torch.compile(network) if self.compile else network

    def update(self, loss: Tensor, *optimisers: Optimizer, max_norm: float | None = None) -> None:
        """Step the optimisers on `loss`, a mean over this process's share; gradients are averaged over processes.

        With `max_norm`, a longer gradient is shortened to that norm: g · min(1, max_norm / ‖g‖).

        The average is taken here, by one all-reduce, and not by DistributedDataParallel: its hooks do not see a second
        derivative, which gradient penalties need, nor two forward passes before one backward.
        """
        parameters = [p for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]]
        for parameter in parameters:
            parameter.grad = None
        self.accelerator.backward(loss)
        if self.accelerator.num_processes > 1:
            gradients = [p.grad for p in parameters if p.grad is not None]
            joined = torch.cat([gradient.flatten() for gradient in gradients])
            joined = self.accelerator.reduce(joined, reduction="mean")
            for gradient, mean in zip(gradients, joined.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))
        if max_norm is not None:
            nn.utils.clip_grad_norm_(parameters, max_norm)
        for optimiser in optimisers:
            optimiser.step()


class Recipe(ABC):
    """One system on one data set. Subclasses fill the class attributes and the abstract methods.

    After `prepare`, `parts`, `optimisers`, `schedulers` and `ema` hold everything that a checkpoint must keep.
    """

    name: ClassVar[str]
    config_class: ClassVar[type]
    main_part: ClassVar[str]
    budgets: ClassVar[dict[str, Budget]]
    dataset: ClassVar[str]
    samples_suffix: ClassVar[str] = ".png"
    ships_previews: ClassVar[bool] = True  # whether a shipped checkpoint shows how it grew; all have 40 MB together

    parts: dict[str, nn.Module]
    optimisers: dict[str, Optimizer]
    schedulers: dict[str, LRScheduler]
    ema: AveragedModel | None
    context: Context

    def __init__(self, config: Any = None) -> None:
        self.config = config if config is not None else self.default_config()
        self.schedulers, self.ema = {}, None

    @classmethod
    def default_config(cls) -> Any:
        """The configuration that is trained unless another is given."""
        return cls.config_class()

    @staticmethod
    @abstractmethod
    def build(config: Any) -> dict[str, nn.Module]:
        """The networks, freshly initialised from torch's global generator."""

    @abstractmethod
    def prepare(self, context: Context, total_steps: int) -> None:
        """Load the data; set `context`, `parts` (on the device), `optimisers` and, where used, the rest."""

    @property
    @abstractmethod
    def n_examples(self) -> int:
        """Size of the training split."""

    @abstractmethod
    def batch(self, indices: Tensor) -> tuple[Tensor, ...]:
        """Examples at `indices` of the training split, on the CPU."""

    @abstractmethod
    def step(self, *batch: Tensor) -> dict[str, Tensor]:
        """Update every network once from this process's share of a batch; return the losses, detached."""

    @classmethod
    @abstractmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """Metrics of trained networks on at most `n` held-out examples."""

    @classmethod
    def sample(cls, parts: dict[str, nn.Module], out: Path, *, n: int, generator: torch.Generator) -> Path:
        """Generate `n` things into the file `out`.

        Raises:
            ValueError: the system does not generate, or not into such a file.
        """
        raise ValueError(f"{cls.name} does not generate anything; `aigc evaluate {cls.name}` measures it")

    def preview(self) -> Tensor | None:
        """Something to look at or listen to, from fixed noise, so that its growth can be followed; None: nothing."""
        return None

    def save_preview(self, preview: Tensor, stem: Path) -> None:  # noqa: B027 (nothing to save where nothing is shown)
        """Write a preview as a file for people, at `stem` with a suffix."""

    def inference_parts(self) -> dict[str, nn.Module]:
        """What is shipped: the networks, with the averaged weights in the main one where there is an average."""
        return {**self.parts, **({self.main_part: self.ema.module} if self.ema is not None else {})}
