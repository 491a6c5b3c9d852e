"""Wrap an ONNX file for import: its graph as ours, and its outputs."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor
from onnx.reference import ReferenceEvaluator

from resnet_spec.checkpoints.formats.onnx_file import read as read_checkpoint
from resnet_spec.importing.foreign import ForeignOutputs, ForeignStep
from resnet_spec.importing.graph import MAX_VALUES, Builder, Graph, Index, Node, Refused, Site, Value
from resnet_spec.importing.problems import ImportRefused
from resnet_spec.weights.canonical import Array
from resnet_spec_onnx.hypotheses import Hypotheses
from resnet_spec_onnx.run import make_evaluator

Shape3 = tuple[int, int, int]

MIN_OPSET = 11

MAX_NODES = 20_000
"""Most nodes of a file: more than the largest networks have, few enough to be read in minutes."""

MAX_SHAPE_VALUES = 1024
"""Most values of an array that may say the shape of another."""

MAX_CONSTANT = 2**22
"""How many values constants that nodes compute may have beside four times those in the file."""

TYPES: Mapping[int, str] = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.DOUBLE: "float64"}
"""The types of images that are read."""

NOT_GROWING = {
    *("Identity", "Cast", "Shape", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose"),
    *("Concat", "Split", "Neg", "Abs", "Sqrt", "Floor", "Ceil", "ReduceProd", "ReduceSum"),
}
"""Operators whose outputs are no larger than their inputs."""


class OnnxModel:
    """The model in an ONNX file. No code in it is run: ONNX has none."""

    classes: Mapping[str, str] = {}

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"no file named {str(path)!r}")
        self.proto, self.constants = _read_file(self.path)
        self.name = self.path.stem
        graph = self.proto.graph
        inputs = [value for value in graph.input if value.name not in self.constants]
        if len(inputs) != 1:
            raise ImportRefused(
                f"the graph has {len(inputs)} inputs, and a spec has one: {[value.name for value in inputs]}"
            )
        opset = max((item.version for item in self.proto.opset_import if item.domain in ("", "ai.onnx")), default=0)
        if opset < MIN_OPSET:
            raise ImportRefused(f"the file uses opset {opset}; {MIN_OPSET} and later can be read")
        self.input = inputs[0]
        kind = self.input.type.tensor_type
        dims = [item.dim_value for item in kind.shape.dim]
        if math.prod(dims) > MAX_VALUES:
            raise ImportRefused(f"images of shape {dims} have more than {MAX_VALUES:,} values")
        number: Any = kind.elem_type
        if number not in TYPES:
            name = onnx.TensorProto.DataType.Name(number).lower()
            raise ImportRefused(
                f"the input {self.input.name} is of the type {name}, and what can be compared is float or double",
                remedy="export the model in float32, and without the conversion of its images",
            )
        self.dtype = TYPES[number]
        if len(dims) != 4:
            raise ImportRefused(f"the input {self.input.name} has {len(dims)} axes, and images have 4")
        self.batch = dims[0] or 2
        self.is_channels_last = dims[3] in (1, 3) and dims[1] not in (1, 3)
        sizes = [dims[3], dims[1], dims[2]] if self.is_channels_last else dims[1:]
        self.sizes = sizes
        self.input_shape: Shape3 | None = (sizes[0], sizes[1], sizes[2]) if all(sizes) else None

    def graph(self, input_shape: Shape3, until: str = "") -> Graph:
        """Return the graph for images of a shape. ``until`` is the name of one of the file's values."""
        if any(size and size != given for size, given in zip(self.sizes, input_shape, strict=True)):
            raise ImportRefused(f"the file takes images of {self.input_shape} only")
        return Reader(self, input_shape).read(until)

    def run(self, images: Array, until: str = "") -> ForeignOutputs:
        """Evaluate the model."""
        x = images.astype(self.dtype)
        if self.is_channels_last:
            x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        proto = _ending_at(self.proto, until) if until else self.proto
        names = [value.name for value in proto.graph.output]
        count = self.input.type.tensor_type.shape.dim[0].dim_value or len(x)
        repeated = np.resize(x, (-(-len(x) // count) * count, *x.shape[1:]))
        try:
            evaluator = make_evaluator(proto, self.dtype)
            rows = [
                evaluator.run(names, {self.input.name: batch}) for batch in np.split(repeated, len(repeated) // count)
            ]
        except Exception as error:  # evaluators raise errors of any kind
            message = str(error).strip().splitlines() or [type(error).__name__]
            raise ImportRefused(f"{self.path} can't be evaluated on images of shape {x.shape}: {message[0]}") from error
        columns = [np.concatenate(column)[: len(x)] for column in zip(*rows, strict=True)]
        return ForeignOutputs(tuple(array.astype(np.float64) for array in columns))

    def step(self, images: Array, labels: Array) -> ForeignStep | None:
        """Return None: a file does not train."""
        return None


def _read_file(path: Path) -> tuple[ModelProto, dict[str, Array]]:
    """Return the model in a file and its constants. Files that attack their reader are refused."""
    try:
        read_checkpoint(str(path))  # raises CheckpointError for arrays that are not there
        proto = onnx.load(str(path), load_external_data=False)
        _check_external_data(path, proto)
        onnx.checker.check_model(str(path))
        for tensor in proto.graph.initializer:
            if tensor.external_data:
                load_external_data_for_tensor(tensor, str(path.parent))
                tensor.ClearField("external_data")
        _drop_unused(proto)
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    except Exception as error:  # protobuf, onnx and the operating system each have classes of their own
        message = str(error).strip().splitlines()
        raise ImportRefused(
            f"{path} is no ONNX model that can be read: {message[0] if message else 'damaged'}"
        ) from error
    if proto.functions:
        raise ImportRefused(f"{path} defines functions; inline them with onnx.inliner.inline_local_functions first")
    if len(proto.graph.node) > MAX_NODES:
        raise ImportRefused(f"{path} has {len(proto.graph.node):,} nodes; at most {MAX_NODES:,} are read")
    return proto, constants


def _drop_unused(proto: ModelProto) -> None:
    """Drop the nodes on which no output depends, so that what no spec says is never run."""
    needed = {value.name for value in proto.graph.output}
    kept: list[NodeProto] = []
    for node in reversed(proto.graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(kept))


def _ending_at(proto: ModelProto, name: str) -> ModelProto:
    """Return a model whose only output is one of its values."""
    ended = ModelProto()
    ended.CopyFrom(proto)
    del ended.graph.output[:]
    ended.graph.output.append(
        helper.make_tensor_value_info(name, proto.graph.input[0].type.tensor_type.elem_type, None)
    )
    _drop_unused(ended)
    return ended


def _check_external_data(path: Path, proto: ModelProto) -> None:
    """Raise ValueError for weights that are not in plain files beside the model's, or larger than those."""
    for tensor in proto.graph.initializer:
        for item in tensor.external_data:
            if item.key == "location":
                file = path.parent / item.value
                if file.is_symlink() or not file.is_file() or file.resolve().parent != path.parent.resolve():
                    raise ValueError(f"the weights of {tensor.name} are in {item.value!r}, which is no file beside it")
                if file.stat().st_blocks * 512 < file.stat().st_size // 2:
                    raise ValueError(f"the file {item.value!r} of weights is mostly empty")


@dataclass(frozen=True, slots=True)
class Call:
    """A node with its attributes, and its inputs: values that depend on the images, constants, or None."""

    node: NodeProto
    attributes: Mapping[str, Any]
    inputs: tuple[Value | Array | None, ...]
    names: tuple[str, ...]

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, texts as such."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def constant(self, index: int) -> Array | None:
        """Return an input that is a constant; None if there is none. Raises Refused if it depends on the images."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if isinstance(value, Value):
            raise Refused("an argument that depends on the images")
        return value

    def value(self, index: int = 0) -> Value:
        """Return an input that depends on the images. Raises Refused if it is a constant."""
        value = self.inputs[index]
        if not isinstance(value, Value):
            raise Refused("it reads a constant where values are expected")
        return value


class Reader:
    """Reads the nodes of a file in order."""

    def __init__(self, model: OnnxModel, input_shape: Shape3) -> None:
        self.model = model
        self.builder = Builder(input_shape)
        self.batch = model.batch
        self.weights: dict[str, Array] = {}
        paths = [node_path(node).split(".") for node in model.proto.graph.node]
        self.scopes = {".".join(names[:count]) for names in paths for count in range(1, len(names))}
        self.known: dict[str, Value | Array] = dict(model.constants)
        images = Value(self.builder.input)
        if model.is_channels_last:
            index = np.moveaxis(images.indices(), 0, 2)
            images = self.builder.rearrange(images, index)
        self.known[model.input.name] = images
        self.site = Site()
        self.room = MAX_CONSTANT + 4 * sum(array.size for array in model.constants.values())
        self.hypotheses = Hypotheses(self)
        self.notes: list[str] = []

    def read(self, until: str = "") -> Graph:
        """Return the graph."""
        from resnet_spec_onnx.nodes import HANDLERS

        for node in self.model.proto.graph.node:
            self._read_node(node, HANDLERS)
            if until and until in node.output:
                break
        names = [until] if until else [value.name for value in self.model.proto.graph.output]
        missing = [name for name in names if not isinstance(self.known.get(name), Value)]
        if missing:
            raise ImportRefused(f"the output {missing[0]} does not depend on the images, or there is none of that name")
        outputs = tuple(self._output(name, value) for name in names if isinstance(value := self.known[name], Value))
        return Graph(self.builder.input, outputs, self.weights, notes=tuple(self.notes), has_modules=bool(self.scopes))

    def _output(self, name: str, value: Value) -> Node:
        """Return the node of an output, whose channels may be last as the images' are. Raises ImportRefused."""
        try:
            return self.builder.node_of(value, self.site)
        except Refused as error:
            problem = f"{name}: {error}"
        if self.model.is_channels_last:
            with suppress(Refused):
                node, _ = self.builder.channels_of(value, -1, self.site)
                self.notes.append(f"the output {name} has its channels last in the file, and first in the spec")
                return node
        raise ImportRefused("the file rearranges its output as no spec does", [problem])

    def _read_node(self, node: NodeProto, handlers: Mapping[str, Any]) -> None:
        inputs = tuple(self.known.get(name) if name else None for name in node.input)
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        call = Call(node, attributes, inputs, tuple(node.input))
        self.site = self._site(node)
        if not any(isinstance(value, Value) for value in inputs):
            self._read_constants(node, inputs)
            return
        if node.op_type == "Shape":
            self.known[node.output[0]] = np.array([self.batch, *call.value().shape], np.int64)
            return
        self.hypotheses.add(node)
        try:
            if (guessed := self.hypotheses.value(node)) is not None:
                self.known[node.output[0]] = guessed
                return
            handler = handlers.get(node.op_type)
            if handler is None or node.domain not in ("", "ai.onnx"):
                raise Refused("no operation of the language is this one")
            sources = [value.node for value in inputs if isinstance(value, Value)]
            if any(source.kind == "refused" for source in sources):
                raise Refused("")  # their shapes are not known
            results = handler(self, call)
            values = results if isinstance(results, list) else [results]
        except (Refused, ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            reason = str(error) if isinstance(error, Refused) else f"it is called in a way that is not known ({error})"
            read = [value for value in inputs if isinstance(value, Value)]
            values = [self.builder.refuse(read, read[0].shape, self.site, reason) for _ in node.output]
        self.known |= dict(zip(node.output, values, strict=False))

    def _read_constants(self, node: NodeProto, inputs: tuple[Any, ...]) -> None:
        """Record the outputs of a node whose inputs are constants."""
        opsets = {item.domain: item.version for item in self.model.proto.opset_import}
        try:
            found = _evaluate(node, inputs, opsets, self.room)
            size = sum(np.asarray(array).size for array in found.values())
            self.room += 4 * size if node.op_type == "Constant" else -size
            self.known |= found
        except Exception as error:  # ONNX's evaluator raises errors of any kind
            reason = str(error) if isinstance(error, Refused) else f"its constants can't be computed ({error})"
            refused = self.builder.refuse([Value(self.builder.input)], self.builder.input.shape, self.site, reason)
            self.known |= dict.fromkeys(node.output, refused)

    def _site(self, node: NodeProto) -> Site:
        """Return where a node is called: a module that holds others is a scope, and any other a layer."""
        path = node_path(node)
        if not path or path in self.scopes:
            return Site(path, "", "", _describe(node))
        scope, _, name = path.rpartition(".")
        return Site(scope, name, "", _describe(node), is_layer=True)

    # -- for handlers --------------------------------------------------------------------------------------------

    def axis(self, axis: int, ndim: int) -> int:
        """Return an axis without the batch's. Raises Refused for the batch's own."""
        if axis % ndim == 0:
            raise Refused("it mixes the images of a batch")
        return axis % ndim - 1

    def rearranged(self, value: Value, function: Any) -> Value:
        """Return what a function that only rearranges elements makes of a value."""
        size = int(np.prod(value.shape))
        moved = function(np.arange(self.batch * size).reshape(self.batch, *value.shape))
        return self.builder.rearrange(value, self._without_batch(moved, size), self.site)

    def _without_batch(self, whole: Index, size: int) -> Index:
        if (
            whole.ndim == 0
            or len(whole) != self.batch
            or any(not np.array_equal(whole[index], whole[0] + index * size) for index in range(1, self.batch))
        ):
            raise Refused("it mixes the images of a batch, or merges the batch axis with others")
        return whole[0]

    def weight(self, layer: str, own: str, array: Array) -> str:
        """Record a weight under the name of its layer; return the name."""
        name = f"{layer}.{own}" if own else layer
        while name in self.weights and not np.array_equal(self.weights[name], array):
            name = f"{layer}_.{own}" if own else f"{layer}_"
            layer = f"{layer}_"
        self.weights[name] = np.asarray(array)
        return name

    def layer_name(self, names: Mapping[str, str]) -> str:
        """Return the path of a layer by its initializers' names, as PyTorch writes them, or by the node's scope.

        Without either it is ``@`` and a number, which means that the file has no name for it.
        """
        own = {"weight", "bias", "running_mean", "running_var", "gamma", "beta", "tau", "v"}
        paths = {name.rpartition(".")[0] for name in names.values() if name.rpartition(".")[2] in own}
        if len(paths) == 1 and (path := paths.pop()):
            return path
        if self.site.is_layer and self.site.path:
            return self.site.path
        return f"@{len(self.weights)}"


def node_path(node: NodeProto) -> str:
    """Return the path of the module that a node belongs to, by its name, or by what torch's exporter notes; or ""."""
    scopes = next((item.value for item in node.metadata_props if item.key == "pkg.torch.onnx.name_scopes"), "")
    if scopes:
        try:
            names = [str(name) for name in ast.literal_eval(scopes)][1:-1]
        except (ValueError, SyntaxError):
            names = []
        return names[-1] if names else ""
    if node.name.startswith("/"):  # torch's older exporter: /layer1/layer1.0/conv1/Conv
        below: list[str] = []
        for name in node.name.split("/")[1:-1]:
            if below and name.startswith(f"{below[-1]}."):  # a sequential repeats its own name
                below.pop()
            below.append(name)
        return ".".join(below)
    path = node.name.partition("/")[0]
    is_own = bool(node.output) and path == node.output[0].partition("/")[0]  # this project's own files
    return path if is_own and node.name == node.output[0] else ""


def _describe(node: NodeProto) -> str:
    """Return a node's operator and its name or, if it has none, the value that it computes."""
    return f"{node.op_type} {node.name}" if node.name else f"{node.op_type} that gives {next(iter(node.output), '')}"


def _evaluate(node: NodeProto, inputs: tuple[Any, ...], opsets: dict[str, int], room: int) -> dict[str, Array]:
    """Return the outputs of a node whose inputs are constants, if they have at most ``room`` values. Raises Refused."""
    if any(item.type in (item.GRAPH, item.GRAPHS) for item in node.attribute) or node.op_type.startswith("Random"):
        raise Refused("a constant that is computed by a loop, a branch or at random")
    names = [name for name in node.input if name]
    arrays = dict(zip(names, [value for name, value in zip(node.input, inputs, strict=True) if name], strict=True))
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in arrays.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "constant", infos, outputs)
    _check_constant(node, arrays, graph, opsets, room)
    results = ReferenceEvaluator(graph, opsets=opsets).run(None, arrays)
    return dict(zip([name for name in node.output if name], results, strict=True))


def _check_constant(
    node: NodeProto, arrays: Mapping[str, Array], graph: GraphProto, opsets: Mapping[str, int], room: int
) -> None:
    """Raise Refused unless ONNX infers that a node's outputs are of moderate size."""
    if node.op_type == "Constant":
        return
    if node.op_type in NOT_GROWING and sum(array.size for array in arrays.values()) <= room:
        return
    sized = GraphProto()
    sized.CopyFrom(graph)
    small = [(name, array) for name, array in arrays.items() if array.size <= MAX_SHAPE_VALUES]
    sized.initializer.extend(numpy_helper.from_array(array, name) for name, array in small)
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    inferred = onnx.shape_inference.infer_shapes(helper.make_model(sized, opset_imports=imports), data_prop=True)
    for output in inferred.graph.output:
        dims = output.type.tensor_type.shape.dim
        is_known = output.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims)
        if not is_known or math.prod(dim.dim_value for dim in dims) > room:
            raise Refused("a constant whose size is not known, or very large")
