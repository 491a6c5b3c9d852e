"""A network as rows and columns: every part at a depth, its shapes and its costs, for a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never

from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.network.costs import Cost, compute_costs
from resnet_spec.network.network import Chain, Leaf, Network, Parallel, Part, Residual
from resnet_spec.network.structure import children
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
"""Every column's heading. ``share`` is of the parameters, ``field`` the receptive field, ``step`` the cumulative stride."""

WHOLES = {
    "network": "network",
    "input": "input",
    "layers": "layers",
    **{key: COLUMNS[key] for key in ("parameters", "statistics", "macs", "flops", "memory")},
}
"""The columns of networks as wholes. ``layers`` counts convolutions and matrix products."""

DEFAULT = ("path", "operation", "in", "out", "parameters", "macs", "flops")
NARROWER = (("path", "operation", "out", "parameters", "macs"), ("path", "out", "parameters", "macs"))
"""The default where a terminal is too narrow for it."""
NUMBERS = frozenset({*COLUMNS, "layers"}) - {"path", "operation", "in", "out"}
"""The columns that line up on the right."""
COUNTS = ("parameters", "share", "statistics", "macs", "flops", "memory")
"""The columns that add up."""


@dataclass(frozen=True, slots=True)
class Row:
    """One part. ``depth`` counts from 1; ``group`` says that the rows below it hold its costs again, part by part."""

    depth: int
    group: bool
    values: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings; ``total`` is what they add up to, if they do, in the columns that it has."""

    title: str
    headings: Mapping[str, str]
    rows: tuple[Row, ...]
    total: dict[str, Value] | None = None


def table(network: Network, depth: int | None = None, batch: int = 1, *, grouped: bool = True) -> Table:
    """A network's parts down to ``depth``, or all of them. Where not ``grouped``, no cost stands in two rows.

    >>> from resnet_spec import load
    >>> [row.values["path"] for row in table(load("resnet18"), depth=1).rows][-3:]
    ['layer4', 'avgpool', 'fc']
    """
    found = compute_costs(network)
    total: dict[str, Value] = {
        "path": "total",
        "out": _batched(network.output_shape, batch),
        **_counts(found[""], found[""], batch),
    }
    walked = _rows(network.parts, 1, depth)
    rows = tuple(
        Row(level, group, _values(part, found[part.path], found[""], batch))
        for level, group, part in walked
        if grouped or not group
    )
    return Table(f"{network.name}, for {images(network, batch)}", COLUMNS, rows, total)


def compared(networks: Iterable[tuple[str, Network]], batch: int = 1) -> Table:
    """Networks as rows: what they cost as wholes.

    >>> from resnet_spec import load
    >>> [row.values["parameters"] for row in compared([("resnet18", load("resnet18"))]).rows]
    [11689512]
    """
    found = [(name, network, compute_costs(network)[""]) for name, network in networks]
    rows = (
        {
            "network": name,
            "input": _batched(network.input, batch),
            "layers": sum(leaf.op.macs(leaf.input_shape) > 0 for leaf in network.leaves()),
            **_counts(cost, cost, batch),
        }
        for name, network, cost in found
    )
    many = f"a batch of {batch} images" if batch > 1 else "one image"
    return Table(f"costs for {many}", WHOLES, tuple(Row(1, False, row) for row in rows))


def images(network: Network, batch: int) -> str:
    """How many images of which size."""
    many = f"a batch of {batch} images" if batch > 1 else "one image"
    return f"{many} {shape(network.input)}"


def columns(text: str) -> tuple[str, ...]:
    """Columns by their names, joined by commas. Raises ValueError.

    >>> columns("path,macs")
    ('path', 'macs')
    """
    names = tuple(word.strip().lower() for word in text.split(","))
    for unknown in (word for word in names if word not in COLUMNS):
        raise ValueError(f"no column named {unknown!r}; {suggest(unknown, COLUMNS)}")
    return names


def plain(column: str, value: Value) -> str:
    """A value as people write it: 64x56x56, 11,689,512, 20.1 %; nothing for what costs nothing.

    >>> plain("out", (64, 56, 56)), plain("share", 0.201), plain("macs", 0), plain("field", None)
    ('64x56x56', '20.1 %', '', 'image')
    """
    match value:
        case None:
            return "image" if column in ("field", "step") else ""
        case 0 if column in COUNTS:
            return ""
        case tuple():
            return shape(value)
        case float():
            return f"{value:.1%}".replace("%", " %")
        case int():
            return f"{value:,}"
        case str():
            return value
        case _:
            assert_never(value)


def shape(shape: Shape) -> str:
    """A shape as people write it: 64x56x56."""
    return "x".join(map(str, shape))


def count(number: int) -> str:
    """A large number in three digits: 11.7 M.

    >>> count(970), count(9408), count(11_689_512), count(1_814_073_344)
    ('970', '9.41 k', '11.7 M', '1.81 G')
    """
    power = next((power for power in (0, 1, 2, 3) if number < 999.5 * 1000**power), 4)
    return f"{number / 1000**power:.3g}{('', ' k', ' M', ' G', ' T')[power]}"


def operation(part: Part) -> str:
    """What to call a part: its operation, or what it holds."""
    match part:
        case Leaf():
            return op_name(part.op)
        case Chain():
            blocks = not any(isinstance(inner, Leaf) for inner in part.parts)
            return f"{len(part.parts)} {'block' if blocks else 'layer'}{'s' if len(part.parts) > 1 else ''}"
        case Residual():
            return "gate" if part.combine == "multiply" else "residual"
        case Parallel():
            return f"{len(part.branches)} branches"
        case _:
            assert_never(part)


def summary(network: Network, batch: int = 1) -> dict[str, Any]:
    """A network's totals as data."""
    whole = compute_costs(network)[""]
    total = _counts(whole, whole, batch)
    return {
        "name": network.name,
        "source": network.source,
        "input": network.input,
        "output": network.output_shape,
        "batch": batch,
        **{key: total[key] for key in ("parameters", "statistics", "macs", "flops", "memory")},
    }


def _rows(parts: tuple[Part, ...], level: int, depth: int | None) -> Iterator[tuple[int, bool, Part]]:
    for part in parts:
        inner = children(part) if depth is None or level < depth else ()
        yield level, bool(inner), part
        yield from _rows(inner, level + 1, depth)


def _values(part: Part, cost: Cost, whole: Cost, batch: int) -> dict[str, Value]:
    op = part.op if isinstance(part, Leaf) else None
    return {
        "path": part.path,
        "operation": operation(part),
        "in": _batched(part.input_shape, batch),
        "out": _batched(part.output_shape, batch),
        "kernel": getattr(op, "kernel", None),
        "stride": getattr(op, "stride", None),
        **_counts(cost, whole, batch),
        "field": cost.view.field,
        "step": cost.view.step,
    }


def _counts(cost: Cost, whole: Cost, batch: int) -> dict[str, Value]:
    return {
        "parameters": cost.parameters,
        "share": cost.parameters / whole.parameters if whole.parameters else 0.0,
        "statistics": cost.statistics,
        "macs": batch * cost.macs,
        "flops": 2 * batch * cost.macs,
        "memory": batch * cost.memory,
    }


def _batched(shape: Shape, batch: int) -> Shape:
    return shape if batch == 1 else (batch, *shape)
