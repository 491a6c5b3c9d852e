"""Recognise functions of each element by their values: ``x * sigmoid(x)``, however it is written, is a silu."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import numpy as np

from resnet_spec import ops
from resnet_spec.importing.graph import Graph, Node
from resnet_spec.ops import Op
from resnet_spec.weights.canonical import Array

MAX_CONE = 40
"""Most calls that one function may be composed of."""

_GRID: Array = np.linspace(-9.0, 9.0, 361)
_TOLERANCE = 2e-6
"""Exporters write constants in float32."""


def _erf(x: Array) -> Array:
    from math import erf

    return np.vectorize(erf, otypes=[np.float64])(x)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


ACTIVATIONS: Mapping[Op, Callable[[Array], Array]] = {
    ops.Relu(): lambda x: np.maximum(x, 0),
    ops.Relu6(): lambda x: np.clip(x, 0, 6),
    ops.SquaredRelu(): lambda x: np.maximum(x, 0) ** 2,
    ops.Elu(): lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    ops.Gelu(): lambda x: x * (1 + _erf(x / np.sqrt(2))) / 2,
    ops.Gelu(True): lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    ops.Silu(): lambda x: x * _sigmoid(x),
    ops.Sigmoid(): _sigmoid,
    ops.Tanh(): np.tanh,
    ops.HardSigmoid(): lambda x: np.clip(x + 3, 0, 6) / 6,
    ops.HardSwish(): lambda x: x * np.clip(x + 3, 0, 6) / 6,
}
"""The activations without arguments, as functions."""

_VALUES = {op: function(_GRID) for op, function in ACTIVATIONS.items()}

PRIMITIVES: Mapping[str, Callable[..., Array]] = {
    "erf": _erf,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "neg": np.negative,
    "softplus": lambda x: np.logaddexp(x, 0),
    "square": np.square,
}
"""Functions of which others are composed, and that are no operations themselves."""


def recognize_curves(graph: Graph) -> None:
    """Replace functions of each element by the operations that they are; refuse the others. Changes the graph."""
    nodes = graph.nodes()
    for node in reversed(nodes):
        if node.kind == "curve" or (node.kind == "merge" and node.combine != "concat"):
            _recognize(node)
    _drop_ones(graph)
    for node in graph.nodes():
        if node.kind == "curve":
            node.kind, node.reason = "refused", "a function of each element that is no activation of the language"


def _drop_ones(graph: Graph) -> None:
    """Drop products with 1, such as what a sum that is divided by its count is behind a mean."""
    for node in graph.nodes():
        node.inputs = tuple(map(_behind_ones, node.inputs))
    graph.outputs = tuple(map(_behind_ones, graph.outputs))


def _behind_ones(node: Node) -> Node:
    """Return the node whose values another has, through products with constants that are 1 together."""
    factor, before = 1.0, node
    while isinstance(before.op, ops.Scale) and not before.op.learned:
        factor *= before.op.factor
        (before,) = before.inputs
        if abs(factor - 1) < _TOLERANCE:
            return _behind_ones(before)
    return node


def _recognize(node: Node) -> None:
    cones = list(_cones(node))
    scale = _scale(_values(node, cones[0])) if node.kind == "curve" and cones else None
    start: Node | None = cones[0] if scale is not None else None
    op: Op | None = scale
    if scale is None or scale.factor != 1:  # a factor may belong to an activation
        found = ((start, activation) for start in cones if (activation := _activation(_values(node, start))))
        start, op = next(found, (start, op))
    if start is not None:
        node.kind, node.inputs, node.op, node.combine, node.curve = "op", (start,), op, None, None


def _cones(root: Node) -> Iterator[Node]:
    """Yield each node of which the root is a function element by element, the nearest first."""
    frontier, inside = [*dict.fromkeys(root.inputs)], 0
    while True:
        if len(frontier) == 1:
            yield frontier[0]
        inside += 1
        expandable = [node for node in frontier if _function(node) and not _is_behind(frontier, node)]
        if not expandable or inside > MAX_CONE:
            return
        last = expandable[0]
        frontier = [*dict.fromkeys([*(node for node in frontier if node is not last), *last.inputs])]


def _is_behind(frontier: list[Node], node: Node) -> bool:
    """Return whether another node of a frontier is computed from a node by functions of each element."""
    stack, steps = [other for other in frontier if other is not node], 0
    while stack and steps < MAX_CONE:
        steps += 1
        other = stack.pop()
        if other is node:
            return True
        stack += other.inputs if _function(other) else ()
    return False


def _function(node: Node) -> Callable[..., Array] | None:
    """Return what a node computes of each element of its inputs, if it is such a function."""
    if any(inner.shape != node.shape for inner in node.inputs):
        return None
    match node.kind, node.combine:
        case "curve", _:
            return node.curve
        case "merge", "multiply":
            return lambda *values: cast("Array", np.prod(values, axis=0))
        case "merge", "add":
            return lambda *values: cast("Array", np.sum(values, axis=0))
        case "merge", "subtract":
            return lambda first, *rest: cast("Array", first - sum(rest))
        case "op", _ if node.op in ACTIVATIONS:
            return ACTIVATIONS[cast("Op", node.op)]
        case "op", _ if isinstance(node.op, ops.Scale) and not node.op.learned:
            factor = node.op.factor
            return lambda x: x * factor
        case _:
            return None


def _values(node: Node, start: Node) -> Array | None:
    """Return a node's values as a function of another's on the grid."""
    if node is start:
        return _GRID
    function = _function(node)
    inner: list[Any] = [_values(source, start) for source in node.inputs]
    if function is None or any(array is None for array in inner):
        return None
    with np.errstate(all="ignore"):
        return function(*inner)


def _activation(values: Array | None) -> Op | None:
    if values is None or values.shape != _GRID.shape:
        return None
    for op, expected in _VALUES.items():
        if np.allclose(values, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
            return op
    slope = float(values[_GRID == -1.0][0]) * -1
    if 0 < slope < 1 and np.allclose(
        values, np.where(_GRID > 0, _GRID, slope * _GRID), rtol=_TOLERANCE, atol=_TOLERANCE
    ):
        return ops.LeakyRelu(slope)
    return None


def _scale(values: Array | None) -> ops.Scale | None:
    if values is None or values.shape != _GRID.shape:
        return None
    factor = float(f"{values[-1] / _GRID[-1]:.14g}")
    return ops.Scale(factor, "all", learned=False) if np.allclose(values, factor * _GRID, rtol=1e-12) else None
