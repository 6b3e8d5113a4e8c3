"""Which device, which precision, how many processes: Hugging Face `accelerate` knows; this file asks it."""

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16")


def resolve_device(device: str = "auto") -> torch.device:
    """The device to use: "auto" prefers CUDA, then MPS, then the CPU.

    Raises:
        ValueError: unknown name, or a device that this machine does not have.
    """
    if device not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {device!r}")
    has = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available, "cpu": lambda: True}
    if device == "auto":
        return torch.device(next(name for name, present in has.items() if present()))
    if not has[device]():
        raise ValueError(f'device {device!r} is not there on this machine; device="auto" takes the best one that is')
    return torch.device(device)


def make_accelerator(device: str = "auto", precision: str = "auto") -> Accelerator:
    """An `Accelerator` on the device, joined to the processes that `torchrun` or `accelerate launch` started.

    Args:
        device: one of `DEVICES`.
        precision: "bfloat16" runs forward passes under autocast; "auto" does so on GPUs that have it.

    Raises:
        ValueError: unknown device or precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    chosen = resolve_device(device)
    if precision == "auto":
        has_bfloat16 = chosen.type == "cuda" and torch.cuda.is_bf16_supported()
        precision = "bfloat16" if has_bfloat16 else "float32"
    # accelerate keeps its state for the life of the process; a notebook trains several times with other settings.
    # The process group itself survives the reset, because accelerate finds it again.
    AcceleratorState._reset_state()
    if PartialState._shared_state and PartialState().device.type != chosen.type:
        PartialState._reset_state()
    return Accelerator(
        cpu=chosen.type == "cpu",
        mixed_precision="bf16" if precision == "bfloat16" else "no",
        step_scheduler_with_optimizer=False,
    )
