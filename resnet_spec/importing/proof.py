"""Prove that a network computes what a foreign model does: outputs, the outputs of its parts, and one training step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from resnet_spec.backend import OUTPUT, SGD, load_backend
from resnet_spec.importing.foreign import ForeignModel, ForeignOutputs
from resnet_spec.importing.importer import Recovered
from resnet_spec.network.network import Network
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.ops import LeakyRelu, ShapeError, Stochastic
from resnet_spec.parity.compare import relative_error
from resnet_spec.weights.canonical import Array

GATES: Mapping[str, Mapping[str, float]] = {
    "float64": {"outputs": 1e-9, "parts": 1e-9, "training": 1e-6},
    "float32": {"outputs": 1e-3, "parts": 1e-3, "training": 1e-2},
}
"""The largest error that passes, relative to the largest value of an array, by the type that the model computes in."""

SLOPE_GATE = 1e-7
"""The largest error that passes in a network with leaky ReLUs, whose slopes specs hold in float32."""

ROUNDING_FACTOR = 100
"""How much larger than after a nudge of the images an error may be that rounding explains: every layer rounds."""

MAX_GATE = 1e-4
"""The largest error that rounding explains; beyond, a mistake could not be seen."""

TRAINED_IMAGES = 3
TRAINED_SIDE = 41
"""The size of the images of a training step, if the model takes several sizes."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a backend's arrays compare with the model's.

    Attributes:
        what: "outputs", "parts" or "training".
        backend: The backend that ran the spec.
        size: Height and width of the images.
        count: How many arrays were compared; 0 if none were, for the reason in ``where``.
        worst: The largest error, relative to the largest value of an array.
        where: The first array that differs or, if none does, the one with the largest error.
        gate: The largest error that passes.
    """

    what: str
    backend: str
    size: str
    count: int
    worst: float
    where: str
    gate: float

    @property
    def verdict(self) -> str:
        """ "same", "differs" or "not compared"."""
        if not self.count:
            return "not compared"
        return "same" if self.worst <= self.gate else "differs"

    def allow_for(self, rounding: float) -> Comparison:
        """Return the comparison with a gate that passes what rounding explains, up to ``MAX_GATE``."""
        return replace(self, gate=max(self.gate, min(MAX_GATE, ROUNDING_FACTOR * rounding)))

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON has it."""
        return {**asdict(self), "verdict": self.verdict}


def prove(
    model: ForeignModel,
    recovered: Recovered,
    sizes: Sequence[tuple[int, int, int]],
    backends: Sequence[str],
    until: str = "",
) -> list[Comparison]:
    """Compare a recovered network with the model that it was recovered from, on images of each size.

    The first size, which should be the smallest, is compared in every backend, and in training; the others in one.
    """
    comparisons: list[Comparison] = []
    for index, size in enumerate(sizes if backends else ()):
        names = backends if index == 0 else backends[:1]
        images = np.random.default_rng(index).standard_normal((2 if index == 0 else 1, *size))
        theirs = model.run(images, until)
        network, weights = recovered.network, recovered.weights
        for name in names:
            found = list(compare_outputs(name, network, weights, images, theirs, model.dtype, recovered.unlike))
            if any(comparison.verdict == "differs" for comparison in found):
                rounding = _rounding(model, images, theirs, until)
                found = [comparison.allow_for(rounding) for comparison in found]
            comparisons += found
    if "torch" in backends and not until:
        small = sizes[0][0], TRAINED_SIDE, TRAINED_SIDE
        comparisons.append(_compare_training(model, recovered, [small, sizes[0]] if len(sizes) > 1 else sizes))
    return comparisons


def _rounding(model: ForeignModel, images: Array, theirs: ForeignOutputs, until: str) -> float:
    """Return how far a model's own outputs move if its images do by one unit of rounding."""
    unit = float(np.finfo(model.dtype).eps)
    nudged = images * (1 + unit * np.random.default_rng(3).choice([-1.0, 1.0], images.shape))
    moved = model.run(nudged, until)
    pairs = [*zip(moved.outputs, theirs.outputs, strict=True)]
    pairs += [(moved.modules[path], array) for path, array in theirs.modules.items()]
    return max(_error(a, b) for a, b in pairs)


def compare_outputs(
    name: str,
    network: Network,
    weights: Mapping[str, Array],
    images: Array,
    theirs: ForeignOutputs,
    dtype: str,
    unlike: frozenset[str] = frozenset(),
) -> Iterator[Comparison]:
    """Yield how a backend's outputs, and those of its parts but for those at ``unlike``, compare with a model's."""
    backend: Any = load_backend(name)
    sized = infer_shapes(network, images.shape[1:])
    model = backend.build(sized, {key: array.astype("float64") for key, array in weights.items()}, "float64")
    paths = [part.path for part in sized.nodes() if part.path in theirs.modules and part.path not in unlike]
    arrays = backend.run(model, images, paths)
    ours = [arrays[path] for path in network.outputs] if network.outputs else [arrays[OUTPUT]]
    size, gates = "x".join(map(str, images.shape[2:])), dict(GATES[dtype])
    if any(isinstance(leaf.op, LeakyRelu) for leaf in network.leaves()):
        gates = {what: max(gate, SLOPE_GATE) for what, gate in gates.items()}
    parts = {path: (arrays[path], theirs.modules[path]) for path in paths}
    parts = {path: pair for path, pair in parts.items() if any(True for _ in _arrangements(pair[1], pair[0]))}
    if theirs.modules:
        yield _comparison("parts", name, size, parts, gates["parts"], True)
    pairs = {_output_name(index, network): pair for index, pair in enumerate(zip(ours, theirs.outputs, strict=False))}
    yield _comparison("outputs", name, size, pairs, gates["outputs"], len(ours) == len(theirs.outputs))


def _output_name(index: int, network: Network) -> str:
    return network.outputs[index] if network.outputs else "output"


def _comparison(
    what: str, backend: str, size: str, pairs: Mapping[str, tuple[Array, Array]], gate: float, complete: bool
) -> Comparison:
    """Compare arrays by name. An output may be a map of one pixel where the other is a vector."""
    errors = {name: _error(ours, theirs) for name, (ours, theirs) in pairs.items()}
    if not errors:
        return Comparison(what, backend, size, 0, 0.0, "nothing has the name of a module", gate)
    comparison = _worst(what, backend, size, errors, gate)
    return comparison if complete else replace(comparison, worst=float("inf"))


def _worst(what: str, backend: str, size: str, errors: Mapping[str, float], gate: float) -> Comparison:
    """Return a comparison with the first array that differs or, if none does, the one with the largest error."""
    first = next(
        (name for name, error in errors.items() if not error <= gate), max(errors, key=lambda name: errors[name])
    )
    return Comparison(what, backend, size, len(errors), float(max(errors.values())), first, gate)


def _error(ours: Array, theirs: Array) -> float:
    """Return the least error of an array in any arrangement of the other, relative to the largest value."""
    largest = float(np.abs(theirs).max(initial=0)) or 1.0
    errors = [relative_error(arranged, ours, largest) for arranged in _arrangements(theirs, ours)]
    return min(errors, default=float("inf"))


def _arrangements(theirs: Array, ours: Array) -> Iterator[Array]:
    """Yield an array in the shape of another: as it is, without axes of size 1, or with its channels first."""
    if theirs.shape == ours.shape:
        yield theirs
    elif [size for size in theirs.shape if size > 1] == [size for size in ours.shape if size > 1]:
        yield theirs.reshape(ours.shape)
    if theirs.ndim == 4 and (moved := np.moveaxis(theirs, -1, 1)).shape == ours.shape:
        yield moved


def _compare_training(model: ForeignModel, recovered: Recovered, sizes: Sequence[tuple[int, int, int]]) -> Comparison:
    """Compare one training step on images of the first size that the model takes."""
    network, gate = recovered.network, GATES[model.dtype]["training"]
    reason = ""
    if network.outputs:
        reason = "the model has several outputs"
    elif any(isinstance(leaf.op, Stochastic) and leaf.op.rate for leaf in network.leaves()):
        reason = "dropout is random in training"
    for size in () if reason else sizes:
        errors = _training_errors(model, recovered, size)
        if errors:
            return _worst("training", "torch", _describe_size(size), errors, gate)
    return Comparison(
        "training", "torch", _describe_size(sizes[-1]), 0, 0.0, reason or "the model does not train", gate
    )


def _describe_size(size: Sequence[int]) -> str:
    return "x".join(map(str, size[1:]))


class _NoOptimizer:
    """An optimizer that changes nothing: only gradients and statistics are compared."""

    def zero_grad(self) -> None: ...
    def step(self) -> None: ...


def _training_errors(model: ForeignModel, recovered: Recovered, size: tuple[int, int, int]) -> dict[str, float]:
    """Return the errors of the loss, of gradients and of statistics by name; none if the model can't train so."""
    rng = np.random.default_rng(2)
    images = rng.standard_normal((TRAINED_IMAGES, *size))
    try:
        network = infer_shapes(recovered.network, size)
    except ShapeError:
        return {}
    labels = rng.integers(0, int(np.prod(network.output_shape)), TRAINED_IMAGES)
    theirs = model.step(images, labels)
    if theirs is None:
        return {}
    backend: Any = load_backend("torch")
    weights = {name: array.astype("float64") for name, array in recovered.weights.items()}
    ours = backend.build(network, weights, "float64")
    step = backend.step(ours, images, labels, SGD(), _NoOptimizer())
    own = {name: recovered.renamed.get(name, name) for name in recovered.weights}
    gradients = {name: (array, theirs.gradients.get(own[name])) for name, array in step.gradients.items()}
    statistics = {name: (array, theirs.statistics.get(own[name])) for name, array in backend.dump(ours).items()}
    # Some gradients are zero in theory, such as that of a bias before a norm, so all are relative to the largest.
    largest = max((float(np.abs(array).max(initial=0)) for array, _ in gradients.values()), default=0.0)
    errors = {"loss": abs(step.loss - theirs.loss) / max(abs(theirs.loss), 1e-9)}
    errors |= {
        f"gradient of {name}": relative_error(b.reshape(a.shape), a, largest) for name, (a, b) in _known(gradients)
    }
    return errors | {name: _error(a, b) for name, (a, b) in _known(statistics)}


def _known(pairs: Mapping[str, tuple[Array, Array | None]]) -> Iterator[tuple[str, tuple[Array, Array]]]:
    """Yield the pairs of arrays of which the second is known, by name."""
    for name, (ours, theirs) in pairs.items():
        if theirs is not None:
            yield name, (ours, theirs)
