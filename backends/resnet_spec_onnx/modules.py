"""A network that writes itself as an ONNX graph: the tree is walked, each part's nodes put after those that it reads."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, assert_never

from onnx import ModelProto, TensorProto, helper, numpy_helper

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Parallel, Part, Residual
from resnet_spec.network.traversal import Rules, propagate
from resnet_spec.weights.canonical import Array
from resnet_spec_onnx.graph import INPUT, Graph
from resnet_spec_onnx.layers import layer

OPSET = 17
"""The version of ONNX's operators unless another is asked for: what most runtimes of today read."""


class ResNet:
    """A network with its weights, that gives an ONNX model of itself."""

    resnet_spec_backend: ClassVar[str] = "onnx"

    def __init__(self, network: Network, weights: dict[str, Array], dtype: str) -> None:
        self.network = network
        self.weights = weights
        self.dtype = dtype
        self.sessions: dict[Any, Any] = {}

    def proto(self, *, opset: int = OPSET, batch: int | str = "batch") -> ModelProto:
        """The network as an ONNX model: ``input`` in, and out what the last part gives, or the network's ``outputs``, by path."""
        graph, values = self.graph(self.network.parts, opset, batch)
        outputs = self.network.outputs or (self.network.parts[-1].path,)
        for path in outputs:
            if values[path] != path:  # what a row of parts gives is named by its last
                graph.shapes[path] = self.network.part(path).output_shape
                graph.node("Identity", [values[path]], path)
        return self.model(graph, self.network.input, outputs)

    def graph(
        self, parts: tuple[Part, ...], opset: int = OPSET, batch: int | str = "batch"
    ) -> tuple[Graph, dict[str, str]]:
        """Parts that read ``input``, written as a graph; and the value that each gives, by path."""
        graph, values = Graph(self.dtype, opset, batch), dict[str, str]()

        def leave(part: Part, x: str, y: str) -> tuple[Part, str]:
            values[part.path] = y
            return part, y

        rules: Rules[str] = Rules(
            leaf=lambda leaf, x: self._layer(leaf, x, graph),
            combine=lambda part, branch, shortcut: _combine(part, branch, shortcut, graph),
            join=lambda part, x, outputs: _join(part, outputs, graph),
            split=lambda part, x: _split(part, x, graph),
            cascade=lambda part, index, piece, previous: graph.node(
                "Add", [piece, previous], f"{part.path}/{index}/cascaded"
            ),
            leave=leave,
        )
        propagate(parts, INPUT, rules)
        return graph, values

    def model(self, graph: Graph, given: tuple[int, ...], outputs: Collection[str]) -> ModelProto:
        """A graph as a model that gives these values."""
        inner = [graph.value(name, shape) for name, shape in graph.shapes.items() if name not in outputs]
        made = helper.make_graph(
            graph.nodes,
            self.network.name,
            [graph.value(INPUT, given)],
            [graph.value(name, graph.shapes[name]) for name in outputs],
            [_tensor(name, array) for name, array in graph.weights.items()],
            value_info=inner,
        )
        opsets = [helper.make_opsetid("", graph.opset)]
        return helper.make_model(
            made, producer_name="resnet-spec", opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets)
        )

    def _layer(self, leaf: Leaf, x: str, graph: Graph) -> tuple[Part, str]:
        own = {weight.name: self.weights[f"{leaf.path}.{weight.name}"] for weight in leaf.op.weights(leaf.input_shape)}
        graph.shapes[leaf.path] = leaf.output_shape
        return leaf, layer(leaf, own, x, graph)

    def __repr__(self) -> str:
        return f"ResNet({self.network.name!r}, {self.dtype!r})"


def _combine(part: Residual, branch: str, shortcut: str, graph: Graph) -> str:
    name = f"{part.path}/{part.combine}" if part.after else part.path
    graph.shapes[name] = part.after[0].input_shape if part.after else part.output_shape
    match part.combine:
        case "add":
            return graph.node("Add", [branch, shortcut], name)
        case "multiply":
            gate = graph.reshape(branch, [0, 0, 1, 1], f"{part.path}/gate")
            return graph.node("Mul", [shortcut, gate], name)
        case _:
            assert_never(part.combine)


def _split(part: Parallel, x: str, graph: Graph) -> list[str]:
    count = len(part.branches)
    if not part.split:
        return [x] * count
    pieces = [f"{part.path}/{index}" for index in range(count)]
    return graph.split(x, [part.input_shape[0] // count] * count, pieces, part.path)


def _join(part: Parallel, outputs: list[str], graph: Graph) -> str:
    graph.shapes[part.path] = part.output_shape
    match part.combine:
        case "concat":
            return graph.node("Concat", outputs, part.path, axis=1)
        case "add":
            return graph.node("Sum", outputs, part.path)
        case "mean":
            return graph.node("Mean", outputs, part.path)
        case _:
            assert_never(part.combine)


def _tensor(name: str, array: Array) -> TensorProto:
    return numpy_helper.from_array(array, name)
