"""Calls that compute one of our operations together: guess which, and try it.

Exporters write a normalisation that ONNX lacks as a dozen operators, each in its own way. What such calls compute is
evaluated and compared with the operations that they may be, so that no form needs a pattern.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from resnet_spec import ops
from resnet_spec.importing.graph import Node, Refused, Value
from resnet_spec.importing.norm_candidates import find_norm_candidates
from resnet_spec.importing.rearrangements import positions
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf
from resnet_spec.ops import Op, Shape, ShapeError
from resnet_spec.weights.canonical import Array
from resnet_spec_onnx.graph import INPUT
from resnet_spec_onnx.modules import ResNet
from resnet_spec_onnx.run import make_evaluator

if TYPE_CHECKING:
    from resnet_spec_onnx.foreign import Reader

MAX_CALLS = 40
"""Most calls that one operation may be written as."""

MAX_DISTANCE = 8
"""How many calls after a telling one an operation may end."""

TOLERANCE = 1e-6
"""The largest error, relative to the largest value, of a guess that is right: files hold numbers in float32."""

MAX_EPSILON = 0.01

_INNER = {
    *("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Reciprocal", "Sigmoid", "Max", "Min", "Neg", "Abs", "Identity"),
    *("Cast", "ReduceMean", "ReduceSum", "ReduceL2", "ReduceSumSquare", "GlobalAveragePool", "Reshape", "Transpose"),
    *("Squeeze", "Unsqueeze", "Expand", "Flatten", "Pad", "Clip"),
}
"""The operators of which others are composed."""


@dataclass(frozen=True, slots=True)
class _Region:
    """Calls that compute a value from another one, and the constants that they read, by name."""

    source: str
    nodes: tuple[NodeProto, ...]
    constants: dict[str, Array]
    output: str


class Hypotheses:
    """Tries what calls compute together, as a reader comes to the last of them."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.producers: dict[str, tuple[int, NodeProto]] = {}
        self.distances: dict[str, int] = {}

    def add(self, node: NodeProto) -> None:
        """Note a node that is read, and how far behind a telling one it is."""
        index = len(self.producers)
        near = [self.distances[name] + 1 for name in node.input if name in self.distances]
        distance = 0 if self._is_telling(node) else min(near, default=MAX_DISTANCE + 1)
        for name in node.output:
            self.producers[name] = index, node
            if distance <= MAX_DISTANCE and self._is_inner(node):
                self.distances[name] = distance

    def _is_inner(self, node: NodeProto) -> bool:
        """Return whether a node may be one of several that are an operation together."""
        if node.op_type not in ("MatMul", "Conv", "MaxPool"):
            return node.op_type in _INNER
        before = self.producers.get(node.input[0])  # what is padded, or the first of an interpolation's two products
        return self._is_telling(node) or (before is not None and self._is_telling(before[1]))

    def _is_telling(self, node: NodeProto) -> bool:
        """Return whether a node hardly occurs but in what no single operator says."""
        if node.op_type == "MatMul":
            return isinstance(self.reader.known.get(node.input[0]), np.ndarray)
        if node.op_type == "Pad":
            return any(item.name == "mode" and item.s in (b"reflect", b"edge") for item in node.attribute)
        if node.op_type == "Pow":
            exponent = self.reader.known.get(node.input[1])
            return isinstance(exponent, np.ndarray) and exponent.size == 1 and abs(float(exponent.item())) == 0.5
        return node.op_type in ("Sqrt", "ReduceL2")

    def value(self, node: NodeProto) -> Value | None:
        """Return what a node computes together with those before it, if that is an operation."""
        if len(node.output) != 1 or node.output[0] not in self.distances:
            return None
        regions = list(self._regions(node.output[0]))
        for region in reversed(regions):  # an operation rather than its last steps
            source = self.reader.known[region.source]
            if isinstance(source, Value) and source.node.kind != "refused":
                found = self._value(region, source)
                if found is not None:
                    return found
        return None

    def _regions(self, output: str) -> Iterator[_Region]:
        """Yield the calls behind the values on which an output depends alone, the nearest first."""
        frontier, nodes, constants = {output}, list[NodeProto](), dict[str, Array]()
        while len(nodes) < MAX_CALLS:
            last = max(frontier, key=lambda name: self.producers.get(name, (-1, None))[0])
            if last not in self.producers:
                return
            _, node = self.producers[last]
            if not self._is_inner(node):
                return
            nodes.insert(0, node)
            frontier -= set(node.output)
            for name in filter(None, node.input):
                known = self.reader.known.get(name)
                if isinstance(known, np.ndarray):
                    constants[name] = known
                elif known is not None:
                    frontier.add(name)
            if not frontier:
                return
            if len(frontier) == 1 and any(map(self._is_telling, nodes)):
                yield _Region(next(iter(frontier)), tuple(nodes), dict(constants), output)

    # -- guesses -------------------------------------------------------------------------------------------------

    def _value(self, region: _Region, source: Value) -> Value | None:
        """Return what calls compute, with the channels first or last, if that is an operation."""
        for axis in (0, -1) if len(source.shape) == 3 else (0,):
            try:
                node, see = self.reader.builder.channels_of(source, axis, self.reader.site)
            except Refused:
                continue
            found = self._try_guesses(region, source.shape, node, see, keeps_pixels=axis == -1)
            if found is not None:
                return found
        return None

    def _try_guesses(
        self, region: _Region, shape: Shape, node: Node, see: Callable[[Node], Value], *, keeps_pixels: bool
    ) -> Value | None:
        """Return the first operation on a node that computes what calls do, which see the node through ``see``."""
        weights, names = _weights(region)
        guesses = [op for op in _guesses(region, weights, node.shape) if _fits(op, node.shape, weights, keeps_pixels)]
        if not guesses:
            return None
        images, expected = self._evaluate(region, shape)
        inputs = np.empty((len(images), math.prod(node.shape)))
        inputs[:, see(node).indices().reshape(-1)] = images.reshape(len(images), -1)
        for op in guesses:
            added = see(self.reader.builder.add_op(op, node, self.reader.site))
            output = _run(op, inputs.reshape(-1, *node.shape), weights).reshape(len(images), -1)
            result = output[:, added.indices().reshape(-1)]
            if result.size == expected.size and _is_close(result.reshape(expected.shape), expected):
                layer = self.reader.layer_name(names)
                arrays = {own: region.constants[name].reshape(-1) for own, name in names.items()}
                added.node.weights = {own: self.reader.weight(layer, own, array) for own, array in arrays.items()}
                return self.reader.builder.rearrange(added, positions(expected.shape[1:]))
        return None

    def _evaluate(self, region: _Region, shape: Shape) -> tuple[Array, Array]:
        """Return random images and what the calls make of them, in float64."""
        images = np.random.default_rng(0).standard_normal((self.reader.batch, *shape))
        double = TensorProto.DOUBLE
        constants = {
            name: array.astype(np.float64) if array.dtype == np.float32 else array
            for name, array in region.constants.items()
        }
        graph = helper.make_graph(
            [_in_double(node) for node in region.nodes],
            "calls",
            [helper.make_tensor_value_info(region.source, double, images.shape)],
            [helper.make_tensor_value_info(region.output, double, None)],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        opsets = [*self.reader.model.proto.opset_import]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=self.reader.model.proto.ir_version)
        try:
            (output,) = make_evaluator(model, "float64").run([region.output], {region.source: images})
        except Exception as error:  # ONNX's evaluator raises errors of any kind
            raise Refused(f"what it computes together with others can't be evaluated ({error})") from None
        return images, output


def _in_double(node: NodeProto) -> NodeProto:
    """Return a node that casts to float64 where it casts to float32."""
    if node.op_type != "Cast":
        return node
    return helper.make_node("Cast", node.input, node.output, name=node.name, to=TensorProto.DOUBLE)


def _weights(region: _Region) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the vectors that calls read by the names that they have as weights of an operation, and the file's names.

    Which one a vector is follows from the operator that reads it.
    """
    gates = {name for node in region.nodes if node.op_type == "Sigmoid" for name in node.input}
    weights: dict[str, Array] = {}
    names: dict[str, str] = {}
    for node in region.nodes:
        own = {"Add": "bias", "Max": "tau", "Mul": "v" if set(node.output) & gates else "weight"}.get(node.op_type, "")
        for name in node.input:
            array = region.constants.get(name)
            if own and array is not None and array.size > 1:
                weights[own], names[own] = array.reshape(-1).astype(np.float64), name
    return weights, names


def _guesses(region: _Region, weights: dict[str, Array], shape: Shape) -> Iterator[Op]:
    """Yield operations that calls may be, by the names of their weights and by the constants that they read."""
    scalars = [float(array.reshape(())) for array in region.constants.values() if array.size == 1]
    epsilons = [number for number in dict.fromkeys(scalars) if 0 < number < MAX_EPSILON]
    integers = {int(size) for array in region.constants.values() if array.dtype == np.int64 for size in array.flat}
    groups = sorted(number for number in integers if 0 < number <= shape[0] and shape[0] % number == 0)
    for epsilon in epsilons:
        yield from find_norm_candidates(weights, epsilon, groups)
    if not weights and len(shape) == 3:
        yield from _windows(region, shape)


def _windows(region: _Region, shape: Shape) -> Iterator[Op]:
    """Yield operations on windows of a map that calls may be."""
    for node in region.nodes:
        attributes: dict[str, Any] = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type == "Conv":
            yield ops.BlurPool(int(attributes.get("strides", [1])[0]))
        if node.op_type == "MaxPool":  # copies of the edge never change a maximum
            kernel, strides = attributes["kernel_shape"], attributes.get("strides", [1, 1])
            yield ops.MaxPool((kernel[0], kernel[1]), (strides[0], strides[1]), "same")
            yield ops.MaxPool((kernel[0], kernel[1]), (strides[0], strides[1]), "half")
    matrices = [array for array in region.constants.values() if array.ndim == 2]
    if len(matrices) == 2:
        rows, columns = matrices[-1].shape[0], matrices[0].shape[1]
        factor = rows // shape[1]
        if factor > 1:
            yield from (ops.Upsample(factor), ops.Upsample(factor, "bilinear"))
        yield ops.AdaptiveAvgPool((rows, columns))
        yield ops.AdaptiveAvgPool((matrices[0].shape[0], matrices[1].shape[1]))


def _fits(op: Op, shape: Shape, weights: dict[str, Array], keeps_pixels: bool) -> bool:
    """Return whether an operation takes a shape and weights of these sizes, and gives as many pixels if it must."""
    try:
        output_shape = op.output_shape(shape)
    except ShapeError:
        return False
    needed = {weight.name: math.prod(weight.shape) for weight in op.weights(shape)}
    is_kept = not keeps_pixels or output_shape[1:] == shape[1:]
    return is_kept and needed == {name: array.size for name, array in weights.items()}


def _run(op: Op, images: Array, weights: dict[str, Array]) -> Array:
    """Evaluate an operation on images, as this project exports it."""
    shape = images.shape[1:]
    leaf = Leaf("layer", op, shape, op.output_shape(shape))
    shaped = {f"layer.{weight.name}": weights[weight.name].reshape(weight.shape) for weight in op.weights(shape)}
    network = Network("layer", (shape[0], 1, 1), (leaf,))
    model = ResNet(network, shaped, "float64")
    graph, values = model.to_graph(network.parts, batch=len(images))
    graph.shapes[leaf.path] = leaf.output_shape
    proto = model.make_model_proto(graph, shape, [values[leaf.path]])
    (output,) = make_evaluator(proto, "float64").run([values[leaf.path]], {INPUT: images})
    return np.asarray(output)


def _is_close(result: Array, expected: Array) -> bool:
    return bool(
        np.abs(result - expected).max(initial=0) <= TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0)))
    )
