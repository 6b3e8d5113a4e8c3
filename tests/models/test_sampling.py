"""The next token: the softmax at a temperature, cut to the k likeliest or to the nucleus, drawn as often as it says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aigc_lib.models.sampling import fill_in, sample_token, token_probabilities

LOGITS = torch.tensor([[2.0, 0.5, 1.0, -1.0, 0.0]], dtype=torch.float64)
rows = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12)


@pytest.mark.parametrize("how", [{}, {"top_k": 3}, {"top_p": 0.7}, {"top_k": 4, "top_p": 0.9}])
def test_tokens_come_as_often_as_their_probability_says(how):
    generator = torch.Generator().manual_seed(1)
    drawn = sample_token(LOGITS.expand(20_000, -1), temperature=1.3, **how, generator=generator)
    expected = 20_000 * token_probabilities(LOGITS, temperature=1.3, **how)[0]
    seen = drawn.bincount(minlength=5).double()
    assert seen[expected == 0].sum() == 0
    kept = expected > 0
    assert stats.chisquare(seen[kept].numpy(), expected[kept].numpy()).pvalue > 1e-4


@given(rows, st.floats(0.1, 10))
@settings(deadline=None)
def test_without_a_cut_it_is_the_softmax_at_that_temperature(row, temperature):
    logits = torch.tensor([row], dtype=torch.float64)
    got = token_probabilities(logits, temperature=temperature)
    torch.testing.assert_close(got, torch.softmax(logits / temperature, dim=1), atol=1e-12, rtol=0)


@given(rows, st.data())
@settings(deadline=None)
def test_top_k_keeps_exactly_k_and_none_that_is_left_out_is_likelier(row, data):
    k = data.draw(st.integers(1, len(row)))
    logits = torch.tensor([row], dtype=torch.float64)
    got = token_probabilities(logits, temperature=1.0, top_k=k)[0]
    kept = got > 0
    assert kept.sum() == k
    assert logits[0, kept].min() >= logits[0, ~kept].max() if k < len(row) else kept.all()
    torch.testing.assert_close(got[kept], torch.softmax(logits[0, kept], dim=0))


@given(rows, st.floats(0.01, 1.0))
@settings(deadline=None)
def test_the_nucleus_is_the_smallest_set_of_likeliest_tokens_that_reaches_p(row, p):
    probabilities = torch.softmax(torch.tensor(row, dtype=torch.float64), dim=0)
    kept = token_probabilities(probabilities.log()[None], temperature=1.0, top_p=p)[0] > 0
    size, falling = int(kept.sum()), probabilities.sort(descending=True).values
    assert probabilities[kept].min() >= falling[size - 1]
    assert falling[:size].sum() >= p - 1e-12
    assert falling[: size - 1].sum() < p + 1e-12


def test_of_equal_tokens_at_the_edge_the_first_stay():
    logits = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    assert (token_probabilities(logits, temperature=1.0, top_k=3)[0] > 0).tolist() == [True, True, True, False]
    equal = token_probabilities(torch.zeros(1, 4, dtype=torch.float64), temperature=1.0, top_p=0.5)
    assert equal.tolist() == [[0.5, 0.5, 0.0, 0.0]]


def test_cold_takes_the_likeliest_and_hot_takes_all_alike():
    cold = token_probabilities(LOGITS, temperature=1e-12)
    assert cold.tolist() == [[1.0, 0.0, 0.0, 0.0, 0.0]]
    hot = token_probabilities(LOGITS, temperature=1e12)
    torch.testing.assert_close(hot, torch.full_like(hot, 0.2))


def test_rows_do_not_mix_and_a_logit_of_minus_infinity_never_comes():
    logits = torch.tensor([[0.0, -torch.inf, -torch.inf], [-torch.inf, -torch.inf, 0.0]]).repeat(50, 1)
    drawn = sample_token(logits, temperature=2.0, generator=torch.Generator().manual_seed(0))
    assert drawn.tolist() == [0, 2] * 50
    assert drawn.dtype == torch.int64


def test_half_precision_logits_are_drawn_in_float32():
    assert token_probabilities(LOGITS.bfloat16(), temperature=1.0).dtype == torch.float32


@pytest.mark.parametrize(
    ("logits", "how", "message"),
    [
        (torch.zeros(5), {}, r"logits must be \(B, V\)"),
        (torch.zeros(1, 5), {"temperature": 0.0}, "temperature must be above 0"),
        (torch.zeros(1, 5), {"temperature": -1.0}, "temperature must be above 0"),
        (torch.zeros(1, 5), {"temperature": float("nan")}, "temperature must be above 0"),
        (torch.zeros(1, 5), {"top_k": 0}, "top_k must be between 1 and the 5"),
        (torch.zeros(1, 5), {"top_k": 6}, "top_k must be between 1 and the 5"),
        (torch.zeros(1, 5), {"top_p": 0.0}, "top_p must be above 0"),
        (torch.zeros(1, 5), {"top_p": 1.1}, "top_p must be above 0"),
    ],
)
def test_bad_input_is_refused(logits, how, message):
    with pytest.raises(ValueError, match=message):
        sample_token(logits, **{"temperature": 1.0} | how, generator=torch.Generator())


def small_model():
    from aigc_lib.models.transformer import LanguageModel, LanguageModelConfig

    torch.manual_seed(0)
    return LanguageModel(LanguageModelConfig(vocab_size=7, width=16, n_heads=2, n_layers=2, context_length=12)).eval()


def test_filling_in_is_sampling_where_all_is_free():
    model, prompt = small_model(), torch.tensor([[1, 2, 3], [4, 5, 6]])
    free = torch.tensor([False] * 3 + [True] * 5)
    tokens = torch.cat([prompt, torch.zeros(2, 5, dtype=torch.int64)], dim=1)
    filled = fill_in(model, tokens, free, temperature=0.7, generator=torch.Generator().manual_seed(2))
    generated = model.generate(prompt, 5, temperature=0.7, generator=torch.Generator().manual_seed(2))
    assert torch.equal(filled, torch.cat([prompt, generated], dim=1))


@given(st.lists(st.booleans(), min_size=1, max_size=25), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_what_is_given_stays_and_what_is_drawn_is_allowed_and_follows_the_models_own_odds(places, seed):
    model = small_model()
    free = torch.tensor([False, *places])
    tokens = torch.randint(0, 7, (1, len(free)), generator=torch.Generator().manual_seed(seed))
    even = torch.tensor([True, False] * 3 + [True])
    # So cold that the likeliest of the allowed tokens is drawn: an independent, uncached pass says which that is.
    filled = fill_in(
        model, tokens, free, allowed=lambda before: even, temperature=1e-4, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(filled[0, ~free], tokens[0, ~free])
    scores = model(filled)[0].masked_fill(~even, -torch.inf)
    for place in free.nonzero().flatten().tolist():
        assert scores[place - 1, filled[0, place]] > scores[place - 1].max() - 1e-3


@pytest.mark.parametrize(
    ("free", "allowed", "message"),
    [
        (torch.tensor([True, True]), None, "first entry"),
        (torch.tensor([False]), None, r"\(2,\)"),
        (torch.tensor([False, True]), lambda before: torch.zeros(7, dtype=torch.bool), "no token is allowed"),
    ],
)
def test_nonsense_is_refused_before_anything_is_drawn(free, allowed, message):
    with pytest.raises(ValueError, match=message):
        fill_in(small_model(), torch.zeros(1, 2, dtype=torch.int64), free, allowed=allowed, generator=torch.Generator())
