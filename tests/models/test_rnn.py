"""The written-out cells are torch's, the state carries everything, and generation is what the logits say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from aigc_lib.models.rnn import CELLS, FUSED, RNNConfig, RNNLanguageModel, unroll
from aigc_lib.models.sampling import token_probabilities

SMALL = {"vocab_size": 11, "embedding_dim": 5, "width": 7}
CELL_NAMES = list(CELLS)


def model(cell: str = "lstm", **options) -> RNNLanguageModel:
    torch.manual_seed(0)
    return RNNLanguageModel(RNNConfig(cell=cell, **SMALL | options)).eval()


def tokens(batch: int = 3, length: int = 12) -> torch.Tensor:
    return torch.randint(11, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", CELL_NAMES)
def test_a_cell_equals_that_of_torch_in_output_and_every_gradient(name):
    torch.manual_seed(0)
    ours = CELLS[name](5, 7)
    theirs = {"elman": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}[name](5, 7)
    theirs.load_state_dict(ours.state_dict())
    x = [torch.randn(4, 5, generator=torch.Generator().manual_seed(2)).requires_grad_() for _ in range(2)]
    states = [tuple(torch.full((4, 7), 0.3).requires_grad_() for _ in range(ours.n_states)) for _ in range(2)]
    got = ours(x[0], states[0])
    expected = theirs(x[1], states[1] if name == "lstm" else states[1][0])
    expected = expected if name == "lstm" else (expected,)
    weights = [torch.randn(4, 7, generator=torch.Generator().manual_seed(3 + i)) for i in range(ours.n_states)]
    for result in (got, expected):
        sum((a * w).sum() for a, w in zip(result, weights, strict=True)).backward()
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    pairs = [(x[0], x[1]), *zip(*states, strict=True), *zip(ours.parameters(), theirs.parameters(), strict=True)]
    for a, b in pairs:
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", CELL_NAMES)
@given(batch=st.integers(1, 4), length=st.integers(1, 9), n_inputs=st.integers(1, 6), width=st.integers(1, 6))
@settings(deadline=None, max_examples=25)
def test_unrolled_in_time_it_is_the_fused_layer(name, batch, length, n_inputs, width):
    cell = CELLS[name](n_inputs, width).double()
    fused = FUSED[name](n_inputs, width, batch_first=True).double()
    fused.load_state_dict({f"{key}_l0": value for key, value in cell.state_dict().items()})
    inputs = torch.randn(batch, length, n_inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    states = unroll(cell, inputs)
    outputs, _ = fused(inputs)
    torch.testing.assert_close(torch.stack([state[0] for state in states], dim=1), outputs, atol=1e-12, rtol=0)
    assert len(states) == length
    torch.testing.assert_close(unroll(cell, inputs[:, -1:], states[-2])[0], states[-1]) if length > 1 else None


def test_a_cell_starts_with_the_weights_of_torchs():
    for name, cell in CELLS.items():
        ours, theirs = cell(20, 400), {"elman": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}[name](20, 400)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert a.shape == b.shape
            assert a.abs().max() <= 400**-0.5
            assert a.std().item() == pytest.approx(b.std().item(), rel=0.1)


@pytest.mark.parametrize("cell", CELL_NAMES)
@pytest.mark.parametrize("n_layers", [1, 2])
def test_reading_in_pieces_gives_the_logits_of_the_whole(cell, n_layers):
    network = model(cell, n_layers=n_layers)
    whole, end = network(tokens())
    assert whole.shape == (3, 12, 11)
    first, state = network(tokens()[:, :5])
    second, state = network(tokens()[:, 5:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, atol=1e-6, rtol=0)
    for a, b in zip(state, end, strict=True):
        assert a.shape == (n_layers, 3, 7)
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_a_score_depends_on_its_token_and_those_before_alone(cell):
    network = model(cell)
    embedded = network.embed(tokens(1, 6)).detach().requires_grad_()
    network.embed.register_forward_hook(lambda *_: embedded)
    logits, _ = network(tokens(1, 6))
    (slope,) = torch.autograd.grad(logits[0, 3].sum(), embedded)
    reached = slope[0].abs().sum(dim=1) > 0
    assert reached.tolist() == [True, True, True, True, False, False]


def test_the_examples_of_a_batch_do_not_mix():
    network = model()
    alone = torch.cat([network(row[None])[0] for row in tokens()])
    torch.testing.assert_close(network(tokens())[0], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_generation_takes_the_likeliest_token_of_a_full_reading(cell):
    network, prompt = model(cell, n_layers=2), tokens(2, 4)
    made = network.generate(prompt, 8, top_k=1, generator=torch.Generator())
    assert made.shape == (2, 8)
    everything = torch.cat([prompt, made], dim=1)
    logits, _ = network(everything)
    assert torch.equal(logits[:, 3:-1].argmax(dim=-1), made)


def test_generation_draws_the_first_token_as_often_as_its_probability_says():
    network, prompt = model(), tokens(1, 3).expand(4000, -1)
    generator = torch.Generator().manual_seed(0)
    made = network.generate(prompt, 1, temperature=0.5, top_p=0.9, generator=generator)
    expected = token_probabilities(network(prompt[:1])[0][:, -1], temperature=0.5, top_p=0.9)[0]
    seen = made[:, 0].bincount(minlength=11) / 4000
    assert (seen - expected).abs().max() < 4 * (0.25 / 4000) ** 0.5


def test_generation_repeats_with_its_generator():
    network = model()
    first, second, other = (
        network.generate(tokens(), 20, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_dropout_acts_in_training_alone():
    network = model(dropout=0.5, n_layers=2)
    assert torch.equal(network(tokens())[0], network(tokens())[0])
    network.train()
    assert not torch.equal(network(tokens())[0], network(tokens())[0])


def test_an_lstm_starts_with_open_forget_gates():
    recurrent = model(n_layers=2).recurrent
    for layer in (0, 1):
        bias = getattr(recurrent, f"bias_ih_l{layer}") + getattr(recurrent, f"bias_hh_l{layer}")
        assert torch.equal(bias[7:14], torch.ones(7))


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_under_autocast_the_logits_are_close_to_those_of_float32(cell):
    network = model(cell)
    exact, _ = network(tokens())
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = network(tokens())
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, atol=0.02, rtol=0)


def test_it_learns_to_count_to_three():
    # 0 0 1 0 0 1 …: after a 0 only the state knows whether a 1 is due.
    torch.manual_seed(0)
    network = RNNLanguageModel(RNNConfig(vocab_size=2, embedding_dim=4, width=16))
    text = torch.tensor([[0, 0, 1] * 8])
    optimiser = torch.optim.Adam(network.parameters(), lr=0.03)
    for _ in range(80):
        logits, _ = network(text[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    made = network.generate(text[:, :5], 9, top_k=1, generator=torch.Generator())
    assert made.tolist() == [[1, 0, 0] * 3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(torch.zeros(3, dtype=torch.int64)), r"int64 \(B ≥ 1, T ≥ 1\), got torch.int64 \(3,\)"),
        (lambda m: m(torch.zeros(1, 0, dtype=torch.int64)), r"\(B ≥ 1, T ≥ 1\), got torch.int64 \(1, 0\)"),
        (lambda m: m(torch.zeros(1, 3)), "int64"),
        (lambda m: m(torch.tensor([[0, 1], [2, 11]])), "token 11 at position 1 of sequence 1 is not among the 11"),
        (lambda m: m(torch.tensor([[-1]])), "token -1 at position 0"),
        (lambda m: m(tokens(), m(tokens(2))[1]), r"state must have the shapes \[\(1, 3, 7\), \(1, 3, 7\)\]"),
        (lambda m: m(tokens(), m(tokens())[1][:1]), "state must have the shapes"),
        (lambda m: m.generate(tokens(1, 0), 3, generator=torch.Generator()), "T ≥ 1"),
        (lambda m: m.generate(tokens(), 0, generator=torch.Generator()), "n_tokens must be at least 1"),
        (lambda m: m.generate(tokens(), 1, temperature=0, generator=torch.Generator()), "temperature must be above 0"),
        (lambda m: unroll(CELLS["gru"](2, 3), torch.zeros(4, 2)), r"inputs must be \(B, T ≥ 1, D\)"),
        (lambda m: unroll(CELLS["gru"](2, 3), torch.zeros(4, 1, 3)), r"x must be \(B, 2\), got \(4, 3\)"),
        (lambda m: CELLS["lstm"](2, 3)(torch.zeros(4, 2), (torch.zeros(4, 3),)), r"state must be 2 of \(4, 3\)"),
        (lambda m: RNNConfig(cell="transformer"), "cell must be one of elman, gru, lstm, got 'transformer'"),
        (lambda m: RNNConfig(width=0), "width must be at least 1, got 0"),
        (lambda m: RNNConfig(dropout=1.0), "dropout must be at least 0 and below 1"),
    ],
)
def test_bad_input_is_refused_with_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call(model())
