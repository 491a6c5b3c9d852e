"""Tables of what was compared with a foreign model."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from resnet_spec.importing.proof import Comparison


def proof_table(proof: Sequence[Comparison]) -> Table:
    """Return comparisons as a table for a terminal."""
    table = Table(box=None, pad_edge=False)
    for name, justify in (
        ("compared", "left"),
        ("backend", "left"),
        ("images", "left"),
        ("arrays", "right"),
        ("worst", "right"),
        ("gate", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("verdict")
    table.add_column("where")
    for line in proof:
        worst = f"{line.worst:.1e}" if line.count else ""
        table.add_row(
            line.what,
            line.backend,
            line.size,
            str(line.count or ""),
            worst,
            f"{line.gate:.0e}",
            line.verdict,
            line.where,
        )
    return table
