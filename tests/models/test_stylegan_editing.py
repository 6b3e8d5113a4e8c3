"""Walks, inversion and directions of a StyleGAN that was never trained: what holds for any weights."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lib.models.stylegan import StyleGANConfig, StyleGenerator, latent_walk
from aigc_lib.models.stylegan_editing import factorise, invert, slerp

SMALL = StyleGANConfig(resolution=16, latent_dim=8, width=4, max_width=8, n_layers=2)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_generator(config: StyleGANConfig = SMALL) -> StyleGenerator:
    torch.manual_seed(0)
    generator = StyleGenerator(config)
    generator.mapping.measure_mean(generator=rng())
    with torch.no_grad():
        for convolution in generator.synthesis.convolutions:
            convolution.noise_strength.fill_(0.1)
    return generator


@given(t=st.floats(0, 1), seed=st.integers(0, 99))
def test_slerp_walks_a_great_circle_at_constant_speed(t, seed):
    first, second = torch.nn.functional.normalize(torch.randn(2, 6, generator=rng(seed)).double(), dim=1)
    between, angle = slerp(first, second, t), (first @ second).acos()
    assert between.norm().item() == pytest.approx(1)
    # sines, because arc cosines lose half their digits at small angles
    assert (between @ first).item() == pytest.approx(math.cos(t * angle))
    assert (between @ second).item() == pytest.approx(math.cos((1 - t) * angle))


@pytest.mark.parametrize("space", ["w", "z"])
def test_a_walk_is_a_closed_film_without_jumps(space):
    generator = small_generator()
    film = latent_walk(generator, 120, space=space, generator=rng(1))
    assert film.shape == (120, 3, 16, 16)
    assert torch.equal(latent_walk(generator, 120, space=space, generator=rng(1)), film)
    steps = (film.roll(-1, dims=0) - film).square().mean(dim=(1, 2, 3)).sqrt()  # the last one leads back to the first
    stills = generator.sample(60, generator=rng(2))
    jumps = (stills.roll(-1, dims=0) - stills).square().mean(dim=(1, 2, 3)).sqrt()
    assert steps.max() < jumps.mean() / 2
    assert steps[-1] < 3 * steps.median()
    # half the frames: the same film, seen less often
    torch.testing.assert_close(latent_walk(generator, 60, space=space, generator=rng(1)), film[::2], atol=1e-4, rtol=0)


def test_a_walk_in_w_passes_its_keys_without_a_corner():
    generator = small_generator()
    keys = torch.randn(4, 8, generator=rng(1))
    draw = rng(1)
    torch.randn(4, 8, generator=draw)
    expected = generator.synthesis(generator.styles(keys), generator.synthesis.noise(1, generator=draw))
    film = latent_walk(generator, 400, n_keys=4, generator=rng(1))
    torch.testing.assert_close(film[::100], expected, atol=1e-4, rtol=0)
    speed = film.roll(-1, dims=0) - film
    bend = speed - speed.roll(1, dims=0)
    lengths = [each[::100].flatten(1).norm(dim=1) for each in (bend, speed)]
    assert (lengths[0] < 0.5 * lengths[1]).all()  # straight lines between keys would turn by more than their speed


def test_a_walk_with_classes_keeps_one_and_truncation_zero_stands_still():
    config = StyleGANConfig(resolution=8, n_classes=3, latent_dim=8, width=4)
    assert latent_walk(small_generator(config), 5, generator=rng()).shape == (5, 3, 8, 8)
    assert latent_walk(small_generator(), 5, n_keys=2, generator=rng()).shape == (5, 3, 16, 16)
    film = latent_walk(small_generator(), 5, truncation=0.0, generator=rng())
    torch.testing.assert_close(film, film[:1].expand_as(film), atol=1e-5, rtol=0)
    for wrong in ({"n_frames": 0}, {"n_keys": 1}, {"space": "x"}):
        with pytest.raises(ValueError, match='expected space "w" or "z", n_frames ≥ 1, n_keys ≥ 2, got'):
            latent_walk(small_generator(), **{"n_frames": 4, **wrong}, generator=rng())


def test_inversion_finds_a_picture_of_the_generators_own():
    generator = small_generator()
    with torch.no_grad():
        image = generator(torch.randn(2, 8, generator=rng(3)))
        start = generator.synthesis(generator.mapping.mean_style.expand(2, SMALL.n_styles, -1))
    far = (start - image).square().mean().item()
    found = {per_layer: invert(generator, image, n_steps=150, per_layer=per_layer) for per_layer in (False, True)}
    for each in found.values():
        assert each.losses[0] == pytest.approx(far, rel=1e-4)
        assert (each.images - image).square().mean() < 0.05 * far
        assert torch.equal(each.images, generator.synthesis(each.styles))
    assert torch.equal(found[False].styles[:, 0], found[False].styles[:, -1])  # one style for all layers
    assert not torch.equal(found[True].styles[:, 0], found[True].styles[:, -1])
    assert all(p.grad is None and p.requires_grad for p in generator.parameters())
    with_features = invert(generator, image, n_steps=150, features=lambda x: x.mean(dim=(2, 3)))
    assert with_features.losses[-1] < 0.1 * with_features.losses[0]
    with pytest.raises(ValueError, match=r"expected \(B, 3, 16, 16\), got \(1, 3, 8, 8\)"):
        invert(generator, torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"must be in \[-1, 1\], got 0 to 255"):
        invert(generator, torch.tensor([0.0, 255]).expand(1, 3, 16, 8, 2).flatten(3))


def test_directions_are_the_eigenvectors_of_what_styles_are_mapped_with():
    generator = small_generator()
    affine = [each.affine for each in generator.synthesis.convolutions]
    a = torch.cat([each.weight * each.scale for each in affine[1:3]]).detach()
    found = factorise(generator, slice(1, 3))
    torch.testing.assert_close(found.vectors @ found.vectors.T, torch.eye(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        a.T @ a @ found.vectors.T, found.vectors.T * found.strengths.square(), atol=1e-4, rtol=1e-4
    )
    others = torch.nn.functional.normalize(torch.randn(1000, 8, generator=rng()), dim=1)
    assert (others @ a.T).norm(dim=1).max() <= found.strengths[0] + 1e-5
    assert (found.strengths[:-1] >= found.strengths[1:]).all()
    with pytest.raises(ValueError, match="no layer is in"):
        factorise(generator, slice(9, 9))
