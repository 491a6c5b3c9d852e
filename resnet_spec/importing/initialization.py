"""Tell from weights that have not been trained which distribution they were drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, get_args

import numpy as np

from resnet_spec.network.parts import Leaf, Part, Row
from resnet_spec.network.traversal import map_parts, walk
from resnet_spec.ops import Initialization, Normal, Op, Uniform, op_name
from resnet_spec.ops.weights import initializer
from resnet_spec.weights.canonical import Array

MIN_VALUES = 256
"""Fewest values of a weight from which its distribution is told."""


def with_initialization(row: Row, weights: Mapping[str, Array]) -> Row:
    """Return parts with the initialisation that fits the weights of all layers of a kind; the default if none does."""
    leaves = [part for part in walk(row) if isinstance(part, Leaf) and hasattr(part.op, "init")]
    chosen = {name: _common([leaf for leaf in leaves if op_name(leaf.op) == name], weights) for name in _kinds(leaves)}

    def change(part: Part) -> Part:
        if not isinstance(part, Leaf) or not hasattr(part.op, "init"):
            return part
        array = weights[part.weight_path("weight")]
        init = chosen[op_name(part.op)] if array.any() else "zeros"
        changes: dict[str, Any] = {"init": init}
        return replace(part, op=replace(part.op, **changes)) if init else part

    return map_parts(row, change)


def _kinds(leaves: Iterable[Leaf]) -> list[str]:
    return list(dict.fromkeys(op_name(leaf.op) for leaf in leaves))


def _common(leaves: list[Leaf], weights: Mapping[str, Array]) -> str:
    """Return the initialisation that fits all layers, or "" for the default."""
    fitting = set(get_args(Initialization)) - {"zeros"}
    known = False
    for leaf in leaves:
        array = weights[leaf.weight_path("weight")]
        if array.size >= MIN_VALUES and array.any():
            known = True
            fitting &= {name for name in fitting if _fits(array, name)}
    default = _default(leaves[0].op)
    return "" if not known or default in fitting or not fitting else min(fitting, key=get_args(Initialization).index)


def _default(op: Op) -> object:
    return next(field.default for field in fields(op) if field.name == "init")


def _fits(array: Array, name: Any) -> bool:
    area = math.prod(array.shape[2:])
    distribution = initializer(name, array.shape[1] * area, array.shape[0] * area)
    spread, slack = float(array.std()), 4 / math.sqrt(2 * array.size) + 1e-3
    match distribution:
        case Uniform(bound):
            largest = float(np.abs(array).max())
            return largest <= bound * 1.000001 and abs(spread * math.sqrt(3) / bound - 1) < slack
        case Normal(std):
            return abs(spread / std - 1) < slack and float((array**4).mean()) > 2.2 * spread**4
        case _:
            return False
