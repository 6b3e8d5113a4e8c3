"""Recurrent networks: Elman, GRU and LSTM cells written out, and a language model on torch's fused versions of them.

A cell carries a state through a sequence: state_t = cell(x_t, state_{t-1}). The language model scores each next token
from the state that has read all tokens before it, so p(x) = Π p(x_t | x_1 … x_{t-1}) is exact whatever the cell.

- Elman 1990, "Finding structure in time": one tanh layer that sees its own last output.
- LSTM: Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; a second state c that is only scaled
  and added to.
- GRU: Cho et al. 2014, arXiv:1406.1078, in the form of torch and cuDNN: the reset gate acts after the matrix.

Axis letters: B batch, T time (tokens), D size of an input, H width of the state, V vocabulary. A state is a tuple (h,),
for an LSTM (h, c); each is (B, H) in a cell and (n_layers, B, H) in the language model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aigc_lib.models.sampling import check_tokens, sample_token

State = tuple[Tensor, ...]
FUSED: dict[str, Callable[..., nn.RNNBase]] = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class _Cell(nn.Module):
    """Weights for `n_gates` layers side by side; names, shapes and start are those of `torch.nn.RNNCellBase`.

    Raises:
        ValueError: in `forward`, when x is not (B, D) or a part of the state is not (B, H).
    """

    n_gates: int
    n_states: int = 1

    def __init__(self, n_inputs: int, width: int) -> None:
        super().__init__()
        self.n_inputs, self.width = n_inputs, width
        rows = self.n_gates * width
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = (
            nn.Parameter(torch.empty(shape).uniform_(-(width**-0.5), width**-0.5))
            for shape in ((rows, n_inputs), (rows, width), (rows,), (rows,))
        )

    def initial_state(self, batch: int) -> State:
        """Zeros."""
        return tuple(self.weight_hh.new_zeros(batch, self.width) for _ in range(self.n_states))

    def _gates(self, x: Tensor, state: State) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """What input and last output each say to every gate: two tuples of n_gates tensors (B, H)."""
        if x.ndim != 2 or x.shape[1] != self.n_inputs:
            raise ValueError(f"x must be (B, {self.n_inputs}), got {tuple(x.shape)}")
        if [each.shape for each in state] != [(len(x), self.width)] * self.n_states:
            raise ValueError(
                f"state must be {self.n_states} of ({len(x)}, {self.width}), got {[tuple(s.shape) for s in state]}"
            )
        from_input = x @ self.weight_ih.T + self.bias_ih  # (B, n_gates·H)
        from_state = state[0] @ self.weight_hh.T + self.bias_hh
        return from_input.chunk(self.n_gates, dim=1), from_state.chunk(self.n_gates, dim=1)


class ElmanCell(_Cell):
    """h_t = tanh(W_x x_t + W_h h_{t-1} + b)."""

    n_gates = 1

    def forward(self, x: Tensor, state: State) -> State:
        (from_input,), (from_state,) = self._gates(x, state)
        return (torch.tanh(from_input + from_state),)


class GRUCell(_Cell):
    """r, u = σ(…), n = tanh(W_x x_t + b_x + r ⊙ (W_h h_{t-1} + b_h)), h_t = (1 - u) ⊙ n + u ⊙ h_{t-1}."""

    n_gates = 3

    def forward(self, x: Tensor, state: State) -> State:
        (reset_x, update_x, new_x), (reset_h, update_h, new_h) = self._gates(x, state)
        reset, update = torch.sigmoid(reset_x + reset_h), torch.sigmoid(update_x + update_h)
        new = torch.tanh(new_x + reset * new_h)
        return ((1 - update) * new + update * state[0],)


class LSTMCell(_Cell):
    """i, f, o = σ(…), g = tanh(…), c_t = f ⊙ c_{t-1} + i ⊙ g, h_t = o ⊙ tanh(c_t)."""

    n_gates = 4
    n_states = 2

    def forward(self, x: Tensor, state: State) -> State:
        input_gate, forget, candidate, output = (a + b for a, b in zip(*self._gates(x, state), strict=True))
        cell = torch.sigmoid(forget) * state[1] + torch.sigmoid(input_gate) * torch.tanh(candidate)
        return torch.sigmoid(output) * torch.tanh(cell), cell


CELLS: dict[str, type[_Cell]] = {"elman": ElmanCell, "gru": GRUCell, "lstm": LSTMCell}


def unroll(cell: _Cell, inputs: Tensor, state: State | None = None) -> list[State]:
    """Run a cell along time: inputs (B, T, D) → the T states, `[t][0]` the output (B, H) after step t.

    Raises:
        ValueError: inputs not (B, T, D) with T ≥ 1, or as the cell.
    """
    if inputs.ndim != 3 or inputs.shape[1] == 0:
        raise ValueError(f"inputs must be (B, T ≥ 1, D), got {tuple(inputs.shape)}")
    states = [cell.initial_state(len(inputs)) if state is None else state]
    for x in inputs.unbind(dim=1):
        states.append(cell(x, states[-1]))
    return states[1:]


@dataclass(frozen=True, kw_only=True)
class RNNConfig:
    """A recurrent language model.

    Args:
        cell: "elman", "gru" or "lstm".
        vocab_size: V.
        embedding_dim: D, size of the vector that stands for a token.
        width: H, of every layer.
        n_layers: stacked; each reads the outputs of the one below.
        dropout: share of activations set to zero in training: embeddings, between layers and before the scores.
    """

    cell: str = "lstm"
    vocab_size: int = 69
    embedding_dim: int = 64
    width: int = 512
    n_layers: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.cell not in FUSED:
            raise ValueError(f"cell must be one of {', '.join(FUSED)}, got {self.cell!r}")
        for name in ("vocab_size", "embedding_dim", "width", "n_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")


class RNNLanguageModel(nn.Module):
    """tokens (B, T), state → logits (B, T, V), state; logits[:, t] score the token that follows tokens[:, t].

    Reading a text in pieces, each with the state that the one before left, gives the logits of the whole. A state that
    comes back is still part of the graph: truncated backpropagation detaches it.

    Raises:
        ValueError: tokens not (B ≥ 1, T ≥ 1) int64, an unknown token, a state of another batch or cell.
    """

    def __init__(self, config: RNNConfig) -> None:
        super().__init__()
        self.config = c = config
        self.embed = nn.Embedding(c.vocab_size, c.embedding_dim)
        between_layers = c.dropout if c.n_layers > 1 else 0.0
        self.recurrent = FUSED[c.cell](c.embedding_dim, c.width, c.n_layers, batch_first=True, dropout=between_layers)
        self.dropout = nn.Dropout(c.dropout)
        self.score = nn.Linear(c.width, c.vocab_size)
        if c.cell == "lstm":
            # A forget gate that starts open: sigmoid(1) of c stays at each step (Jozefowicz et al. 2015, section 2.2).
            for layer in range(c.n_layers):
                with torch.no_grad():
                    getattr(self.recurrent, f"bias_ih_l{layer}")[c.width : 2 * c.width] = 1.0
                    getattr(self.recurrent, f"bias_hh_l{layer}")[c.width : 2 * c.width] = 0.0

    @property
    def n_states(self) -> int:
        """How many tensors a state has: 2 for an LSTM, else 1."""
        return CELLS[self.config.cell].n_states

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        c = self.config
        check_tokens(tokens, c.vocab_size)
        expected = [(c.n_layers, len(tokens), c.width)] * self.n_states
        if state is not None and [each.shape for each in state] != expected:
            raise ValueError(f"state must have the shapes {expected}, got {[tuple(each.shape) for each in state]}")
        x = self.dropout(self.embed(tokens))  # (B, T, D)
        start = state if state is None or self.n_states == 2 else state[0]
        # torch has no bfloat16 recurrence for most processors: under autocast on a CPU it stays in float32.
        with torch.autocast("cpu", enabled=False):
            outputs, end = self.recurrent(x, start)  # (B, T, H)
        return self.score(self.dropout(outputs)), end if self.n_states == 2 else (end,)

    @torch.no_grad()
    def generate(
        self,
        prompt: Tensor,
        n_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator,
    ) -> Tensor:
        """Go on from `prompt` (B, T) → the new tokens (B, n_tokens), each drawn after all before it.

        Args:
            prompt: at least one token; it may be of any length, for the state has one size.
            temperature, top_k, top_p: see `sampling.sample_token`; top_k=1 takes the likeliest token.

        Raises:
            ValueError: n_tokens < 1, or as the model and `sample_token`.
        """
        if n_tokens < 1:
            raise ValueError(f"n_tokens must be at least 1, got {n_tokens}")
        new, state, tokens = prompt, None, []
        for _ in range(n_tokens):
            logits, state = self(new, state)
            new = sample_token(
                logits[:, -1], temperature=temperature, top_k=top_k, top_p=top_p, generator=generator
            ).unsqueeze(1)
            tokens.append(new)
        return torch.cat(tokens, dim=1)
