"""Muon: momentum whose directions all count the same, for the matrices of Transformers."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from aigc_lib.models.transformer import warmup


class Muon(Optimizer):
    """W ← W − lr·UVᵀ for the momentum's singular value decomposition USVᵀ (Jordan et al. 2024, kellerjordan.github.io).

    UVᵀ comes from five Newton–Schulz steps, and of each square block by itself: the blocks of W^Q, W^K and W^V that lie
    in one matrix have nothing to do with each other, and equal squares are quick to multiply. torch.optim.Muon takes
    whole matrices, and bfloat16, which CPUs without such instructions multiply five to eight times slower.

    Args:
        parameters: matrices all of whose sides are multiples of the smallest one.
        lr: step size; each square block W moves by about lr in spectral norm.
        momentum: Nesterov's.

    Raises:
        ValueError: a parameter that is no such matrix.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float = 0.02, *, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        for group in self.param_groups:
            side = min(min(p.shape) for p in group["params"])
            for p in group["params"]:
                if p.ndim != 2 or p.shape[0] % side or p.shape[1] % side:
                    raise ValueError(f"Muon moves matrices of {side}×{side} blocks, got a parameter {tuple(p.shape)}")
            group["side"] = side

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> None:
        for group in self.param_groups:
            moving, blocks = [p for p in group["params"] if p.grad is not None], []
            if not moving:
                continue
            for p in moving:
                average = self.state[p].setdefault("momentum", torch.zeros_like(p))
                average.lerp_(p.grad, 1 - group["momentum"])
                ahead = p.grad.lerp(average, group["momentum"])
                rows, columns = (size // group["side"] for size in p.shape)
                blocks.append(ahead.view(rows, group["side"], columns, group["side"]).transpose(1, 2).flatten(0, 1))
            # A few at a time: what they need in between then stays in the processor's cache.
            directions = torch.cat([orthogonalised(some) for some in torch.cat(blocks).split(8)])
            for p, direction in zip(moving, directions.split([len(each) for each in blocks]), strict=True):
                rows = p.shape[0] // group["side"]
                p.sub_(direction.unflatten(0, (rows, -1)).transpose(1, 2).reshape(p.shape), alpha=group["lr"])


def orthogonalised(matrices: Tensor) -> Tensor:
    """About UVᵀ of each USVᵀ, (n, d, d): singular values above 0.01 of the norm end between 0.6 and 1.3."""
    x = matrices.float() / (torch.linalg.matrix_norm(matrices.float(), keepdim=True) + 1e-7)
    for _ in range(5):  # x ← a·x + b·xxᵀx + c·(xxᵀ)²x, coefficients of Jordan et al.
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.type_as(matrices)


def for_transformer(network: nn.Module, *, learning_rate: float = 0.02) -> dict[str, Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, gains and biases at a fifth of its rate."""
    inside = [p for name, p in network.named_parameters() if p.ndim == 2 and "embed" not in name]
    chosen = set(map(id, inside))
    rest = [p for p in network.parameters() if id(p) not in chosen]
    return {
        "matrices": Muon(inside, learning_rate),
        "rest": torch.optim.AdamW(rest, learning_rate / 5, betas=(0.9, 0.98), weight_decay=0.0),
    }


def warmed_up(optimisers: dict[str, Optimizer], total_steps: int) -> dict[str, LRScheduler]:
    """Each with a linear rise over a twentieth of the steps, then half a cosine to zero."""
    n = max(total_steps // 20, 1)
    return {
        name: LambdaLR(optimiser, lambda step: warmup(step, warmup_steps=n, total_steps=total_steps))
        for name, optimiser in optimisers.items()
    }
