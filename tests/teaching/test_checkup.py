"""The check-up: rules of compatibility against NVIDIA's, advice for machines that are not here."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lib.teaching.checkup import Machine, advise, has_code_for, look, measured_minutes

MEASURED = dict.fromkeys(range(1, 11), (1.0, 2.0))
LAPTOP = Machine(
    system="Linux x86_64", cores=2, threads=2, memory_gb=8, disk_gb=50, cpu_capability="AVX2", cpu_bfloat16=False
)
# PyTorch's support matrix of releases 2.12 to 2.14 (pytorch/pytorch, RELEASE.md).
CUDA_126 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
CUDA_132 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")


@pytest.mark.parametrize(
    ("capability", "on_126", "on_132"),
    [
        ((5, 2), True, False),  # Maxwell
        ((6, 1), True, False),  # Pascal, the GTX 1080 Ti
        ((7, 0), True, False),  # Volta
        ((7, 5), True, True),  # Turing
        ((8, 9), True, True),  # Ada: code for 8.6
        ((9, 0), True, True),  # Hopper
        ((10, 0), False, True),  # Blackwell
        ((12, 1), False, True),
        ((13, 0), False, True),  # later ones by intermediate code
        ((3, 5), False, False),
    ],
)
def test_a_card_runs_on_code_of_its_generation_or_on_intermediate_code(capability, on_126, on_132):
    assert (has_code_for(capability, CUDA_126), has_code_for(capability, CUDA_132)) == (on_126, on_132)


@given(st.integers(5, 13), st.integers(0, 9), st.integers(5, 13), st.integers(0, 9))
def test_machine_code_serves_later_minors_and_intermediate_code_all_later_ones(major, minor, card, card_minor):
    number, card = f"{major}{minor}", (card, card_minor)
    assert has_code_for(card, [f"sm_{number}"]) == (card[0] == major and card[1] >= minor)
    assert has_code_for(card, [f"compute_{number}"]) == (card >= (major, minor))
    assert (
        has_code_for(card, [f"sm_{number}a"]) == has_code_for(card, [f"compute_{number}a"]) == (card == (major, minor))
    )
    assert has_code_for(card, [f"sm_{number}f"]) == has_code_for(card, [f"sm_{number}"])


def test_a_build_for_the_cpu_has_code_for_no_gpu_one_for_rocm_for_what_it_sees_and_nonsense_is_refused():
    assert not has_code_for((8, 0), [])
    assert has_code_for((9, 4), ["gfx942"])
    with pytest.raises(ValueError, match="such as sm_75"):
        has_code_for((8, 0), ["8.0"])


def test_a_plain_laptop_takes_the_laptop_profile_and_the_measured_minutes():
    advice = advise(LAPTOP, MEASURED)
    assert (advice.profile, advice.minutes, advice.chapters_at_once) == ("laptop", 10, 1)


@pytest.mark.parametrize(
    ("changes", "minutes", "at_once"),
    [
        ({"cores": 1}, 20, 1),
        ({"cores": 8, "memory_gb": 32}, 2.5, 4),
        ({"cores": 8, "memory_gb": 7}, 5, 2),  # memory carries two chapters
        ({"cores": 3}, 10, 1),
    ],
)
def test_cores_and_memory_decide_how_many_chapters_run_at_once(changes, minutes, at_once):
    advice = advise(dataclasses.replace(LAPTOP, **changes), MEASURED)
    assert (advice.minutes, advice.chapters_at_once) == (pytest.approx(minutes), at_once)


@pytest.mark.parametrize("changes", [{"memory_gb": 2.5}, {"disk_gb": 1}])
def test_a_machine_that_is_short_of_something_is_told_so(changes):
    advice = advise(dataclasses.replace(LAPTOP, **changes), MEASURED)
    assert advice.profile == "smoke"
    assert "3.0 and 4 GB are needed" in advice.reasons[0]


def test_a_gpu_counts_only_if_the_build_has_code_for_it_and_memory_enough():
    card = {"gpu": "GTX 1080 Ti", "gpu_capability": (6, 1), "gpu_memory_gb": 11}
    old, new, small = (
        advise(dataclasses.replace(LAPTOP, **card | changes), MEASURED)
        for changes in (
            {"architectures": CUDA_126},
            {"architectures": CUDA_132},
            {"architectures": CUDA_126, "gpu_memory_gb": 2},
        )
    )
    assert (old.profile, new.profile, small.profile) == ("gpu", "laptop", "laptop")
    assert "no code for capability 6.1" in new.reasons[0]
    assert "2 GB of GPU memory" in small.reasons[0]


def test_this_machine_answers_and_its_answers_are_torchs():
    machine = look()
    assert machine.cores >= 1
    assert 0.5 < machine.memory_gb < 1e5
    assert machine.disk_gb > 0
    assert machine.threads == torch.get_num_threads()
    assert (machine.gpu is None) == (not torch.cuda.is_available())
    assert advise(machine, MEASURED).reasons


def test_minutes_and_memory_come_from_the_readme(tmp_path):
    measured = measured_minutes()
    assert list(measured) == list(range(1, 11))
    assert all(0 < minutes < 30 and 0 < memory < 16 for minutes, memory in measured.values())
    short = tmp_path / "README.md"
    short.write_text("| [1 · Background](a.ipynb) | 0.5 | 0.8 GB | 65 |\n")
    with pytest.raises(ValueError, match=r"got those of \[1\]"):
        measured_minutes(short)
