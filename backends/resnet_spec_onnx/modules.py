"""A network that writes itself as an ONNX graph: the tree is walked, each part's nodes put after those that it reads."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, assert_never

from onnx import ModelProto, TensorProto, helper, numpy_helper

from resnet_spec.network.network import Chain, Network, Parallel, Part, Residual
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
        self._through(parts, INPUT, graph, values)
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

    def _through(self, parts: tuple[Part, ...], x: str, graph: Graph, values: dict[str, str]) -> str:
        for part in parts:
            x = values[part.path] = self._part(part, x, graph, values)
        return x

    def _part(self, part: Part, x: str, graph: Graph, values: dict[str, str]) -> str:
        match part:
            case Chain():
                return self._through(part.parts, x, graph, values)
            case Parallel():
                return self._parallel(part, x, graph, values)
            case Residual():
                return self._residual(part, x, graph, values)
            case leaf:
                own = {
                    weight.name: self.weights[f"{leaf.path}.{weight.name}"]
                    for weight in leaf.op.weights(leaf.input_shape)
                }
                graph.shapes[leaf.path] = leaf.output_shape
                return layer(leaf, own, x, graph)

    def _residual(self, part: Residual, x: str, graph: Graph, values: dict[str, str]) -> str:
        y = self._through(part.before, x, graph, values)
        branch = self._through(part.branch, y, graph, values)
        shortcut = self._through(part.shortcut, y if part.reads == "before" else x, graph, values)
        last = f"{part.path}/{part.combine}" if part.after else part.path
        match part.combine:
            case "add":
                both = graph.node("Add", [branch, shortcut], last)
            case "multiply":
                gate = graph.reshape(branch, [0, 0, 1, 1], f"{part.path}/gate")
                both = graph.node("Mul", [shortcut, gate], last)
            case _:
                assert_never(part.combine)
        graph.shapes[last] = part.after[0].input_shape if part.after else part.output_shape
        return self._through(part.after, both, graph, values)

    def _parallel(self, part: Parallel, x: str, graph: Graph, values: dict[str, str]) -> str:
        path, count = part.path, len(part.branches)
        given = [x] * count
        if part.split:
            given = graph.split(
                x, [part.input_shape[0] // count] * count, [f"{path}/{index}" for index in range(count)], path
            )
        gives: list[str] = []
        for index, (branch, piece) in enumerate(zip(part.branches, given, strict=True)):
            if part.cascade and branch and gives:
                piece = graph.node("Add", [piece, gives[-1]], f"{path}/{index}/cascaded")
            gives.append(self._through(branch, piece, graph, values))
        graph.shapes[path] = part.output_shape
        match part.combine:
            case "concat":
                return graph.node("Concat", gives, path, axis=1)
            case "add":
                return graph.node("Sum", gives, path)
            case "mean":
                return graph.node("Mean", gives, path)
            case _:
                assert_never(part.combine)

    def __repr__(self) -> str:
        return f"ResNet({self.network.name!r}, {self.dtype!r})"


def _tensor(name: str, array: Array) -> TensorProto:
    return numpy_helper.from_array(array, name)
