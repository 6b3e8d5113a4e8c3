"""What this machine can do for the course: cores, memory, disk, precision, GPU, and the profile that suits it.

`look` asks the machine, `advise` judges what it found: a pure function, which tests feed with other machines.
A GPU serves if the installed build of PyTorch has machine code for it: code for compute capability x.y runs on x.z with
z ≥ y, and intermediate code (PTX, "compute_xy") also on all later ones (NVIDIA, CUDA C++ Programming Guide, "Binary
compatibility" and "PTX compatibility").
"""

import os
import platform
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from aigc_lib import paths

DISK_GB = 4.0  # what the set-up needs, see tools/bootstrap.py
GPU_MEMORY_GB = 4.0  # the models of the course are small


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Facts. `gpu_capability` is None without a CUDA GPU; `architectures` are those of the PyTorch build."""

    system: str
    cores: int  # that this process may use
    threads: int  # that torch uses
    memory_gb: float
    disk_gb: float  # free
    cpu_capability: str  # of torch's kernels: DEFAULT, AVX2, AVX512, …
    cpu_bfloat16: bool  # instructions for it, not emulation
    gpu: str | None = None
    gpu_capability: tuple[int, int] | None = None
    gpu_memory_gb: float = 0.0
    architectures: tuple[str, ...] = ()
    mps: bool = False


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The profile to choose, the minutes that it takes on a CPU, how many chapters at once, and why."""

    profile: str
    minutes: float | None  # None: not known for this profile
    chapters_at_once: int
    reasons: tuple[str, ...]


def look() -> Machine:
    """Ask this machine. Nothing is downloaded, started or written."""
    has_gpu = torch.cuda.is_available()
    gpu = torch.cuda.get_device_properties(0) if has_gpu else None
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory_gb=psutil.virtual_memory().total / 1e9,
        disk_gb=shutil.disk_usage(paths.data_dir()).free / 1e9,
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        cpu_bfloat16=any(value for name, value in capabilities.items() if "bf16" in name.lower()),
        gpu=gpu.name if gpu else None,
        gpu_capability=torch.cuda.get_device_capability(0) if has_gpu else None,
        gpu_memory_gb=gpu.total_memory / 1e9 if gpu else 0.0,
        architectures=tuple(torch.cuda.get_arch_list()),
        mps=torch.backends.mps.is_available(),
    )


def has_code_for(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Whether a PyTorch build with these architectures, such as "sm_75" and "compute_120", runs on a GPU.

    Raises:
        ValueError: a name is none of an architecture.
    """
    for name in architectures:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)|gfx\w+", name)
        if not found:
            raise ValueError(f"expected architectures such as sm_75 or compute_120, got {name!r}")
        if not found[1]:
            return True  # a ROCm build sees a GPU only if it can use it
        major, minor, of = int(found[2]), int(found[3]), found[4] or found[1]
        for_all_later = of == "compute" and capability >= (major, minor)
        for_family = of in ("sm", "f") and capability[0] == major and capability[1] >= minor
        if for_all_later or for_family or (of == "a" and capability == (major, minor)):  # a: for this chip alone
            return True
    return False


def measured_minutes(readme: Path | None = None) -> dict[int, tuple[float, float]]:
    """Minutes and peak memory in GB of each chapter, as measured on two cores: the table of the README.

    Raises:
        FileNotFoundError: no README, as in an installed wheel.
        ValueError: it has no rows of ten chapters.
    """
    path = readme or paths.notebooks_dir().parent / "README.md"
    rows = re.findall(r"(?m)^\| \[(\d+) · .*?\| ([\d.]+) \| ([\d.]+) GB \|", path.read_text(encoding="utf-8"))
    found = {int(number): (float(minutes), float(memory)) for number, minutes, memory in rows}
    if sorted(found) != list(range(1, 11)):
        raise ValueError(f"expected the minutes of chapters 1 to 10 in {path}, got those of {sorted(found)}")
    return found


def advise(machine: Machine, measured: dict[int, tuple[float, float]]) -> Advice:
    """What suits a machine, from facts and from what the chapters took elsewhere; see `measured_minutes`."""
    most_memory = max(memory for _, memory in measured.values())
    at_once = max(1, min(machine.cores // 2, int(machine.memory_gb / (1.5 * most_memory))))
    minutes = sum(minutes for minutes, _ in measured.values()) * (2 if machine.cores < 2 else 1) / at_once
    reasons = []
    if machine.gpu_capability is not None:
        number = ".".join(map(str, machine.gpu_capability))
        if not has_code_for(machine.gpu_capability, machine.architectures):
            reasons.append(f"this build of PyTorch has no code for capability {number}: the GPU cannot be used")
        elif machine.gpu_memory_gb < GPU_MEMORY_GB:
            reasons.append(f"{machine.gpu_memory_gb:.0f} GB of GPU memory are less than {GPU_MEMORY_GB:.0f}")
        else:
            return Advice(
                profile="gpu",
                minutes=None,
                chapters_at_once=1,
                reasons=(f"a GPU of capability {number} with code for it",),
            )
    if machine.memory_gb < 1.5 * most_memory or machine.disk_gb < DISK_GB:
        reasons.append(f"memory or disk is short: {1.5 * most_memory:.1f} and {DISK_GB:.0f} GB are needed")
        return Advice(profile="smoke", minutes=None, chapters_at_once=1, reasons=tuple(reasons))
    reasons.append(f"{machine.cores} cores and {machine.memory_gb:.0f} GB carry {at_once} at a time")
    return Advice(profile="laptop", minutes=minutes, chapters_at_once=at_once, reasons=tuple(reasons))
