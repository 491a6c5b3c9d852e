"""Networks that have the same weights and compute something else are told apart."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import pytest

from resnet_spec import loads
from resnet_spec.checkpoints.transfer.evaluation import TRAINING_ARGUMENTS, describe_difference
from resnet_spec.network.network import Network
from resnet_spec.ops import OPS


def make(stem: str, block: str = "{conv1: {op: conv, out: 4, kernel: 1}, norm1: batch_norm}") -> Network:
    return loads(
        f"{{name: n, input: [4, 9, 9], stem: {stem}, "
        f"stages: {{layer1: {{block: b, depth: 1}}}}, blocks: {{b: {{branch: {block}, after: {{act: relu}}}}}}}}"
    )


@pytest.mark.parametrize(
    ("stem", "difference"),
    [
        ("{c: {op: conv, out: 4, kernel: 3, init: zeros}, a: relu}", ""),
        ("{other: {op: conv, out: 4, kernel: 3}, name: relu}", ""),
        ("{c: {op: conv, out: 4, kernel: 3}, drop: {op: dropout, rate: 0.5}, id: identity, a: relu}", ""),
        ("{c: {op: conv, out: 4, kernel: 3}, a: silu}", "silu instead of relu"),
        ("{c: {op: conv, out: 4, kernel: 3}}", "without relu"),
        ("{c: {op: conv, out: 4, kernel: 3}, a: relu, b: relu}", "relu more"),
        ("{a: relu, c: {op: conv, out: 4, kernel: 3}}", "the same operations in another order"),
        (
            "{c: {op: conv, out: 4, kernel: 3, dilation: 2}, a: relu}",
            "conv {kernel: 3, dilation: 2} instead of conv {kernel: 3}",
        ),
    ],
)
def test_difference_in_evaluation(stem: str, difference: str) -> None:
    assert describe_difference(make("{c: {op: conv, out: 4, kernel: 3}, a: relu}"), make(stem)) == difference


def test_difference_inside_a_block() -> None:
    first, second = (
        make("{a: relu}"),
        make("{a: relu}", "{conv1: {op: conv, out: 4, kernel: 1}, norm1: {op: group_norm, groups: 2}}"),
    )
    assert describe_difference(first, first) == ""
    assert "instead of batch_norm" in describe_difference(first, second)


def test_every_argument_of_every_operation_is_known_to_count_or_not() -> None:
    """An argument that is added to an operation has to be looked at: does evaluation depend on it?"""
    counting = {
        *("affine", "after", "approximate", "before", "bias", "bottom", "ceil", "count_padding", "dilation", "epsilon"),
        *("groups", "keepdims", "kernel", "left", "out", "padding", "parts", "rate", "right", "scale", "size", "slope"),
        *("stride", "top", "act", "factor", "learned", "mode", "order", "per", "scaled"),
    }
    assert all(is_dataclass(op) for op in OPS.values())
    assert {item.name for op in OPS.values() for item in fields(op)} == counting | TRAINING_ARGUMENTS
