"""Training a recurrent character model on Shakespeare's plays by truncated backpropagation through time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from aigc_lib.datasets.text import SHAKESPEARE_CHARACTERS, plays
from aigc_lib.models.rnn import RNNConfig, RNNLanguageModel
from aigc_lib.training.recipe import Budget, Context
from aigc_lib.training.recipes.characters import CharacterRecipe


@dataclass(frozen=True, kw_only=True)
class RNNTraining:
    """How the network is trained.

    Args:
        chunk_length: characters a step; gradients flow back through so many, the state goes on.
        learning_rate: the peak of one cycle of AdamW.
        max_norm: longer gradients are shortened to this norm.
        forgetting: chance that a stream begins a step with an empty state. Without it a network knows only how to go
            on: started with the first line of a play it can end in a state that it never saw and never leaves.
    """

    chunk_length: int = 64
    learning_rate: float = 4e-3
    max_norm: float = 1.0
    forgetting: float = 0.05


class Carried(nn.Module):
    """The state that a step leaves to the next, of all streams; a checkpoint holds it, what is shipped does not."""

    def __init__(self, n_streams: int, model: RNNLanguageModel) -> None:
        super().__init__()
        shape = n_streams, model.n_states, model.config.n_layers, model.config.width
        self.register_buffer("state", torch.zeros(shape))


class ShakespeareRNN(CharacterRecipe):
    """The training plays, one after another, are cut into as many streams as a batch has rows; each step reads on."""

    name = "rnn-shakespeare"
    config_class = RNNConfig
    training: ClassVar[RNNTraining] = RNNTraining()
    budgets: ClassVar[dict[str, Budget]] = {
        "smoke": Budget(steps=30, batch_size=16, log_every=5, n_previews=4),
        "laptop": Budget(steps=200, batch_size=16, log_every=10),
        "gpu": Budget(steps=16_000, batch_size=64, log_every=100, checkpoint_every=2_000),
    }

    def __init__(self, config: RNNConfig | None = None, training: RNNTraining | None = None) -> None:
        super().__init__(config)
        self.how = training or self.training

    @classmethod
    def default_config(cls) -> RNNConfig:
        return RNNConfig(vocab_size=len(SHAKESPEARE_CHARACTERS), embedding_dim=32, width=560, n_layers=1, dropout=0.05)

    @staticmethod
    def build(config: RNNConfig) -> dict[str, nn.Module]:
        return {"model": RNNLanguageModel(config)}

    def prepare(self, context: Context, total_steps: int) -> None:
        self.context = context
        text = SHAKESPEARE_CHARACTERS.encode("".join(plays("train").values()))
        length = len(text) // context.batch_size
        self.streams = text[: length * context.batch_size].view(context.batch_size, length)
        networks = self.build(self.config)
        networks["carried"] = Carried(context.batch_size, networks["model"])
        self.parts = {name: part.to(context.device) for name, part in networks.items()}
        self.model = self.parts["model"]
        optimiser = AdamW(self.model.parameters(), lr=self.how.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
        self.optimisers = {"model": optimiser}
        self.schedulers = {
            "model": OneCycleLR(optimiser, self.how.learning_rate, total_steps=max(total_steps, 20), pct_start=0.1)
        }

    @property
    def n_examples(self) -> int:
        """Chunks of the training plays."""
        return self.streams.shape[0] * self.n_chunks

    @property
    def n_chunks(self) -> int:
        """Steps until every stream is at its end."""
        return (self.streams.shape[1] - 1) // self.how.chunk_length

    def batch(self, indices: Tensor) -> tuple[Tensor]:
        """The next chunk of every stream and the character after it; `indices` have no say in a text read in order.

        The place is how many steps the optimiser has taken, which its state knows: a resumed run reads on.
        """
        states = self.optimisers["model"].state.values()
        done = int(next(iter(states))["step"]) if states else 0
        begin = done % self.n_chunks * self.how.chunk_length
        return (self.context.share(self.streams[:, begin : begin + self.how.chunk_length + 1]),)

    def step(self, text: Tensor) -> dict[str, Tensor]:
        context, carried = self.context, self.parts["carried"].state
        kept = torch.rand(context.batch_size, generator=context.generator) >= self.how.forgetting
        mine = context.share(carried * kept.to(carried)[:, None, None, None])
        state = tuple(each.transpose(0, 1).contiguous() for each in mine.unbind(dim=1))  # each (n_layers, B, H)
        self.model.train()
        with context.accelerator.autocast():
            logits, state = context.compiled(self.model)(text[:, :-1], state)
        loss = F.cross_entropy(logits.float().flatten(0, 1), text[:, 1:].flatten())
        context.update(loss, self.optimisers["model"], max_norm=self.how.max_norm)
        self.schedulers["model"].step()
        left = torch.stack([each.detach().float().transpose(0, 1) for each in state], dim=1)  # the graph ends here
        carried.copy_(context.accelerator.gather(left.contiguous()))
        return {"nats a character": loss.detach()}

    @staticmethod
    def surprises_of(model: nn.Module, texts: list[Tensor]) -> Iterator[Tensor]:
        return surprises(model, texts)


@torch.no_grad()
def surprises(model: RNNLanguageModel, texts: list[Tensor], *, at_once: int = 2000) -> Iterator[Tensor]:
    """As `surprises_of`; the texts are read side by side, `at_once` characters a call, with the state carried on."""
    place = model.score.weight.device
    rows = nn.utils.rnn.pad_sequence(texts, batch_first=True).to(place)
    state, parts = None, []
    for begin in range(0, rows.shape[1] - 1, at_once):
        chunk = rows[:, begin : begin + at_once + 1]
        logits, state = model(chunk[:, :-1], state)
        parts.append(F.cross_entropy(logits.float().transpose(1, 2), chunk[:, 1:], reduction="none"))
    for row, text in zip(torch.cat(parts, dim=1), texts, strict=True):
        yield row[: len(text) - 1].cpu()
