"""The contract of a model that this project did not build, as a backend wraps one for import and comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from resnet_spec.importing.graph import Graph
from resnet_spec.weights.canonical import Array


@dataclass(frozen=True, slots=True)
class ForeignStep:
    """One training step of a foreign model: the loss, gradients and new statistics, by the model's own names."""

    loss: float
    gradients: Mapping[str, Array]
    statistics: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class ForeignOutputs:
    """What a foreign model computes: its outputs in order, and the outputs of its modules that ran once, by path."""

    outputs: tuple[Array, ...]
    modules: Mapping[str, Array] = field(default_factory=dict)


class ForeignModel(Protocol):
    """A model of a framework, or a file of one.

    Attributes:
        name: A name for the network.
        input_shape: The shape of an image, or None if the model does not say.
        classes: The classes of modules by path.
        dtype: The type that it computes in.
    """

    name: str
    input_shape: tuple[int, int, int] | None
    classes: Mapping[str, str]
    dtype: str

    def graph(self, input_shape: tuple[int, int, int], until: str = "") -> Graph:
        """Return the graph for images of a shape, up to the output of the module at ``until``.

        Raises ImportRefused if the model can't take such images.
        """
        ...

    def run(self, images: Array, until: str = "") -> ForeignOutputs:
        """Evaluate the model in float64, or in the type that it has."""
        ...

    def step(self, images: Array, labels: Array) -> ForeignStep | None:
        """Run one training step on a copy, without an update of its weights; None if the model can't."""
        ...
