"""Training a recurrent character model on Shakespeare's plays by truncated backpropagation through time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from aigc_lib.datasets.text import SHAKESPEARE_CHARACTERS, plays
from aigc_lib.models.rnn import RNNConfig, RNNLanguageModel
from aigc_lib.training.recipe import Budget, Context, Recipe

BEGINNING = SHAKESPEARE_CHARACTERS.encode("\n\n")  # a speech begins after an empty line


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


class ShakespeareRNN(Recipe):
    """The training plays, one after another, are cut into as many streams as a batch has rows; each step reads on."""

    name = "rnn-shakespeare"
    dataset = "shakespeare"
    samples_suffix = ".txt"
    config_class = RNNConfig
    main_part = "model"
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
            "model": OneCycleLR(optimiser, self.how.learning_rate, total_steps=max(total_steps, 2), pct_start=0.1)
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

    def inference_parts(self) -> dict[str, nn.Module]:
        return {"model": self.model}

    def preview(self) -> Tensor:
        """Four passages of 240 characters, always from the same random numbers, uint8."""
        return passages(self.model.eval(), 4, 240, generator=torch.Generator().manual_seed(0)).to(torch.uint8)

    def save_preview(self, preview: Tensor, stem: Path) -> None:
        write_passages(preview.long(), stem.with_suffix(".txt"))

    @classmethod
    def sample(cls, parts: dict[str, nn.Module], out: Path, *, n: int, generator: torch.Generator) -> Path:
        """`n` passages of 400 characters."""
        if out.suffix.lower() != ".txt":
            raise ValueError(f"texts go into a .txt file, got {out.name!r}")
        out.parent.mkdir(parents=True, exist_ok=True)
        write_passages(passages(parts["model"], n, 400, generator=generator), out)
        return out

    @classmethod
    def evaluate(cls, parts: dict[str, nn.Module], *, n: int, generator: torch.Generator) -> dict[str, float]:
        """Nats a character over the whole test plays, at most `n` of them, each read from its start to its end."""
        texts = [SHAKESPEARE_CHARACTERS.encode(play) for play in list(plays("test").values())[:n]]
        surprise = torch.cat(list(surprises(parts["model"], texts)))
        return {"nats a character": surprise.mean().item(), "perplexity": surprise.mean().exp().item()}


def passages(model: nn.Module, n: int, length: int, *, generator: torch.Generator) -> Tensor:
    """`n` speeches or parts of them, (n, length), a little more likely than the model's own mean (temperature 0.8)."""
    prompt = BEGINNING.to(next(model.parameters()).device).expand(n, -1)
    return model.generate(prompt, length, temperature=0.8, generator=generator).cpu()


def write_passages(tokens: Tensor, path: Path) -> None:
    """Passages as text, a line of dashes between them."""
    path.write_text("\n\n----\n\n".join(SHAKESPEARE_CHARACTERS.decode(row) for row in tokens) + "\n", encoding="utf-8")


@torch.no_grad()
def surprises(model: RNNLanguageModel, texts: list[Tensor], *, at_once: int = 2000) -> Iterator[Tensor]:
    """-log p of every character but the first given all before it: for each text (T,) a (T - 1,), in nats.

    The texts are read side by side, `at_once` characters at a time, with the state carried to the end.
    """
    place = model.score.weight.device
    rows = nn.utils.rnn.pad_sequence(texts, batch_first=True).to(place)
    state, parts = None, []
    for begin in range(0, rows.shape[1] - 1, at_once):
        chunk = rows[:, begin : begin + at_once + 1]
        logits, state = model(chunk[:, :-1], state)
        parts.append(F.cross_entropy(logits.float().transpose(1, 2), chunk[:, 1:], reduction="none"))
    for row, text in zip(torch.cat(parts, dim=1), texts, strict=True):
        yield row[: len(text) - 1].cpu()
