"""Canonical weights: PyTorch's names and layouts, NumPy arrays. Drawn here, so that all frameworks start from the same bits."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, assert_never

import numpy as np
import numpy.typing as npt

from resnet_spec.network import Network
from resnet_spec.ops import Constant, Normal, Shape, Uniform, Weight
from resnet_spec.values import suggestion

Array: TypeAlias = npt.NDArray[Any]

_CHUNK = 2**16  # numbers drawn from one counter: the same bits, however many cores draw


class WeightsError(ValueError):
    """Weights that do not fit a network. ``problems`` lists every name that is missing, unexpected or misshapen."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("the weights do not fit the network:\n" + "\n".join(f"  {problem}" for problem in problems))


def draw(network: Network, seed: int = 0) -> dict[str, Array]:
    """Initial weights in float32, a function of the seed and each weight's name alone.

    A counter-based generator (Philox; Salmon et al. 2011) is keyed by both, so another layer more or less changes no other.

    >>> from resnet_spec import load
    >>> weights = draw(load("resnet18"))
    >>> weights["conv1.weight"].shape, weights["bn1.weight"].min(), weights["fc.bias"].dtype
    ((64, 3, 7, 7), np.float32(1.0), dtype('float32'))
    """
    owners = network.owners()
    drawn = {name: np.empty(weight.shape, np.float32) for name, weight in owners}
    chunks = [chunk for name, weight in owners for chunk in _chunks(name, weight, drawn[name], seed)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_fill, chunks))
    return drawn


def recipe(network: Network, seed: int = 0) -> dict[str, Array]:
    """Weights to compare with, in float64: every one random, gamma, beta and statistics too, or a wrong mapping would not show.

    Any program can make those of seed 0 from the names alone: NumPy's default generator, seeded by the CRC-32 of the name.
    """
    return {name: _compared(name, shape, seed) for name, shape in network.weights().items()}


def _compared(name: str, shape: Shape, seed: int) -> Array:
    key = zlib.crc32(name.encode())
    random = np.random.default_rng([key, seed] if seed else key)
    last = name.rpartition(".")[2]
    if last == "running_var":
        return random.uniform(0.5, 1.5, shape)
    if last == "running_mean" or (len(shape) == 1 and last != "weight"):
        return 0.1 * random.standard_normal(shape)
    if len(shape) == 1:
        return random.uniform(0.5, 1.0, shape)
    return random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))


def fitted(expected: Mapping[str, Shape], weights: Mapping[str, Array], dtype: str | None = None) -> dict[str, Array]:
    """Weights in the network's order, as copies of their own, cast if a dtype is given. Raises WeightsError."""
    problems = [f"missing {name} {shape}" for name, shape in expected.items() if name not in weights]
    missing = [name for name in expected if name not in weights]
    for name, array in weights.items():
        if name not in expected:
            near = suggestion(name, missing) if len(missing) < 1000 else ""
            problems.append(f"unexpected {name} {np.shape(array)}" + (f"; {near}" if near.startswith("did") else ""))
        elif np.shape(array) != expected[name]:
            problems.append(f"{name} is {np.shape(array)}, but the network's is {expected[name]}")
    if problems:
        raise WeightsError(problems)
    return {name: np.array(weights[name], dtype=dtype, order="C") for name in expected}


_Chunk: TypeAlias = tuple[Weight, Array, bytes, int]


def _chunks(name: str, weight: Weight, array: Array, seed: int) -> list[_Chunk]:
    key = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=16).digest()
    flat = array.reshape(-1)
    return [(weight, flat[at : at + _CHUNK], key, at // _CHUNK) for at in range(0, max(1, flat.size), _CHUNK)]


def _fill(chunk: _Chunk) -> None:
    weight, out, key, index = chunk
    match weight.init:
        case Constant(value):
            out.fill(value)
        case Normal(std):
            _generator(key, index).standard_normal(out=out, dtype=np.float32)
            out *= np.float32(std)
        case Uniform(bound):
            _generator(key, index).random(out=out, dtype=np.float32)
            out -= np.float32(0.5)
            out *= np.float32(2 * bound)
        case _:
            assert_never(weight.init)


def _generator(key: bytes, index: int) -> np.random.Generator:
    # The counter's highest word is the chunk's number: no two chunks can meet.
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key), counter=[0, 0, 0, index]))
