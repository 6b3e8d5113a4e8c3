"""What the answers of chapter 9 rest on: which commands there are, and how often a network runs for a sample."""

import argparse

import pytest
import torch

from aigc_lib import cli
from aigc_lib.models.waveglow import WaveGlow, WaveGlowConfig
from aigc_lib.models.wavenet import WaveNet, WaveNetConfig


def runs(part, draw):
    calls = []
    hook = part.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        draw()
    hook.remove()
    return len(calls)


def generator():
    return torch.Generator().manual_seed(0)


def subcommands(parser):
    return next(each.choices for each in parser._actions if isinstance(each, argparse._SubParsersAction))


def test_every_application_of_the_documents_answer_is_a_command():
    made = set(subcommands(subcommands(cli.parser())["make"]))
    assert {"music", "effect", "edit", "presenter"} <= made  # 音乐创作、声音效果、视频编辑、虚拟主播
    assert {"enhance", "captions", "scene"} <= made  # what chapter 6 adds to them


@pytest.mark.parametrize("n_samples", [8, 24])
def test_wavenet_runs_once_for_every_sample(n_samples):
    wavenet = WaveNet(WaveNetConfig(n_layers=2, residual_channels=4, gate_channels=4, skip_channels=4))
    draw = lambda: wavenet.generate(n_samples, compiled=False, generator=generator())  # noqa: E731
    assert runs(wavenet.head, draw) == n_samples


@pytest.mark.parametrize("n_frames", [2, 6])
def test_every_coupling_of_waveglow_runs_once_whatever_the_length(n_frames):
    config = WaveGlowConfig(n_flows=3, n_groups=16, early_every=2, early_size=4, n_layers=2, residual_channels=4)
    waveglow = WaveGlow(config)
    mel = torch.full((1, config.n_mels, n_frames), -5.0)
    assert [
        runs(coupling.network, lambda: waveglow.generate(mel, generator=generator())) for coupling in waveglow.couplings
    ] == [1, 1, 1]
