"""A comparison: a network at an input size, the weights, images and labels that a seed gives, and the gates to pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, TypeAlias, get_args

import ml_dtypes
import numpy as np

from resnet_spec.diagnostics.problems import SpecError
from resnet_spec.library.load import load
from resnet_spec.network.costs import BYTES, compute_costs
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.shape_inference import replace_operations
from resnet_spec.ops import BatchNorm, Conv, GroupNorm, LayerNorm, RmsNorm, Shift, StandardizedConv, Stochastic
from resnet_spec.weights.canonical import Array, comparison_weights

Level: TypeAlias = Literal["forward", "inference", "gradient", "training"]
Group: TypeAlias = Literal[
    "evaluation", "training forward", "inference", "loss", "gradient", "slope", "statistics", "updates", "weights"
]
Dtype: TypeAlias = Literal["float64", "float32", "bfloat16", "float16"]
"""The 16-bit types stand for mixed precision: products in that type, weights in float32."""

UNITS: dict[Dtype, float] = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
"""The unit of rounding of the 16-bit types: half of the distance from 1 to the next larger number."""

LEVELS: tuple[Level, ...] = get_args(Level)
GROUPS: dict[Level, tuple[Group, ...]] = {
    "forward": ("evaluation", "training forward"),
    "inference": ("inference",),
    "gradient": ("loss", "gradient", "slope"),
    "training": ("statistics", "updates", "weights"),
}
"""The groups of arrays that each level compares in addition to those of the levels before it."""

FORWARD_GROUPS: tuple[Group, ...] = ("evaluation", "training forward", "inference")
"""The groups of outputs, all of which the reference defines."""

_LARGEST_DERIVED_GATES: dict[Group, float] = {
    "evaluation": 0.25,
    "training forward": 0.25,
    "inference": 0.25,
    "loss": 0.25,
    "gradient": 0.25,
    "statistics": 0.25,
    "updates": 1e-5,
}
"""The largest gates in 16 bits, where the gate of each array is derived: ``part_gates`` says how.

Beyond, rounding may explain what a mistake would look like. Updates are computed in float32, from gradients as given.
"""

GATES: dict[Dtype, dict[Group, float]] = {
    "float64": {
        "evaluation": 1e-12,
        "training forward": 1e-12,
        "inference": 1e-12,
        "loss": 1e-12,
        "gradient": 1e-12,
        "slope": 1e-6,
        "statistics": 1e-12,
        "updates": 1e-12,
        "weights": 1e-10,
    },
    "float32": {
        "evaluation": 1e-5,
        "training forward": 5e-5,
        "inference": 1e-5,
        "loss": 5e-5,
        "gradient": 1e-4,
        "slope": 1e-3,
    },
    "bfloat16": dict(_LARGEST_DERIVED_GATES),
    "float16": dict(_LARGEST_DERIVED_GATES),
}
"""The largest relative error that passes. ``compare.error_scales`` says what an error of each group is relative to.

In 16 bits they are the largest that a derived gate may be. In float32, statistics and weights are not compared: five
training steps amplify rounding too far. The gate of a slope is the accuracy of central differences, not of gradients:
they match to 1e-9, but to less near a rectifier's corner.
"""

MAX_GATED_PARAMETERS = 100_000
"""In float32, a training pass and its gradients have a gate only in networks of at most this many parameters.

In larger networks rounding grows with depth beyond any useful gate (1.7e-4 in ResNet-50's training pass at 18 values
per channel), and a single ReLU whose input changes sign moves a gradient by percents.
"""

ROUNDING_FACTOR = 16.0
"""How large an error rounding explains, in units of the rounding error that was measured in one backend.

In a forward pass in float32 that is the distance of the reference in float32 from the reference in float64; elsewhere,
how far results move if the images move by one unit of rounding. BiT networks, and narrow gates of four values, amplify
rounding beyond any fixed gate, in every backend alike. The factor allows for different orders of summation: NumPy sums
pairwise, other frameworks sequentially, so that the error of Paddle's mean of 252 values is 8 times larger.
"""

MAX_WIDENED_GATE = 1e-3
"""The largest gate in a forward pass in float32, which grows by what rounding explains. Other gates do not grow.

Where rounding explains more, a difference shows nothing: a mistake may be as large. Such a network is ill-conditioned.
"""

STEPS = 5
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 2.0**-4, 0.5, 2.0**-7  # Paddle keeps them in float32, which holds these exactly

MIN_VALUES_PER_CHANNEL = 32
"""The fewest values per channel over which a batch norm in training takes its statistics: fewer amplify rounding."""

BRANCH_SCALE, MAX_BLOCKS_AT_BRANCH_SCALE = 2.0**-3, 64
"""The factor for the last weights of each residual block's branch, and the number of blocks up to which it applies.

For each doubling of that number the factor is halved. It keeps blocks near the identity; otherwise each block amplifies
rounding a little in training: in a narrow ResNet-200 gradients then differ by 2e-11, and weights after five steps
arbitrarily, but with the factor by 1e-14 and 1e-13. In a narrow ResNeSt-269 weights differ by 2e-10 with a factor of
1/8, and by 3e-14 with 1/16.
"""

NORM_SHIFT = 2.0
"""How far the shift of a norm before an activation is raised, in units of the norm's scale; also before a sum or gate.

A rectifier that halves the values of a norm, before the next norm restores their scale, amplifies rounding by a fifth:
20,000 times in 55 layers without shortcuts, after which weights after five steps differ by 1e-2. If it cuts the tail
below two standard deviations, it amplifies rounding by a hundredth, and still changes every 40th value. Other
activations are nearly linear there, too.
"""

FRAMEWORK_BYTES = 2**29
"""About how much memory an imported framework takes."""

MEMORY_COPIES = {"forward": (2, 2), "training": (7, 3)}
"""How many times a backend holds the weights, and the outputs of all parts, of a case: measured."""

COMPARISON_SIZES = ((72, 56), (96, 64))
"""Heights and widths to compare networks at, in order of preference.

The first gives odd and even sizes in a network that halves its input five times; some networks only accept even ones.
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A network at an input size, with the data that a seed gives: the same in every process.

    ``nudged`` moves every pixel by one unit of rounding of the case's type: what results move by, rounding explains.
    ``device`` is where the backends that have devices compute; the framework's choice if it is empty.
    """

    network: Network
    dtype: Dtype = "float64"
    level: Level = "training"
    seed: int = 0
    nudged: bool = False
    device: str = ""

    @property
    def is_mixed(self) -> bool:
        """Whether products are computed in a 16-bit type, and each part is judged on its own."""
        return self.dtype in UNITS

    @property
    def storage(self) -> Literal["float64", "float32"]:
        """The type of weights, images and recorded arrays."""
        return "float64" if self.dtype == "float64" else "float32"

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups of arrays that are compared."""
        levels = LEVELS[: LEVELS.index(self.level) + 1]
        known = {*GATES[self.dtype]} - ({"statistics"} if self.network.statistics == 0 else set())
        return tuple(group for level in levels for group in GROUPS[level] if group in known)

    @property
    def recorded_groups(self) -> tuple[Group, ...]:
        """The groups that a record holds: those that are compared, and the weights that updates are judged by."""
        groups = self.groups
        return (*groups, "weights") if "updates" in groups and "weights" not in groups else groups

    @property
    def batch(self) -> int:
        """The number of images: at least 2, and enough for MIN_VALUES_PER_CHANNEL in each batch norm."""
        norms = ((leaf.op, leaf.input_shape) for leaf in self.network.leaves())
        needed = (
            math.ceil(MIN_VALUES_PER_CHANNEL / op.values_per_statistic(shape))
            for op, shape in norms
            if isinstance(op, BatchNorm)
        )
        return max([2, *needed])

    @property
    def memory(self) -> int:
        """An estimate, in bytes, of the memory that one backend needs to run the case."""
        weight_copies, map_copies = MEMORY_COPIES["training" if "gradient" in self.groups else "forward"]
        itemsize = np.dtype(self.storage).itemsize
        weights = itemsize * (self.network.parameters + self.network.statistics)
        maps = itemsize // BYTES * compute_costs(self.network)[""].memory * self.batch
        return FRAMEWORK_BYTES + weight_copies * weights + map_copies * maps

    def gate(self, group: Group) -> float | None:
        """Return the largest relative error that passes, or None if errors of this group are only reported."""
        amplifies_rounding = self.dtype == "float32" and group in ("training forward", "gradient", "slope")
        if amplifies_rounding and self.network.parameters > MAX_GATED_PARAMETERS:
            return None
        return GATES[self.dtype][group]

    def largest_gate(self, group: Group) -> float | None:
        """Return the largest error that passes if rounding explains it: the gate, or more where the gate may grow."""
        gate, is_forward = self.gate(group), group in FORWARD_GROUPS
        return MAX_WIDENED_GATE if gate is not None and is_forward and self.dtype == "float32" else gate

    def weights(self, dtype: Dtype = "float64") -> dict[str, Array]:
        """Return canonical weights, all random, that keep rounding small at any depth.

        Shifts of norms are raised as NORM_SHIFT says, and the branches of residual blocks scaled as BRANCH_SCALE says.
        Branches that are added are divided by their number: otherwise values grow from sum to sum in evaluation, to 1e8
        in a narrow GhostNetV3, where a sigmoid turns the smallest error of such a value into one of any size.
        """
        weights = comparison_weights(self.network, self.seed, dtype)
        for shift, scale in dict.fromkeys(_shifts_before_activations(self.network)):
            weights[shift] += NORM_SHIFT * _output_scale(weights[scale]) if scale else NORM_SHIFT
        for part in self.network.nodes():
            if isinstance(part, Parallel) and part.combine == "add":
                for name in (name for branch in part.branches for name in _scaling_weights(branch)):
                    weights[name] /= len(part.branches)
        blocks = [part for part in self.network.nodes() if isinstance(part, Residual) and part.combine == "add"]
        if blocks:
            halvings = max(0, math.ceil(math.log2(len(blocks) / MAX_BLOCKS_AT_BRANCH_SCALE)))
            for block in blocks:
                for name in _scaling_weights(block.branch):
                    weights[name] *= BRANCH_SCALE / 2**halvings
        return weights

    def weight_magnitudes(self) -> Mapping[str, float]:
        """Return the largest magnitude of each weight before training."""
        return _weight_magnitudes(self.network, self.seed)

    def images(self) -> Array:
        """Return random images (batch, channels, height, width), in float64; numbers of a 16-bit type in that case."""
        rng = np.random.default_rng(self.seed)
        images = rng.standard_normal((self.batch, *self.network.input))
        if self.is_mixed:
            return images.astype(ml_dtypes.bfloat16 if self.dtype == "bfloat16" else np.float16).astype(np.float64)
        return images * (1 + np.finfo(self.dtype).eps * rng.choice([-1, 1], images.shape)) if self.nudged else images

    def labels(self) -> Array:
        """Return a random class number for each image."""
        classes = math.prod(self.network.output_shape)
        return np.random.default_rng(self.seed + 1).integers(0, classes, self.batch)


@lru_cache(maxsize=4)
def _weight_magnitudes(network: Network, seed: int) -> dict[str, float]:
    weights = Case(network, seed=seed).weights()
    return {name: float(abs(array).max()) for name, array in weights.items()}


def _shifts_before_activations(network: Network) -> Iterator[tuple[str, str]]:
    """Yield the names of shifts that an operation on single values follows, each with the norm's scale; "" if it is 1.

    The operation may follow a sum with a shortcut or of branches, and gates, which leave signs as they are. If a norm
    follows it, which restores the scale of what it halves, the shift may also be that of a convolution.
    """
    for row in _rows(network):
        parts = [*_without_chains(row)]
        for index, part in enumerate(parts):
            if isinstance(part, Leaf) and _is_pointwise(part):
                following = parts[index + 1 : index + 2]
                norm_follows = any(isinstance(one, Leaf) and isinstance(one.op, _NORMS) for one in following)
                yield from _last_shifts(parts[:index], norm_follows=norm_follows)


def _rows(network: Network) -> Iterator[Row]:
    """Yield the rows of a network and of its parts. What follows a sum with a shortcut continues the shortcut's row."""
    yield network.parts
    for part in network.nodes():
        match part:
            case Residual(combine="add"):
                yield from (part.before, part.branch, (*part.shortcut, *part.after))
            case Residual() | Parallel():
                yield from part.rows
            case _:
                pass


def _last_shifts(row: Sequence[Part], *, norm_follows: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the names of the shifts that a row of parts ends with, with those of the scales of the same norms."""
    if not row:
        return
    *earlier, last = row
    match last:
        case Leaf(op=Shift(per="channel")) if earlier and isinstance(earlier[-1], Leaf):
            if isinstance(earlier[-1].op, _NORMS):
                scales = {weight.name for weight in earlier[-1].op.weights(earlier[-1].input_shape)}
                yield last.path, f"{earlier[-1].path}.weight" if "weight" in scales else ""
        case Leaf(op=Conv(bias=True)) if norm_follows:
            yield f"{last.path}.bias", f"{last.path}.weight"
        case Leaf():
            axes = {weight.name: len(weight.shape) for weight in last.op.weights(last.input_shape)}
            if axes.get("weight") == axes.get("bias") == 1:
                yield f"{last.path}.bias", f"{last.path}.weight"
        case Residual(combine="multiply", shortcut=(), after=()):
            yield from _last_shifts([*earlier, *_without_chains(last.before if last.reads == "before" else ())])
        case Residual(combine="add", after=()):
            yield from _last_shifts([*_without_chains(last.shortcut)])
        case Parallel(combine="add"):
            for branch in last.branches:
                yield from _last_shifts([*_without_chains(branch)])
        case _:
            pass


_NORMS = BatchNorm | GroupNorm | LayerNorm | RmsNorm


def _output_scale(weight: Array) -> Array:
    """Return about how large an operation makes each channel of an input of size 1, by its scale or its kernel."""
    return weight if weight.ndim == 1 else np.sqrt((weight**2).sum(axis=tuple(range(1, weight.ndim))))


def _is_pointwise(leaf: Leaf) -> bool:
    return not leaf.op.weights(leaf.input_shape) and leaf.output_shape == leaf.input_shape


def _without_chains(row: Row) -> Iterator[Part]:
    """Yield the parts of a row, with those of a chain in its place."""
    for part in row:
        if isinstance(part, Chain):
            yield from _without_chains(part.parts)
        else:
            yield part


def _scaling_weights(row: Row) -> list[str]:
    """Return the names of the weights that scale the output of a row of parts.

    They are those of its last operation with weights, outside of blocks and gates. If that is a standardised
    convolution, whose output does not depend on the scale of its kernel, they are its bias and the weights of the
    operation before it.
    """
    names: list[str] = []
    for leaf in reversed([part for part in _without_chains(row) if isinstance(part, Leaf)]):
        own = [weight.name for weight in leaf.op.weights(leaf.input_shape) if weight.name in ("weight", "bias", "tau")]
        is_standardized = isinstance(leaf.op, StandardizedConv)
        names += [f"{leaf.path}.{name}" for name in own if not (is_standardized and name == "weight")]
        if "weight" in own and not is_standardized:
            break
    return names


def without_randomness(network: Network) -> Network:
    """Return the network with the rate of dropout and other random operations set to 0.

    Each framework has its own random numbers, so training is only comparable without them.
    """
    return replace_operations(
        network, lambda leaf: replace(leaf.op, rate=0.0) if isinstance(leaf.op, Stochastic) else leaf.op
    )


def load_for_comparison(spec: str, sizes: Iterable[tuple[int, int]] = COMPARISON_SIZES, /, **settings: Any) -> Network:
    """Load a network with a small input, not square, that gives parts of odd and even sizes if the network allows.

    The input is the first of the sizes that the network accepts, cut to its own height and width, or its own if it
    accepts none. Raises SpecError.

    >>> load_for_comparison("resnet18").input, load_for_comparison("resnet34_cifar").input
    ((3, 72, 56), (3, 32, 32))
    >>> load_for_comparison("flax/ResNet50").input
    (3, 96, 64)
    """
    network = load(spec, **settings)
    channels, *own = network.input
    for size in sizes:
        height, width = map(min, size, own)
        try:
            return load(spec, input=(channels, height, width), **settings)
        except SpecError:
            continue
    return network
