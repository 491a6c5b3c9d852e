"""The nodes of a network: its operations, and the sums and products where branches meet, in the order they run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Residual, Row
from resnet_spec.ops import Shape, op_name
from resnet_spec.weights.canonical import Array


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a network. Its name is that of its value in the network's ONNX model.

    Attributes:
        operation: The name of its operation, or how it combines what it reads.
        input_shapes: The shapes that it reads, without the batch.
        source: The part of which it is the output, or whose input it is, by path.
        is_input: Whether it is that part's input: a block's sum has no path if operations follow it.
    """

    name: str
    operation: str
    input_shapes: tuple[Shape, ...]
    source: str
    is_input: bool = False

    def array(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Array:
        """Return the node's value, from the inputs and outputs of all parts by path."""
        return (inputs if self.is_input else outputs)[self.source]


def list_nodes(network: Network) -> list[Node]:
    """Return the nodes of a network in the order in which they run.

    >>> from resnet_spec import load
    >>> [node.name for node in list_nodes(load("resnet18"))][4:12]  # doctest: +NORMALIZE_WHITESPACE
    ['layer1.0.conv1', 'layer1.0.bn1', 'layer1.0.relu1', 'layer1.0.conv2', 'layer1.0.bn2', 'layer1.0/add',
     'layer1.0.relu2', 'layer1.1.conv1']
    """
    return [*_list_row(network.parts)]


def _list_row(row: Row) -> Iterator[Node]:
    for part in row:
        match part:
            case Leaf():
                yield Node(part.path, op_name(part.op), (part.input_shape,), part.path)
            case Chain():
                yield from _list_row(part.parts)
            case Residual():
                yield from _list_block(part)
            case Parallel():
                for branch in part.branches:
                    yield from _list_row(branch)
                shapes = tuple(_output_shape(branch, part.input_shape) for branch in part.branches)
                yield Node(part.path, part.combine, shapes, part.path)


def _list_block(part: Residual) -> Iterator[Node]:
    before = _output_shape(part.before, part.input_shape)
    for row in (part.before, part.branch, part.shortcut):
        yield from _list_row(row)
    read = before if part.reads == "before" else part.input_shape
    shapes = (_output_shape(part.branch, before), _output_shape(part.shortcut, read))
    if part.after:
        yield Node(f"{part.path}/{part.combine}", part.combine, shapes, part.after[0].path, is_input=True)
        yield from _list_row(part.after)
    else:
        yield Node(part.path, part.combine, shapes, part.path)


def _output_shape(row: Row, input_shape: Shape) -> Shape:
    return row[-1].output_shape if row else input_shape
