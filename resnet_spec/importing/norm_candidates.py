"""The norms that an unknown module or region may be, by the names of its weights."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from resnet_spec import ops
from resnet_spec.ops import Op


def find_norm_candidates(weights: Collection[str], epsilon: float, groups: Collection[int]) -> Iterator[Op]:
    """Yield the norms that have weights of these names, for each number of groups that they may have.

    >>> [type(op).__name__ for op in find_norm_candidates(["weight", "tau", "bias"], 1e-6, [])]
    ['FilterResponseNorm']
    """
    match sorted(weights):
        case ["bias", "v", "weight"]:
            yield from (ops.EvoNormS0(number, epsilon) for number in groups)
        case ["bias", "tau", "weight"]:
            yield ops.FilterResponseNorm(epsilon)
        case ["bias", "weight"]:
            yield from (ops.LayerNorm(epsilon), ops.GlobalResponseNorm(epsilon))
            yield from (ops.GroupNorm(number, epsilon) for number in groups)
            yield from (ops.EvoNormS0(number, epsilon, act=False) for number in groups)
        case ["weight"]:
            yield from (ops.RmsNorm(epsilon), ops.RmsNorm(epsilon, variance=True), ops.LayerNorm(epsilon, bias=False))
        case []:
            yield ops.LayerNorm(epsilon, affine=False)
            yield from (ops.GroupNorm(number, epsilon, affine=False) for number in groups)
