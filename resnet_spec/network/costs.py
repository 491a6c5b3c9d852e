"""Compute the cost of every part of a network, and its receptive field."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Parallel, Part, Residual
from resnet_spec.network.traversal import Rules, children, propagate
from resnet_spec.ops import Flatten, Identity, Upsample, map_stride, per_axis

BYTES = 4
"""The size of a float32, the type of the activations whose memory is counted."""


@dataclass(frozen=True, slots=True)
class View:
    """The receptive field of an element of a feature map, in pixels of the image along one axis.

    Attributes:
        field: The width of the field, which may exceed the image because padding counts; None for the whole image.
        step: The distance to the field of the next element; None for the whole image.
    """

    field: int | None
    step: int | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a part, with everything inside it, costs for one image.

    Attributes:
        parameters: The number of learnable values.
        statistics: The number of values kept as running statistics.
        macs: Multiply-accumulate operations of convolutions and matrix products.
        memory: Bytes, in float32, of the outputs of all operations and sums, which training keeps for backpropagation.
        view: The receptive field of the part's output.
    """

    parameters: int
    statistics: int
    macs: int
    memory: int
    view: View


WHOLE_IMAGE = View(None, None)
PIXEL = View(1, 1)


def compute_costs(network: Network) -> dict[str, Cost]:
    """Return the cost of every part by path, and under "" that of the whole network.

    >>> from resnet_spec import load
    >>> found = compute_costs(load("resnet18"))
    >>> found["layer1"].macs, found["layer4.1"].view.field, found[""].memory
    (462422016, 435, 32921504)
    """
    views = _receptive_fields(network)
    found: dict[str, Cost] = {}
    for part in network.nodes():  # each part after its contents
        view = views[part.path]
        inner = (found[child.path] for child in children(part))
        found[part.path] = _operation(part, view) if isinstance(part, Leaf) else _sum(inner, _joint_memory(part), view)
    found[""] = _sum((found[part.path] for part in network.parts), 0, views[""])
    return found


def _operation(leaf: Leaf, view: View) -> Cost:
    weights = leaf.op.weights(leaf.input_shape)
    return Cost(
        parameters=sum(math.prod(weight.shape) for weight in weights if not weight.statistic),
        statistics=sum(math.prod(weight.shape) for weight in weights if weight.statistic),
        macs=leaf.op.macs(leaf.input_shape),
        # These two return a view of their input, which takes no memory.
        memory=0 if isinstance(leaf.op, Identity | Flatten) else BYTES * math.prod(leaf.output_shape),
        view=view,
    )


def _joint_memory(part: Part) -> int:
    """Return the bytes of the sums, products and concatenations with which a part combines its branches."""
    if isinstance(part, Residual):
        return BYTES * math.prod(part.after[0].input_shape if part.after else part.output_shape)
    if isinstance(part, Parallel):
        cascaded = (branch[0].input_shape for branch in part.branches[1:] if part.cascade and branch)
        return BYTES * (math.prod(part.output_shape) + sum(map(math.prod, cascaded)))
    return 0


def _sum(costs: Iterable[Cost], memory: int, view: View) -> Cost:
    each = list(costs)
    return Cost(
        parameters=sum(cost.parameters for cost in each),
        statistics=sum(cost.statistics for cost in each),
        macs=sum(cost.macs for cost in each),
        memory=memory + sum(cost.memory for cost in each),
        view=view,
    )


# -- receptive fields ---------------------------------------------------------------------------------------------


def _receptive_fields(network: Network) -> dict[str, View]:
    """Return the view of every part's output by path, and under "" that of the network's."""
    found: dict[str, View] = {}

    def leave(part: Part, before: View, after: View) -> tuple[Part, View]:
        found[part.path] = after
        return part, after

    rules: Rules[View] = Rules(
        leaf=lambda leaf, view: (leaf, _view_after(leaf, view)),
        combine=lambda part, branch, shortcut: _larger(branch, shortcut),
        join=lambda part, view, outputs: reduce(_larger, outputs, view),
        cascade=lambda part, index, view, previous: _larger(view, previous),
        leave=leave,
    )
    _, found[""] = propagate(network.parts, PIXEL, rules)
    return found


def _view_after(leaf: Leaf, view: View) -> View:
    """Return the view after an operation, from its kernel, stride and dilation if it has a window."""
    if view.field is None or view.step is None:
        return WHOLE_IMAGE
    if isinstance(leaf.op, Upsample):
        return View(view.field, max(1, view.step // leaf.op.factor))
    kernel = getattr(leaf.op, "kernel", None)
    if kernel is None or len(leaf.output_shape) < 3:
        pooled = leaf.output_shape[1:] == (1, 1) != leaf.input_shape[1:]
        return WHOLE_IMAGE if len(leaf.output_shape) < 3 or pooled else view
    sizes = zip(per_axis(kernel), per_axis(getattr(leaf.op, "dilation", 1)), strict=True)
    reach = max(dilation * (size - 1) for size, dilation in sizes)
    return View(view.field + reach * view.step, view.step * map_stride(leaf.op))


def _larger(left: View, right: View) -> View:
    if left.field is None or right.field is None:
        return WHOLE_IMAGE
    return max(left, right, key=lambda view: view.field or 0)
