"""What every part of a network costs, and how much of the image it sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from typing import assert_never

from resnet_spec.network.network import Chain, Leaf, Network, Parallel, Part, Residual
from resnet_spec.ops import Flatten, Identity

BYTES = 4
"""Of a float32, in which activations are counted."""


@dataclass(frozen=True, slots=True)
class View:
    """How far an element sees: ``field`` pixels of the image's height and width, ``step`` pixels from its neighbour's.

    Both are None where an element sees the whole image. Padding counts: a field may be larger than the image.
    """

    field: int | None
    step: int | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a part costs for one image, all that is in it included.

    ``memory`` is the bytes, in float32, of all that its operations and sums give: what training keeps. ``view`` is that of what
    the part gives.
    """

    parameters: int
    statistics: int
    macs: int
    memory: int
    view: View


WHOLE = View(None, None)
PIXEL = View(1, 1)


def compute_costs(network: Network) -> dict[str, Cost]:
    """The cost of every part by path, and under "" the whole network's.

    >>> from resnet_spec import load
    >>> found = compute_costs(load("resnet18"))
    >>> found["layer1"].macs, found["layer4.1"].view.field, found[""].memory
    (462422016, 435, 32921504)
    """
    found: dict[str, Cost] = {}
    view = _row(network.parts, PIXEL, found)
    found[""] = _sum(network.parts, 0, view, found)
    return found


def _row(parts: tuple[Part, ...], view: View, found: dict[str, Cost]) -> View:
    """Note the cost of parts run one after another; the view after the last."""
    for part in parts:
        found[part.path] = _cost(part, view, found)
        view = found[part.path].view
    return view


def _cost(part: Part, view: View, found: dict[str, Cost]) -> Cost:
    match part:
        case Leaf():
            return _leaf(part, view)
        case Chain():
            return _sum(part.parts, 0, _row(part.parts, view, found), found)
        case Residual():
            read = _row(part.before, view, found)
            branch = _row(part.branch, read, found)
            shortcut = _row(part.shortcut, read if part.reads == "before" else view, found)
            after = _row(part.after, _larger(branch, shortcut), found)
            combined = part.after[0].input_shape if part.after else part.output_shape
            parts = (*part.before, *part.branch, *part.shortcut, *part.after)
            return _sum(parts, BYTES * math.prod(combined), after, found)
        case Parallel():
            return _parallel(part, view, found)
        case _:
            assert_never(part)


def _parallel(part: Parallel, view: View, found: dict[str, Cost]) -> Cost:
    """Branches side by side. In a cascade, what a branch reads is a sum of its own; what they give together always is."""
    seen = [view]
    memory = BYTES * math.prod(part.output_shape)
    for number, branch in enumerate(part.branches):
        cascaded = part.cascade and number and branch
        seen.append(_row(branch, _larger(view, seen[-1]) if cascaded else view, found))
        memory += BYTES * math.prod(branch[0].input_shape) if cascaded else 0
    view = reduce(_larger, seen)
    return _sum(tuple(chain.from_iterable(part.branches)), memory, view, found)


def _leaf(leaf: Leaf, view: View) -> Cost:
    weights = leaf.op.weights(leaf.input_shape)
    return Cost(
        parameters=sum(math.prod(weight.shape) for weight in weights if not weight.statistic),
        statistics=sum(math.prod(weight.shape) for weight in weights if weight.statistic),
        macs=leaf.op.macs(leaf.input_shape),
        # these two give what they are given: no memory of their own
        memory=0 if isinstance(leaf.op, Identity | Flatten) else BYTES * math.prod(leaf.output_shape),
        view=_view(leaf, view),
    )


def _view(leaf: Leaf, view: View) -> View:
    """The view after an operation, from what every operation with a window declares: kernel, stride, dilation."""
    if view.field is None or view.step is None:
        return WHOLE
    kernel = getattr(leaf.op, "kernel", None)
    if not isinstance(kernel, int):
        whole = len(leaf.output_shape) < 3 or (leaf.output_shape[1:] == (1, 1) != leaf.input_shape[1:])
        return WHOLE if whole else view
    reach = getattr(leaf.op, "dilation", 1) * (kernel - 1)
    return View(view.field + reach * view.step, view.step * getattr(leaf.op, "stride", 1))


def _larger(one: View, other: View) -> View:
    if one.field is None or other.field is None:
        return WHOLE
    return max(one, other, key=lambda view: view.field or 0)


def _sum(parts: tuple[Part, ...], memory: int, view: View, found: dict[str, Cost]) -> Cost:
    each = [found[part.path] for part in parts]
    return Cost(
        parameters=sum(cost.parameters for cost in each),
        statistics=sum(cost.statistics for cost in each),
        macs=sum(cost.macs for cost in each),
        memory=memory + sum(cost.memory for cost in each),
        view=view,
    )
