"""Checkpoints and the frameworks' own: what each saves is read here, what is written here each loads, bit for bit.

Small networks alone, unless asked for all: ``pytest --sweep tests/checkpoints/formats/test_framework_checkpoints.py``.
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
name: everything                      # each operation with weights, and shapes that no two axes share
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
ALWAYS = ["everything", "resnet18", "cifar/resnet20_b", "timm/regnety_002"]
"""The networks that are always tried; the rest in a sweep."""

SIZES = {entry.name: entry.parameters for entry in read_index()}
SWEPT = [name for name in sorted(SIZES, key=lambda name: SIZES[name]) if name not in ALWAYS]
"""Small ones first, so that a sweep which is stopped has tried as many as it can."""

NETWORKS = [*ALWAYS, *(pytest.param(name, marks=pytest.mark.sweep) for name in SWEPT)]


def network_of(name: str) -> Network:
    return loads(EVERYTHING) if name == "everything" else load(name)


@pytest.fixture(scope="module", params=NETWORKS)
def canonical(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Network, Path]]:
    """A network and a file of its weights: initial ones, made wild enough that none is like another."""
    network = network_of(request.param)
    path = tmp_path_factory.mktemp("canonical") / "w.safetensors"
    weights = initialize(network)
    for array in weights.values():
        array += np.float32(0.01)
    save_file(weights, path)
    del weights
    yield network, path
    path.unlink()


def assert_same(found: Path | Mapping[str, Array], wanted: Path) -> None:
    """Bit for bit; an array of each at a time, since the largest take five gigabytes."""
    with ExitStack() as stack:
        theirs = stack.enter_context(safe_open(wanted, framework="np"))
        ours = stack.enter_context(safe_open(found, framework="np")) if isinstance(found, Path) else None
        names = ours.keys() if ours else found.keys()  # type: ignore[union-attr]
        assert sorted(names) == sorted(theirs.keys())
        for name in names:
            one, other = ours.get_tensor(name) if ours else found[name], theirs.get_tensor(name)  # type: ignore[index]
            assert (one.dtype, one.shape) == (other.dtype, other.shape), name
            assert np.array_equal(one.reshape(-1).view(np.uint32), other.reshape(-1).view(np.uint32)), name


def torch_saves(model: Model, path: Path) -> None:
    import torch

    torch.save(model.state_dict(), path)


def torch_saves_as_of_old(model: Model, path: Path) -> None:
    import torch

    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)


def torch_loads(model: Model, path: Path) -> None:
    import torch

    model.load_state_dict(torch.load(path, weights_only=True), strict=True)


def paddle_saves(model: Model, path: Path) -> None:
    import paddle

    paddle.save(model.state_dict(), str(path))


def paddle_saves_as_of_old(model: Model, path: Path) -> None:
    import paddle

    paddle.save(model.state_dict(), str(path), protocol=2)


def paddle_saves_nested(model: Model, path: Path) -> None:
    import paddle

    held: Any = {"state_dict": model.state_dict(), "epoch": 3}
    paddle.save(held, str(path))


def paddle_loads(model: Model, path: Path) -> None:
    import paddle

    missing, unexpected = model.set_state_dict(paddle.load(str(path)))
    assert (list(missing), list(unexpected)) == ([], [])


def flax_saves(model: Model, path: Path) -> None:
    import orbax.checkpoint
    from flax import nnx

    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.resolve(), nnx.state(model))


def flax_saves_plain(model: Model, path: Path) -> None:
    import orbax.checkpoint
    from flax import nnx

    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.resolve() / "model" / "0", nnx.to_pure_dict(nnx.state(model)))


def flax_loads(model: Model, path: Path) -> None:
    import orbax.checkpoint
    from flax import nnx

    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        weights = nnx.state(model, nnx.Not(nnx.RngState))  # a dropout's random state is none
        nnx.update(model, checkpointer.restore(path.resolve(), weights))


def flax_loads_into_nothing(model: Model, path: Path) -> None:
    """As nnx's guide has it: an abstract state, and a model made of what is restored."""
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
class Way:
    """How a framework saves a model's weights, and how it loads them."""

    backend: str
    ending: str
    saves: Callable[[Model, Path], None]
    loads: Callable[[Model, Path], None]


WAYS = [
    Way("torch", ".pth", torch_saves, torch_loads),
    Way("paddle", ".pdparams", paddle_saves, paddle_loads),
    Way("flax", "", flax_saves, flax_loads),
]
OTHER_WAYS = [
    Way("torch", ".pt", torch_saves_as_of_old, torch_loads),
    Way("paddle", ".pdparams", paddle_saves_as_of_old, paddle_loads),
    Way("paddle", ".pdparams", paddle_saves_nested, paddle_loads),
    Way("flax", "", flax_saves_plain, flax_loads_into_nothing),
]


def called(way: object) -> str:
    return f"{way.saves.__name__}-{way.loads.__name__}" if isinstance(way, Way) else str(way)


def blank(network: Network, backend: str) -> Model:
    return build(
        network, backend=backend, weights={n: np.broadcast_to(np.float32(7), s) for n, s in network.weights().items()}
    )


@pytest.mark.parametrize("ending", [".pth", ".pdparams", ".npz", ""])
def test_every_network_goes_through_every_format(canonical: tuple[Network, Path], ending: str, tmp_path: Path) -> None:
    if ending == "":
        required("flax")
    network, path = canonical
    convert(path, tmp_path / f"there{ending}", network)
    convert(tmp_path / f"there{ending}", tmp_path / "back.safetensors", network)
    assert_same(tmp_path / "back.safetensors", path)


def through(way: Way, network: Network, path: Path, folder: Path) -> None:
    """What is written here a framework loads into a model, and what it saves of that model is read here."""
    required(way.backend)
    convert(path, folder / f"there{way.ending}", network)
    model = blank(network, way.backend)
    way.loads(model, folder / f"there{way.ending}")
    assert_same(dump(model), path)
    way.saves(model, folder / f"saved{way.ending}")
    del model
    convert(folder / f"saved{way.ending}", folder / "back.safetensors", network)
    assert_same(folder / "back.safetensors", path)


@pytest.mark.parametrize("way", WAYS, ids=called)
def test_every_network_goes_through_every_framework(canonical: tuple[Network, Path], way: Way, tmp_path: Path) -> None:
    through(way, *canonical, tmp_path)


@pytest.mark.parametrize("way", OTHER_WAYS, ids=called)
@pytest.mark.parametrize("canonical", ALWAYS, indirect=True)
def test_there_are_other_ways_of_saving_and_loading(canonical: tuple[Network, Path], way: Way, tmp_path: Path) -> None:
    through(way, *canonical, tmp_path)


@pytest.mark.parametrize("backend", ["torch", "paddle", "flax", "numpy"])
@pytest.mark.parametrize("ending", [".safetensors", ".pth", ".pdparams", ".npz", ""])
@pytest.mark.parametrize("canonical", ["resnet18"], indirect=True)
def test_a_model_is_built_from_a_file_of_any_kind(
    canonical: tuple[Network, Path], backend: str, ending: str, tmp_path: Path
) -> None:
    required(backend)
    if ending == "":
        required("flax")
    network, path = canonical
    there = tmp_path / f"there{ending}"
    convert(path, there, network)
    model = build(network, backend=backend, weights=there, dtype="float32")
    assert_same(dump(model), path)
    save_weights(model, tmp_path / "saved.safetensors")
    assert_same(tmp_path / "saved.safetensors", path)
