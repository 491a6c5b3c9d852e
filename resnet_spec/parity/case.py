"""What is compared: a network at a size, the weights, images and labels that a seed makes, and the gates to pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeAlias, get_args

import numpy as np

from resnet_spec.network.costs import BYTES, compute_costs
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Part, Residual
from resnet_spec.network.shape_inference import replace_operations
from resnet_spec.ops import BatchNorm, StandardizedConv, Stochastic
from resnet_spec.weights.canonical import Array, comparison_weights

Level: TypeAlias = Literal["forward", "gradient", "training"]
Group: TypeAlias = Literal["evaluation", "training forward", "loss", "gradient", "statistics", "weights"]
Dtype: TypeAlias = Literal["float64", "float32"]

LEVELS: tuple[Level, ...] = get_args(Level)
GROUPS: dict[Level, tuple[Group, ...]] = {
    "forward": ("evaluation", "training forward"),
    "gradient": ("loss", "gradient"),
    "training": ("statistics", "weights"),
}
"""What each level compares, beside what the levels before it do."""

GATES: dict[Dtype, dict[Group, float]] = {
    "float64": {
        "evaluation": 1e-12,
        "training forward": 1e-12,
        "loss": 1e-12,
        "gradient": 1e-12,
        "statistics": 1e-12,
        "weights": 1e-10,
    },
    "float32": {"evaluation": 1e-5, "training forward": 5e-5, "loss": 5e-5, "gradient": 1e-4},
}
"""The largest difference that is the same: of a part's output or a statistic relative to its own largest magnitude, of a gradient relative
to the largest in the model (a norm's shift before another norm has a true gradient of zero). In float32 five steps of training amplify
rounding too far to be compared."""

SMALL = 100_000
"""Parameters up to which a training pass and its gradients in float32 have a gate. In a large network rounding grows beyond any with depth
(1.7e-4 in ResNet-50's training pass, 18 values a channel), and one ReLU that flips moves a gradient by percents."""

ROUNDED = 16.0
"""In float32 an array of a forward pass may also be so many times as far from the reference as the reference's is from its own in float64: BiT's
networks and a narrow gate of four numbers amplify rounding beyond any gate, in every backend alike. NumPy adds up in pairs, others one by one: Paddle's mean
of 252 values is 8 times as far off."""

STEPS = 5
MOMENTUM, WEIGHT_DECAY = 0.5, 2.0**-7  # float32 holds each exactly, as Paddle needs
RATE = 2.0**-4
VALUES = 32
"""The fewest values a channel of a norm in training: fewer amplify rounding."""
DAMPED, BLOCKS = 2.0**-3, 64
"""What the last weights of each block's branch are scaled by, in networks of up to so many blocks; half of that for each doubling. Training
amplifies rounding by a little in every block that is not near the identity: a narrow ResNet-200 then has gradients 2e-11 apart, and five steps
end anywhere; damped, 1e-14 and 1e-13. A narrow ResNeSt-269 has weights 2e-10 apart by an eighth, 3e-14 by a sixteenth."""

FRAMEWORK = 2**29
COPIES = {"forward": (2, 2), "training": (5, 3)}
"""What a backend takes in memory: a framework itself, and how often the weights and the maps of a case."""


@dataclass(frozen=True, slots=True)
class Case:
    """A network, at the size of its input, with what the seed makes: every process makes the same."""

    network: Network
    dtype: Dtype = "float64"
    level: Level = "training"
    seed: int = 0

    @property
    def groups(self) -> tuple[Group, ...]:
        """What is compared of it."""
        levels = LEVELS[: LEVELS.index(self.level) + 1]
        known = {*GATES[self.dtype]} - ({"statistics"} if self.network.statistics == 0 else set())
        return tuple(group for level in levels for group in GROUPS[level] if group in known)

    @property
    def batch(self) -> int:
        """As many images as give each training norm enough values, and more than one."""
        norms = ((leaf.op, leaf.input_shape) for leaf in self.network.leaves())
        return max([2, *(math.ceil(VALUES / op.values(given)) for op, given in norms if isinstance(op, BatchNorm))])

    @property
    def memory(self) -> int:
        """About how many bytes of memory a backend takes to compute it: copies of its weights and its maps, as measured."""
        of_weights, of_maps = COPIES["training" if "gradient" in self.groups else "forward"]
        size = np.dtype(self.dtype).itemsize
        weights = size * (self.network.parameters + self.network.statistics)
        maps = size // BYTES * compute_costs(self.network)[""].memory * self.batch
        return FRAMEWORK + of_weights * weights + of_maps * maps

    def gate(self, group: Group) -> float | None:
        """The largest difference that passes, or None for one that is reported alone."""
        amplifies = self.dtype == "float32" and group in ("training forward", "gradient")
        if amplifies and self.network.parameters > SMALL:
            return None
        return GATES[self.dtype][group]

    def weights(self, dtype: Dtype = "float64") -> dict[str, Array]:
        """Canonical weights, every one random, drawn in float64, and such that blocks are near the identity."""
        found = comparison_weights(self.network, self.seed, dtype)
        blocks = [part for part in self.network.nodes() if isinstance(part, Residual) and part.combine == "add"]
        damped = DAMPED / 2 ** max(0, math.ceil(math.log2(len(blocks) / BLOCKS))) if blocks else 1.0
        for block in blocks:
            for name in _last(block.branch):
                found[name] *= damped
        return found

    def largest(self) -> Mapping[str, float]:
        """The largest magnitude of each weight before training."""
        return _largest(self.network, self.seed)

    def images(self) -> Array:
        """Random images (batch, channels, height, width), in float64."""
        return np.random.default_rng(self.seed).standard_normal((self.batch, *self.network.input))

    def labels(self) -> Array:
        """A random class for each image."""
        classes = math.prod(self.network.output_shape)
        return np.random.default_rng(self.seed + 1).integers(0, classes, self.batch)


@lru_cache(maxsize=4)
def _largest(network: Network, seed: int) -> dict[str, float]:
    weights = Case(network, seed=seed).weights()
    return {name: float(abs(array).max()) for name, array in weights.items()}


def _last(row: tuple[Part, ...]) -> list[str]:
    """The weights by which a row of parts is scaled: of its last operation that has some, outside of blocks and gates.

    A standardised kernel is the same at any scale, so there it is the bias, and what comes before.
    """
    found: list[str] = []
    for leaf in reversed([*_straight(row)]):
        own = [weight.name for weight in leaf.op.weights(leaf.input_shape) if weight.name in ("weight", "bias", "tau")]
        invariant = isinstance(leaf.op, StandardizedConv)
        found += [f"{leaf.path}.{name}" for name in own if not (invariant and name == "weight")]
        if "weight" in own and not invariant:
            break
    return found


def _straight(row: tuple[Part, ...]) -> Iterator[Leaf]:
    for part in row:
        match part:
            case Leaf():
                yield part
            case Chain():
                yield from _straight(part.parts)
            case _:
                continue


def calm(network: Network) -> Network:
    """The network with nothing left to chance: frameworks throw different dice, so training is compared without."""
    return replace_operations(
        network, lambda leaf: replace(leaf.op, rate=0.0) if isinstance(leaf.op, Stochastic) else leaf.op
    )
