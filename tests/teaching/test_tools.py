"""What chapter 7 claims about tools holds: engines agree, trees have no slope, memory adds up, exports are equal."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint_sequential

from aigc_lib.models.gan import GANConfig, Generator
from aigc_lib.models.wavenet import mu_law_encode
from aigc_lib.teaching import bibliography

KEPT_BY_16_LAYERS = {1: 17, 2: 10, 4: 8, 8: 10, 16: 17}


def numbers(seed=0):
    return torch.Generator().manual_seed(seed)


def stored_bytes(tensors):
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def test_one_layer_gives_the_same_numbers_on_two_engines_and_only_one_has_gradients():
    x, weight = torch.randn(5, 3, generator=numbers()), torch.randn(3, 2, generator=numbers(1), requires_grad=True)
    by_torch = torch.tanh(x @ weight)
    by_numpy = np.tanh(x.numpy() @ weight.detach().numpy())
    np.testing.assert_allclose(by_torch.detach().numpy(), by_numpy, atol=1e-6)
    by_torch.sum().backward()
    torch.testing.assert_close(weight.grad, x.T @ (1 - torch.from_numpy(by_numpy) ** 2))
    assert bibliography.load()["keras-docs"].title.startswith("Keras 3")


def test_from_numpy_shares_memory_and_tensor_copies():
    array = np.zeros(4, dtype=np.float32)
    shared, copied = torch.from_numpy(array), torch.tensor(array)
    array[1] = 5
    assert shared[1] == 5
    assert copied[1] == 0


def test_boosted_trees_answer_alike_between_their_thresholds():
    ensemble = pytest.importorskip("sklearn.ensemble")
    x = np.linspace(0, 1, 200)[:, None]
    trees = ensemble.HistGradientBoostingRegressor(max_iter=30, max_leaf_nodes=4, random_state=0).fit(
        x, np.sin(9 * x[:, 0])
    )
    fine = trees.predict(np.linspace(0, 1, 10_000)[:, None])
    assert (np.diff(fine) != 0).mean() < 0.02  # a step function: no slope but at its steps
    assert np.ptp(fine) > 1


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20))
def test_a_loop_and_tensor_operations_agree_on_the_mu_law_up_to_rounding(samples):
    levels = mu_law_encode(torch.tensor(samples)).tolist()
    for value, level in zip(samples, levels, strict=True):
        exact = (math.copysign(math.log1p(255 * abs(value)) / math.log1p(255), value) + 1) / 2 * 255
        assert abs(exact - level) <= 0.5 + 1e-3


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_training_with_adam_keeps_16_bytes_a_parameter_and_4_a_tensor(widths):
    model = torch.nn.Sequential(*(torch.nn.Linear(a, b) for a, b in pairwise(widths)))
    weights = list(model.parameters())
    adam = torch.optim.Adam(weights)
    model(torch.ones(2, widths[0])).sum().backward()
    adam.step()
    moments = [value for weight in weights for value in adam.state[weight].values()]
    kept = stored_bytes(weights) + stored_bytes(w.grad for w in weights) + stored_bytes(moments)
    assert kept == 16 * sum(w.numel() for w in weights) + 4 * len(weights)


@pytest.mark.parametrize("segments", KEPT_BY_16_LAYERS)
def test_k_segments_keep_k_plus_n_over_k_activations_and_change_no_bit(segments):
    blocks = torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh()) for _ in range(16)))
    entry, kept = torch.randn(4, 8, generator=numbers(2), requires_grad=True), []
    own = {p.untyped_storage().data_ptr() for p in blocks.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        result = checkpoint_sequential(blocks, segments, entry, use_reentrant=False)
    activations = stored_bytes(t for t in kept if t.untyped_storage().data_ptr() not in own)
    assert activations / (4 * 4 * 8) == KEPT_BY_16_LAYERS[segments]
    gradients = torch.autograd.grad(result.sum(), list(blocks.parameters()))
    plain = torch.autograd.grad(blocks(entry).sum(), list(blocks.parameters()))
    assert all(map(torch.equal, gradients, plain))


@settings(deadline=None)
@given(st.floats(1e-30, 1e30))
def test_bfloat16_rounds_by_at_most_a_256th(x):
    assert abs(torch.tensor(x).bfloat16().double().item() - torch.tensor(x).double().item()) <= x * 2**-8 * (1 + 1e-6)


def test_a_function_that_is_compiled_cannot_be_differentiated_twice():
    point = torch.ones(3, requires_grad=True)
    compiled = torch.compile(lambda x: (x.tanh() ** 2).sum(), backend="aot_eager")
    (slope,) = torch.autograd.grad(compiled(point), point, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        slope.sum().backward()


def test_a_generator_exported_to_onnx_makes_the_same_pictures_for_another_batch():
    pytest.importorskip("onnxscript")
    import onnxruntime

    model = Generator(GANConfig()).eval()
    noise = torch.randn(5, model.config.latent_dim, generator=numbers(3))
    sizes = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(model, (noise[:2],), dynamo=True, dynamic_shapes=sizes, verbose=False)
    content = program.model_proto.SerializeToString()
    runtime = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (pictures,) = runtime.run(None, {runtime.get_inputs()[0].name: noise.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(pictures, model(noise).numpy(), atol=1e-4)
