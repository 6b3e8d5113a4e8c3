"""The Transformer against torch's own operators, closed forms, gradients and exhaustive search."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from aigc_lib.models.attention import Block, MultiHeadAttention, attention, rotate, rotations, sinusoidal_positions
from aigc_lib.models.transformer import (
    BEGIN,
    END,
    PAD,
    LanguageModel,
    LanguageModelConfig,
    Transformer,
    TransformerConfig,
    sequence_loss,
    warmup,
)

KINDS = list(itertools.product(["rotary", "sinusoidal"], [True, False]))  # positions, pre-norm


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def language_model(**sizes) -> LanguageModel:
    torch.manual_seed(0)
    defaults = {"vocab_size": 11, "width": 16, "n_heads": 2, "n_layers": 2, "context_length": 8}
    return LanguageModel(LanguageModelConfig(**defaults | sizes)).double().eval()


def translator(**sizes) -> Transformer:
    torch.manual_seed(0)
    defaults = {"source_vocab_size": 9, "vocab_size": 7, "width": 16, "n_heads": 2, "n_layers": 2}
    return Transformer(TransformerConfig(**defaults | sizes)).double().eval()


# Attention


masks = {
    "none": None,
    "causal": torch.ones(5, 5, dtype=torch.bool).tril(),
    "padding": torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()[:, None, None],
    "both": torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()[:, None, None]
    & torch.ones(5, 5, dtype=torch.bool).tril(),
    "of each head": (normal(2, 3, 5, 5) > 0) | torch.eye(5).bool(),
}


@pytest.mark.parametrize("name", masks)
def test_attention_is_that_of_torch(name):
    q, k, v = (normal(2, 3, 5, 4, seed=seed).requires_grad_() for seed in range(3))
    ours, weights = attention(q, k, v, masks[name])
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=masks[name])
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5).double())
    if masks[name] is not None:
        assert weights.masked_select(~masks[name].expand_as(weights)).eq(0).all()
    for a, b in zip(*(torch.autograd.grad(out.square().sum(), (q, k, v)) for out in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_a_query_that_may_look_nowhere_gets_zeros_and_finite_gradients():
    q, k, v = (normal(1, 3, 4, seed=seed).requires_grad_() for seed in range(3))
    mask = torch.tensor([[True, True, False], [False, False, False], [True, True, True]])
    out, weights = attention(q, k, v, mask)
    assert out[0, 1].eq(0).all()
    assert weights[0, 1].eq(0).all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), (q, k, v)))


@given(scale=st.floats(0, 20), seed=st.integers(0, 99))
@settings(deadline=None)
def test_an_output_lies_between_the_values(scale, seed):
    q, k, v = (normal(1, 4, 3, seed=seed + i) * scale for i in range(3))
    out, _ = attention(q, k, v)
    assert (out <= v.max(dim=1, keepdim=True).values + 1e-9).all()
    assert (out >= v.min(dim=1, keepdim=True).values - 1e-9).all()


def test_attention_refuses_shapes_and_masks_that_do_not_fit():
    q = normal(2, 5, 4)
    with pytest.raises(ValueError, match=r"\(…, T, d_k\).*got \(2, 5, 4\), \(2, 5, 3\)"):
        attention(q, q[..., :3], q)
    with pytest.raises(ValueError, match=r"mask must be bool and fit \(2, 5, 5\).*got torch.bool \(4, 5\)"):
        attention(q, q, q, torch.ones(4, 5).bool())
    with pytest.raises(ValueError, match=r"got torch\.float64"):
        attention(q, q, q, normal(5, 5))


def torch_attention(ours: MultiHeadAttention) -> nn.MultiheadAttention:
    theirs = nn.MultiheadAttention(ours.width, ours.n_heads, bias=False, batch_first=True).to(ours.output.weight.dtype)
    theirs.load_state_dict({"in_proj_weight": ours.project.weight, "out_proj.weight": ours.output.weight})
    return theirs


@pytest.mark.parametrize("collect", [False, True], ids=["fused", "written out"])
def test_multi_head_attention_is_that_of_torch(collect):
    torch.manual_seed(0)
    ours, x, memory = MultiHeadAttention(12, 3).double(), normal(2, 5, 12), normal(2, 7, 12, seed=1)
    theirs, seen = torch_attention(ours), [] if collect else None
    causal = torch.ones(5, 5).bool().tril()
    expected, _ = theirs(x, x, x, attn_mask=~causal)
    torch.testing.assert_close(ours(x, is_causal=True, weights=seen), expected, atol=1e-12, rtol=0)
    padding = torch.tensor([[1] * 7, [1, 1, 1, 0, 0, 0, 0]]).bool()
    expected, weights = theirs(x, memory, memory, key_padding_mask=~padding, average_attn_weights=False)
    out = ours(x, ours.keys_values(memory), mask=padding[:, None, None], weights=seen)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)
    if collect:
        torch.testing.assert_close(seen[1], weights, atol=1e-12, rtol=0)


@pytest.mark.parametrize("pre_norm", [True, False])
def test_a_block_is_the_layer_of_torch(pre_norm):
    torch.manual_seed(0)
    ours = Block(16, 4, 0.0, pre_norm=pre_norm, cross=True).double()
    theirs = nn.TransformerDecoderLayer(16, 4, 64, 0.0, batch_first=True, norm_first=pre_norm).double()
    state = {name: torch.zeros_like(value) for name, value in theirs.state_dict().items()}  # its attention has biases
    for mine, its in ((ours.attend, "self_attn"), (ours.cross, "multihead_attn")):
        state |= {f"{its}.in_proj_weight": mine.project.weight, f"{its}.out_proj.weight": mine.output.weight}
    for i, its in ((0, "linear1"), (2, "linear2")):
        state |= {f"{its}.weight": ours.feed_forward[i].weight, f"{its}.bias": ours.feed_forward[i].bias}
    state |= {f"norm{i + 1}.{key}": value for i in range(3) for key, value in ours.norms[i].state_dict().items()}
    theirs.load_state_dict(state)
    x, memory = normal(2, 5, 16), normal(2, 7, 16, seed=1)
    padding = torch.tensor([[1] * 7, [1, 1, 1, 0, 0, 0, 0]]).bool()
    expected = theirs(x, memory, tgt_mask=~torch.ones(5, 5).bool().tril(), memory_key_padding_mask=~padding)
    out = ours(x, ours.cross.keys_values(memory), padding[:, None, None], is_causal=True)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)


# Positions


def test_sinusoidal_positions_are_the_papers_and_a_shift_turns_them():
    table = sinusoidal_positions(torch.arange(50, dtype=torch.float64), 8)
    assert table[7, 4].item() == pytest.approx(math.sin(7 / 10_000 ** (4 / 8)))
    assert table[7, 5].item() == pytest.approx(math.cos(7 / 10_000 ** (4 / 8)))
    rates = 10_000.0 ** -(torch.arange(0, 8, 2, dtype=torch.float64) / 8)
    c, s = torch.cos(7 * rates), torch.sin(7 * rates)
    pairs = table.unflatten(1, (4, 2))
    turned = torch.stack([c * pairs[..., 0] + s * pairs[..., 1], c * pairs[..., 1] - s * pairs[..., 0]], dim=-1)
    torch.testing.assert_close(turned[:-7], pairs[7:], atol=1e-5, rtol=0)


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 400))
@settings(deadline=None)
def test_rotary_scores_depend_on_the_distance_alone(t, s, shift):
    q, k = normal(1, 1, 1, 8), normal(1, 1, 1, 8, seed=1)

    def score(a: int, b: int) -> float:
        turned = [rotate(x.float(), rotations(torch.tensor([p]), 8)) for x, p in ((q, a), (k, b))]
        return (turned[0] * turned[1]).sum().item()

    assert score(t, s) == pytest.approx(score(t + shift, s + shift), abs=2e-3)  # float32 angles of up to 800


def test_rotation_keeps_lengths_and_turns_the_first_pair_by_one_radian_a_token():
    x = normal(1, 3, 1, 6).float()
    turned = rotate(x, rotations(torch.arange(3), 6))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    angles = [torch.view_as_complex(each[0, 2, 0, :2]).angle() for each in (x, turned)]
    assert ((angles[1] - angles[0]).item() - 2.0) % (2 * math.pi) == pytest.approx(0, abs=1e-5)
    assert torch.equal(turned[:, 0], x[:, 0])


def test_without_positions_and_mask_attention_does_not_know_the_order():
    torch.manual_seed(0)
    block, x, order = Block(16, 4, 0.0, pre_norm=True).double(), normal(1, 6, 16), torch.randperm(6, generator=rng())
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order], atol=1e-12, rtol=0)
    turning = rotations(torch.arange(6), 4)
    assert (block(x[:, order], rotation=turning) - block(x, rotation=turning)[:, order]).abs().max() > 1e-3


# Masks of the whole models


@pytest.mark.parametrize(("positions", "pre_norm"), KINDS)
@pytest.mark.parametrize("length", [6, 12], ids=["within the context", "beyond it"])
def test_the_language_model_sees_the_past_within_its_context_alone(positions, pre_norm, length):
    model = language_model(positions=positions, pre_norm=pre_norm, n_layers=1)
    x = model.embed(torch.arange(length)[None] % 11)[0].detach().requires_grad_()
    rotation = model.embed(torch.arange(length)[None] % 11)[1]
    model.embed.forward = lambda tokens, start=0: (x, rotation)
    out = model(torch.zeros(1, length, dtype=torch.int64)).sum(dim=-1)[0]
    reach = torch.stack([torch.autograd.grad(out[t], x, retain_graph=True)[0][0].abs().sum(-1) for t in range(length)])
    seen = torch.ones(length, length).bool().tril().triu(1 - 8)
    assert reach[~seen].eq(0).all()
    assert (reach[seen] > 0).all()


@pytest.mark.parametrize(("positions", "pre_norm"), KINDS)
@pytest.mark.parametrize("more_source", [0, 3])
@pytest.mark.parametrize("more_target", [0, 2])
def test_padding_changes_nothing(positions, pre_norm, more_source, more_target):
    model = translator(positions=positions, pre_norm=pre_norm)
    source, target = torch.tensor([[3, 4, 5, 2]]), torch.tensor([[BEGIN, 4, 5, 6]])
    others = torch.tensor([[6] * (4 + more_source)]), torch.tensor([[BEGIN] + [3] * (3 + more_target)])
    wide = (
        torch.cat([F.pad(source, (0, more_source)), others[0]]),
        torch.cat([F.pad(target, (0, more_target)), others[1]]),
    )
    alone, together = model(source, target), model(*wide)
    torch.testing.assert_close(together[:1, :4], alone, atol=1e-12, rtol=0)
    weights: list[torch.Tensor] = []
    torch.testing.assert_close(model(*wide, weights=weights), together, atol=1e-12, rtol=0)
    assert len(weights) == 2
    assert all(each[0, ..., 4:].eq(0).all() for each in weights)
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(2, 2, 4 + more_target).double())


@pytest.mark.parametrize(("positions", "pre_norm"), KINDS)
def test_padding_changes_nothing_in_single_precision_either(positions, pre_norm):
    model = translator(positions=positions, pre_norm=pre_norm).float()
    source, target = torch.tensor([[3, 4, 5, 2]]), torch.tensor([[BEGIN, 4, 5, 6]])
    padded = model(F.pad(source, (0, 4)), F.pad(target, (0, 3)))[:, :4]
    torch.testing.assert_close(padded, model(source, target), atol=1e-6, rtol=0)


def test_without_the_padding_mask_the_answer_would_change():
    model, source = translator(), torch.tensor([[3, 4, 5, 2]])
    target, filled = torch.tensor([[BEGIN, 4]]), torch.tensor([[3, 4, 5, 2, 6, 6, 6]])
    assert (model(source, target) - model(filled, target)).abs().max() > 1e-3


def test_a_target_token_has_no_say_in_what_comes_before_it():
    model, source = translator(), torch.tensor([[3, 4, 5]])
    first, second = torch.tensor([[BEGIN, 3, 4, 5]]), torch.tensor([[BEGIN, 3, 6, 6]])
    logits = [model(source, each) for each in (first, second)]
    torch.testing.assert_close(logits[0][:, :2], logits[1][:, :2], atol=1e-14, rtol=0)
    assert (logits[0][:, 2:] - logits[1][:, 2:]).abs().amin(dim=(0, 2)).max() > 1e-6


# Generation


@pytest.mark.parametrize(("positions", "pre_norm"), KINDS)
def test_greedy_text_is_the_same_with_and_without_the_cache_also_beyond_the_context(positions, pre_norm):
    model, prompt = language_model(positions=positions, pre_norm=pre_norm), torch.tensor([[1, 2, 3], [4, 5, 6]])
    texts = [
        model.generate(prompt, 20, temperature=1.0, top_k=1, use_cache=use, generator=rng()) for use in (True, False)
    ]
    assert texts[0].shape == (2, 20)
    assert torch.equal(*texts)
    drawn = [model.generate(prompt, 20, temperature=2.0, use_cache=use, generator=rng()) for use in (True, False)]
    assert torch.equal(*drawn)
    assert len(drawn[0].unique()) > 3


@pytest.mark.parametrize("positions", ["rotary", "sinusoidal"])
def test_cached_logits_are_those_of_the_whole_pass(positions):
    model, tokens = language_model(positions=positions), torch.arange(20)[None] % 11
    cache = model.new_cache(1)
    parts = [model(tokens[:, :5], cache=cache), *(model(tokens[:, t : t + 1], cache=cache) for t in range(5, 20))]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), atol=1e-12, rtol=0)


def test_a_cache_holds_two_numbers_for_each_channel_token_and_layer():
    model = language_model()
    cache = model.new_cache(batch=3, length=5)
    assert sum(each.keys.numel() + each.values.numel() for each in cache) == 2 * 2 * 3 * 5 * 16  # 2·layers·B·T·d
    assert model.new_cache(1, length=1000)[0].keys.shape == (1, 2, 8, 8)  # never more than the context


def test_beam_one_is_greedy():
    model, source = translator(vocab_size=12), torch.tensor([[3, 4, 5, 2], [6, 7, 2, 0], [8, 2, 0, 0]])
    found = model.translate(source, beam_size=1, max_tokens=9)
    for row, answer in zip(source, found, strict=True):
        target = [BEGIN]
        while len(target) < 10 and target[-1] != END:
            logits = model(row[row != PAD][None], torch.tensor([target]))[0, -1]
            logits[[PAD, BEGIN]] = -math.inf
            target.append(int(logits.argmax()))
        assert answer[: len(target) - 1].tolist() == target[1:]
        assert answer[len(target) - 1 :].eq(PAD).all()


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_wide_beam_finds_what_exhaustive_search_finds(penalty, seed):
    model, source = translator(vocab_size=5, width=8), torch.tensor([[3, 4, 5, 2], [6, 2, 0, 0]])
    for name, parameter in model.named_parameters():
        if "embed" in name:  # sharper and less even than a fresh network
            parameter.data.copy_(1.5 * torch.randn(parameter.shape, generator=rng(seed)))
    endings = [(*body, END) for n in range(3) for body in itertools.product((3, 4), repeat=n)]
    candidates = [*endings, *itertools.product((3, 4), repeat=3)]
    found = model.translate(source, beam_size=27, max_tokens=3, length_penalty=penalty)
    for i in range(2):
        scores = {}
        for body in candidates:
            log_p = model(source[i : i + 1], torch.tensor([[BEGIN, *body[:-1]]]))[0].log_softmax(-1)
            scores[body] = (
                sum(log_p[t, token].item() for t, token in enumerate(body)) / ((5 + len(body)) / 6) ** penalty
            )
        assert tuple(token for token in found[i].tolist() if token != PAD) == max(scores, key=scores.get)


def test_generation_in_a_batch_is_that_of_each_alone():
    model, source = translator(vocab_size=12), torch.tensor([[3, 4, 5, 2], [6, 7, 2, 0]])
    together = model.translate(source, beam_size=3, max_tokens=8)
    for row, answer in zip(source, together, strict=True):
        alone = model.translate(row[row != PAD][None], beam_size=3, max_tokens=8)[0]
        assert torch.equal(alone, answer[: len(alone)])


# Loss and learning rate


@given(st.floats(0, 1))
@settings(deadline=None)
def test_the_loss_is_the_cross_entropy_with_smoothed_targets_without_padding(smoothing):
    logits, target = normal(2, 4, 6), torch.tensor([[1, 5, 2, 0], [3, 2, 0, 0]])
    wanted = (1 - smoothing) * F.one_hot(target, 6) + smoothing / 6
    each = -(wanted * logits.log_softmax(-1)).sum(-1)[target != PAD]
    torch.testing.assert_close(sequence_loss(logits, target, smoothing), each.mean())


def test_the_warm_up_is_the_papers_equation_3_and_the_cosine_ends_in_zero():
    for step in (1, 10, 4000, 4001, 100_000):
        paper = 512**-0.5 * min(step**-0.5, step * 4000**-1.5)
        assert warmup(step - 1, warmup_steps=4000) * 512**-0.5 * 4000**-0.5 == pytest.approx(paper)
    rates = [warmup(step, warmup_steps=10, total_steps=100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert all(a > b for a, b in itertools.pairwise(rates[9:]))
    assert rates[54] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_bfloat16_gives_nearly_the_same_and_trains():
    model = language_model().float()
    tokens = torch.arange(8)[None] % 11
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(tokens)
        F.cross_entropy(logits.float()[0], tokens[0]).backward()
    torch.testing.assert_close(logits.float(), model(tokens), atol=0.1, rtol=0.1)
    assert all(p.grad.isfinite().all() for p in model.parameters())


# Bad input


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="n_layers must be at least 1, got 0"):
        LanguageModelConfig(n_layers=0)
    with pytest.raises(ValueError, match="width must be a multiple of twice n_heads, got 30 and 4"):
        TransformerConfig(width=30, n_heads=4)
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), got 1"):
        TransformerConfig(dropout=1)
    with pytest.raises(ValueError, match="'rotary' or 'sinusoidal', got 'learned'"):
        LanguageModelConfig(positions="learned")


def test_unknown_tokens_are_named_with_their_place():
    model = language_model()
    for wrong, message in (
        (torch.tensor([[1, 2], [3, 11]]), "token 11 at position 1 of sequence 1 is not among the 11"),
        (torch.tensor([[-1, 2]]), "token -1 at position 0 of sequence 0"),
        (torch.zeros(1, 0, dtype=torch.int64), r"T ≥ 1\), got torch.int64 \(1, 0\)"),
        (torch.zeros(2, 3), "got torch.float32"),
        (torch.zeros(3, dtype=torch.int64), r"got torch.int64 \(3,\)"),
    ):
        for use in (model, lambda tokens: model.generate(tokens, 1, generator=rng())):
            with pytest.raises(ValueError, match=message):
                use(wrong)
    with pytest.raises(ValueError, match="token 7 at position 1 of sequence 0 is not among the 7"):
        translator()(torch.tensor([[3]]), torch.tensor([[1, 7]]))


def test_generation_refuses_what_it_cannot_do():
    model, prompt = language_model(), torch.ones(1, 9, dtype=torch.int64)
    with pytest.raises(ValueError, match="the prompt has 9 tokens; pass at most its last 8"):
        model.generate(prompt, 1, generator=rng())
    with pytest.raises(ValueError, match="n_tokens must be at least 1, got 0"):
        model.generate(prompt[:, :2], 0, generator=rng())
    for how, message in (
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"top_k": 0}, "top_k must be between"),
    ):
        with pytest.raises(ValueError, match=message):
            model.generate(prompt[:, :2], 1, generator=rng(), **how)


def test_translation_refuses_what_it_cannot_do():
    model, source = translator(), torch.tensor([[3, 4, 2]])
    for how in ({"beam_size": 0}, {"max_tokens": 0}, {"length_penalty": -1.0}):
        with pytest.raises(ValueError, match="beam_size and max_tokens must be at least 1"):
            model.translate(source, **how)
    with pytest.raises(ValueError, match="a sequence begins with a token"):
        model.translate(torch.tensor([[0, 0, 0]]))
    with pytest.raises(ValueError, match=r"padding \(0\) follows the last one"):
        model(source, torch.tensor([[BEGIN, 0, 3]]))
    with pytest.raises(ValueError, match="as many sources as targets, please: got 1 and 2"):
        model(source, torch.tensor([[1], [1]]))
