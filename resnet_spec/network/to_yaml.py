"""Write a network as a spec in YAML, with every layer spelt out and equal blocks defined once."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import Any

import yaml

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.ops import Op, op_name


def to_yaml(network: Network) -> str:
    """Return a spec that loads as the same network; it has no arguments and extends no other spec.

    >>> from resnet_spec import load, loads
    >>> loads(to_yaml(load("resnet18"))) == load("resnet18")
    True
    """
    blocks: dict[str, dict[str, Any]] = {}
    stem = _row("", network.parts, blocks)
    spec: dict[str, Any] = {"name": network.name}
    if network.source:
        spec["source"] = network.source
    spec["input"] = list(network.input)
    if network.preprocess is not None:
        preprocess = network.preprocess
        spec["preprocess"] = {
            "resize": preprocess.resize,
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
        }
    if blocks:
        spec["blocks"] = blocks
    return yaml.dump({**spec, "stem": stem}, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)


def _row(path: str, parts: Row, blocks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the layers of a row by name; blocks that they need are added to ``blocks``."""
    prefix = f"{path}." if path else ""
    return {part.path.removeprefix(prefix): _part(part, blocks) for part in parts}


def _part(part: Part, blocks: dict[str, dict[str, Any]]) -> Any:
    match part:
        case Leaf():
            return _leaf(part.op)
        case Chain() if part.written_rows[0] == part.parts:
            return _row(part.path, part.parts, blocks)
        case Parallel():
            beside = part.path.rpartition(".")[0]  # of a name with dots, as in 4.paths, the parts are named below 4
            branches = [_row(beside, branch, blocks) or "none" for branch in part.branches]
            if part.collect:
                return {"collect": _collected(beside, part, blocks)}
            names = ("split", "cascade", "resize")
            settings = {name: _plain(getattr(part, name)) for name in names if getattr(part, name)}
            return {**settings, "combine": part.combine, "branches": branches}
        case Chain() | Residual():
            block = _block(part, blocks) if isinstance(part, Residual) else _chain_block(part, blocks)
            # repr tells apart blocks whose keys are in another order, since the order of sections orders the weights.
            name = next((name for name, known in blocks.items() if repr(known) == repr(block)), None)
            if name is None:
                name = f"block{len(blocks) + 1}"
                blocks[name] = block
            return {"block": name}


def _collected(beside: str, part: Parallel, blocks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the layers whose outputs are collected; each is one part, since a repeated block counts as several."""
    _, *rows = part.branches
    return {name: layer for row in rows for name, layer in _row(beside, row, blocks).items()}


def _block(part: Residual, blocks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    block: dict[str, Any] = {} if part.combine == "add" else {"combine": part.combine}
    if part.shortcut:
        block["project"] = "always"
    if part.reads != ("before" if part.before and part.shortcut else "input"):
        block["reads"] = part.reads
    written = [role for role in part.order if part.section(role)] + ["branch"] * (not part.branch)  # it must have one
    return block | {role: _row(part.path, part.section(role), blocks) for role in written}


def _chain_block(part: Chain, blocks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a block whose sections are written in another order than that in which they run."""
    written = [inner.path for inner in part.written_rows[0]]
    rows: list[list[Part]] = []  # parts that follow one another in both orders
    for inner in part.parts:
        if rows and written.index(inner.path) == written.index(rows[-1][-1].path) + 1:
            rows[-1].append(inner)
        else:
            rows.append([inner])
    sections = zip(("before", "branch", "after") if rows[2:] else ("branch", "after"), rows, strict=True)
    in_order = sorted(sections, key=lambda section: written.index(section[1][0].path))
    return {"combine": "none"} | {role: _row(part.path, tuple(row), blocks) for role, row in in_order}


def _leaf(op: Op) -> Any:
    arguments: dict[str, Any] = {}
    for field in fields(op):
        if _is_written(op, field):
            value = getattr(op, field.name)
            arguments[field.name] = _shorten(op, field.name, value) if isinstance(value, float) else _plain(value)
    return {"op": op_name(op), **arguments} if arguments else op_name(op)


def _plain(value: Any) -> Any:
    """Return a value as YAML has it: a list for a tuple."""
    return list(value) if isinstance(value, tuple) else value


def _is_written(op: Op, field: Any) -> bool:
    """Return whether an argument is required or differs from its default, rounded as the operation rounds it."""
    if field.default is MISSING:
        return True
    value = getattr(op, field.name)
    rounds_to_value = isinstance(value, float) and _has_argument(op, field.name, field.default)
    return bool(value != field.default and not rounds_to_value)


def _shorten(op: Op, argument: str, value: float) -> float:
    """Return the shortest number that the operation rounds to a value: 1e-5, not 9.99999974737875e-06."""
    for digits in range(1, 17):
        short = float(f"{value:.{digits}g}")
        if _has_argument(op, argument, short):
            return short
    return value


def _has_argument(op: Op, argument: str, value: float) -> bool:
    """Return whether the operation stays the same with a value for an argument, as it rounds that."""
    changes: dict[str, Any] = {argument: value}
    return replace(op, **changes) == op


class _Dumper(yaml.SafeDumper):
    """A dumper that writes equal lists each time instead of aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True
