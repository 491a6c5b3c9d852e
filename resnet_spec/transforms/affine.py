"""A scale and a shift of each channel, and how an operation's weights take one in: all in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from resnet_spec.ops import BatchNorm, Conv, GroupNorm, LayerNorm, Linear, StandardizedConv
from resnet_spec.weights.canonical import Array

Own: TypeAlias = dict[str, Array]
"""An operation's weights by their last name: weight, bias, running_mean, running_var."""


@dataclass(frozen=True, slots=True)
class Affine:
    """x * scale + shift, for each channel."""

    scale: Array
    shift: Array


def batch_norm_affine(op: BatchNorm, own: Mapping[str, Array]) -> Affine:
    """What a batch norm does in evaluation."""
    scale = own.get("weight", 1) / np.sqrt(own["running_var"] + op.epsilon)
    return Affine(scale, own.get("bias", 0) - own["running_mean"] * scale)


def standardize_kernels(op: StandardizedConv, own: Own) -> tuple[Conv, Own]:
    """The plain convolution by standardised kernels."""
    weight = own["weight"]
    axes = tuple(range(1, weight.ndim))
    centred = weight - weight.mean(axes, keepdims=True)
    return op.plain(), own | {"weight": centred / np.sqrt((centred**2).mean(axes, keepdims=True) + op.epsilon)}


Before: TypeAlias = Conv | BatchNorm | GroupNorm | LayerNorm
"""What can take in a scale and a shift that follow it."""

After: TypeAlias = Conv | Linear
"""What can take in a scale and a shift that it follows."""


def absorb_following(op: Before, own: Own, affine: Affine, *, shifts: bool) -> tuple[Before, Own]:
    """An operation with what follows it as part of it; of the shift only if it ``shifts``."""
    weight = own.get("weight", np.ones_like(affine.scale))
    taken = own | {"weight": (weight.T * affine.scale).T}  # (out, ...)
    if shifts or "bias" in own:
        taken["bias"] = own.get("bias", 0) * affine.scale + affine.shift * shifts
    match op:
        case Conv():
            return replace(op, bias="bias" in taken), taken
        case BatchNorm():
            return replace(op, affine=True), {"bias": np.zeros_like(affine.shift)} | taken
        case GroupNorm() | LayerNorm():
            return op, taken


def absorb_preceding(op: After, own: Own, affine: Affine) -> tuple[After, Own]:
    """A convolution without padding, or a linear, with what precedes it as part of it."""
    weight = own["weight"]
    groups = op.groups if isinstance(op, Conv) else 1
    pixels = weight.shape[1] * groups // affine.scale.size  # of each channel, once flattened

    def seen(array: Array) -> Array:  # (channels,) -> (out, in / groups, ...): a group's outputs see its own inputs
        rows = array.repeat(pixels).reshape(groups, -1).repeat(op.out // groups, axis=0)
        return rows.reshape(op.out, -1, *[1] * (weight.ndim - 2))

    added = (weight * seen(affine.shift)).sum(axis=tuple(range(1, weight.ndim)))
    taken = own | {"weight": weight * seen(affine.scale), "bias": own.get("bias", 0) + added}
    return replace(op, bias=True), taken
