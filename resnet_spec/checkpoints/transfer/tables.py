"""Render conversions, matches and differences as text, as tables for a terminal, and as data for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from resnet_spec.checkpoints.formats.tensors import Checkpoint
from resnet_spec.checkpoints.transfer.convert import Conversion
from resnet_spec.checkpoints.transfer.difference import Difference
from resnet_spec.checkpoints.transfer.identify import Match

OPTIONAL_MATCH_COLUMNS = ("names", "weights")
OPTIONAL_DIFFERENCE_COLUMNS = ("shape", "at", "type", "values")
"""The columns that are left out in a terminal that is too narrow, the first one first."""

_MAX_DIFFERENCES = 3
_MAX_LOSSES = 20

_HOW_TO_TELL = (
    "The same weights fit networks that compute something else, and names and shapes do not tell them apart. Where the "
    "file comes from does; or run each network with it on a photograph whose class you know: "
    "resnet-spec run NETWORK --weights FILE --image PHOTO. resnet-spec diff NETWORK NETWORK shows how they differ."
)


def render_conversion(conversion: Conversion) -> str:
    """Render what was converted, as lines of text."""
    lines = [f"{conversion.source}: {conversion.read_as}", *(f"  {note}" for note in conversion.notes)]
    lines.append(
        f"{conversion.target}: {conversion.arrays:,} arrays, {_format_size(conversion.nbytes)}, "
        f"{conversion.network}, fingerprint {conversion.fingerprint}"
    )
    losses = [f"  {name}: {lost}" for name, lost in conversion.losses.items()]
    rest = [f"  and {len(losses) - _MAX_LOSSES:,} more arrays"] if len(losses) > _MAX_LOSSES else []
    return "\n".join([*lines, *losses[:_MAX_LOSSES], *rest])


def conversion_data(conversion: Conversion) -> dict[str, object]:
    """Return a conversion as data for JSON."""
    return asdict(conversion)


def describe_checkpoint(checkpoint: Checkpoint, matches: Sequence[Match]) -> list[str]:
    """Describe a checkpoint and how it was read for the best of its matches, in lines of text."""
    tensors = checkpoint.tensors.values()
    dtypes = ", ".join(sorted({str(tensor.dtype) for tensor in tensors}))
    size = _format_size(sum(tensor.nbytes for tensor in tensors))
    lines = [f"{checkpoint.path}: {checkpoint.format}, {len(tensors):,} arrays, {size}, {dtypes}"]
    metadata = checkpoint.metadata
    if "spec" in metadata:
        producer = metadata.get("producer", "an unknown program")
        lines.append(f"  according to its metadata it holds {metadata['spec']}, written by {producer}")
    if "weights" in metadata:
        license, origin = metadata.get("license", "unknown"), metadata.get("origin", "an unknown address")
        lines.append(f"  its weights are {metadata['weights']}, license {license}, from {origin}")
    lines += [f"  by its hash it is {match.network} {match.published}" for match in matches if match.published]
    notes = matches[0].notes if matches else ()
    return [*lines, *(f"  {note}" for note in (*checkpoint.notes, *notes))]


def render_matches(matches: Sequence[Match]) -> Table | str:
    """Render the networks that a checkpoint fits or nearly fits, as a table."""
    if not matches:
        return "no bundled network has names or shapes like these"
    table = Table(box=SIMPLE_HEAD)
    for heading in ("network", "fits", "names"):
        table.add_column(heading, no_wrap=True)
    table.add_column("weights", justify="right", no_wrap=True)
    table.add_column("differences")
    for match in matches:
        lines = [_render_argument(name, value) for name, value in match.settings.items()]
        lines += [f"computes something else: {match.computes}"] if match.computes else []
        lines += match.differs[:_MAX_DIFFERENCES]
        if len(match.differs) > _MAX_DIFFERENCES:
            lines.append(f"and {len(match.differs) - _MAX_DIFFERENCES} more")
        table.add_row(match.network, match.how, match.names, f"{match.same} of {match.weights}", "\n".join(lines))
    if any(match.computes for match in matches):
        table.caption, table.caption_justify = _HOW_TO_TELL, "left"
    return table


def _render_argument(name: str, value: Any) -> str:
    match name:
        case "input":
            return f"input {'x'.join(map(str, value))}"
        case "outputs":
            return f"outputs {', '.join(value)}"
        case _:
            return f"--set {name}={value}"


def render_differences(differences: Sequence[Difference]) -> Table | str:
    """Render the arrays that differ as a table, the largest relative difference first."""
    table = Table(box=SIMPLE_HEAD)
    for heading in ("array", "shape", "type"):
        table.add_column(heading, no_wrap=True)
    for heading in ("worst", "relative", "at", "values"):
        table.add_column(heading, justify="right", no_wrap=True)
    different = [difference for difference in differences if not difference.identical]
    for difference in sorted(different, key=lambda difference: -difference.relative):
        table.add_row(*_difference_row(difference))
    compared = [difference for difference in differences if difference.is_compared]
    lines = [f"{len(differences) - len(different)} of {len(compared)} arrays are the same, bit for bit"]
    for side, other in (("first", 1), ("second", 0)):
        alone = sum(difference.shapes[other] is None for difference in differences)
        lines += [f"{alone} {'arrays are' if alone > 1 else 'array is'} in the {side} file only"] if alone else []
    reshaped = sum(None not in difference.shapes for difference in differences) - len(compared)
    lines += [f"{reshaped} {'arrays have' if reshaped > 1 else 'array has'} another shape"] if reshaped else []
    table.caption = "; ".join(lines)
    table.caption_justify = "left"
    return table if different else table.caption


def _difference_row(difference: Difference) -> tuple[str, ...]:
    shape, dtype = (_render_pair(pair) for pair in (difference.shapes, difference.dtypes))
    if not difference.is_compared:
        return (difference.name, shape, dtype, "", "", "", "")
    values = f"{difference.values[0]:.9g} and {difference.values[1]:.9g}"
    return (
        difference.name,
        shape,
        dtype,
        f"{difference.worst:.1e}",
        f"{difference.relative:.1e}",
        str(difference.at),
        values,
    )


def _render_pair(pair: tuple[object, object]) -> str:
    """Render what the two files have; a dash stands for nothing."""
    first, second = ("-" if value is None else str(value) for value in pair)
    return first if first == second else f"{first} and {second}"


def difference_data(difference: Difference) -> dict[str, object]:
    """Return a difference as data for JSON, with null and strings for NaN and infinity, which JSON does not have."""
    numbers = {"worst": difference.worst, "relative": difference.relative}
    finite = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
    values = [value if math.isfinite(value) else str(value) for value in difference.values]
    return {**asdict(difference), **finite, "values": values}


def _format_size(count: int) -> str:
    """Format a number of bytes, as in "46.8 MB"."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count:,} bytes"
