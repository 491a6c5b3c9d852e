"""Every operation of the language comes back from a model of PyTorch and from an ONNX file."""

from __future__ import annotations

import re

import pytest

from resnet_spec import loads
from resnet_spec.ops import OPS
from shared.every_operation import MORE_OPERATIONS, OPERATIONS
from shared.frameworks import required
from shared.import_sweep import IMPORTERS, try_round_trip

EVERY = [layer.replace("a: flatten", "a: global_avg_pool") for layer in [*OPERATIONS, *MORE_OPERATIONS]]

JOINS = [
    *(
        f"{{combine: {combine}, branches: [none, {{x: {{op: conv, out: 4, kernel: 1}}}}]}}"
        for combine in ("add", "mean", "concat", "multiply", "subtract")
    ),
    "{split: [1, 3], combine: concat, branches: [{x: relu}, {y: {op: conv, out: 2, kernel: 1}}]}",
    "{split: true, cascade: true, combine: concat, branches: [{x: {op: conv, out: 2, kernel: 1}}, {y: norm}]}",
    "{collect: {x: {op: conv, out: 2, kernel: 1}, y: {op: conv, out: 3, kernel: 1}}}",
]
"""Parallel branches, each way of combining them once."""


@pytest.mark.parametrize("kind", IMPORTERS)
@pytest.mark.parametrize("layer", [*EVERY, *JOINS])
@pytest.mark.share(3)
def test_an_operation_comes_back(kind: str, layer: str) -> None:
    required(kind)
    text = f"{{name: n, input: [4, 12, 12], stem: {{first: {{op: conv, out: 4, kernel: 1}}, layer: {layer}}}}}"
    assert try_round_trip(kind, loads(text)) == ("equal", "")


def test_no_operation_lacks_an_importer() -> None:
    """An operation that is added to the language is imported too: give it a line in ``MORE_OPERATIONS``."""
    assert {name for layer in EVERY for name in re.findall(r"\w+", layer) if name in OPS} == set(OPS)
