"""Compare the graphs of one model on images of two sizes, and say what follows the size by what does so everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from resnet_spec import ops
from resnet_spec.importing.graph import Graph, Node
from resnet_spec.ops import Op, per_axis

_WINDOWS = ops.Conv | ops.StandardizedConv | ops.MaxPool | ops.AvgPool
"""The operations that pad what they read."""


def reconcile(first: Graph, second: Graph) -> str:
    """Change a graph so that it also says what the model computes at another size; return why it does not, or "".

    The two graphs belong to images of different sizes. A window as large as the map is a global pool, and zeros that
    depend on the size belong to the padding ``same`` of what follows.
    """
    ours, theirs = first.nodes(), second.nodes()
    for a, b in zip(ours, theirs, strict=False):  # a factor at one size only
        if {a.kind, b.kind} == {"op", "resized"}:
            for node in (a, b):
                if isinstance(node.op, ops.Upsample) and node.op.mode == "nearest":
                    node.kind, node.op = "resized", None
    if len(ours) != len(theirs) or any(
        (a.kind, a.combine) != (b.kind, b.combine) for a, b in zip(ours, theirs, strict=True)
    ):
        return "the model calls other operations for an image of another size"
    pads: list[Node] = []
    for a, b in zip(ours, theirs, strict=True):
        if a.op == b.op or a.op is None or b.op is None:
            continue
        if isinstance(a.op, ops.ZeroPad) and isinstance(b.op, ops.ZeroPad):
            pads.append(a)
            continue
        common = _common(a, b)
        if common is None:
            return f"{a.site} has a size baked in: {a.op} for one image, {b.op} for an image of another size"
        a.op = common
    return _with_same_padding(first, pads, {id(a): b for a, b in zip(ours, theirs, strict=True)})


def _common(a: Node, b: Node) -> Op | None:
    """Return an operation that is one at one size, and the other at another."""
    if type(a.op) is not type(b.op) or a.op is None:
        return None
    inputs, outputs = (a.inputs[0].shape, b.inputs[0].shape), (a.shape, b.shape)
    if isinstance(a.op, _WINDOWS) and "same" in (getattr(op, "padding", 0) for op in (a.op, b.op)):
        ours, theirs = _with_same(a), _with_same(b)
        return ours if ours == theirs else None
    if isinstance(a.op, ops.AvgPool | ops.MaxPool) and all(
        per_axis(getattr(op, "kernel", 0)) == shape[1:] for op, shape in zip((a.op, b.op), inputs, strict=True)
    ):
        return (ops.GlobalAvgPool if isinstance(a.op, ops.AvgPool) else ops.GlobalMaxPool)(keepdims=True)
    if isinstance(a.op, ops.AdaptiveAvgPool) and all(
        shape == output for shape, output in zip(inputs, outputs, strict=True)
    ):
        return ops.Identity()
    return None


def _with_same_padding(graph: Graph, pads: list[Node], others: Mapping[int, Node]) -> str:
    """Move zeros that depend on the size of the image into the window that reads them.

    Where some zeros or windows do, zeros that are alike at both sizes are taken for the same padding too, unless one of
    them is not. ``others`` are the nodes for images of the other size.
    """
    for pad in pads:
        if (found := _padding_readers(graph, pad, others)) is None:
            return f"{pad.site} pads by what depends on the size of the image, and not as same padding does"
        _move_into(found, pad)
    if pads or any(getattr(node.op, "padding", 0) == "same" for node in graph.nodes()):
        alike = [node for node in graph.nodes() if isinstance(node.op, ops.ZeroPad) and node.op != ops.ZeroPad()]
        moves = [(pad, _padding_readers(graph, pad, others)) for pad in alike]
        for pad, found in moves:
            if found and (all(found for _, found in moves) or all(_has_stride_1(op) for _, op in found)):
                _move_into(found, pad)
    return ""


def _has_stride_1(op: Op) -> bool:
    """Return whether a window moves by one pixel: then its padding is the same at every size."""
    return per_axis(getattr(op, "stride", 0)) == (1, 1)


def drop_empty_pads(graph: Graph) -> None:
    """Drop paddings by no zeros. Changes the graph."""

    def behind(node: Node) -> Node:
        while node.op == ops.ZeroPad() and node.kind == "op":
            (node,) = node.inputs
        return node

    for node in graph.nodes():
        node.inputs = tuple(map(behind, node.inputs))
    graph.outputs = tuple(map(behind, graph.outputs))


def spread_same_padding(graph: Graph) -> None:
    """Say ``same`` wherever it is what a window has, if some window of a graph has it. Changes the graph."""
    nodes = [node for node in graph.nodes() if isinstance(node.op, _WINDOWS)]
    if any(getattr(node.op, "padding", 0) == "same" for node in nodes):
        for node in nodes:
            node.op = _with_same(node) or node.op


def _with_same(node: Node) -> Op | None:
    """Return a window with the padding ``same`` if that is what it has for the map that it reads."""
    op: Any = node.op
    same: Any = replace(op, padding="same", **({"ceil": False} if hasattr(op, "ceil") else {}))
    source = node.inputs[0].shape[1:]
    return same if ops.window_of(same).margins(*source) == ops.window_of(op).margins(*source) else None


def _padding_readers(graph: Graph, pad: Node, others: Mapping[int, Node]) -> list[tuple[Node, Op]] | None:
    """Return what reads a padded map, and what it is if it pads itself; None if that is not so at both sizes."""
    readers = [node for node in graph.nodes() if pad in node.inputs]
    found = [(reader, _same(reader, pad)) for reader in readers]
    if any(op is None or op != _same(others[id(reader)], others[id(pad)]) for reader, op in found):
        return None
    return [(reader, op) for reader, op in found if op is not None]


def _move_into(readers: list[tuple[Node, Op]], pad: Node) -> None:
    """Have the readers of a padded map pad it themselves."""
    for reader, op in readers:
        reader.op, reader.inputs = op, pad.inputs


def _same(reader: Node, pad: Node) -> Op | None:
    """Return a window with the padding ``same`` that reads what is not padded, if it is the same."""
    op, (source,) = reader.op, pad.inputs
    if not isinstance(op, ops.Conv | ops.StandardizedConv | ops.AvgPool) or op.padding != 0:
        return None
    assert isinstance(pad.op, ops.ZeroPad)
    changes: dict[str, Any] = {"padding": "same"} | ({"count_padding": True} if isinstance(op, ops.AvgPool) else {})
    same: Any = replace(op, **changes)
    margins = (pad.op.top, pad.op.bottom), (pad.op.left, pad.op.right)
    return same if ops.window_of(same).margins(*source.shape[1:]) == margins else None
