"""A network that writes itself as an ONNX graph: it walks over the tree, and adds the nodes of each part."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, assert_never

from onnx import ModelProto, helper, numpy_helper

from resnet_spec.network.execution import plan_parallel, plan_residual
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Parallel, Part, Residual
from resnet_spec.network.traversal import Rules, propagate
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array
from resnet_spec_onnx.free_size import infer_larger_shapes
from resnet_spec_onnx.graph import INPUT, Graph
from resnet_spec_onnx.layers import add_layer

OPSET = 17
"""The default version of ONNX's operators, which most runtimes support."""

NO_SESSION: tuple[Any, Any, dict[str, str]] = (None, None, {})
"""What a model holds before it runs: later what its session runs, the session, and the names of its values by path.

One tuple, so that another thread never sees the parts of two.
"""


class ResNet:
    """A network with its weights, which can be written as an ONNX model."""

    resnet_spec_backend: ClassVar[str] = "onnx"

    def __init__(self, network: Network, weights: dict[str, Array], dtype: str) -> None:
        self.network = network
        self.weights = weights
        self.dtype = dtype
        self.session = NO_SESSION

    def to_proto(self, *, opset: int = OPSET, batch: int | str = "batch", free_size: bool = False) -> ModelProto:
        """Return the network as an ONNX model, with a free height and width of the images if asked.

        Its input is called ``input``. Its outputs are called by their paths: that of the last part, or the network's
        ``outputs``. Raises ValueError if a part does not allow a free size.
        """
        larger_shapes = infer_larger_shapes(self.network) if free_size else {}
        graph, values = self.to_graph(self.network.parts, opset, batch, larger_shapes)
        outputs = self.network.outputs or (self.network.parts[-1].path,)
        for path in outputs:
            if values[path] != path:  # the output of a chain has the path of its last part
                graph.shapes[path] = self.network.part(path).output_shape
                graph.add_node("Identity", [values[path]], path)
        return self.make_model_proto(graph, self.network.input, outputs)

    def to_graph(
        self,
        parts: tuple[Part, ...],
        opset: int = OPSET,
        batch: int | str = "batch",
        larger_shapes: Mapping[str, Shape] | None = None,
    ) -> tuple[Graph, dict[str, str]]:
        """Return a graph of a row of parts that reads ``input``, and the name of each part's output, by path."""
        graph, values = Graph(self.dtype, opset, batch, larger_shapes=larger_shapes or {}), dict[str, str]()

        def leave(part: Part, x: str, y: str) -> tuple[Part, str]:
            values[part.path] = y
            return part, y

        rules: Rules[str] = Rules(
            leaf=lambda leaf, x: self._add_leaf(leaf, x, graph),
            combine=lambda part, branch, shortcut: _add_combine(part, branch, shortcut, graph),
            join=lambda part, x, outputs: _add_join(part, outputs, graph),
            split=lambda part, x: _add_split(part, x, graph),
            cascade=lambda part, index, piece, previous: graph.add_node(
                "Add", [piece, previous], f"{part.path}/{index}/cascaded"
            ),
            leave=leave,
        )
        propagate(parts, INPUT, rules)
        return graph, values

    def make_model_proto(self, graph: Graph, input_shape: tuple[int, ...], outputs: Collection[str]) -> ModelProto:
        """Return a graph as a model with these outputs."""
        declared = {} if graph.has_free_size else graph.shapes
        inner = [graph.make_value_info(name, shape) for name, shape in declared.items() if name not in outputs]
        graph_proto = helper.make_graph(
            graph.nodes,
            self.network.name,
            [graph.make_value_info(INPUT, input_shape)],
            [graph.make_value_info(name, graph.shapes[name]) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in graph.weights.items()],
            value_info=inner,
        )
        opsets = [helper.make_opsetid("", graph.opset)]
        return helper.make_model(
            graph_proto,
            producer_name="resnet-spec",
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),
        )

    def _add_leaf(self, leaf: Leaf, x: str, graph: Graph) -> tuple[Part, str]:
        names = [weight.name for weight in leaf.op.weights(leaf.input_shape)]
        weights = {name: self.weights[leaf.weight_path(name)] for name in names}
        graph.shapes[leaf.path] = leaf.output_shape
        return leaf, add_layer(leaf, weights, x, graph)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "session": NO_SESSION}  # a session cannot be copied or pickled

    def __repr__(self) -> str:
        return f"ResNet({self.network.name!r}, {self.dtype!r})"


def _add_combine(part: Residual, branch: str, shortcut: str, graph: Graph) -> str:
    name = f"{part.path}/{part.combine}" if part.after else part.path
    graph.shapes[name] = part.after[0].input_shape if part.after else part.output_shape
    match part.combine:
        case "add":
            return graph.add_node("Add", [branch, shortcut], name)
        case "multiply":
            gate = _add_axes(branch, plan_residual(part).missing_axes, f"{part.path}/gate", graph)
            return graph.add_node("Mul", [shortcut, gate], name)
        case "concat":
            return graph.add_node("Concat", [shortcut, branch], name, axis=1)
        case _:
            assert_never(part.combine)


def _add_split(part: Parallel, x: str, graph: Graph) -> list[str]:
    if not part.pieces:
        return [x] * len(part.branches)
    names = [f"{part.path}/{index}" for index in range(len(part.branches))]
    return graph.add_split(x, part.pieces, names, part.path)


def _add_axes(x: str, count: int, output: str, graph: Graph) -> str:
    """Add trailing axes of size 1: (batch, channels) -> (batch, channels, 1, 1)."""
    return graph.add_reshape(x, [0, 0, *[1] * count], output) if count else x


def _add_chain(kind: str, values: list[str], path: str, graph: Graph) -> str:
    """Add a node of a kind for the first two values, then one for its result and the next value, and so on."""
    y = values[0]
    for index, value in enumerate(values[1:], 2):
        y = graph.add_node(kind, [y, value], path if index == len(values) else f"{path}/{index}/product")
    return y if values[1:] else graph.add_node("Identity", [y], path)


def _add_resize(part: Parallel, index: int, x: str, graph: Graph) -> str:
    """Add the nearest pixels of a branch's map, as many as the first branch has."""
    shape, first = (
        row[-1].output_shape if row else part.input_shape for row in (part.branches[index], part.branches[0])
    )
    if not part.resize or len(shape) != 3 or shape[1:] == first[1:]:
        return x
    for axis in (2, 3):
        size = first[axis - 1]
        indices = [position * shape[axis - 1] // size for position in range(size)]
        name = f"{part.path}/{index}/resized{axis}"
        x = graph.add_node("Gather", [x, graph.add_integers(f"{name}/indices", indices)], name, axis=axis)
    return x


def _add_join(part: Parallel, outputs: list[str], graph: Graph) -> str:
    graph.shapes[part.path] = part.output_shape
    outputs = [_add_resize(part, index, output, graph) for index, output in enumerate(outputs)]
    match part.combine:
        case "concat":
            return graph.add_node("Concat", outputs, part.path, axis=1)
        case "add":
            return graph.add_node("Sum", outputs, part.path)
        case "mean":
            return graph.add_node("Mean", outputs, part.path)
        case "multiply" | "subtract":
            missing = plan_parallel(part).missing_axes
            factors = [
                _add_axes(output, count, f"{part.path}/{index}/axes", graph)
                for index, (output, count) in enumerate(zip(outputs, missing, strict=True))
            ]
            return _add_chain("Mul" if part.combine == "multiply" else "Sub", factors, part.path, graph)
        case _:
            assert_never(part.combine)
