"""What a page knows of every part: its row of the table, its weights, the line of YAML that it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from resnet_spec.diagnostics.problems import Problem, Source
from resnet_spec.library import bundled
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Part
from resnet_spec.network.structure import group_repeats, group_stages, non_default_arguments
from resnet_spec.network.traversal import children
from resnet_spec.views.table import COLUMNS, NUMERIC_COLUMNS, build_table, summarize_costs

Files = dict[str, int]
"""Each source's name, and its number among a page's files."""


def page_data(network: Network, sources: Iterable[Source] = ()) -> dict[str, Any]:
    """Everything a page shows but the drawing. ``sources`` are files to show first, beside those that parts come from."""
    found = _collect_sources(network, sources)
    files = {source.name: index for index, source in enumerate(found)}
    rows = build_table(network).rows
    named = {part.path: part for part in network.nodes()}
    return {
        "name": network.name,
        "summary": summarize_costs(network),
        "columns": column_data(),
        "rows": [
            {**row.values, "depth": row.depth, "group": row.group, **_part_data(named[str(row.values["path"])], files)}
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
        "files": file_data(found),
    }


def empty_page_data(name: str, sources: Iterable[Source]) -> dict[str, Any]:
    """What a page shows where there is no network yet: the files alone."""
    empty: dict[str, list[Any]] = {"rows": [], "stages": [], "folds": [], "columns": column_data()}
    return {"name": name, "summary": None, "drawing": "", **empty, "files": file_data(sources)}


def column_data() -> list[dict[str, Any]]:
    """The table's columns."""
    return [{"key": key, "heading": heading, "number": key in NUMERIC_COLUMNS} for key, heading in COLUMNS.items()]


def problem_data(found: Iterable[Problem], sources: Iterable[Source]) -> list[dict[str, Any]]:
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


def file_data(sources: Iterable[Source]) -> list[dict[str, str]]:
    """Files by the names to show them under."""
    found = list(sources)
    return [{"name": name, "text": source.text} for name, source in zip(_display_names(found), found, strict=True)]


def _part_data(part: Part, files: Files) -> dict[str, Any]:
    more: dict[str, Any] = {"at": [files[part.at.source.name], part.at.line] if part.at else None}
    if isinstance(part, Leaf):
        more["arguments"] = non_default_arguments(part.op)
        more["weights"] = [[weight.name, weight.shape] for weight in part.op.weights(part.input_shape)]
    return more


def _collect_sources(network: Network, first: Iterable[Source]) -> list[Source]:
    """The files that parts come from, the spec's own before those of blocks."""
    found = {source.name: source for source in first}
    for part in _walk(network.parts):
        if part.at:
            found.setdefault(part.at.source.name, part.at.source)
    return list(found.values())


def _walk(parts: Iterable[Part]) -> Iterator[Part]:
    for part in parts:
        yield part
        yield from _walk(children(part))


def _display_names(sources: list[Source]) -> list[str]:
    """Names to show: a bundled file's within ``specs/``, any other's without the folders that are the reader's own affair."""
    home = str(bundled.directory())
    return [
        source.name.removeprefix(home).lstrip("/\\") if source.name.startswith(home) else Path(source.name).name
        for source in sources
    ]
