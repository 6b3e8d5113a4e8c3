"""Muon against the singular value decomposition, and which weights it gets."""

import pytest
import torch
from torch import nn

from aigc_lib.models.transformer import LanguageModel, LanguageModelConfig
from aigc_lib.training.optimisers import Muon, for_transformer, orthogonalised, warmed_up


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_newton_schulz_keeps_directions_and_evens_out_lengths():
    matrices = torch.randn(5, 16, 16, generator=rng())
    u, s, v = torch.linalg.svd(matrices)
    found = u.mT @ orthogonalised(matrices) @ v.mT
    diagonal = found.diagonal(dim1=1, dim2=2)
    assert (found - torch.diag_embed(diagonal)).abs().max() < 1e-3
    large = s > 0.05 * torch.linalg.matrix_norm(matrices)[:, None]
    assert diagonal[large].min() > 0.6
    assert diagonal[large].max() < 1.3


def test_each_square_block_moves_by_its_own_momentum():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(8, 4))
    other = nn.Parameter(torch.zeros(4, 4))
    optimiser = Muon([weight, other], 0.1, momentum=0.5)
    first, second = torch.randn(2, 8, 4, generator=rng())
    average = torch.zeros(8, 4)
    expected = torch.zeros(8, 4)
    for gradient in (first, second):
        weight.grad = gradient.clone()
        optimiser.step()
        average = 0.5 * average + 0.5 * gradient
        ahead = 0.5 * gradient + 0.5 * average
        expected -= 0.1 * torch.cat([orthogonalised(block[None])[0] for block in ahead.split(4)])
    torch.testing.assert_close(weight.detach(), expected, atol=1e-6, rtol=0)
    assert other.eq(0).all()  # it had no gradient


def test_what_is_no_matrix_of_blocks_is_refused():
    for shape in ((3,), (4, 6), (2, 2, 2)):
        with pytest.raises(ValueError, match="Muon moves matrices of"):
            Muon([nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(4, 4))])


def test_every_weight_of_a_transformer_has_one_optimiser_and_the_rate_ends_at_zero():
    model = LanguageModel(LanguageModelConfig(width=16, n_heads=2, n_layers=2))
    optimisers = for_transformer(model, learning_rate=0.02)
    owned = [p for each in optimisers.values() for group in each.param_groups for p in group["params"]]
    assert sorted(map(id, owned)) == sorted(map(id, model.parameters()))
    assert {p.ndim for p in optimisers["matrices"].param_groups[0]["params"]} == {2}
    schedulers = warmed_up(optimisers, 40)
    rates = []
    for _ in range(40):
        rates.append(optimisers["matrices"].param_groups[0]["lr"])
        for name in optimisers:
            optimisers[name].step()
            schedulers[name].step()
    assert rates[0] == pytest.approx(0.01)
    assert rates[1] == max(rates) == pytest.approx(0.02)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
