"""An ONNX graph while it is written: nodes, initializers, and the shapes that the core inferred.

A value has the path of the part that it is the output of, and an initializer its canonical name. Other values have the
path of the part that needs them, a slash and a word, as in ``layer1.0/add``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """The nodes of a graph in the order in which they run, and what they need.

    Attributes:
        dtype: The dtype of all floating-point values.
        opset: The version of ONNX's operators.
        batch: The number of images, or the name of a dynamic axis.
        nodes: The nodes.
        weights: The initializers by name.
        shapes: The shape, without the batch, of each value that is the output of a part.
        larger_shapes: The shapes by path for an image of twice the height and width, if any size is accepted; otherwise
            empty.
    """

    dtype: str
    opset: int
    batch: int | str
    nodes: list[NodeProto] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    larger_shapes: Mapping[str, Shape] = field(default_factory=dict)

    @property
    def has_free_size(self) -> bool:
        """Whether the graph takes images of any height and width."""
        return bool(self.larger_shapes)

    def add_node(self, op_type: str, inputs: Sequence[str], output: str, *more_outputs: str, **attributes: Any) -> str:
        """Add a node, named as its first output; return that name."""
        node = helper.make_node(op_type, list(inputs), [output, *more_outputs], name=output, **attributes)
        self.nodes.append(node)
        return output

    def is_output_of(self, op_type: str, value: str) -> bool:
        """Return whether a value is the output of a node of a type."""
        return any(node.op_type == op_type and value in node.output for node in self.nodes)

    def add_split(self, x: str, sizes: Sequence[int], names: Sequence[str], path: str) -> list[str]:
        """Add a node that splits the channels into pieces of these sizes; return the names of the pieces."""
        inputs = [x, self.add_integers(f"{path}/sizes", sizes)]
        self.nodes.append(helper.make_node("Split", inputs, list(names), name=f"{path}/split", axis=1))
        return list(names)

    def add_weight(self, name: str, array: Array) -> str:
        """Add an initializer; return its name."""
        self.weights[name] = array
        return name

    def add_scalar(self, name: str, value: float) -> str:
        """Add a scalar initializer of the graph's dtype; return its name."""
        return self.add_weight(name, np.array(value, self.dtype))

    def add_integers(self, name: str, values: Sequence[int]) -> str:
        """Add an int64 vector as an initializer, for a shape, axes or pads; return its name."""
        return self.add_weight(name, np.array(values, np.int64))

    def add_reshape(self, x: str, shape: Sequence[int], output: str) -> str:
        """Add a node that reshapes x; return the output. 0 keeps the size of an axis, and -1 infers it."""
        return self.add_node("Reshape", [x, self.add_integers(f"{output}/shape", shape)], output)

    def add_reshape_like(self, x: str, like: str, shape: Shape, output: str) -> str:
        """Add a node that gives x the shape of a value, which is ``shape`` unless the size is free."""
        if self.has_free_size and len(shape) == 3:
            return self.add_node("Reshape", [x, self.add_node("Shape", [like], f"{output}/shape")], output)
        return self.add_reshape(x, [0, *shape], output)

    def make_value_info(self, name: str, shape: Shape) -> ValueInfoProto:
        """Return the declaration of a value. Sizes that depend on a free height and width have no number."""
        element_type = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        larger = self.larger_shapes.get(name, shape)
        # The axes of images have names, since two sizes of one name are the same number.
        names = ("", "height", "width") if name == INPUT else (None,) * len(shape)
        sizes = [size if size == other else free for size, other, free in zip(shape, larger, names, strict=False)]
        return helper.make_tensor_value_info(name, element_type, [self.batch, *sizes])
