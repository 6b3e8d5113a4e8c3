"""The library's LSTM language model beside torch.nn's parts put together by hand: one training step of each, in turn.

Run by hand: `python tests/benchmarks/bench_rnn.py`. Prints CPU milliseconds a step and the ratio of the medians.
"""

import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_lib.models.rnn import RNNConfig, RNNLanguageModel

BATCH, LENGTH, ROUNDS = 16, 64, 15


class Plain(nn.Module):
    """Embedding, nn.LSTM, linear layer, and nothing else."""

    def __init__(self, config: RNNConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(config.vocab_size, config.embedding_dim)
        self.recurrent = nn.LSTM(config.embedding_dim, config.width, config.n_layers, batch_first=True)
        self.score = nn.Linear(config.width, config.vocab_size)

    def forward(self, tokens: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        outputs, state = self.recurrent(self.embed(tokens))
        return self.score(outputs), state


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def training_step(model: nn.Module, tokens: Tensor) -> Callable[[], None]:
    optimiser = torch.optim.AdamW(model.parameters())

    def step() -> None:
        logits, _ = model(tokens[:, :-1])
        optimiser.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimiser.step()

    return step


def main() -> None:
    torch.set_num_threads(1)
    for width, n_layers in ((128, 1), (560, 1), (256, 2)):
        config = RNNConfig(embedding_dim=32, width=width, n_layers=n_layers)
        tokens = torch.randint(config.vocab_size, (BATCH, LENGTH + 1))
        steps = {
            "torch": training_step(Plain(config), tokens),
            "library": training_step(RNNLanguageModel(config), tokens),
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(ROUNDS):
            for name, step in steps.items():
                times[name].append(seconds(step))
        ours, theirs = (median(times[name][2:]) * 1e3 for name in ("library", "torch"))
        ratio = ours / theirs
        print(f"width {width:4} × {n_layers}:  library {ours:7.1f} ms   torch {theirs:7.1f} ms   ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
