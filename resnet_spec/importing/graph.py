"""The dataflow graph of a model: calls of our operations and places where values meet or part. Shapes lack the batch.

Readers add nodes through ``Builder``. A value is a node's output seen through a rearrangement, such as a transposition;
what a rearrangement computes is known only when something reads it, so it is kept as an array of indices until then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from resnet_spec.importing.rearrangements import (
    describe_rearrangement,
    is_identity,
    is_nearest,
    positions,
    shrink_broadcast,
)
from resnet_spec.importing.reductions import Reduction, reduction_op
from resnet_spec.network.shape_rules import joined_shape
from resnet_spec.ops import Flatten, GlobalAvgPool, GlobalMaxPool, Op, Scale, Shape, ShapeError, SplitSoftmax
from resnet_spec.weights.canonical import Array

Combine: TypeAlias = Literal["add", "multiply", "subtract", "concat"]
Index: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
Curve: TypeAlias = Callable[..., Array]
"""A function of each element of one array, or of two."""

MAX_VALUES = 2**27
"""Most values of a map for one image: 1 GiB in float64."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a model calls an operation.

    Attributes:
        scope: The path of the module whose code makes the call.
        name: A name for the layer, such as that of its module; "" if it has none.
        source: The file and line of the call, if they are known.
        operation: The operation as the model's author knows it: ``torch.add``, ``Conv``.
        is_layer: Whether ``scope`` and ``name`` are the path of a module of its own, called once.
    """

    scope: str = ""
    name: str = ""
    source: str = ""
    operation: str = ""
    is_layer: bool = False

    @property
    def path(self) -> str:
        """The path that the layer would have below the module that calls it."""
        return ".".join(filter(None, [self.scope, self.name]))

    def __str__(self) -> str:
        place = f" at {self.source}" if self.source else ""
        return f"{self.path or 'the model'}: {self.operation}{place}"


@dataclass(eq=False, slots=True)
class Node:
    """One value of a graph and how it is computed.

    Attributes:
        kind: "op" is a call of one of our operations, "merge" combines several values, "piece" is a range of channels,
            "resized" the nearest pixels, as many as a map of another size has, "curve" a function of each element that
            is not recognised yet, and "refused" what the language can't say.
        weights: The name in ``Graph.weights`` of each of the operation's weights, by the operation's name for it.
        curve: The function of a curve, which takes as many arrays as there are inputs.
        channels: The first channel of a piece, and the one after the last.
        reason: Why a node is refused, or will be if it is still in the graph at the end.
    """

    kind: Literal["input", "op", "merge", "piece", "resized", "curve", "refused"]
    inputs: tuple[Node, ...]
    shape: Shape
    site: Site = field(default_factory=Site)
    op: Op | None = None
    combine: Combine | None = None
    weights: Mapping[str, str] = field(default_factory=dict)
    curve: Curve | None = None
    channels: tuple[int, int] = (0, 0)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Value:
    """A node's output, seen through a rearrangement: an array of indices into it, or None for the output itself."""

    node: Node
    index: Index | None = None
    site: Site | None = field(default=None, compare=False)

    @property
    def shape(self) -> Shape:
        """The shape without the batch axis."""
        return self.node.shape if self.index is None else self.index.shape

    def indices(self) -> Index:
        """Return the indices into the node's output."""
        return positions(self.node.shape) if self.index is None else self.index


@dataclass(slots=True)
class Graph:
    """What a reader returns: the output of a model, and all weights by name, in PyTorch's layouts.

    ``order`` lists the model's own names of weights, as its ``state_dict`` does, and ``control_flow`` the places where
    the model looks at numbers that depend on the images, by which it may choose what to compute. ``notes`` say in
    sentences what the reader left out. ``has_modules`` is whether layers without weights know the modules that call
    them.
    """

    input: Node
    outputs: tuple[Node, ...]
    weights: dict[str, Array]
    order: tuple[str, ...] = ()
    control_flow: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    has_modules: bool = True

    def has_refused(self) -> bool:
        """Return whether an output depends on what the language can't say."""
        return any(node.kind == "refused" for node in self.nodes())

    def nodes(self) -> list[Node]:
        """Return the nodes on which the outputs depend, each after its inputs."""
        return list(topological(self.outputs))


def topological(outputs: Sequence[Node]) -> Iterator[Node]:
    """Yield the nodes on which others depend, each after its inputs. Networks are deep, so this does not recurse."""
    seen: set[int] = set()
    stack = [(node, False) for node in reversed(outputs)]
    while stack:
        node, is_done = stack.pop()
        if is_done:
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack += [(inner, False) for inner in reversed(node.inputs)]


class Refused(ValueError):
    """A call that the language can't say."""


class Builder:
    """Adds nodes to a graph for a reader, and recognises what rearrangements and sums of pieces compute."""

    def __init__(self, input_shape: Shape) -> None:
        self.input = Node("input", (), input_shape)
        self._resolved: dict[tuple[int, bytes, Shape], Node] = {}
        self._concats: dict[tuple[int, ...], Node] = {}
        self._partial: dict[int, tuple[Reduction, Value, tuple[int, ...], bool]] = {}

    # -- values --------------------------------------------------------------------------------------------------

    def rearrange(self, value: Value, index: Index, site: Site | None = None) -> Value:
        """Return a value with its elements picked by their positions in it."""
        if value.index is not None and index.size < value.index.size:  # a piece of what was shuffled first
            with suppress(Refused):
                value = Value(self.node_of(value, site or value.node.site))
        node, chosen = value.node, value.indices().reshape(-1)[index]
        while isinstance(node.op, Flatten):  # which keeps the order of elements
            node = node.inputs[0]
        return Value(node, None if is_identity(chosen, node.shape) else chosen, site or value.site)

    def node_of(self, value: Value, site: Site) -> Node:
        """Return a node that computes a value, rearranged as it is. Raises Refused if no operation does that."""
        if value.index is None:
            return value.node
        key = id(value.node), value.index.tobytes(), value.index.shape
        if key not in self._resolved:
            self._resolved[key] = self._add_rearrangement(value, value.index, value.site or site)
        return self._resolved[key]

    def _add_rearrangement(self, value: Value, index: Index, site: Site) -> Node:
        found = describe_rearrangement(index, value.node.shape)
        if found is None and is_nearest(index, value.node.shape):
            return Node("resized", (value.node,), index.shape, site)
        if found is None:
            raise Refused(f"no operation turns a map of shape {value.node.shape} into {index.shape} in this way")
        if isinstance(found, tuple):
            return Node("piece", (value.node,), index.shape, site, channels=found)
        pooled = value.node.op
        if isinstance(found, Flatten) and isinstance(pooled, GlobalAvgPool | GlobalMaxPool) and pooled.keepdims:
            return replace(value.node, op=replace(pooled, keepdims=False), shape=index.shape)
        return Node("op", (value.node,), index.shape, replace(site, name="", is_layer=False), op=found)

    def channels_of(self, value: Value, axis: int, site: Site) -> tuple[Node, Callable[[Node], Value]]:
        """Return a node whose channels are an axis of a value, and how to see its successor as the value was seen.

        (height, width, channels) is a node's output with its channels moved; a linear layer works on its pixels.
        """
        if value.index is None and axis % len(value.shape) == 0:
            return value.node, Value
        moved = np.moveaxis(value.indices(), axis, 0)
        plain = moved.size == np.prod(value.node.shape) and moved.shape[0] == value.node.shape[0]
        if len(value.shape) == 1 or not plain or not is_identity(moved.reshape(value.node.shape), value.node.shape):
            if axis % len(value.shape) == 0:
                return self.node_of(value, site), Value
            raise Refused("its channels are not where this operation looks for them")
        rest = moved.shape[1:]

        def see(node: Node) -> Value:
            index = positions((node.shape[0], *rest))
            return self.rearrange(Value(node), np.moveaxis(index, 0, axis))

        return value.node, see

    # -- nodes ---------------------------------------------------------------------------------------------------

    def add(self, op: Op, value: Value, site: Site, weights: Mapping[str, str] | None = None) -> Value:
        """Add a call of an operation on a value. Raises Refused."""
        return Value(self.add_op(op, self.node_of(value, site), site, weights))

    def add_op(self, op: Op, node: Node, site: Site, weights: Mapping[str, str] | None = None) -> Node:
        """Add a call of an operation on a node. Raises Refused if the shape does not fit."""
        if node.kind == "refused":  # its shape is unknown
            return node
        try:
            shape = op.output_shape(node.shape)
        except ShapeError as error:
            raise Refused(str(error)) from None
        return Node("op", (node,), _check_size(shape), site, op=op, weights=weights or {})

    def refuse(self, inputs: Sequence[Value], shape: Shape, site: Site, reason: str) -> Value:
        """Add a node for a call that the language can't say."""
        return Value(Node("refused", tuple(value.node for value in inputs), shape, site, reason=reason))

    def elementwise(self, op: Op, value: Value, site: Site) -> Value:
        """Add a function of each element, which commutes with rearrangements."""
        value = self._picked(value, site)
        return Value(self.add_op(op, value.node, site), value.index)

    def elementwise_with(self, op: Op, value: Value, site: Site, weights: Mapping[str, str]) -> Value:
        """Add a function of each element that has weights and commutes with rearrangements all the same."""
        value = self._picked(value, site)
        return Value(self.add_op(op, value.node, site, weights), value.index)

    def _is_said(self, value: Value, site: Site) -> bool:
        """Return whether an operation rearranges a node as a value shows it."""
        try:
            self.node_of(value, site)
        except Refused:
            return False
        return True

    def _picked(self, value: Value, site: Site) -> Value:
        """Return a value of which a part is picked as that of a node, so that what reads the part does not read all."""
        is_part = value.index is not None and value.index.size < np.prod(value.node.shape)
        return Value(self.node_of(value, site)) if is_part and self._is_said(value, site) else value

    def curve(self, curve: Curve, values: Sequence[Value], site: Site) -> Value:
        """Add a function of each element that is recognised later. Two values must be seen alike. Raises Refused."""
        values = [self._picked(value, site) for value in values]
        first = values[0]
        if any(value.node.shape != first.node.shape for value in values) or not _seen_alike(values):
            nodes = tuple(self.node_of(value, site) for value in values)
            return Value(Node("curve", nodes, nodes[0].shape, site, curve=curve))
        nodes = tuple(value.node for value in values)
        return Value(Node("curve", nodes, first.node.shape, site, curve=curve), first.index)

    def merge(self, combine: Combine, values: Sequence[Value], site: Site) -> Value:
        """Add a place where values meet. Raises Refused if their shapes don't fit."""
        if combine == "multiply":
            return self._multiply(values, site)
        if combine != "concat" and _seen_alike(values) and len({value.node.shape for value in values}) == 1:
            shape = values[0].node.shape
            nodes = tuple(value.node for value in values)
            return Value(Node("merge", nodes, shape, site, combine=combine), values[0].index)
        if combine == "add" and (total := self._sum_of_parts(values, site)) is not None:
            return total
        nodes = tuple(self.node_of(value, site) for value in values)
        if combine == "concat":
            return Value(self._concat(nodes, site))
        return Value(self._add_merge(combine, nodes, site))

    def _sum_of_parts(self, values: Sequence[Value], site: Site) -> Value | None:
        """Add the sum of the equal parts of a node's channels; return None if values are not all of them, in order."""
        node, shape = values[0].node, values[0].shape
        if any(value.node is not node or value.shape != shape for value in values):
            return None
        op = reduction_op("sum", np.stack([value.indices() for value in values]), node.shape, (0,))
        return None if op is None else self._add_reduction(op, node, shape, site)

    def _add_merge(self, combine: Combine, nodes: tuple[Node, ...], site: Site) -> Node:
        if any(node.kind == "refused" for node in nodes):
            return next(node for node in nodes if node.kind == "refused")
        try:
            shape = joined_shape(combine, [node.shape for node in nodes])
        except ShapeError as error:
            raise Refused(str(error)) from None
        return Node("merge", nodes, _check_size(shape), site, combine=combine)

    def _multiply(self, values: Sequence[Value], site: Site) -> Value:
        if _seen_alike(values) and len({value.node.shape for value in values}) == 1:
            nodes = tuple(value.node for value in values)
            return Value(Node("merge", nodes, values[0].node.shape, site, combine="multiply"), values[0].index)
        first = max(values, key=lambda value: len(value.indices().reshape(-1)))
        if first.index is not None and all(_is_gate_of(value, first) for value in values if value is not first):
            nodes = tuple(value.node for value in values)
            return Value(self._add_merge("multiply", nodes, site), first.index)
        nodes = tuple(self.node_of(_as_gate(value), site) for value in values)
        return Value(self._add_merge("multiply", nodes, site))

    def _concat(self, nodes: tuple[Node, ...], site: Site) -> Node:
        """Add a concatenation. One that begins with all of another is written as that one and the rest."""
        for count in range(len(nodes) - 1, 1, -1):
            known = self._concats.get(tuple(map(id, nodes[:count])))
            if known is not None:
                nodes, whole = (known, *nodes[count:]), nodes
                break
        else:
            whole = nodes
        if len(nodes) == 1:
            return nodes[0]
        merged = self._add_merge("concat", nodes, site)
        self._concats[tuple(map(id, whole))] = merged
        return merged

    def scale(self, value: Value, factor: float, site: Site) -> Value:
        """Add a multiplication by a constant."""
        return self.elementwise(Scale(factor, per="all", learned=False), value, site)

    def softmax(self, value: Value, axis: int, site: Site) -> Value:
        """Add a softmax over parts of the channels, the first axis of what a value shows. Raises Refused."""
        index = value.indices()
        for groups in range(1, index.shape[1] + 1 if index.ndim > 1 else 1):
            if index.shape[1] % groups == 0 and axis % index.ndim == 0:
                grouped = np.arange(index.size).reshape(groups, len(index), -1).swapaxes(0, 1)
                if np.array_equal(grouped.reshape(-1), index.reshape(-1)) and index.size == np.prod(value.node.shape):
                    node = self.add_op(SplitSoftmax(len(index), groups), value.node, site)
                    return self.rearrange(Value(node), positions(index.shape))
        hint = "; specs end with scores, so import the part before it" if index.ndim == 1 else ""
        raise Refused(f"a softmax that is not over equal parts of the channels{hint}")

    def reduce(self, kind: Reduction, value: Value, axes: Sequence[int], keepdims: bool, site: Site) -> Value:
        """Add a mean, a maximum or a sum over axes, which may complete one over other axes.

        What is no operation yet is refused, unless another reduction follows.
        """
        ndim = len(value.shape)
        axes = tuple(sorted(axis % ndim for axis in axes))
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(value.shape))
        kept = tuple(size for axis, size in enumerate(shape) if keepdims or axis not in axes)
        whole, all_axes = value, axes
        if value.index is None and id(value.node) in self._partial:
            before, whole, done, kept_done = self._partial[id(value.node)]
            left = [axis for axis in range(len(whole.shape)) if kept_done or axis not in done]
            if before == kind:
                all_axes = tuple(sorted({*done, *(left[axis] for axis in axes)}))
        op = reduction_op(kind, whole.indices(), whole.node.shape, all_axes)
        if op is None and whole.index is not None and whole.node.kind != "refused":
            whole = Value(self.node_of(whole, site)) if self._is_said(whole, site) else whole
            op = reduction_op(kind, whole.indices(), whole.node.shape, all_axes)
        if op is not None:
            return self._add_reduction(op, whole.node, kept, site)
        is_known = whole.node.kind != "refused"
        if (
            kind == "mean"
            and is_known
            and (op := reduction_op("sum", whole.indices(), whole.node.shape, all_axes)) is not None
        ):
            total = self._add_reduction(op, whole.node, kept, site)
            return self.scale(total, 1 / math.prod(whole.shape[axis] for axis in all_axes), site)
        if (
            kind == "sum"
            and is_known
            and (op := reduction_op("mean", whole.indices(), whole.node.shape, all_axes)) is not None
        ):
            count = math.prod(whole.shape[axis] for axis in all_axes)  # some exporters write a mean as a sum
            return self.curve(lambda x: x * count, [self._add_reduction(op, whole.node, kept, site)], site)
        reason = f"a {kind} over these axes of a value of shape {value.shape}"
        refused = self.refuse([value], kept, site, "" if value.node.kind == "refused" else reason)
        self._partial[id(refused.node)] = kind, whole, all_axes, keepdims
        return refused

    def _add_reduction(self, op: Op, node: Node, shape: Shape, site: Site) -> Value:
        """Add a reduction whose output is seen as a shape."""
        added = self.add_op(_without_pixels(op) if len(shape) == 1 else op, node, site)
        return self.rearrange(Value(added), positions(shape))


def _without_pixels(op: Op) -> Op:
    """Return a reduction that gives features rather than a map of one pixel, if it is one of all pixels."""
    return replace(op, keepdims=False) if isinstance(op, GlobalAvgPool | GlobalMaxPool) else op


def _check_size(shape: Shape) -> Shape:
    """Return a shape, unless it has more values than one machine computes. Raises Refused."""
    if math.prod(shape) > MAX_VALUES:
        raise Refused(f"a map of shape {shape} has more than {MAX_VALUES:,} values")
    return shape


def _seen_alike(values: Sequence[Value]) -> bool:
    """Return whether values are seen through the same rearrangement of nodes of one shape."""
    first = values[0]
    return all(
        value.index is first.index
        or (value.index is not None and first.index is not None and np.array_equal(value.index, first.index))
        for value in values[1:]
    )


def _is_gate_of(gate: Value, value: Value) -> bool:
    """Return whether a value has one number for each channel of a node that another value shows rearranged."""
    channels, shape = gate.node.shape[0], value.node.shape
    if channels != shape[0] or np.prod(gate.node.shape) != channels:
        return False
    try:
        spread = np.broadcast_to(gate.indices(), value.shape)
    except ValueError:
        return False
    return bool(np.array_equal(spread, value.indices() // max(1, int(np.prod(shape[1:])))))


def _as_gate(value: Value) -> Value:
    """Return a value that was expanded to a map, or has axes of size 1, as the gate that multiplies a map."""
    if value.index is None:
        return value
    index = shrink_broadcast(value.index)
    if is_identity(index.reshape(-1), value.node.shape):  # (channels, 1, 1) of (channels,)
        return Value(value.node)
    return Value(value.node, None if is_identity(index, value.node.shape) else index)
