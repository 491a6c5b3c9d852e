"""What a page knows of every part: its row of the table, its weights, the line of YAML that it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from resnet_spec.diagnostics.problems import Problem, Source
from resnet_spec.library import bundled
from resnet_spec.network.network import Leaf, Network, Part
from resnet_spec.network.structure import children, group_repeats, group_stages, non_default_arguments
from resnet_spec.views.table import COLUMNS, NUMBERS, summary, table

Files = dict[str, int]
"""Each source's name, and its number among a page's files."""


def data(network: Network, sources: Iterable[Source] = ()) -> dict[str, Any]:
    """Everything a page shows but the drawing. ``sources`` are files to show first, beside those that parts come from."""
    found = _sources(network, sources)
    files = {source.name: index for index, source in enumerate(found)}
    rows = table(network).rows
    named = {part.path: part for part in network.nodes()}
    return {
        "name": network.name,
        "summary": summary(network),
        "columns": columns(),
        "rows": [
            {**row.values, "depth": row.depth, "group": row.group, **_more(named[str(row.values["path"])], files)}
            for row in rows
        ],
        "stages": [group.path for group in group_stages(network) if group.path],
        "folds": [
            [part.path for part in run]
            for group in group_stages(network)
            if group.path
            for run in group_repeats(group.parts)
            if run[1:]
        ],
        "files": files_of(found),
    }


def nothing(name: str, sources: Iterable[Source]) -> dict[str, Any]:
    """What a page shows where there is no network yet: the files alone."""
    empty: dict[str, list[Any]] = {"rows": [], "stages": [], "folds": [], "columns": columns()}
    return {"name": name, "summary": None, "drawing": "", **empty, "files": files_of(sources)}


def columns() -> list[dict[str, Any]]:
    """The table's columns."""
    return [{"key": key, "heading": heading, "number": key in NUMBERS} for key, heading in COLUMNS.items()]


def problems(found: Iterable[Problem], sources: Iterable[Source]) -> list[dict[str, Any]]:
    """Problems for a page to show in place: each with the number of its file, or None for a file that it does not show."""
    files = {source.name: index for index, source in enumerate(sources)}
    return [
        {
            "code": problem.code,
            "message": problem.message,
            "help": problem.help,
            "file": files.get(problem.at.source.name),
            "line": problem.at.line,
            "column": problem.at.column,
            "end": problem.at.end,
        }
        for problem in found
    ]


def files_of(sources: Iterable[Source]) -> list[dict[str, str]]:
    """Files by the names to show them under."""
    found = list(sources)
    return [{"name": name, "text": source.text} for name, source in zip(_names(found), found, strict=True)]


def _more(part: Part, files: Files) -> dict[str, Any]:
    more: dict[str, Any] = {"at": [files[part.at.source.name], part.at.line] if part.at else None}
    if isinstance(part, Leaf):
        more["arguments"] = non_default_arguments(part.op)
        more["weights"] = [[weight.name, weight.shape] for weight in part.op.weights(part.input_shape)]
    return more


def _sources(network: Network, first: Iterable[Source]) -> list[Source]:
    """The files that parts come from, the spec's own before those of blocks."""
    found = {source.name: source for source in first}
    for part in _down(network.parts):
        if part.at:
            found.setdefault(part.at.source.name, part.at.source)
    return list(found.values())


def _down(parts: Iterable[Part]) -> Iterator[Part]:
    for part in parts:
        yield part
        yield from _down(children(part))


def _names(sources: list[Source]) -> list[str]:
    """Names to show: a bundled file's within ``specs/``, any other's without the folders that are the reader's own affair."""
    home = str(bundled.directory())
    return [
        source.name.removeprefix(home).lstrip("/\\") if source.name.startswith(home) else Path(source.name).name
        for source in sources
    ]
