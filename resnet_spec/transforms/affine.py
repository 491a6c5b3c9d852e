"""Affine transforms per channel, and how the weights of an operation absorb them. Arrays are in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from resnet_spec.ops import BatchNorm, Conv, GroupNorm, LayerNorm, Linear, Shape, StandardizedConv
from resnet_spec.weights.canonical import Array

OperationWeights: TypeAlias = dict[str, Array]
"""The weights of one operation by the last part of their names: weight, bias, running_mean, running_var."""


@dataclass(frozen=True, slots=True)
class Affine:
    """The transform x * scale + shift, with a scale and a shift of shape (channels,)."""

    scale: Array
    shift: Array


def batch_norm_affine(op: BatchNorm, weights: Mapping[str, Array]) -> Affine:
    """Return what a batch norm computes in evaluation mode."""
    scale = weights.get("weight", 1) / np.sqrt(weights["running_var"] + op.epsilon)
    return Affine(scale, weights.get("bias", 0) - weights["running_mean"] * scale)


def standardize_kernels(
    op: StandardizedConv, weights: OperationWeights, input_shape: Shape
) -> tuple[Conv, OperationWeights]:
    """Return the plain convolution that computes the same, with its weights."""
    kernels = weights["weight"]
    axes = tuple(range(1, kernels.ndim))
    centred = kernels - kernels.mean(axes, keepdims=True)
    standardized = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + op.epsilon)
    if op.scaled:
        standardized = standardized * (weights["gain"] * op.fan_in_factor(input_shape))
    return op.to_conv(), weights | {"weight": standardized}


AbsorbsFollowing: TypeAlias = Conv | BatchNorm | GroupNorm | LayerNorm
"""Operations that can absorb an affine transform of their output."""

AbsorbsPreceding: TypeAlias = Conv | Linear
"""Operations that can absorb an affine transform of their input."""


def absorb_following(
    op: AbsorbsFollowing, weights: OperationWeights, affine: Affine, *, with_shift: bool
) -> tuple[AbsorbsFollowing, OperationWeights]:
    """Return an operation that includes an affine transform of its output, with its weights.

    Without ``with_shift``, it includes the scale alone.
    """
    weight = weights.get("weight", np.ones_like(affine.scale))
    absorbed = weights | {"weight": (weight.T * affine.scale).T}  # (out, ...)
    if with_shift or "bias" in weights:
        absorbed["bias"] = weights.get("bias", 0) * affine.scale + affine.shift * with_shift
    match op:
        case Conv():
            return replace(op, bias="bias" in absorbed), absorbed
        case BatchNorm():
            return replace(op, affine=True), {"bias": np.zeros_like(affine.shift)} | absorbed
        case GroupNorm() | LayerNorm():
            return replace(op, affine=True, bias="bias" in absorbed), absorbed


def absorb_preceding(
    op: AbsorbsPreceding, weights: OperationWeights, affine: Affine
) -> tuple[AbsorbsPreceding, OperationWeights]:
    """Return an operation that includes an affine transform of its input, with its weights.

    A convolution must have no padding: the zeros in the padding would not be transformed.
    """
    weight = weights["weight"]
    groups = op.groups if isinstance(op, Conv) else 1
    pixels = (
        weight.shape[1] * groups // affine.scale.size
    )  # a linear layer after flatten has several inputs per channel

    def expand(
        array: Array,
    ) -> Array:  # (channels,) -> (out, in / groups, ...): each output channel reads its own group
        rows = array.repeat(pixels).reshape(groups, -1).repeat(op.out // groups, axis=0)
        return rows.reshape(op.out, -1, *[1] * (weight.ndim - 2))

    shift = (weight * expand(affine.shift)).sum(axis=tuple(range(1, weight.ndim)))
    absorbed = weights | {"weight": weight * expand(affine.scale), "bias": weights.get("bias", 0) + shift}
    return replace(op, bias=True), absorbed
