"""A network as rows and columns: each part down to a depth, with its shapes and costs, for a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never

from resnet_spec.diagnostics.problems import one_line
from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.network.costs import Cost, compute_costs
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual
from resnet_spec.network.traversal import children
from resnet_spec.ops import Shape, op_name

Value: TypeAlias = str | int | float | Shape | None

COLUMNS = {
    "path": "path",
    "operation": "operation",
    "in": "in",
    "out": "out",
    "kernel": "kernel",
    "stride": "stride",
    "parameters": "parameters",
    "share": "share",
    "statistics": "statistics",
    "macs": "MACs",
    "flops": "FLOPs",
    "memory": "memory",
    "field": "field",
    "step": "step",
}
"""The heading of each column.

``share`` is the part's share of the parameters, ``field`` the receptive field, ``step`` the cumulative stride.
"""

NETWORK_COLUMNS = {
    "network": "network",
    "input": "input",
    "layers": "layers",
    **{key: COLUMNS[key] for key in ("parameters", "statistics", "macs", "flops", "memory")},
}
"""The headings of a table with one network per row. ``layers`` counts convolutions and matrix products."""

DEFAULT_COLUMNS = ("path", "operation", "in", "out", "parameters", "macs", "flops")
OPTIONAL_COLUMNS = ("flops", "in", "operation", "out")
"""The default columns that are left out in a terminal that is too narrow, the first one first."""
OPTIONAL_NETWORK_COLUMNS = ("statistics", "flops", "layers", "input", "memory")
"""The same for a table with one network per row."""
NUMERIC_COLUMNS = frozenset({*COLUMNS, "layers"}) - {"path", "operation", "in", "out"}
"""The columns that are aligned on the right."""
ADDITIVE_COLUMNS = ("parameters", "share", "statistics", "macs", "flops", "memory")
"""The columns whose values can be added up over parts."""

MACS_NOTE = "MACs: multiply-accumulate operations in convolutions and matrix products; FLOPs = 2 x MACs"


@dataclass(frozen=True, slots=True)
class Row:
    """One part of a network, or one network.

    Attributes:
        depth: How deep the part is in the tree, from 1.
        group: Whether the rows below it are the parts inside it, so that their costs are counted in this row too.
        values: The value of each column.
    """

    depth: int
    group: bool
    values: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings. ``total`` holds the sums of the columns that have one."""

    title: str
    headings: Mapping[str, str]
    rows: tuple[Row, ...]
    total: dict[str, Value] | None = None


def build_table(network: Network, depth: int | None = None, batch: int = 1, *, grouped: bool = True) -> Table:
    """Return the table of a network's parts down to ``depth``, or of all parts if it is None.

    Unless ``grouped``, rows that contain other rows are left out, so that no cost is counted twice.

    >>> from resnet_spec import load
    >>> [row.values["path"] for row in build_table(load("resnet18"), depth=1).rows][-3:]
    ['layer4', 'avgpool', 'fc']
    """
    costs = compute_costs(network)
    whole = costs[""]
    total: dict[str, Value] = {
        "path": "total",
        "out": _with_batch(network.output_shape, batch),
        **_cost_values(whole, whole, batch),
    }
    rows = tuple(
        Row(level, group, _row_values(part, costs[part.path], whole, batch))
        for level, group, part in _walk_rows(network.parts, 1, depth)
        if grouped or not group
    )
    title = f"{one_line(network.name)}, for {_describe_batch(batch)} {format_shape(network.input)}"
    return Table(title, COLUMNS, rows, total)


def compare_networks(networks: Iterable[tuple[str, Network]], batch: int = 1) -> Table:
    """Return a table with the total costs of each network, one network per row.

    >>> from resnet_spec import load
    >>> [row.values["parameters"] for row in compare_networks([("resnet18", load("resnet18"))]).rows]
    [11689512]
    """
    rows = tuple(Row(1, False, _network_values(name, network, batch)) for name, network in networks)
    return Table(f"costs for {_describe_batch(batch)}", NETWORK_COLUMNS, rows)


def _network_values(name: str, network: Network, batch: int) -> dict[str, Value]:
    cost = compute_costs(network)[""]
    return {
        "network": one_line(name),
        "input": _with_batch(network.input, batch),
        "layers": sum(leaf.op.macs(leaf.input_shape) > 0 for leaf in network.leaves()),
        **_cost_values(cost, cost, batch),
    }


def parse_columns(text: str) -> tuple[str, ...]:
    """Return the columns named in a comma-separated list. Raises ValueError if there is no such column.

    >>> parse_columns("path,macs")
    ('path', 'macs')
    """
    names = tuple(word.strip().lower() for word in text.split(","))
    for name in names:
        if name not in COLUMNS:
            raise ValueError(f"no column named {name!r}; {suggest(name, COLUMNS)}")
    return names


def format_value(column: str, value: Value) -> str:
    """Return a value as text for people: 64x56x56, 11,689,512, 20.1 %, and nothing for a cost of zero.

    In the columns ``field`` and ``step``, None means that the part sees the whole image.

    >>> format_value("out", (64, 56, 56)), format_value("share", 0.201), format_value("macs", 0)
    ('64x56x56', '20.1 %', '')
    >>> format_value("field", None)
    'image'
    """
    match value:
        case None:
            return "image" if column in ("field", "step") else ""
        case 0 if column in ADDITIVE_COLUMNS:
            return ""
        case tuple():
            return format_shape(value)
        case float():
            return f"{value:.1%}".replace("%", " %")
        case int():
            return f"{value:,}"
        case str():
            return value
        case _:
            assert_never(value)


def format_shape(shape: Shape) -> str:
    """Return a shape as text: 64x56x56."""
    return "x".join(map(str, shape))


def format_count(number: int) -> str:
    """Return a number with three significant digits and a unit prefix: 11.7 M.

    >>> format_count(970), format_count(9408), format_count(11_689_512), format_count(1_814_073_344)
    ('970', '9.41 k', '11.7 M', '1.81 G')
    """
    power = next((power for power in (0, 1, 2, 3) if number < 999.5 * 1000**power), 4)
    return f"{number / 1000**power:.3g}{('', ' k', ' M', ' G', ' T')[power]}"


def describe_operation(part: Part) -> str:
    """Return the name of a part's operation, or what the part consists of: 2 blocks, gate, 4 branches."""
    match part:
        case Leaf():
            return op_name(part.op)
        case Chain():
            blocks = not any(isinstance(inner, Leaf) for inner in part.parts)
            return f"{len(part.parts)} {'block' if blocks else 'layer'}{'s' if len(part.parts) > 1 else ''}"
        case Residual():
            return {"add": "residual", "multiply": "gate", "concat": "dense"}[part.combine]
        case Parallel():
            return f"{len(part.branches)} branches"
        case _:
            assert_never(part)


def summarize_costs(network: Network, batch: int = 1) -> dict[str, Any]:
    """Return a network's name, shapes and total costs as data for JSON."""
    whole = compute_costs(network)[""]
    total = _cost_values(whole, whole, batch)
    return {
        "name": network.name,
        "source": network.source,
        "input": network.input,
        "output": network.output_shape,
        "batch": batch,
        **{key: total[key] for key in ("parameters", "statistics", "macs", "flops", "memory")},
    }


def _walk_rows(parts: tuple[Part, ...], level: int, depth: int | None) -> Iterator[tuple[int, bool, Part]]:
    """Yield each part with its level, and whether the parts inside it follow."""
    for part in parts:
        inner = children(part) if depth is None or level < depth else ()
        yield level, bool(inner), part
        yield from _walk_rows(inner, level + 1, depth)


def _row_values(part: Part, cost: Cost, whole: Cost, batch: int) -> dict[str, Value]:
    op = part.op if isinstance(part, Leaf) else None
    return {
        "path": part.path,
        "operation": describe_operation(part),
        "in": _with_batch(part.input_shape, batch),
        "out": _with_batch(part.output_shape, batch),
        "kernel": getattr(op, "kernel", None),
        "stride": getattr(op, "stride", None),
        **_cost_values(cost, whole, batch),
        "field": cost.view.field,
        "step": cost.view.step,
    }


def _cost_values(cost: Cost, whole: Cost, batch: int) -> dict[str, Value]:
    return {
        "parameters": cost.parameters,
        "share": cost.parameters / whole.parameters if whole.parameters else 0.0,
        "statistics": cost.statistics,
        "macs": batch * cost.macs,
        "flops": 2 * batch * cost.macs,
        "memory": batch * cost.memory,
    }


def _describe_batch(batch: int) -> str:
    return f"a batch of {batch} images" if batch > 1 else "one image"


def _with_batch(shape: Shape, batch: int) -> Shape:
    return shape if batch == 1 else (batch, *shape)
