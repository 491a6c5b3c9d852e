"""Render published weights as a table, and a verified file as text and as data for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from resnet_spec.downloads.fetch import Fetched
from resnet_spec.library.published import PublishedWeights

OPTIONAL_COLUMNS = ("classes", "cached", "image")
"""The columns that are left out in a terminal that is too narrow, the first one first."""


def render_published(records: Sequence[PublishedWeights], cached: Iterable[bool]) -> Table:
    """Render published weights as a table, with whether each seems to be in a cache."""
    table = Table(box=SIMPLE_HEAD)
    for heading in ("network", "tag"):
        table.add_column(heading, no_wrap=True)
    for heading in ("top-1", "image", "classes"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("license", no_wrap=True)
    table.add_column("cached", no_wrap=True)
    for weights, is_cached in zip(records, cached, strict=True):
        accuracy = "" if weights.acc1 is None else f"{weights.acc1:.2f} %"
        table.add_row(
            weights.spec,
            f"{weights.tag}{' *' if weights.default else ''}",
            accuracy,
            "x".join(map(str, weights.input[1:])),
            str(weights.classes or "no head"),
            weights.license,
            "yes" if is_cached else "",
        )
    return table


def describe_fetched(fetched: Fetched) -> str:
    """Describe a verified file in lines of text."""
    weights, digest = fetched.weights, fetched.digest
    license = f"{weights.license}{f' ({weights.license_note})' if weights.license_note else ''}"
    lines = [
        f"{weights.key}: {digest.size:,} bytes from {fetched.place}, license {license}",
        f"  sha256 {digest.sha256}, {_describe_check(fetched)}",
        str(fetched.path),
    ]
    return "\n".join(lines)


def _describe_check(fetched: Fetched) -> str:
    """Say what the hash was compared with."""
    if fetched.file.sha256:
        return f"published as {fetched.file.sha256}"
    if fetched.file.md5:
        return f"with the published md5 {fetched.file.md5}"
    return "published without a hash, and the same as at its first use"


def fetched_data(fetched: Fetched) -> dict[str, object]:
    """Return a verified file as data for JSON."""
    weights, digest = fetched.weights, fetched.digest
    return {
        "network": weights.spec,
        "tag": weights.tag,
        "path": str(fetched.path),
        "place": fetched.place,
        "url": fetched.file.url,
        "sha256": digest.sha256,
        "size": digest.size,
        "license": weights.license,
    }
