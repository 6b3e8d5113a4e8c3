"""What chapters 3 and 4 claim of StyleGAN, beyond what the tests of the library say."""

import math

import pytest
import torch
import torch.nn.functional as F

from aigc_lib.metrics.video import whiteness
from aigc_lib.models.gan import discriminator_loss, generator_loss, r1_penalty
from aigc_lib.models.stylegan import StyleDiscriminator, StyleGANConfig, StyleGenerator, latent_walk

CONFIG = StyleGANConfig(resolution=16, latent_dim=16, n_layers=2, width=8, discriminator_width=8)


@pytest.fixture
def generator():
    torch.manual_seed(0)
    return StyleGenerator(CONFIG)


def test_outputs_know_nothing_of_their_order(generator):
    z = torch.randn(400, 16, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(400, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        stills, shuffled = generator(z), generator(z[order])
    assert stills.shape == (400, 3, 16, 16)  # no time axis
    torch.testing.assert_close(shuffled, stills[order])
    assert whiteness(stills) == pytest.approx(1, abs=0.1)
    assert whiteness(shuffled) == pytest.approx(1, abs=0.1)


def test_only_a_path_through_the_styles_makes_a_film(generator):
    draw = torch.Generator().manual_seed(3)
    for space in ("w", "z"):
        assert whiteness(latent_walk(generator, 60, space=space, generator=draw)) < 0.4
    assert whiteness(generator.sample(400, generator=draw)) > 0.85  # a fresh z for every frame


def test_the_discriminator_puts_out_a_number_and_no_probability():
    torch.manual_seed(0)
    judge = StyleDiscriminator(CONFIG)
    judge.judge.bias.data.fill_(100.0)
    logits = judge(torch.zeros(2, 3, 16, 16))
    assert (logits > 1).all()
    assert (1 - logits.sigmoid()).log().isinf().all()  # the printed logarithm
    torch.testing.assert_close(F.softplus(logits), logits)  # what takes its place


def test_the_printed_losses_are_the_librarys_for_the_sigmoid_of_the_logit():
    real, fake = torch.randn(2, 32, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    printed_g = -fake.sigmoid().log().mean()
    printed_d = -real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean()
    torch.testing.assert_close(generator_loss(fake, "non-saturating"), printed_g)
    torch.testing.assert_close(discriminator_loss(real, fake, "non-saturating"), printed_d)


def last_step(*, one_sum, gamma, n_steps=400):
    """Of the Dirac-GAN (data at 0, a generator θ, a discriminator ψx) from θ = 2, ψ = ½."""
    state = torch.tensor([2.0, 0.5], dtype=torch.float64)
    for _ in range(n_steps):
        theta, psi = state.clone().requires_grad_()
        real = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
        scores, fake = psi * real.squeeze(1), (psi * theta)[None]
        for_g = generator_loss(fake, "non-saturating")
        for_d = discriminator_loss(scores, fake, "non-saturating") + gamma / 2 * r1_penalty(scores, real)
        if one_sum:
            for_g = for_d = for_g + for_d
        slopes = [
            torch.autograd.grad(loss, each, retain_graph=True)[0] for loss, each in ((for_g, theta), (for_d, psi))
        ]
        state = state - 0.1 * torch.stack(slopes)
    return state.tolist()


def test_descending_the_sum_leaves_the_generator_where_it_is():
    theta, psi = last_step(one_sum=True, gamma=0.0)
    assert psi == pytest.approx(0, abs=1e-3)
    assert theta == pytest.approx(math.sqrt(2**2 - 0.5**2), abs=0.02)  # θ² − ψ² is conserved


def test_two_losses_and_r1_bring_it_to_the_data():
    assert last_step(one_sum=False, gamma=1.0) == pytest.approx([0, 0], abs=0.02)
