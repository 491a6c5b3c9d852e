"""Every framework loads the checkpoints that are written, and the checkpoints that it saves are read, bit for bit.

By default a few small networks are tested, with ``pytest --sweep`` all bundled networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from resnet_spec import build, convert, dump, load, loads, save_weights
from resnet_spec.backend import Model
from resnet_spec.library.index import read_index
from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array, initialize
from shared.frameworks import required

EVERYTHING = """
name: everything  # each operation with weights; no two axes of a weight have the same size
input: [3, 24, 24]
blocks:
  odd:
    takes: {out: required, norm1: required}
    before:
      norm1: norm1
    branch:
      conv1: {op: standardized_conv, out: out, kernel: 3, padding: 1}
      norm2: {op: group_norm, groups: 2}
      conv2: {op: conv, out: out, kernel: 5, padding: 2, groups: 2, bias: true}
      eca: {block: efficient_channel_attention, kernel: 3}
    shortcut:
      project: {op: conv, out: out, kernel: 1}
stem:
  conv: {op: conv, out: 6, kernel: 3}
  norm: {op: batch_norm, affine: false}
stages:
  a: {block: odd, depth: 1, out: 10, norm1: {op: evo_norm_s0, groups: 2}}
  b: {block: odd, depth: 2, out: 14, norm1: filter_response_norm}
head:
  last: layer_norm
  pool: global_avg_pool
  hidden: {op: linear, out: 14}
  dropout: {op: dropout, rate: 0.1}
  fc: {op: linear, out: 5, bias: false}
"""
DEFAULT = ["everything", "resnet18", "cifar/resnet20_b", "timm/regnety_002"]
"""The networks that are tested without ``--sweep``."""

SIZES = {entry.name: entry.parameters for entry in read_index()}
SWEEP = [name for name in sorted(SIZES, key=lambda name: SIZES[name]) if name not in DEFAULT]
"""The other networks, the smallest first, so that a sweep which is stopped has tested as many as possible."""

NETWORKS = [*DEFAULT, *(pytest.param(name, marks=pytest.mark.sweep) for name in SWEEP)]


def load_network(name: str) -> Network:
    return loads(EVERYTHING) if name == "everything" else load(name)


@pytest.fixture(scope="module", params=NETWORKS)
def canonical(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Network, Path]]:
    """A network, and a file of its initial weights plus a number, so that none of them is zero or one."""
    network = load_network(request.param)
    path = tmp_path_factory.mktemp("canonical") / "w.safetensors"
    weights = initialize(network)
    for array in weights.values():
        array += np.float32(0.01)
    save_file(weights, path)
    del weights
    yield network, path
    path.unlink()


def assert_same(actual: Path | Mapping[str, Array], expected: Path) -> None:
    """Check that weights are equal bit for bit, one array at a time, since the largest networks take five gigabytes."""
    with ExitStack() as stack:
        expected_file = stack.enter_context(safe_open(expected, framework="np"))
        file = stack.enter_context(safe_open(actual, framework="np")) if isinstance(actual, Path) else None
        names = file.keys() if file else actual.keys()  # type: ignore[union-attr]
        assert sorted(names) == sorted(expected_file.keys())
        for name in names:
            a = file.get_tensor(name) if file else actual[name]  # type: ignore[index]
            b = expected_file.get_tensor(name)
            assert (a.dtype, a.shape) == (b.dtype, b.shape), name
            assert np.array_equal(a.reshape(-1).view(np.uint32), b.reshape(-1).view(np.uint32)), name


def torch_save(model: Model, path: Path) -> None:
    import torch

    torch.save(model.state_dict(), path)


def torch_save_legacy(model: Model, path: Path) -> None:
    import torch

    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)


def torch_load(model: Model, path: Path) -> None:
    import torch

    model.load_state_dict(torch.load(path, weights_only=True), strict=True)


def paddle_save(model: Model, path: Path) -> None:
    import paddle

    paddle.save(model.state_dict(), str(path))


def paddle_save_protocol_2(model: Model, path: Path) -> None:
    import paddle

    paddle.save(model.state_dict(), str(path), protocol=2)


def paddle_save_nested(model: Model, path: Path) -> None:
    import paddle

    checkpoint: Any = {"state_dict": model.state_dict(), "epoch": 3}
    paddle.save(checkpoint, str(path))


def paddle_load(model: Model, path: Path) -> None:
    import paddle

    missing, unexpected = model.set_state_dict(paddle.load(str(path)))
    assert (list(missing), list(unexpected)) == ([], [])


def flax_save(model: Model, path: Path) -> None:
    import orbax.checkpoint
    from flax import nnx

    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.resolve(), nnx.state(model))


def flax_save_pure_dict(model: Model, path: Path) -> None:
    import orbax.checkpoint
    from flax import nnx

    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.resolve() / "model" / "0", nnx.to_pure_dict(nnx.state(model)))


def flax_load(model: Model, path: Path) -> None:
    import orbax.checkpoint
    from flax import nnx

    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        weights = nnx.state(model, nnx.Not(nnx.RngState))  # the file does not hold the random state of dropout
        nnx.update(model, checkpointer.restore(path.resolve(), weights))


def flax_load_abstract(model: Model, path: Path) -> None:
    """Restore an abstract state and make a model of it, as Flax's guide does."""
    import jax
    import orbax.checkpoint
    from flax import nnx

    parts: Any = nnx.split(model, nnx.Not(nnx.RngState), ...)
    graph, weights, rest = parts
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), weights)
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(path.resolve(), abstract)
    nnx.update(model, nnx.state(nnx.merge(graph, restored, rest)))


@dataclass(frozen=True)
class Method:
    """How a framework saves a model's weights, and how it loads them."""

    backend: str
    suffix: str
    save: Callable[[Model, Path], None]
    load: Callable[[Model, Path], None]


METHODS = [
    Method("torch", ".pth", torch_save, torch_load),
    Method("paddle", ".pdparams", paddle_save, paddle_load),
    Method("flax", "", flax_save, flax_load),
]
OTHER_METHODS = [
    Method("torch", ".pt", torch_save_legacy, torch_load),
    Method("paddle", ".pdparams", paddle_save_protocol_2, paddle_load),
    Method("paddle", ".pdparams", paddle_save_nested, paddle_load),
    Method("flax", "", flax_save_pure_dict, flax_load_abstract),
]


def method_id(value: object) -> str:
    return f"{value.save.__name__}-{value.load.__name__}" if isinstance(value, Method) else str(value)


def build_constant(network: Network, backend: str) -> Model:
    """Build a model whose weights are all 7."""
    weights = {name: np.broadcast_to(np.float32(7), shape) for name, shape in network.weights().items()}
    return build(network, backend=backend, weights=weights)


@pytest.mark.parametrize("suffix", [".pth", ".pdparams", ".npz", ""])
@pytest.mark.share(3)
def test_network_survives_conversion_to_every_format(
    canonical: tuple[Network, Path], suffix: str, tmp_path: Path
) -> None:
    if suffix == "":
        required("flax")
    network, path = canonical
    convert(path, tmp_path / f"there{suffix}", network)
    convert(tmp_path / f"there{suffix}", tmp_path / "back.safetensors", network)
    assert_same(tmp_path / "back.safetensors", path)


def check_round_trip(method: Method, network: Network, path: Path, folder: Path) -> None:
    """Check that a framework loads a converted file into a model, and that the file it saves is read."""
    required(method.backend)
    convert(path, folder / f"there{method.suffix}", network)
    model = build_constant(network, method.backend)
    method.load(model, folder / f"there{method.suffix}")
    assert_same(dump(model), path)
    method.save(model, folder / f"saved{method.suffix}")
    del model
    convert(folder / f"saved{method.suffix}", folder / "back.safetensors", network)
    assert_same(folder / "back.safetensors", path)


@pytest.mark.parametrize("method", METHODS, ids=method_id)
@pytest.mark.share(4)
def test_network_survives_every_framework(canonical: tuple[Network, Path], method: Method, tmp_path: Path) -> None:
    check_round_trip(method, *canonical, tmp_path)


@pytest.mark.parametrize("method", OTHER_METHODS, ids=method_id)
@pytest.mark.parametrize("canonical", DEFAULT, indirect=True)
@pytest.mark.share(3)
def test_network_survives_other_ways_to_save_and_load(
    canonical: tuple[Network, Path], method: Method, tmp_path: Path
) -> None:
    check_round_trip(method, *canonical, tmp_path)


@pytest.mark.parametrize("backend", ["torch", "paddle", "flax", "numpy"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pdparams", ".npz", ""])
@pytest.mark.parametrize("canonical", ["timm/test_resnet"], indirect=True)
@pytest.mark.share(3)
def test_model_is_built_from_a_file_of_any_kind(
    canonical: tuple[Network, Path], backend: str, suffix: str, tmp_path: Path
) -> None:
    required(backend)
    if suffix == "":
        required("flax")
    network, path = canonical
    converted = tmp_path / f"there{suffix}"
    convert(path, converted, network)
    model = build(network, backend=backend, weights=converted, dtype="float32")
    assert_same(dump(model), path)
    save_weights(model, tmp_path / "saved.safetensors")
    assert_same(tmp_path / "saved.safetensors", path)
