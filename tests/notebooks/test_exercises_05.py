"""Chapter 5: right answers pass, and the mistakes that learners make do not."""

import torch
import torch.nn.functional as F
from torch import nn

from aigc_lib.teaching.exercises import all_exercises


def is_right(exercise_id, answer):
    return bool(all_exercises()[exercise_id].is_right(answer))


def test_a_transposed_convolution_has_a_kernel_for_each_pair_of_channels():
    count = sum(each.numel() for each in nn.ConvTranspose2d(64, 32, 4, 2, 1).parameters())
    assert is_right("5.2.1-convolution-parameters", count)
    assert not is_right("5.2.1-convolution-parameters", count - 32)  # no bias
    assert not is_right("5.2.1-convolution-parameters", 64 * 32)


def test_same_padding_halves_and_rounds_up():
    assert is_right("5.2.1-same-padding", ((14, 7, 4), (4, 2, 1)))
    assert not is_right("5.2.1-same-padding", ((14, 7, 3), (3, 1, 0)))  # rounded down


def test_batch_normalisation_of_two_values_gives_plus_and_minus_one():
    x = torch.tensor([[3.0], [7.0]], dtype=torch.float64)
    low, high = nn.BatchNorm1d(1, eps=1e-12, dtype=torch.float64)(x).flatten().tolist()
    assert is_right("5.2.1-batch-of-two", (low, high))
    assert not is_right("5.2.1-batch-of-two", (-0.7071, 0.7071))  # divided by n − 1
    assert not is_right("5.2.1-batch-of-two", (0, 0))


def test_scaling_converts_before_it_computes():
    assert is_right("5.2.1-scale", lambda pixels: pixels.float() / 127.5 - 1)
    assert not is_right("5.2.1-scale", lambda pixels: (pixels * 2).float() / 255 - 1)  # wraps around
    assert not is_right("5.2.1-scale", lambda pixels: pixels.float() / 128 - 1)
    assert not is_right("5.2.1-scale", lambda pixels: pixels.double() / 127.5 - 1)


def test_the_stable_loss_is_finite_where_the_logarithm_is_not():
    def printed(real_logits, fake_logits):
        return -real_logits.sigmoid().log().mean() - (1 - fake_logits.sigmoid()).log().mean()

    def with_logits(real_logits, fake_logits):
        entropy = F.binary_cross_entropy_with_logits
        ones, zeros = torch.ones_like(real_logits), torch.zeros_like(fake_logits)
        return entropy(real_logits, ones) + entropy(fake_logits, zeros)

    assert is_right("5.3.1-stable-loss", with_logits)
    assert not is_right("5.3.1-stable-loss", printed)
    assert not is_right("5.3.1-stable-loss", lambda real, fake: with_logits(real, fake) / 2)
    assert not is_right("5.3.1-stable-loss", lambda real, fake: with_logits(fake, real))
