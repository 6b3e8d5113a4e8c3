"""The GPU check says so where there is no GPU, and its measurements count what they say."""

import pytest
import torch

from aigc_lib.training import gpu_check


@pytest.mark.skipif(torch.cuda.is_available(), reason="this is about machines without a GPU")
def test_without_a_gpu_it_says_that_there_is_nothing_to_check(capsys):
    assert gpu_check.main() == 0
    assert "no CUDA device" in capsys.readouterr().out


def test_a_measurement_gives_a_speed():
    speed, memory = gpu_check.measure("gan-digits", device="cpu", steps=4)
    assert speed > 0
    assert memory == 0


@pytest.mark.gpu
def test_one_hundred_compiled_bfloat16_steps_on_the_gpu():
    speed, memory = gpu_check.measure("gan-digits", device="cuda", steps=100, precision="bfloat16", compile=True)
    assert speed > 0
    assert memory > 0
