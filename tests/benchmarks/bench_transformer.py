"""How quick the Transformer is, as ratios within one run on one thread: `python tests/benchmarks/bench_transformer.py`.

Bounds: a training step no slower than torch.nn.TransformerEncoder's; cached generation at least five times as fast as
uncached at 512 tokens, its time a token flat (slope below 5 % from 64 to 512); a cache of 2·T·d numbers a layer.
"""

import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_lib.models.transformer import LanguageModel, LanguageModelConfig

BATCH, LENGTH = 8, 256


class Plain(nn.Module):
    """The same sizes from torch's own layers, with learned positions."""

    def __init__(self, c: LanguageModelConfig) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(c.width, c.n_heads, 4 * c.width, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, c.n_layers, nn.LayerNorm(c.width), enable_nested_tensor=False)
        self.embed, self.places = nn.Embedding(c.vocab_size, c.width), nn.Embedding(LENGTH, c.width)
        self.score = nn.Linear(c.width, c.vocab_size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        x = self.embed(tokens) + self.places.weight
        return self.score(self.layers(x, mask=mask, is_causal=True))


def seconds(act: Callable[[], object]) -> float:
    start = time.process_time()
    act()
    return time.process_time() - start


def training_step(model: nn.Module, tokens: Tensor) -> Callable[[], object]:
    optimiser = torch.optim.AdamW(model.parameters())

    def act() -> None:
        optimiser.zero_grad()
        F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimiser.step()

    return act


@torch.no_grad()
def seconds_a_token(model: LanguageModel, length: int, *, use_cache: bool) -> float:
    """For the token that follows `length` others."""
    text = torch.randint(model.config.vocab_size, (1, length + 1))
    if not use_cache:
        return median(seconds(lambda: model(text)) for _ in range(7))
    times = []
    for _ in range(5):
        cache = model.new_cache(1, length + 40)
        model(text[:, :-1], cache=cache)
        times += [seconds(lambda cache=cache: model(text[:, -1:], cache=cache)) for _ in range(40)]
    return median(times)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LanguageModelConfig(context_length=640)
    ours, plain = LanguageModel(config), Plain(config)
    tokens = torch.randint(config.vocab_size, (BATCH, LENGTH + 1))
    steps = {"ours": training_step(ours, tokens), "torch": training_step(plain, tokens)}
    times = {name: [] for name in steps}
    for _ in range(9):  # in turns: a slow moment of the machine then meets both
        for name, step in steps.items():
            times[name].append(seconds(step))
    spent = {name: median(each[1:]) for name, each in times.items()}
    print(f"training step, ours / torch.nn.TransformerEncoder   {spent['ours'] / spent['torch']:.2f}  (at most 1)")

    ours.eval()
    rounds = [[seconds_a_token(ours, length, use_cache=True) for length in (64, 512)] for _ in range(5)]
    short, long = (median(each) for each in zip(*rounds, strict=True))
    anew = seconds_a_token(ours, 512, use_cache=False)
    slope = (long / short - 1) / (512 / 64 - 1)
    print(f"cached, ms a token at 64 and 512                    {1e3 * short:.2f}, {1e3 * long:.2f}")
    print(f"cached, 512 over 64                                 {long / short:.3f}")
    print(f"cached, slope: 0 is flat, 100 % is in proportion    {slope:+.1%}  (below 5 %)")
    print(f"at 512, without cache / with                        {anew / long:.1f}  (at least 5)")

    cache = ours.new_cache(1, 512)
    held = sum(each.keys.nbytes + each.values.nbytes for each in cache)
    formula = 2 * 512 * config.width * 4 * config.n_layers
    print(f"cache of 512 tokens, bytes / 4 bytes · 2·T·d a layer  {held / formula:.2f}  (1)")


if __name__ == "__main__":
    main()
