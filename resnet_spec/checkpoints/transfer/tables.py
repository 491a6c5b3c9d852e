"""What was converted, identified and compared, for a terminal and as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

from rich.box import SIMPLE_HEAD
from rich.table import Table

from resnet_spec.checkpoints.formats.tensors import Checkpoint
from resnet_spec.checkpoints.transfer.convert import Conversion
from resnet_spec.checkpoints.transfer.difference import Difference
from resnet_spec.checkpoints.transfer.identify import Match

_MOST_SAID = 3
_MOST_LOST = 20


def conversion(done: Conversion) -> str:
    """What was converted, in lines."""
    lines = [f"{done.source}: {done.read_as}", *(f"  {note}" for note in done.notes)]
    lines.append(
        f"{done.target}: {done.arrays:,} arrays, {_size(done.nbytes)}, {done.network}, fingerprint {done.fingerprint}"
    )
    lost = [f"  {name}: {losses}" for name, losses in done.losses.items()]
    more = [f"  and {len(lost) - _MOST_LOST:,} arrays more"] if len(lost) > _MOST_LOST else []
    return "\n".join([*lines, *lost[:_MOST_LOST], *more])


def conversion_data(done: Conversion) -> dict[str, object]:
    return asdict(done)


def described(checkpoint: Checkpoint, found: Sequence[Match]) -> list[str]:
    """What a checkpoint is, in lines."""
    tensors = checkpoint.tensors.values()
    kinds = ", ".join(sorted({str(tensor.dtype) for tensor in tensors}))
    size = _size(sum(tensor.nbytes for tensor in tensors))
    lines = [f"{checkpoint.path}: {checkpoint.format}, {len(tensors):,} arrays, {size}, {kinds}"]
    if "spec" in checkpoint.metadata:
        said = checkpoint.metadata
        lines.append(f"  it says that it holds {said['spec']}, written by {said.get('producer', 'someone')}")
    best = found[0].notes if found else ()
    return [*lines, *(f"  {note}" for note in (*checkpoint.notes, *best))]


def matches(found: Sequence[Match]) -> Table | str:
    """Networks that a checkpoint fits or comes near, for a terminal."""
    table = Table(box=SIMPLE_HEAD)
    for heading in ("network", "fits", "names"):
        table.add_column(heading, no_wrap=True)
    table.add_column("weights", justify="right", no_wrap=True)
    table.add_column("what differs")
    for match in found:
        said = [f"--set {name}={value}" for name, value in match.settings.items()]
        said += [*match.differs[:_MOST_SAID]]
        if len(match.differs) > _MOST_SAID:
            said.append(f"and {len(match.differs) - _MOST_SAID} more")
        table.add_row(match.network, match.how, match.names, f"{match.same} of {match.weights}", "\n".join(said))
    return table if found else "no bundled network has names or shapes like these"


def differences(found: Sequence[Difference]) -> Table:
    """Arrays that differ, the worst first, for a terminal."""
    table = Table(box=SIMPLE_HEAD)
    for heading in ("array", "shape", "type"):
        table.add_column(heading, no_wrap=True)
    for heading in ("worst", "relative", "at", "values"):
        table.add_column(heading, justify="right", no_wrap=True)
    off = [one for one in found if not one.identical]
    for one in sorted(off, key=lambda each: -each.relative):
        kinds = one.dtypes[0] if one.dtypes[0] == one.dtypes[1] else " and ".join(one.dtypes)
        values = f"{one.values[0]:.9g} and {one.values[1]:.9g}"
        table.add_row(one.name, str(one.shape), kinds, f"{one.worst:.1e}", f"{one.relative:.1e}", str(one.at), values)
    table.caption = f"{len(found) - len(off)} of {len(found)} arrays are the same, bit for bit"
    table.caption_justify = "left"
    return table


def difference_data(one: Difference) -> dict[str, object]:
    """A difference for ``--json``, which knows no infinity."""
    finite = {
        key: value if math.isfinite(value) else None
        for key, value in (("worst", one.worst), ("relative", one.relative))
    }
    values = [value if math.isfinite(value) else str(value) for value in one.values]
    return {**asdict(one), **finite, "values": values}


def _size(count: int) -> str:
    """Bytes as people read them: 46.8 MB."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count:,} bytes"
