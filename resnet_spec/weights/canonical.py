"""Canonical weights: PyTorch's names and layouts, NumPy arrays. Drawn here, so that all frameworks start from the same bits."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, assert_never

import numpy as np
import numpy.typing as npt

from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.network.network import Network
from resnet_spec.ops import Constant, Normal, Shape, Uniform, Weight
from resnet_spec.weights import gaussian

Array: TypeAlias = npt.NDArray[Any]

Takes: TypeAlias = Iterable[tuple[str, int]]
"""The numbers that a spec takes, as they are set: a network's ``takes``."""

_MOST_SUGGESTED = 50  # nearest names that are looked for: each takes a while
_CHUNK = gaussian.LARGEST  # numbers drawn from one counter: the same bits, however many cores draw


class WeightsError(ValueError):
    """Weights that do not fit a network. ``problems`` lists every name that is missing, unexpected or misshapen."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("the weights do not fit the network:\n" + "\n".join(f"  {problem}" for problem in problems))


def initialize(network: Network, seed: int = 0) -> dict[str, Array]:
    """Initial weights in float32, a function of the seed and each weight's name alone.

    A counter-based generator (Philox; Salmon et al. 2011) is keyed by both, so another layer more or less changes no other.

    >>> from resnet_spec import load
    >>> weights = initialize(load("resnet18"))
    >>> weights["conv1.weight"].shape, weights["bn1.weight"].min(), weights["fc.bias"].dtype
    ((64, 3, 7, 7), np.float32(1.0), dtype('float32'))
    """
    owners = network.owners()
    drawn = {name: np.empty(weight.shape, np.float32) for name, weight in owners}
    chunks = iter([chunk for name, weight in owners for chunk in _chunks(name, weight, drawn[name], seed)])
    others = (os.cpu_count() or 1) - 1
    # Each takes the next chunk when it is done with one. This thread is one of them: its core stays with it, where a scheduler may
    # leave two new ones on one core for as long as all of this takes.
    with ThreadPoolExecutor(max(1, others)) as pool:
        drawing = [pool.submit(_fill, chunks) for _ in range(others)]
        _fill(chunks)
        for one in drawing:
            one.result()
    return drawn


def comparison_weights(network: Network, seed: int = 0, dtype: str = "float64") -> dict[str, Array]:
    """Weights to compare with, drawn in float64: every one random, gamma, beta and statistics too, or a wrong mapping would not show.

    Any program can make those of seed 0 from the names alone: NumPy's default generator, seeded by the CRC-32 of the name.
    """
    return {name: np.asarray(_compared(name, shape, seed), dtype) for name, shape in network.weights().items()}


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


def match_weights(
    expected: Mapping[str, Shape],
    weights: Mapping[str, Array],
    dtype: str | None = None,
    takes: Takes = (),
) -> dict[str, Array]:
    """Weights in the network's order, as copies of their own, cast if a dtype is given. Raises WeightsError."""
    problems = find_mismatches(expected, {name: np.shape(array) for name, array in weights.items()}, takes)
    if problems:
        raise WeightsError(problems)
    return {name: np.array(weights[name], dtype=dtype, order="C") for name in expected}


def find_mismatches(expected: Mapping[str, Shape], found: Mapping[str, Shape], takes: Takes = ()) -> list[str]:
    """Every name that is missing, unexpected or misshapen, with the nearest name, or the setting that would make it fit.

    >>> find_mismatches({"fc.bias": (1000,), "fc.weight": (1000, 512)}, {"fc.bias": (10,), "fc.wieght": (10, 512)}, [("classes", 1000)])
    ['missing fc.weight (1000, 512)', 'fc.bias is (10,); the spec says 1000 classes: --set classes=10', "unexpected fc.wieght (10, 512); did you mean 'fc.weight'?"]
    """
    missing = [name for name in expected if name not in found]
    problems = [f"missing {name} {expected[name]}" for name in missing]
    suggested = 0
    for name, shape in found.items():
        if name in expected:
            if shape != expected[name]:
                problems.append(f"{name} is {shape}{_remedy(expected[name], shape, takes)}")
            continue
        suggested += 1
        near = suggest(name, missing) if missing and suggested <= _MOST_SUGGESTED else ""
        problems.append(f"unexpected {name} {shape}" + (f"; {near}" if near.startswith("did") else ""))
    return problems


def _remedy(expected: Shape, shape: Shape, takes: Takes) -> str:
    wanted = suggest_setting(expected, shape, takes)
    if wanted is None:
        return f", but the network's is {expected}"
    name, value, other = wanted
    return f"; the spec says {value} {name}: --set {name}={other}"


def suggest_setting(expected: Shape, shape: Shape, takes: Takes) -> tuple[str, int, int] | None:
    """What to set for a shape to be right: the name of a number that the spec takes, what it is, and what it would have to be.

    >>> suggest_setting((1000, 512), (10, 512), [("classes", 1000)])
    ('classes', 1000, 10)
    """
    differ = {pair for pair in zip(expected, shape, strict=False) if pair[0] != pair[1]}
    if len(shape) != len(expected) or len(differ) != 1:
        return None
    ((ours, theirs),) = differ
    return next(((name, ours, theirs) for name, value in takes if value == ours), None)


_Chunk: TypeAlias = tuple[Weight, Array, bytes, int]


def _chunks(name: str, weight: Weight, array: Array, seed: int) -> list[_Chunk]:
    key = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=16).digest()
    flat = array.reshape(-1)
    return [(weight, flat[at : at + _CHUNK], key, at // _CHUNK) for at in range(0, max(1, flat.size), _CHUNK)]


def _fill(chunks: Iterator[_Chunk]) -> None:
    room = gaussian.room()
    for weight, out, key, index in chunks:
        match weight.init:
            case Constant(value):
                out.fill(value)
            case Normal(std):
                gaussian.fill(out, _bits(key, index), std, room)
            case Uniform(bound):
                np.random.Generator(_bits(key, index)).random(out=out, dtype=np.float32)
                out -= np.float32(0.5)
                out *= np.float32(2 * bound)
            case _:
                assert_never(weight.init)


def _bits(key: bytes, index: int) -> np.random.Philox:
    # The counter's highest word is the chunk's number: no two chunks can meet.
    return np.random.Philox(key=int.from_bytes(key), counter=[0, 0, 0, index])
