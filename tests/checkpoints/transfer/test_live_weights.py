"""Weights in and out of live models: framework state, replaced layers, what a written file says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from resnet_spec import build, convert, dump, identify, load, load_weights, loads, save_weights
from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.tensors import Tensor
from resnet_spec.checkpoints.transfer.convert import find_named, write
from resnet_spec.checkpoints.transfer.live import read_mapping
from resnet_spec.weights.canonical import Array, WeightsError
from shared.frameworks import required
from shared.small_network import SMALL

FRAMEWORKS = ["torch", "paddle", "flax"]
NETWORK = loads(SMALL)


def to_bytes(weights: Mapping[str, Array]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in weights.items()}


def state_of(model: Any, backend: str) -> Any:
    if backend != "flax":
        return model.state_dict()
    from flax import nnx

    return nnx.state(model)


def make_linear(backend: str, out: int, *, bias: bool = True) -> Any:
    if backend == "torch":
        import torch

        return torch.nn.Linear(16, out, bias=bias)
    if backend == "paddle":
        import paddle

        return paddle.nn.Linear(16, out, bias_attr=None if bias else False)
    from flax import nnx

    return nnx.Linear(16, out, use_bias=bias, rngs=nnx.Rngs(0))


def make_identity(backend: str) -> Any:
    if backend == "torch":
        import torch

        return torch.nn.Identity()
    if backend == "paddle":
        import paddle

        return paddle.nn.Identity()
    from flax import nnx

    return nnx.Module()


# -- weights that are arrays of a framework ---------------------------------------------------------------------------


@pytest.mark.parametrize("backend", FRAMEWORKS)
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": dict(state), "epoch": 3}])
def test_state_of_a_live_model_is_read(backend: str, wrap: Callable[[Any], Any]) -> None:
    required(backend)
    model = build(NETWORK, backend=backend, seed=4)
    state = wrap(state_of(model, backend))
    assert to_bytes(dump(build(NETWORK, backend="numpy", weights=state, dtype="float32"))) == to_bytes(dump(model))
    other = build(NETWORK, backend=backend)
    load_weights(other, state)
    assert to_bytes(dump(other)) == to_bytes(dump(model))


def test_square_linear_of_a_live_paddle_model_is_transposed() -> None:
    required("paddle")
    network = loads("{name: n, input: [3, 8, 8], head: {pool: global_avg_pool, fc: {op: linear, out: 3}}}")
    model = build(network, backend="paddle")
    weights = dump(build(network, backend="numpy", weights=model.state_dict(), dtype="float32"))
    assert to_bytes(weights) == to_bytes(dump(model))


def test_built_model_does_not_share_memory_with_the_weights(small: dict[str, Array]) -> None:
    required("torch")
    model = build(NETWORK, backend="torch", weights=small)
    small["fc.bias"][:] = 7
    assert not (dump(model)["fc.bias"] == 7).any()


def test_what_cannot_be_read_is_named() -> None:
    required("torch")
    import torch

    state: dict[str, Any] = build(NETWORK, backend="torch").state_dict()
    with pytest.raises(WeightsError, match=r"fc.weight cannot be read as an array"):
        build(NETWORK, backend="torch", weights={**state, "fc.weight": state["fc.weight"].to_sparse()})
    with pytest.raises(WeightsError, match=r"fc.weight cannot be read as an array"):
        build(NETWORK, backend="torch", weights={**state, "fc.weight": state["fc.weight"].to("meta")})
    with pytest.raises(WeightsError, match=r"fc.weight is int8; weights are float64, float32, float16 or bfloat16"):
        build(NETWORK, backend="torch", weights={**state, "fc.weight": torch.zeros(10, 16, dtype=torch.int8)})
    with pytest.raises(WeightsError, match=r"fc.weight is float8_e4m3fn"):
        build(NETWORK, backend="torch", weights={**state, "fc.weight": state["fc.weight"].to(torch.float8_e4m3fn)})


def test_a_mapping_that_holds_itself_is_read() -> None:
    mapping: dict[str, Any] = {"a": np.zeros(3)}
    mapping["self"] = mapping
    assert "a" in read_mapping(mapping).tensors


def test_torch_tensors_keep_sign_and_bits() -> None:
    required("torch")
    import torch

    complex_ = torch.tensor([1 + 2j, 3 - 4j]).conj()
    tensors = read_mapping({"negated": complex_.imag, "half": torch.tensor([1.5], dtype=torch.bfloat16)}).tensors
    assert tensors["negated"].read().tolist() == [-2.0, 4.0]
    assert (tensors["half"].read().dtype, tensors["half"].read().tolist()) == (ml_dtypes.bfloat16, [1.5])


# -- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_bfloat16_model_is_dumped_in_bfloat16(backend: str, tmp_path: Path) -> None:
    required(backend)
    model = build(NETWORK, backend=backend)
    expected = {name: array.astype(ml_dtypes.bfloat16).tobytes() for name, array in dump(model).items()}
    if backend == "torch":
        import torch

        model.to(torch.bfloat16)
    elif backend == "paddle":
        model.to(dtype="bfloat16")
    else:
        import jax.numpy as jnp
        from flax import nnx

        nnx.update(model, nnx.map_state(lambda _, leaf: leaf.astype(jnp.bfloat16), nnx.state(model)))
    assert {array.dtype for array in dump(model).values()} == {np.dtype(ml_dtypes.bfloat16)}
    assert to_bytes(dump(model)) == expected
    save_weights(model, tmp_path / "w.safetensors")
    assert {tensor.dtype for tensor in registry.read(tmp_path / "w.safetensors").tensors.values()} == {
        np.dtype(ml_dtypes.bfloat16)
    }


# -- replaced layers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", FRAMEWORKS)
@pytest.mark.parametrize("bias", [True, False])
def test_replaced_classifier_is_dumped_saved_and_loaded(backend: str, bias: bool, tmp_path: Path) -> None:
    required(backend)
    small = build(NETWORK, backend=backend)
    small.fc = make_linear(backend, 7, bias=bias)
    weights = dump(small)
    assert (weights["fc.weight"].shape, "fc.bias" in weights) == ((7, 16), bias)
    assert list(weights)[: -1 - bias] == list(NETWORK.weights())[:-2]
    save_weights(small, tmp_path / "w.npz")
    stored = {name: tensor.read() for name, tensor in registry.read(tmp_path / "w.npz").tensors.items()}
    assert to_bytes(stored) == to_bytes(weights)
    load_weights(small, tmp_path / "w.npz")
    load_weights(small, {name: 2 * array for name, array in weights.items()})
    assert np.array_equal(dump(small)["fc.weight"], 2 * weights["fc.weight"])


def test_file_of_a_model_with_another_classifier_names_its_network(tmp_path: Path) -> None:
    required("torch")
    import torch

    model = build("cifar/resnet20", backend="torch", act="silu", classes=11)
    model.linear = torch.nn.Linear(64, 5)
    save_weights(model, tmp_path / "w.pth")
    result = convert(tmp_path / "w.pth", tmp_path / "w.npz")
    assert result.fingerprint == load("cifar/resnet20", act="silu", classes=5).fingerprint


@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_layer_without_the_networks_weights_is_named(backend: str, tmp_path: Path) -> None:
    required(backend)
    model = build(NETWORK, backend=backend)
    model.fc = make_identity(backend)
    for act in (dump, lambda model: save_weights(model, tmp_path / "w.npz")):
        with pytest.raises(WeightsError, match=r"missing fc.weight \(10, 16\); the model has another layer in place"):
            act(model)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_fit_no_change_of_the_network_are_not_written(tmp_path: Path, small: dict[str, Array]) -> None:
    tensors = {name: Tensor(array.shape, array.dtype, array.copy) for name, array in small.items()}
    array = np.zeros((3, 16), np.float32)
    with pytest.raises(WeightsError, match=r"unexpected fc.extra"):
        write(tmp_path / "w2.npz", NETWORK, {**tensors, "fc.extra": Tensor(array.shape, array.dtype, array.copy)})
    assert not (tmp_path / "w2.npz").exists()


# -- what a file says of itself ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"act": "silu"},
        {"input": (1, 40, 40)},
        {"outputs": ["layer2"]},
        {"outputs": ["layer2.0", "layer2"]},
        {"output_stride": 2},
        {"zero_last_gamma": True, "classes": 3},
        {"act": "silu", "input": (5, 32, 48), "outputs": ["layer1", "layer3.1"], "drop_path": 0.25},
    ],
)
def test_saved_file_names_its_network_and_settings(arguments: dict[str, Any], tmp_path: Path) -> None:
    model = build("cifar/resnet20", backend="numpy", dtype="float32", **arguments)
    save_weights(model, tmp_path / "w.safetensors")
    named = find_named(registry.read(tmp_path / "w.safetensors"))
    assert named is not None
    assert (named.name, named.network) == ("cifar/resnet20", load("cifar/resnet20", **arguments))
    assert convert(tmp_path / "w.safetensors", tmp_path / "w.npz").fingerprint == named.network.fingerprint
    best = identify(tmp_path / "w.npz")[0]
    assert (best.network, best.how, best.differs) == ("cifar/resnet20", "exact", ())
    assert load(best.network, **best.settings) == named.network


@pytest.mark.parametrize(
    "metadata",
    [
        {"settings": "spec=x input=3 outputs=y classes=10 self=1"},
        {"settings": "= a=b=c x"},
        {"input": "3x" + "9" * 5000},
        {"input": "0x0x0"},
        {"outputs": "no.such part"},
    ],
)
def test_hostile_metadata_raise_no_other_error(metadata: dict[str, str], tmp_path: Path, small: Any) -> None:
    from safetensors.numpy import save_file

    save_file(small, "w.safetensors", {"spec": "resnet20", "fingerprint": "0" * 32, **metadata})
    with pytest.raises(ValueError, match="does not name a bundled network"):
        convert("w.safetensors", "w.npz")
