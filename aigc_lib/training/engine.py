"""One training loop for all systems: resumable to the bit, on one process or many, with or without a GPU.

A run folder holds `last.safetensors` (everything needed to go on, and nothing that depends on when the run was
interrupted), `log.jsonl` (one line a log step), `time.json` (seconds of training so far) and `samples/`.
"""

import json
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast, send_to_device
from torch import Tensor
from tqdm.auto import tqdm

from aigc_lib.training import checkpoints
from aigc_lib.training.checkpoints import CheckpointError
from aigc_lib.training.devices import make_accelerator
from aigc_lib.training.recipe import Budget, Context, Recipe

PROFILES = ("smoke", "laptop", "gpu")


class TrainingDiverged(ArithmeticError):
    """A loss is not finite any more. The last checkpoint is from before that."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a run leaves: the recipe with its trained networks, losses at each log step, previews, seconds in all."""

    recipe: Recipe
    seed: int
    step: int
    history: list[dict[str, float]]
    previews: list[tuple[int, Tensor]]
    seconds: float
    checkpoint: Path | None


class DataOrder:
    """Which examples each step sees: one shuffled pass over the data after another, a pure function of (seed, step).

    So an interrupted run needs to remember its step alone, and a batch may reach over the end of a pass.
    """

    def __init__(self, n_examples: int, batch_size: int, seed: int) -> None:
        if n_examples < 1:
            raise ValueError("there is nothing to train on: the training split is empty")
        self.n_examples, self.batch_size, self.seed = n_examples, batch_size, seed
        self._passes: dict[int, Tensor] = {}

    def indices(self, step: int) -> Tensor:
        """Indices of the examples of `step`, (batch_size,)."""
        positions = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
        passes = (positions // self.n_examples).tolist()
        self._passes = {k: self._passes[k] if k in self._passes else self._shuffle(k) for k in set(passes)}
        return torch.stack([self._passes[k][p % self.n_examples] for k, p in zip(passes, positions, strict=True)])

    def _shuffle(self, number: int) -> Tensor:
        # Two numbers into one seed; 2³² passes will not happen.
        generator = torch.Generator().manual_seed((self.seed << 32) + number)
        return torch.randperm(self.n_examples, generator=generator)


def budget_for(recipe: Recipe | type[Recipe], profile: str) -> Budget:
    """The recipe's budget for a profile.

    Raises:
        ValueError: unknown profile.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    return recipe.budgets[profile]


@dataclass(kw_only=True)
class _Run:
    """The state of a run and how it is saved and restored."""

    recipe: Recipe
    identity: dict[str, Any]
    folder: Path | None
    step: int = 0
    seconds_before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    history: list[dict[str, float]] = field(default_factory=list)
    previews: list[tuple[int, Tensor]] = field(default_factory=list)

    @property
    def checkpoint(self) -> Path | None:
        return self.folder / "last.safetensors" if self.folder else None

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def _stateful(self) -> dict[str, Any]:
        named = {f"part {k}": v for k, v in self.recipe.parts.items()}
        named |= {f"optimiser {k}": v for k, v in self.recipe.optimisers.items()}
        named |= {f"scheduler {k}": v for k, v in self.recipe.schedulers.items()}
        return named | ({"ema": self.recipe.ema} if self.recipe.ema is not None else {})

    def save(self) -> None:
        if not (self.folder and self.recipe.context.accelerator.is_main_process):
            return
        state = {
            "identity": self.identity,
            "step": self.step,
            "history": self.history,
            "previews": [list(each) for each in self.previews],
            "states": {name: each.state_dict() for name, each in self._stateful().items()},
            "generator": self.recipe.context.generator.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if self.recipe.context.device.type == "cuda" else [],
        }
        checkpoints.write(self.checkpoint, state)
        checkpoints.write_whole(self.folder / "time.json", json.dumps({"seconds": round(self.seconds, 1)}).encode())

    def restore(self) -> None:
        state = checkpoints.read(self.checkpoint)
        theirs = state["identity"]
        differing = [k for k in self.identity if theirs.get(k) != self.identity[k]]
        if differing:
            found = ", ".join(f"{k} {theirs.get(k)!r} (now {self.identity[k]!r})" for k in differing)
            raise CheckpointError(
                f"{self.checkpoint} belongs to another run: {found}; choose another folder or start afresh"
            )
        for name, each in self._stateful().items():
            each.load_state_dict(state["states"][name])
        self.step, self.history = state["step"], state["history"]
        self.previews = [(step, preview) for step, preview in state["previews"]]
        self.recipe.context.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])
        clock = self.folder / "time.json"
        self.seconds_before = json.loads(clock.read_text())["seconds"] if clock.exists() else 0.0

    def write_log(self) -> None:
        """Write the whole log again, so that lines of steps that were lost to a crash do not stay in it."""
        if self.folder and self.recipe.context.accelerator.is_main_process:
            lines = "".join(json.dumps(line) + "\n" for line in self.history)
            checkpoints.write_whole(self.folder / "log.jsonl", lines.encode())


def run(
    recipe: Recipe,
    *,
    profile: str,
    device: str = "auto",
    seed: int = 0,
    steps: int | None = None,
    out: Path | None = None,
    resume: bool = True,
    progress: bool = True,
    precision: str = "auto",
    compile: bool = False,
) -> TrainingResult:
    """Train `recipe` until `steps` (by default the profile's) and return what came of it.

    Args:
        recipe: a fresh recipe; it is prepared here.
        profile: "smoke", "laptop" or "gpu": the budget.
        device, precision: see `training.devices`.
        seed: of the initial weights, the data order and all noise.
        steps: total number of steps, counted from the first start of the run.
        out: the run's folder; None keeps everything in memory.
        resume: go on from the checkpoint in `out`, if there is one; False begins again.
        progress: show a progress bar and say what runs where.
        compile: run what can be compiled through torch.compile.

    Raises:
        ValueError: unknown profile, device or precision, or a batch that the processes cannot share evenly.
        CheckpointError: `out` cannot be written, or holds a damaged checkpoint or another run's.
        TrainingDiverged: a loss became NaN or infinite.
        KeyboardInterrupt, SystemExit: after Ctrl-C or SIGTERM, once the state is saved.
    """
    budget = budget_for(recipe, profile)
    total = budget.steps if steps is None else steps
    accelerator = make_accelerator(device, precision)
    if budget.batch_size % accelerator.num_processes:
        raise ValueError(f"{accelerator.num_processes} processes cannot share a batch of {budget.batch_size} evenly")

    torch.manual_seed(seed)
    context = Context(
        accelerator=accelerator,
        generator=torch.Generator().manual_seed(seed),
        batch_size=budget.batch_size,
        compile=compile,
    )
    recipe.prepare(context, total)
    for part in recipe.parts.values():
        for tensor in [*part.parameters(), *part.buffers()]:
            tensor.data.copy_(broadcast(tensor.data))  # one truth, should the processes' machines differ
    order = DataOrder(recipe.n_examples, budget.batch_size, seed)
    identity = {"recipe": recipe.name, "seed": seed, "batch_size": budget.batch_size, "n_examples": recipe.n_examples}
    identity |= {"config": repr(recipe.config)}
    state = _Run(recipe=recipe, identity=identity, folder=out)
    if out and accelerator.is_main_process:
        checkpoints.clear_leftovers(out)
    if out and resume and state.checkpoint.exists():
        state.restore()
        state.write_log()

    shown = progress and accelerator.is_main_process
    if shown:
        tqdm.write(_describe(recipe, context, profile, total, state.step))
    bar = tqdm(total=total, initial=state.step, desc=recipe.name, disable=not shown, unit="step")
    with bar, _stop_signals() as stop:
        while state.step < total and not stop:
            _advance(state, order, bar, budget, total)
            if state.step % budget.checkpoint_every == 0 and state.step < total:
                state.save()
        state.save()
    if stop:
        raise KeyboardInterrupt if stop[0] == signal.SIGINT else SystemExit(128 + stop[0])
    return TrainingResult(
        recipe=recipe,
        seed=seed,
        step=state.step,
        history=state.history,
        previews=state.previews,
        seconds=state.seconds,
        checkpoint=state.checkpoint,
    )


def _advance(state: _Run, order: DataOrder, bar: tqdm, budget: Budget, total: int) -> None:
    """One step, and the log line and preview that are due after it."""
    recipe, context = state.recipe, state.recipe.context
    batch = recipe.batch(context.share(order.indices(state.step)))
    losses = recipe.step(*send_to_device(batch, context.device))
    state.step += 1
    bar.update()
    if state.step % budget.log_every == 0:
        _log(state, losses, bar)
    if state.step in budget.preview_steps(total) and context.accelerator.is_main_process:
        _preview(state)


def _log(state: _Run, losses: dict[str, Tensor], bar: tqdm) -> None:
    reduce = state.recipe.context.accelerator.reduce
    values = {name: float(reduce(value, reduction="mean")) for name, value in losses.items()}
    unusual = [name for name, value in values.items() if not torch.isfinite(torch.tensor(value))]
    if unusual:
        raise TrainingDiverged(f"{', '.join(unusual)} is not finite at step {state.step}; lower the learning rate")
    state.history.append({"step": state.step, **values})
    bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()}, refresh=False)
    if state.folder and state.recipe.context.accelerator.is_main_process:
        state.folder.mkdir(parents=True, exist_ok=True)
        with (state.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(state.history[-1]) + "\n")


def _preview(state: _Run) -> None:
    preview = state.recipe.preview()
    if preview is None:
        return
    state.previews.append((state.step, preview))
    if state.folder:
        folder = state.folder / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        state.recipe.save_preview(preview, folder / f"step-{state.step:07d}")


def _describe(recipe: Recipe, context: Context, profile: str, total: int, step: int) -> str:
    accelerator = context.accelerator
    count = accelerator.num_processes
    precision = "bfloat16 autocast" if accelerator.mixed_precision == "bf16" else "float32"
    start = f"going on from step {step:,} of" if step else "training for"
    return (
        f"{recipe.name} ({profile}): {start} {total:,} steps of {context.batch_size} examples on "
        f"{context.device.type}, {count} process{'es' if count > 1 else ''}, {precision}"
        f"{', compiled' if context.compile else ''}"
    )


@contextmanager
def _stop_signals():
    """Turn the first Ctrl-C or SIGTERM into an entry of the list it yields; a second one acts as it always does."""
    stop: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: object) -> None:
        stop.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
