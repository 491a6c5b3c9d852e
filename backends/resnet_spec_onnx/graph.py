"""An ONNX graph as it is written: nodes, initialisers, and the shapes that the core says.

Every name in it is ours. A value is named by the path of the part that gives it, an initialiser by its canonical name; what has no name
in the tree stands below the part that it serves, after a slash, as in ``layer1.0/add``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, ValueInfoProto, helper

from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array

INPUT = "input"
"""The name of the images."""


@dataclass(slots=True)
class Graph:
    """Nodes in the order that they run.

    Attributes:
        dtype: What the graph computes in.
        opset: The version of ONNX's operators.
        batch: The number of images, or a name for one that is free.
        nodes: The nodes.
        weights: The initialisers by name.
        shapes: The shape of each value that the tree knows, without the batch.
    """

    dtype: str
    opset: int
    batch: int | str
    nodes: list[NodeProto] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def node(self, kind: str, inputs: Sequence[str], gives: str, *more: str, **attributes: Any) -> str:
        """Add a node, named as the value that it gives, or the first of several. Gives that name."""
        self.nodes.append(helper.make_node(kind, list(inputs), [gives, *more], name=gives, **attributes))
        return gives

    def is_from(self, kind: str, value: str) -> bool:
        """Whether a node of a kind gives a value."""
        return any(node.op_type == kind and value in node.output for node in self.nodes)

    def split(self, x: str, sizes: Sequence[int], names: Sequence[str], path: str) -> list[str]:
        """Add a node that cuts the channels into pieces."""
        inputs = [x, self.integers(f"{path}/sizes", sizes)]
        self.nodes.append(helper.make_node("Split", inputs, list(names), name=f"{path}/split", axis=1))
        return list(names)

    def weight(self, name: str, array: Array) -> str:
        """Add an initialiser. Gives its name."""
        self.weights[name] = array
        return name

    def number(self, name: str, value: float) -> str:
        """Add a scalar of the graph's type."""
        return self.weight(name, np.array(value, self.dtype))

    def integers(self, name: str, values: Sequence[int]) -> str:
        """Add a row of whole numbers: a shape, axes, pads."""
        return self.weight(name, np.array(values, np.int64))

    def reshape(self, x: str, shape: Sequence[int], gives: str) -> str:
        """Add a node that lays the elements out anew: 0 keeps an axis's size, -1 is what is left."""
        return self.node("Reshape", [x, self.integers(f"{gives}/shape", shape)], gives)

    def value(self, name: str, shape: Shape) -> ValueInfoProto:
        """A value's declaration."""
        return helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype)), [self.batch, *shape]
        )
