"""The data of a page: for each part its table row, its weights, and the line of YAML that it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from resnet_spec.diagnostics.problems import Problem, Source, one_line
from resnet_spec.library import bundled
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Part
from resnet_spec.network.structure import group_repeats, group_stages, non_default_arguments
from resnet_spec.network.traversal import children
from resnet_spec.views.table import COLUMNS, NUMERIC_COLUMNS, build_table, summarize_costs


def page_data(network: Network, sources: Iterable[Source] = ()) -> dict[str, Any]:
    """Return everything that a page shows except the drawing.

    ``sources`` are the files to show first, before the others that parts of the network come from.
    """
    shown = _collect_sources(network, sources)
    numbers = _file_numbers(shown)
    parts = {part.path: part for part in network.nodes()}
    stages = [group for group in group_stages(network) if group.path]
    return {
        "name": one_line(network.name),
        "summary": summarize_costs(network),
        "columns": column_data(),
        "rows": [
            {
                **row.values,
                "depth": row.depth,
                "group": row.group,
                **_part_data(parts[str(row.values["path"])], numbers),
            }
            for row in build_table(network).rows
        ],
        "stages": [stage.path for stage in stages],
        "folds": [
            [part.path for part in run] for stage in stages for run in group_repeats(stage.parts) if len(run) > 1
        ],
        "files": file_data(shown),
    }


def empty_page_data(name: str, sources: Iterable[Source]) -> dict[str, Any]:
    """Return what a page shows while there is no valid network: only the files."""
    empty: dict[str, list[Any]] = {"rows": [], "stages": [], "folds": [], "columns": column_data()}
    return {"name": name, "summary": None, "drawing": "", **empty, "files": file_data(sources)}


def column_data() -> list[dict[str, Any]]:
    """Return the columns of the table: key, heading, and whether they hold numbers."""
    return [{"key": key, "heading": heading, "number": key in NUMERIC_COLUMNS} for key, heading in COLUMNS.items()]


def problem_data(problems: Iterable[Problem], sources: Iterable[Source]) -> list[dict[str, Any]]:
    """Return problems with their positions. ``file`` is an index into the sources, or None if it is not among them."""
    numbers = _file_numbers(sources)
    return [
        {
            "code": problem.code,
            "message": problem.message,
            "help": problem.help,
            "file": numbers.get(problem.span.source.name),
            "line": problem.span.line,
            "column": problem.span.column,
            "end": problem.span.end,
        }
        for problem in problems
    ]


def file_data(sources: Iterable[Source]) -> list[dict[str, str]]:
    """Return the text of each file under the name to show."""
    return [{"name": _display_name(source), "text": source.text} for source in sources]


def _file_numbers(sources: Iterable[Source]) -> dict[str, int]:
    return {source.name: number for number, source in enumerate(sources)}


def _part_data(part: Part, file_numbers: Mapping[str, int]) -> dict[str, Any]:
    data: dict[str, Any] = {"at": [file_numbers[part.span.source.name], part.span.line] if part.span else None}
    if isinstance(part, Leaf):
        data["arguments"] = non_default_arguments(part.op)
        data["weights"] = [[weight.name, weight.shape] for weight in part.op.weights(part.input_shape)]
    return data


def _collect_sources(network: Network, first: Iterable[Source]) -> list[Source]:
    """Return the given files and those that parts come from, in the order in which they occur in the tree."""
    sources = {source.name: source for source in first}
    for part in _walk(network.parts):
        if part.span:
            sources.setdefault(part.span.source.name, part.span.source)
    return list(sources.values())


def _walk(parts: Iterable[Part]) -> Iterator[Part]:
    """Yield parts and everything inside them, each part before its contents."""
    for part in parts:
        yield part
        yield from _walk(children(part))


def _display_name(source: Source) -> str:
    """Return a bundled file's path below ``specs/``, or only the name of any other file, as its folders are private."""
    path, specs = Path(source.name), Path(str(bundled.directory()))
    return str(path.relative_to(specs)) if path.is_relative_to(specs) else path.name
