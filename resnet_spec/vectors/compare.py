"""Compare the node dumps of another runtime with test vectors, and find the first node that differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.parity.compare import describe_mismatch, relative_error
from resnet_spec.vectors.index import Entry, VectorsError, read_index
from resnet_spec.weights.canonical import Array

SUFFIX = ".npy"
Verdict: TypeAlias = Literal["same", "differs", "missing", "ill-conditioned"]
OPTIONAL_COLUMNS = ("operation", "shape", "tolerance")
"""Columns of the table that may be left out, the first one first."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a dumped array compares with the reference.

    Attributes:
        verdict: "missing" if it was not dumped, "ill-conditioned" if rounding explains any error of it.
        error: The largest difference relative to the entry's scale; None if nothing was dumped.
        tolerance: The largest error that passes.
        reason: Why there is no numeric error, such as "holds NaN", or "".
    """

    entry: Entry
    verdict: Verdict
    error: float | None = None
    tolerance: float | None = None
    reason: str = ""

    def describe(self) -> str:
        """Return a sentence about an array that differs."""
        named = f"{self.entry.name} ({self.entry.operation or self.entry.kind})"
        if self.reason:
            return f"{named} {self.reason}"
        return f"{named} is off by {self.error:.1e} of its largest value, and {self.tolerance:.1e} passes"


def compare_dumps(folder: Path, dumps: Path, tolerance: float | None = None) -> list[Comparison]:
    """Compare the arrays in a folder of dumps with test vectors, in the order in which nodes run.

    The dump of an array is the file ``NAME.npy``, as in ``layer1.0.conv1.npy`` or ``layer1.0/add.npy``; those of
    gradients, statistics and weights stand in folders of that name. With a ``tolerance``, arrays of any floating-point
    type are compared with the reference in float64. Kinds of which nothing was dumped are left out.

    Raises VectorsError if there are no test vectors, no dumps, a dump of an unknown name, or one that cannot be read.
    """
    index = read_index(folder)
    found = _find_dumps(dumps)
    known = {_dump_name(entry): entry for entry in index.entries}
    unknown = next((name for name in found if name not in known), None)
    if unknown is not None:
        raise VectorsError(f"{found[unknown]} is the dump of no node; {suggest(unknown, known)}")
    kinds = {known[name].kind for name in found}
    return [_compare(entry, folder, found.get(name), tolerance) for name, entry in known.items() if entry.kind in kinds]


def find_first_difference(comparisons: Sequence[Comparison]) -> Comparison | None:
    """Return the first array that differs, or None."""
    return next((comparison for comparison in comparisons if comparison.verdict == "differs"), None)


def _find_dumps(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise VectorsError(f"no folder named {str(folder)!r}")
    paths = sorted(folder.rglob(f"*{SUFFIX}"))
    if not paths:
        raise VectorsError(f"no dumps in {str(folder)!r}; a node's is a file NAME{SUFFIX}, as in conv1{SUFFIX}")
    return {path.relative_to(folder).as_posix().removesuffix(SUFFIX): path for path in paths}


def _dump_name(entry: Entry) -> str:
    return entry.name if entry.kind == "node" else f"{entry.kind}/{entry.name}"


def _compare(entry: Entry, folder: Path, dump: Path | None, tolerance: float | None) -> Comparison:
    if dump is None:
        return Comparison(entry, "missing")
    actual = _read(dump)
    dtype = actual.dtype.name
    if tolerance is None and dtype not in entry.tolerance:
        types = " or ".join(entry.tolerance)
        raise VectorsError(f"{dump} is {dtype}, and {types} has a tolerance; pass --tolerance for other types")
    if tolerance is not None:
        actual, dtype = actual.astype(np.float64), "float64"
    gate = entry.tolerance[dtype] if tolerance is None else tolerance
    expected = _read(folder / entry.files.get(dtype, entry.files["float64"])).astype(dtype)
    reason = describe_mismatch(expected, actual)
    if reason:
        return Comparison(entry, "differs", float("inf"), gate, reason)
    error = relative_error(expected, actual, entry.scale)
    if gate is None:
        return Comparison(entry, "ill-conditioned", error)
    return Comparison(entry, "same" if error <= gate else "differs", error, gate)


def _read(path: Path) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise VectorsError(f"{path} is no array in NumPy's format: {error}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise VectorsError(f"{path} holds no floating-point numbers")
    return array


def tabulate(comparisons: Sequence[Comparison]) -> Table:
    """Return a table with a row for each array."""
    table = Table(box=SIMPLE_HEAD)
    for heading in ("verdict", "array", "operation", "shape"):
        table.add_column(heading)
    for heading in ("error", "tolerance"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in comparisons:
        entry = row.entry
        numbers = ["" if value is None else f"{value:.1e}" for value in (row.error, row.tolerance)]
        table.add_row(row.verdict, entry.name, entry.operation, "x".join(map(str, entry.shape)), *numbers)
    return table


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON values."""
    values = asdict(comparison)
    entry = values.pop("entry")
    return {**{key: entry[key] for key in ("name", "kind", "operation", "shape")}, **values}
