"""A model built for inference computes what the plain one does, and is still a model of its framework."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from resnet_spec import build, capture, dump, load, load_weights, loads, run
from resnet_spec.network.network import Network
from resnet_spec.parity.random_networks import generate_network
from resnet_spec.weights.canonical import Array, comparison_weights, initialize
from shared.frameworks import required

NAMES = ["resnet18", "timm/seresnet50", "preact_resnet18_cifar"]


def images(network: Network, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((2, *network.input))


def off(array: Array, reference: Array) -> float:
    """The largest difference, relative to the reference's largest value."""
    assert array.shape == reference.shape
    return float(abs(array - reference).max() / abs(reference).max())


@pytest.mark.parametrize(("dtype", "gate"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("name", NAMES)
def test_it_computes_the_same(backend_name: str, name: str, dtype: str, gate: float) -> None:
    network = load(name, input=(3, 48, 40))
    weights, x = comparison_weights(network), images(network)
    wanted = run(build(network, backend="numpy", weights=weights), x)
    model = build(network, backend=backend_name, weights=weights, dtype=dtype, mode="inference")
    assert off(run(model, x), wanted) < gate
    assert off(run(model, x[:1]), wanted[:1]) < gate


@pytest.mark.parametrize("seed", range(20))
def test_random_networks_compute_the_same_in_torch(seed: int) -> None:
    required("torch")
    network = generate_network(seed)
    weights, x = comparison_weights(network), images(network)
    wanted = run(build(network, backend="numpy", weights=weights), x)
    model = build(network, backend="torch", weights=weights, mode="inference")
    assert off(run(model, x), wanted) < 1e-5


SMALL: dict[str, Any] = {"input": (3, 32, 32), "classes": 5}


def test_what_is_dumped_is_the_folded_network(backend_name: str) -> None:
    model = build("resnet18", backend=backend_name, mode="inference", **SMALL)
    weights = dump(model)
    assert {name: array.shape for name, array in weights.items()} == model.network.weights()
    assert "conv1.bias" in weights
    assert "bn1.weight" not in weights


def test_weights_can_be_set_later(backend_name: str) -> None:
    one = build("resnet18", backend=backend_name, mode="inference", **SMALL)
    other = build("resnet18", backend=backend_name, mode="inference", seed=1, **SMALL)
    x = images(one.network)
    before = run(other, x)
    load_weights(other, dump(one))
    assert off(run(other, x), run(one, x)) < 1e-6
    assert off(before, run(one, x)) > 1e-2


def test_parts_can_be_watched(backend_name: str) -> None:
    network = load("resnet18", **SMALL)
    weights = initialize(network)
    plain = build(network, backend=backend_name, weights=weights)
    model = build(network, backend=backend_name, weights=weights, mode="inference")
    x = images(network)
    paths = ["conv1", "relu", "layer2.0", "layer4"]
    seen, wanted = capture(model, x, paths), capture(plain, x, ["bn1", *paths])
    assert off(seen["conv1"], wanted["bn1"]) < 1e-5
    assert all(off(seen[path], wanted[path]) < 1e-5 for path in paths[1:])


def test_maps_can_be_asked_for(backend_name: str) -> None:
    network = load("resnet18", **SMALL)
    x = images(network)
    paths = ["relu", "layer1.0", "layer2", "layer4"]
    plain = build(network, backend=backend_name, outputs=paths)
    model = build(network, backend=backend_name, outputs=paths, mode="inference")
    for array, wanted in zip(run(model, x), run(plain, x), strict=True):
        assert off(array, wanted) < 1e-5


@pytest.mark.parametrize("name", ["torch", "paddle", "flax"])
def test_it_computes_in_bfloat16(name: str) -> None:
    required(name)
    network = load("resnet18", **SMALL)
    weights, x = initialize(network), images(network)
    model = build(network, backend=name, weights=weights, dtype="bfloat16", mode="inference")
    exact = run(build(network, backend="numpy", weights=weights), x)
    assert 1e-4 < off(run(model, x), exact) < 3e-2
    assert {array.dtype for array in dump(model).values()} == {np.dtype("float32")}


def test_torch_runs_the_convolutions_joined() -> None:
    required("torch")
    model = build("resnet18", backend="torch", mode="inference", **SMALL)
    run(model, images(model.network))
    assert len(model._rows) == 1


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_torch_model_can_be_copied(again: Any) -> None:
    required("torch")
    model = build("resnet18", backend="torch", mode="inference", **SMALL)
    x = images(model.network)
    wanted = run(model, x)
    twin = again(model)
    load_weights(model, {name: array * 0 for name, array in dump(model).items()})
    assert np.array_equal(run(twin, x), wanted)
    assert not run(model, x).any()


def test_a_replaced_torch_module_is_the_one_that_runs() -> None:
    torch = required_torch()
    model = build("resnet18", backend="torch", mode="inference", **SMALL)
    x = images(model.network)
    run(model, x)
    model.layer1[0].relu2 = torch.nn.Tanh()
    assert capture(model, x, ["layer1.0"])["layer1.0"].max() <= 1
    model.fc = torch.nn.Linear(512, 7)
    assert run(model, x).shape == (2, 7)


def test_a_hook_on_a_torch_module_is_called() -> None:
    required_torch()
    model = build("resnet18", backend="torch", mode="inference", **SMALL)
    x = images(model.network)
    run(model, x)
    seen: list[Any] = []
    model.layer1[0].conv1.register_forward_hook(lambda module, given, output: seen.append(output))
    run(model, x)
    assert len(seen) == 1


def test_images_of_another_type_and_layout_will_do_and_are_left_as_they_are() -> None:
    torch = required_torch()
    model = build("resnet18", backend="torch", mode="inference", **SMALL)
    x = torch.from_numpy(images(model.network))
    kept = x.clone()
    y = model(x)
    assert y.dtype == torch.float64
    assert not y.requires_grad
    assert torch.equal(x, kept)
    laid = x.float().contiguous(memory_format=torch.channels_last)
    assert torch.allclose(model(laid), y.float(), atol=1e-5)


def test_torch_compiles() -> None:
    torch = required_torch()
    network = loads("{name: s, input: [3, 16, 16], stages: {a: {block: basic, depth: 1, out: 8, stride: 2}}}")
    weights, x = initialize(network), images(network)
    model = build(network, backend="torch", weights=weights, mode="inference", compile=True)
    assert isinstance(model, torch.nn.Module)
    plain = build(network, backend="torch", weights=weights)
    assert off(run(model, x), run(plain, x)) < 1e-5
    assert off(capture(model, x, ["a.0.conv1"])["a.0.conv1"], capture(plain, x, ["a.0.bn1"])["a.0.bn1"]) < 1e-5


def test_torchs_compiler_packs_the_weights_and_sees_when_they_change() -> None:
    required_torch()
    from torch._dynamo.utils import counters

    network = loads("{name: s, input: [3, 16, 16], stages: {a: {block: basic, depth: 1, out: 8, stride: 2}}}")
    model = build(network, backend="torch", mode="inference", compile=True)
    x = images(model.network)
    counters.clear()
    before = run(model, x)
    assert counters["inductor"]["mkldnn_conv_weight_pack_matcher_count"] == 3
    load_weights(model, {name: array / 2 for name, array in dump(model).items()})
    changed = build(model.network, backend="torch", weights=dump(model))
    assert off(run(model, x), run(changed, x)) < 1e-5
    assert off(run(model, x), before) > 1e-2


def test_paddles_predictor_runs_the_model() -> None:
    required("paddle")
    model = build("resnet18", backend="paddle", mode="inference", **SMALL)
    run(model, images(model.network))
    assert "Predictor" in type(model._predictor).__name__


def test_a_replaced_paddle_layer_is_the_one_that_runs() -> None:
    required("paddle")
    import paddle

    model = build("resnet18", backend="paddle", mode="inference", **SMALL)
    x = images(model.network)
    run(model, x)
    model.fc = paddle.nn.Linear(512, 7)
    assert run(model, x).shape == (2, 7)


def test_a_paddle_model_can_be_copied() -> None:
    required("paddle")
    model = build("resnet18", backend="paddle", mode="inference", **SMALL)
    x = images(model.network)
    wanted = run(model, x)
    twin = copy.deepcopy(model)
    load_weights(model, {name: array * 0 for name, array in dump(model).items()})
    assert np.array_equal(run(twin, x), wanted)
    assert not run(model, x).any()


def test_a_compiled_flax_model_is_one_function_of_the_weights_it_has_now() -> None:
    required("flax")
    import jax.numpy as jnp
    from flax import nnx

    network = load("resnet18", **SMALL)
    model = build(network, backend="flax", mode="inference", compile=True)
    x = images(network)
    native = jnp.asarray(x.transpose(0, 2, 3, 1), "float32")
    assert off(np.asarray(model(native)), run(model, x)) < 1e-5
    assert off(np.asarray(nnx.jit(lambda model, x: model(x))(model, native)), run(model, x)) < 1e-5
    assert np.array_equal(pickle.loads(pickle.dumps(model))(native), model(native))
    assert np.array_equal(copy.deepcopy(model)(native), model(native))
    function = model._evaluator.function
    load_weights(model, {name: array * 0 for name, array in dump(model).items()})
    assert not model(native).any()
    assert model._evaluator.function is function
    model.fc = nnx.Linear(512, 7, rngs=nnx.Rngs(0))
    assert model(native).shape == (2, 7)


@pytest.mark.parametrize(("batch", "convolutions"), [(1, 0), (2, 2)])
def test_flax_multiplies_where_that_is_quicker_than_to_convolve(batch: int, convolutions: int) -> None:
    required("flax")
    import jax
    import jax.numpy as jnp

    network = loads("{name: s, input: [3, 16, 16], stages: {a: {block: basic, depth: 1, out: 8, stride: 2}}}")
    model = build(network, backend="flax", mode="inference")
    x = np.random.default_rng(0).standard_normal((batch, 3, 16, 16))
    steps = str(jax.make_jaxpr(lambda x: model(x))(jnp.asarray(x.transpose(0, 2, 3, 1), "float32")))
    assert steps.count("conv_general_dilated") == convolutions
    assert off(run(model, x), run(build(network, backend="flax"), x)) < 1e-5


@pytest.mark.parametrize(("dtype", "gate"), [("float64", 1e-12), ("float32", 2e-6)])
@pytest.mark.parametrize(("batch", "size"), [(1, (8, 8)), (1, (7, 10)), (9, (13, 6))])
def test_a_compiled_flax_model_multiplies_tiles(batch: int, size: tuple[int, int], dtype: str, gate: float) -> None:
    """Where a 3x3 kernel has 64 channels and more; few tiles at once, many by rows."""
    required("flax")
    import jax.numpy as jnp

    network = loads(
        f"""
name: s
input: [64, {size[0]}, {size[1]}]
stem:
  a: {{op: conv, out: 64, kernel: 3, padding: 1}}
  b: {{op: conv, out: 72, kernel: 3, padding: 2, bias: true}}
  c: {{op: conv, out: 64, kernel: 3, padding: 0, bias: true}}
  d: {{op: conv, out: 64, kernel: 3, padding: 1, stride: 2}}
  e: {{op: conv, out: 64, kernel: 3, padding: 2, dilation: 2}}
  f: {{op: conv, out: 64, kernel: 3, padding: 1, groups: 2}}
  g: {{op: conv, out: 63, kernel: 3, padding: 1}}
"""
    )
    x = np.random.default_rng(0).standard_normal((batch, *network.input))
    native = jnp.asarray(x.transpose(0, 2, 3, 1), dtype)
    model = build(network, backend="flax", mode="inference", compile=True, dtype=dtype)
    for seed in range(2):
        weights = comparison_weights(network, seed)
        load_weights(model, weights)
        wanted = run(build(network, backend="numpy", weights=weights), x)
        assert off(np.asarray(model(native)).transpose(0, 3, 1, 2), wanted) < gate
        assert [array.shape[0] for array in model._evaluator.input_shape if array.ndim == 4].count(4) == 3


def required_torch() -> Any:
    required("torch")
    import torch

    return torch
