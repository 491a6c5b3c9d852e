"""Canonical weights: NumPy arrays with PyTorch's names and layouts, with the same initial bits in every framework."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar, assert_never

import numpy as np
import numpy.typing as npt

from resnet_spec.diagnostics.remedies import describe_all, describe_setting
from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.network.network import Network
from resnet_spec.ops import Constant, Normal, Shape, Uniform, Weight
from resnet_spec.weights import gaussian

Array: TypeAlias = npt.NDArray[Any]

Settings: TypeAlias = Iterable[tuple[str, int]]
"""The integer arguments of a spec with their values: a network's ``takes``."""

_MAX_PROBLEMS = 20
_MAX_SUGGESTIONS = 50  # each suggestion compares a name with all missing ones
_CHUNK = gaussian.MAX_COUNT  # values per random stream: fixed, so that the bits do not depend on the cores


class WeightsError(ValueError):
    """Weights that do not fit a network. ``problems`` has a message for each missing, unexpected or misshapen array.

    The text has the ``summary``, and the first twenty of the problems.
    """

    def __init__(self, problems: list[str], summary: str = "the weights do not fit the network") -> None:
        self.problems = tuple(problems)
        self.summary = summary
        super().__init__(self.render(_MAX_PROBLEMS))

    def render(self, limit: int) -> str:
        """Return the summary and as many of the problems, each in a line of its own."""
        lines = [f"{self.summary}:", *(f"  {problem}" for problem in self.problems[:limit])]
        rest = len(self.problems) - limit
        return "\n".join([*lines, *([f"  and {rest:,} more ({describe_all('problems')})"] if rest > 0 else [])])


def initialize(network: Network, seed: int = 0) -> dict[str, Array]:
    """Return initial weights in float32, with values that depend only on the seed and on each weight's name.

    The seed and the name are the key of a counter-based generator (Philox; Salmon et al. 2011), so adding or removing a
    layer does not change the values of the others.

    >>> from resnet_spec import load
    >>> weights = initialize(load("resnet18"))
    >>> weights["conv1.weight"].shape, weights["bn1.weight"].min(), weights["fc.bias"].dtype
    ((64, 3, 7, 7), np.float32(1.0), dtype('float32'))
    """
    owners = network.owners()
    arrays = {name: np.empty(weight.shape, np.float32) for name, weight in owners}
    chunks = iter([chunk for name, weight in owners for chunk in _chunks(name, weight, arrays[name], seed)])
    workers = (os.cpu_count() or 1) - 1
    # Every thread takes the next chunk when it has filled one. This thread works too: it keeps its core, while a
    # scheduler may leave two new threads on the same core for the entire time.
    with ThreadPoolExecutor(max(1, workers)) as pool:
        tasks = [pool.submit(_fill, chunks) for _ in range(workers)]
        _fill(chunks)
        for task in tasks:
            task.result()
    return arrays


def comparison_weights(network: Network, seed: int = 0, dtype: str = "float64") -> dict[str, Array]:
    """Return random weights for comparisons, drawn in float64.

    Scales, shifts and running statistics are random too, because equal values would hide weights that are assigned to
    the wrong part. Other programs can reproduce the weights of seed 0 from their names: each comes from NumPy's
    default generator, seeded by the CRC-32 of the name.
    """
    return {
        name: np.asarray(_draw_comparison_weight(name, shape, seed), dtype) for name, shape in network.weights().items()
    }


def _draw_comparison_weight(name: str, shape: Shape, seed: int) -> Array:
    key = zlib.crc32(name.encode())
    rng = np.random.default_rng([key, seed] if seed else key)
    last = name.rpartition(".")[2]
    if last == "running_var":
        return rng.uniform(0.5, 1.5, shape)
    if last == "running_mean" or (len(shape) == 1 and last != "weight"):
        return 0.1 * rng.standard_normal(shape)
    if len(shape) == 1:
        return rng.uniform(0.5, 1.0, shape)
    return rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))


T = TypeVar("T")


def collect_weights(network: Network, find: Callable[[str], T | None]) -> dict[str, T]:
    """Return what ``find`` returns for the weights of a network, by canonical name.

    A layer that was replaced in a model may have gained or lost a bias. Raises WeightsError if another weight is None.
    """
    expected = network.weights()
    found: dict[str, T] = {}
    problems = []
    for name, shape in expected.items():
        path, _, last = name.rpartition(".")
        value = find(name)
        if value is not None:
            found[name] = value
        elif last != "bias":
            problems.append(f"missing {name} {shape}; the model has another layer in place of {path!r}")
        bias = f"{path}.bias"
        if last == "weight" and bias not in expected and (gained := find(bias)) is not None:
            found[bias] = gained
    if problems:
        raise WeightsError(problems)
    return found


def match_weights(
    expected: Mapping[str, Shape],
    weights: Mapping[str, Array],
    dtype: str | None = None,
    takes: Settings = (),
) -> dict[str, Array]:
    """Return copies of weights in the expected order, cast to a dtype. Raises WeightsError if they do not fit."""
    problems = find_mismatches(expected, {name: np.shape(array) for name, array in weights.items()}, takes)
    if problems:
        raise WeightsError(problems)
    return {name: np.array(weights[name], dtype=dtype, order="C") for name in expected}


def find_mismatches(
    expected: Mapping[str, Shape], actual: Mapping[str, Shape], takes: Settings = (), *, suggestions: bool = True
) -> list[str]:
    """Return a message for each name that is missing, unexpected or of another shape.

    A message suggests a similar name, unless ``suggestions`` is false, or a setting for which the shape fits.

    >>> expected = {"fc.bias": (1000,), "fc.weight": (1000, 512)}
    >>> print(*find_mismatches(expected, {"fc.bias": (10,), "fc.wieght": (10, 512)}, [("classes", 1000)]), sep="\\n")
    missing fc.weight (1000, 512)
    fc.bias is (10,); the spec says 1000 classes: classes=10
    unexpected fc.wieght (10, 512); did you mean 'fc.weight'?
    """
    missing = [name for name in expected if name not in actual]
    problems = [f"missing {name} {expected[name]}" for name in missing]
    suggested = 0
    for name, shape in actual.items():
        if name in expected:
            if shape != expected[name]:
                problems.append(f"{name} is {shape}{_explain_mismatch(expected[name], shape, takes)}")
            continue
        suggested += 1
        is_wanted = suggestions and missing and suggested <= _MAX_SUGGESTIONS
        suggestion = suggest(name, missing) if is_wanted else ""
        problems.append(f"unexpected {name} {shape}" + (f"; {suggestion}" if suggestion.startswith("did") else ""))
    return problems


def _explain_mismatch(expected: Shape, shape: Shape, takes: Settings) -> str:
    setting = suggest_setting(expected, shape, takes)
    if setting is None:
        return f", but the network's is {expected}"
    name, value, fitting = setting
    return f"; the spec says {value} {name}: {describe_setting(name, fitting)}"


def suggest_setting(expected: Shape, shape: Shape, takes: Settings) -> tuple[str, int, int] | None:
    """Return the name of the setting that would make a shape fit, its value, and the value for which it fits, or None.

    >>> suggest_setting((1000, 512), (10, 512), [("classes", 1000)])
    ('classes', 1000, 10)
    """
    differences = {pair for pair in zip(expected, shape, strict=False) if pair[0] != pair[1]}
    if len(shape) != len(expected) or len(differences) != 1:
        return None
    ((size, fitting),) = differences
    return next(((name, size, fitting) for name, value in takes if value == size), None)


_Chunk: TypeAlias = tuple[Weight, Array, bytes, int]
"""A weight, a part of its array, the key of the generator, and the number of the part."""


def _chunks(name: str, weight: Weight, array: Array, seed: int) -> list[_Chunk]:
    key = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=16).digest()
    flat = array.reshape(-1)
    return [
        (weight, flat[start : start + _CHUNK], key, start // _CHUNK) for start in range(0, max(1, flat.size), _CHUNK)
    ]


def _fill(chunks: Iterator[_Chunk]) -> None:
    workspace = gaussian.allocate_workspace()
    for weight, out, key, index in chunks:
        match weight.init:
            case Constant(value):
                out.fill(value)
            case Normal(std):
                gaussian.fill_normal(out, _bit_generator(key, index), std, workspace)
            case Uniform(bound):
                np.random.Generator(_bit_generator(key, index)).random(out=out, dtype=np.float32)
                out -= np.float32(0.5)
                out *= np.float32(2 * bound)
            case _:
                assert_never(weight.init)


def _bit_generator(key: bytes, index: int) -> np.random.Philox:
    # The number of the chunk is the highest word of the counter, so the streams of two chunks never overlap.
    return np.random.Philox(key=int.from_bytes(key), counter=[0, 0, 0, index])
