"""A share of many cases in each run of the tests, and all of them with ``pytest --sweep``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def in_sweep(*values: Any) -> list[Any]:
    """Return values as parameters of a test that run with ``--sweep`` alone."""
    return [pytest.param(value, marks=pytest.mark.sweep) for value in values]


def in_sweep_rows(*rows: tuple[Any, ...]) -> list[Any]:
    """Return rows of values, for a test of several parameters, that run with ``--sweep`` alone."""
    return [pytest.param(*row, marks=pytest.mark.sweep) for row in rows]


def one_in(count: int, values: Iterable[Any]) -> list[Any]:
    """Return values as parameters of a test: one in ``count`` runs always, the others with ``--sweep`` alone."""
    return [
        pytest.param(value, marks=() if index % count == count // 2 else pytest.mark.sweep)
        for index, value in enumerate(values)
    ]
