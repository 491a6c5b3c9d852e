"""The contract of a backend: weights, outputs and errors are the same in every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resnet_spec import build, capture, dump, load, load_weights, loads, run
from resnet_spec.backend import BackendError, load_backend
from resnet_spec.weights.canonical import Array, WeightsError, comparison_weights, initialize
from resnet_spec_numpy.layers import run_layer
from shared.array_differences import assert_close
from shared.bundled_networks import shallow_copy, small_copy
from shared.peer_recordings import TORCHVISION, goldens, make_images, relative_difference

NEW_BLOCK = """
name: fresh
input: [3, 20, 17]
blocks:
  squeezed:                           # pooling and convolution in both paths, and a gate: no backend has code for it
    takes: {out: required, stride: 1}
    before:
      norm1: norm
    branch:
      pool: {op: avg_pool, kernel: 3, stride: stride, padding: 1, count_padding: true, ceil: true}
      conv: {op: conv, out: out, kernel: 3, padding: 2, dilation: 2, groups: 2, bias: true}
      act1: silu
      gate: {block: squeeze_excite, reduced: 3}
    shortcut:
      pool2: {op: max_pool, kernel: 3, stride: stride, padding: 1, ceil: true}
      conv2: {op: conv, out: out, kernel: 1}
    after:
      norm2: {op: group_norm, groups: 2}
      act2: gelu
stem:
  conv: {op: conv, out: 8, kernel: 3}
stages:
  a: {block: squeezed, depth: 2, out: 8, stride: 2}
  b: {block: squeezed, depth: 1, out: 12, stride: 2}
head:
  pool: global_avg_pool
  fc: {op: linear, out: 5}
"""


GATES = {"float64": 1e-10, "float32": 1e-5}
ALWAYS = {("float64", "resnet18"), ("float32", "resnet18")}
"""What runs in every backend each time; the others run with ``pytest --sweep``."""


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        pytest.param(dtype, name, marks=() if (dtype, name) in ALWAYS else pytest.mark.sweep)
        for dtype in GATES
        for name in TORCHVISION
    ],
)
@pytest.mark.share(2)
def test_logits_are_those_of_torchvision(backend_name: str, dtype: str, name: str) -> None:
    row = goldens()["torchvision", name]
    model = build(name, backend=backend_name, weights=comparison_weights(load(name)), dtype=dtype)
    logits = run(model, make_images(row))
    assert logits.dtype == dtype
    assert relative_difference(logits, row) < GATES[dtype]


def test_a_seed_gives_the_same_weights_in_every_backend(backend_name: str) -> None:
    network = small_copy("resnet18")
    expected, actual = initialize(network, seed=3), dump(build(network, backend=backend_name, seed=3, dtype="float32"))
    assert list(actual) == list(expected)
    assert all(actual[name].tobytes() == expected[name].tobytes() for name in expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dump_returns_the_weights_that_build_received(backend_name: str, dtype: str) -> None:
    network = small_copy("seresnet50")
    weights = {name: array.astype(dtype) for name, array in comparison_weights(network).items()}
    dumped = dump(build(network, backend=backend_name, weights=weights, dtype=dtype))
    assert [(name, array.dtype, array.shape) for name, array in dumped.items()] == [
        (name, array.dtype, array.shape) for name, array in weights.items()
    ]
    assert all(dumped[name].tobytes() == weights[name].tobytes() for name in weights)


def test_the_weights_given_are_not_the_models_own_memory(backend_name: str) -> None:
    network = small_copy("resnet18")
    weights = comparison_weights(network)
    model = build(network, backend=backend_name, weights=weights, dtype="float64")
    weights["fc.bias"] += 1
    dump(model)["fc.bias"][:] += 1
    assert np.array_equal(dump(model)["fc.bias"], comparison_weights(network)["fc.bias"])


def test_weights_can_be_set_later(backend_name: str) -> None:
    network = small_copy("resnet18")
    model = build(network, backend=backend_name, dtype="float64")
    load_weights(model, comparison_weights(network))
    dumped = dump(model)
    assert all(np.array_equal(dumped[name], array) for name, array in comparison_weights(network).items())


def test_weights_that_do_not_fit_change_nothing(backend_name: str) -> None:
    network = shallow_copy("resnet18")
    model = build(network, backend=backend_name, dtype="float64")
    before = dump(model)
    weights = comparison_weights(network)
    weights["fc.wieght"] = weights.pop("fc.weight")
    weights["conv1.weight"] = weights["conv1.weight"][:, :1]
    with pytest.raises(WeightsError) as error:
        load_weights(model, weights)
    assert error.value.problems == (
        "missing fc.weight (7, 512)",
        "conv1.weight is (64, 1, 7, 7), but the network's is (64, 3, 7, 7)",
        "unexpected fc.wieght (7, 512); did you mean 'fc.weight'?",
    )
    after = dump(model)
    assert all(np.array_equal(after[name], array) for name, array in before.items())


def test_a_block_written_in_yaml_alone_runs(backend_name: str) -> None:
    compare_new_block(backend_name, train=False)


def test_a_block_written_in_yaml_alone_runs_in_training(training_name: str) -> None:
    compare_new_block(training_name, train=True)


def compare_new_block(backend_name: str, train: bool) -> None:
    network = loads(NEW_BLOCK)
    paths = [part.path for part in network.nodes()]
    x = np.random.default_rng(1).standard_normal((3, *network.input))
    outputs = {}
    for name in ("numpy", backend_name):
        model = build(network, backend=name, weights=comparison_weights(network), dtype="float64")
        outputs[name] = load_backend(name).run(model, x, paths, train=train)
    assert set(outputs[backend_name]) == {*paths, ""}
    assert_close(outputs[backend_name], outputs["numpy"], 1e-12)


def test_running_in_training_mode_leaves_the_model_unchanged(training_name: str) -> None:
    network = loads(NEW_BLOCK)
    model = build(network, backend=training_name, weights=comparison_weights(network), dtype="float64")
    x = np.random.default_rng(1).standard_normal((3, *network.input))
    before = run(model, x)
    load_backend(training_name).run(model, x, train=True)
    assert np.array_equal(run(model, x), before)


def test_images_may_have_any_size_that_the_layers_allow(backend_name: str) -> None:
    model = build(small_copy("resnet18"), backend=backend_name)
    assert run(model, np.zeros((1, 3, 40, 56), np.float32)).shape == (1, 7)


def test_captured_outputs_have_the_shapes_that_the_core_inferred(backend_name: str) -> None:
    network = small_copy("seresnet50")
    shapes = {part.path: (2, *part.output_shape) for part in network.nodes()}
    model = build(network, backend=backend_name)
    outputs = capture(model, np.zeros((2, *network.input), np.float32), list(shapes))
    assert {path: array.shape for path, array in outputs.items() if path} == shapes


def test_a_single_value_per_channel_in_training_is_an_error_that_names_the_layer(training_name: str) -> None:
    network = loads(
        "{name: s, input: [3, 2, 2], stem: {a: {op: conv, out: 4, kernel: 2}, bn: norm, p: global_avg_pool}}"
    )
    model = build(network, backend=training_name)
    with pytest.raises(ValueError, match=r"^bn needs more than one value per channel in training, .* larger images$"):
        load_backend(training_name).run(model, np.ones((1, 3, 2, 2), np.float32), train=True)


def test_a_run_of_the_reference_does_not_change_it_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(loads(NEW_BLOCK), backend="numpy")
    weights, seen = model.weights, set()

    def observe(*arguments: Any) -> Any:
        seen.add((model.training, model.weights is weights))
        return run_layer(*arguments)

    monkeypatch.setattr("resnet_spec_numpy.modules.run_layer", observe)
    load_backend("numpy").run(model, np.ones((2, 3, 20, 17)), train=True)
    assert seen == {(False, True)}


def convert_images(form: str, images: Array) -> Any:
    """Return images of whole numbers from 0 to 255 in another form."""
    match form:
        case "list":
            return images.tolist()
        case "tuple":
            return tuple(images)
        case "negative strides":
            return images[:, ::-1, ::-1].copy()[:, ::-1, ::-1]
        case "transposed":
            return images.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
        case "Fortran":
            return np.asfortranarray(images)
        case "every second":
            return np.repeat(images, 2, axis=3)[..., ::2]
        case "repeated":
            return np.broadcast_to(images[:1], images.shape)
        case "read-only":
            copied = images.copy()
            copied.flags.writeable = False
            return copied
        case "unaligned":
            return np.frombuffer(bytearray(b"." + images.tobytes()), images.dtype, offset=1).reshape(images.shape)
        case _:
            return images.astype(form)


TYPES = ["u1", "<i8", ">i2", "f2", ">f4", "<f4", ">f8", "g", "O"]
LAYOUTS = ["list", "tuple", "negative strides", "transposed", "Fortran", "every second", "read-only", "unaligned"]


def test_images_may_have_any_type_and_any_layout(backend_name: str) -> None:
    network = loads(NEW_BLOCK)
    images = np.random.default_rng(3).integers(0, 256, (2, *network.input)).astype(np.float64)
    model = build(network, backend=backend_name, weights=comparison_weights(network), dtype="float32")
    expected = run(model, images)
    for form in [*TYPES, *LAYOUTS]:
        converted = convert_images(form, images)
        assert np.array_equal(run(model, converted), expected), form
    captured = capture(model, convert_images("negative strides", images), ["conv"])[""]
    assert_close({"": captured}, {"": expected}, 1e-5)  # ONNX Runtime fuses less
    repeated = convert_images("repeated", images)
    assert np.array_equal(run(model, repeated), run(model, repeated.copy()))


@pytest.mark.parametrize("mode", ["training", "inference"])
def test_a_model_can_be_placed_on_a_device(backend_name: str, mode: Any) -> None:
    network = loads("{name: s, input: [3, 8, 8], stem: {conv: {op: conv, out: 4, kernel: 3}}}")
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8))
    model = build(network, backend=backend_name, mode=mode, device="cpu")
    assert np.array_equal(run(model, x), run(build(network, backend=backend_name, mode=mode), x))


def test_a_device_that_is_not_there_is_refused(backend_name: str) -> None:
    network = loads("{name: s, input: [3, 8, 8], stem: {conv: {op: conv, out: 4, kernel: 3}}}")
    for device in ("cuda:99", "cdua"):
        with pytest.raises(BackendError, match=rf"has no device '{device}'|computes on the CPU only; leave device out"):
            build(network, backend=backend_name, device=device)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_network_without_weights_computes_in_the_type_asked_for(backend_name: str, dtype: Any) -> None:
    network = loads("{name: n, input: [3, 8, 8], stem: {act: silu, pool: global_avg_pool}}")
    model = build(network, backend=backend_name, dtype=dtype)
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(dtype)
    assert run(model, x).dtype == dtype
