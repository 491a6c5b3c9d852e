"""Combine arrays that together are one weight: a weight and its norm, or a weight and the mask of its pruning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from resnet_spec.checkpoints.formats.tensors import Checkpoint, Tensor
from resnet_spec.weights.canonical import Array

_MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class Combination:
    """Two arrays of a layer, by the ends of their names, of which ``combine`` makes the one that is called ``into``.

    ``sized`` is the index of the one that has the shape of the result.
    """

    ends: tuple[str, str]
    into: str
    sized: int
    title: str
    combine: Callable[[Array, Array], Array]


def apply_mask(weight: Array, mask: Array) -> Array:
    """Return the weight of a pruned layer, as ``torch.nn.utils.prune`` computes it."""
    return weight * mask.astype(weight.dtype)


def scale_direction(norm: Array, direction: Array) -> Array:
    """Return the weight of a layer with weight norm, as PyTorch computes it: a direction of the length ``norm``.

    ``norm`` has an axis of one wherever lengths are taken over an axis of ``direction``.
    """
    axes = tuple(axis for axis, size in enumerate(norm.shape) if size == 1)
    length = np.sqrt(np.square(direction).sum(axes, keepdims=True, dtype=direction.dtype))
    return direction * (norm / length)


_WEIGHT_NORM = "weight norm is applied: weight_g * weight_v / |weight_v|"
_PARAMETRIZED = ("parametrizations.weight.original0", "parametrizations.weight.original1")

COMBINATIONS = (
    Combination(("_orig", "_mask"), "", 0, "pruning is applied: weight_orig * weight_mask", apply_mask),
    Combination(("weight_g", "weight_v"), "weight", 1, _WEIGHT_NORM, scale_direction),
    Combination(_PARAMETRIZED, "weight", 1, _WEIGHT_NORM, scale_direction),
)


def combine_tensors(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint in which each pair of arrays that make one weight is that weight, and notes on that."""
    tensors, notes = dict(checkpoint.tensors), []
    for combination in COMBINATIONS:
        pairs = _find_pairs(tensors, combination)
        for name, (first, second) in pairs.items():
            tensors[name] = _combine(combination, tensors.pop(first), tensors.pop(second))
        if pairs:
            named = ", ".join(list(pairs)[:_MAX_NAMED])
            notes.append(f"{combination.title} ({named}{', ...' if len(pairs) > _MAX_NAMED else ''})")
    return replace(checkpoint, tensors=tensors, notes=(*checkpoint.notes, *notes)) if notes else checkpoint


def _find_pairs(tensors: Mapping[str, Tensor], combination: Combination) -> dict[str, tuple[str, str]]:
    """Return the names of the two arrays by that of the one that they make."""
    pairs = {}
    for name in tensors:
        stem = name.removesuffix(combination.ends[0])
        names, result = (name, f"{stem}{combination.ends[1]}"), f"{stem}{combination.into}"
        if stem == name or names[1] not in tensors or result in tensors:
            continue
        sized, other = (tensors[names[index]].shape for index in (combination.sized, 1 - combination.sized))
        if _fits(other, sized):
            pairs[result] = names
    return pairs


def _fits(shape: tuple[int, ...], sized: tuple[int, ...]) -> bool:
    return len(shape) == len(sized) and all(a in (1, b) for a, b in zip(shape, sized, strict=True))


def _combine(combination: Combination, first: Tensor, second: Tensor) -> Tensor:
    sized = (first, second)[combination.sized]
    return Tensor(sized.shape, sized.dtype, partial(_read, combination.combine, first, second))


def _read(combine: Callable[[Array, Array], Array], first: Tensor, second: Tensor) -> Array:
    return combine(first.read(), second.read())
