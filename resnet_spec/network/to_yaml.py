"""A ``Network`` to YAML text: every layer spelt out, each kind of block once. Reading it gives the same network."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

import yaml

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual
from resnet_spec.ops import Op, op_name


def to_yaml(network: Network) -> str:
    """The network as a spec of its own, that takes nothing and extends nothing.

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
        wanted = network.preprocess
        spec["preprocess"] = {"resize": wanted.resize, "mean": list(wanted.mean), "std": list(wanted.std)}
    if blocks:
        spec["blocks"] = blocks
    return yaml.dump({**spec, "stem": stem}, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)


def _row(path: str, parts: tuple[Part, ...], blocks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    prefix = f"{path}." if path else ""
    return {part.path.removeprefix(prefix): _part(path, part, blocks) for part in parts}


def _part(holder: str, part: Part, blocks: dict[str, dict[str, Any]]) -> Any:
    match part:
        case Leaf():
            return _leaf(part.op)
        case Chain():
            return _row(part.path, part.parts, blocks)
        case Parallel():
            branches = [_row(holder, branch, blocks) or "none" for branch in part.branches]
            flags = {name: True for name in ("split", "cascade") if getattr(part, name)}
            return {**flags, "combine": part.combine, "branches": branches}
        case Residual():
            block = _block(part, blocks)
            named = next((name for name, known in blocks.items() if _same(known, block)), None)
            if named is None:
                named = f"block{len(blocks) + 1}"
                blocks[named] = block
            return {"block": named}


def _block(part: Residual, blocks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    block: dict[str, Any] = {} if part.combine == "add" else {"combine": part.combine}
    if part.shortcut:
        block["project"] = "always"
    if part.reads != ("before" if part.before and part.shortcut else "input"):
        block["reads"] = part.reads
    return block | {role: _row(part.path, part.section(role), blocks) for role in part.order if part.section(role)}


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two blocks are the same, the order of their sections and layers too."""
    return repr(one) == repr(other)


def _leaf(op: Op) -> Any:
    input_shape = {field.name: getattr(op, field.name) for field in fields(op) if _said(op, field)}
    plain = {key: _plain(op, key, value) if isinstance(value, float) else value for key, value in input_shape.items()}
    return {"op": op_name(op), **plain} if plain else op_name(op)


def _said(op: Op, field: Any) -> bool:
    """Whether an argument differs from its default, rounded as the operation rounds it."""
    if field.default is MISSING:
        return True
    value = getattr(op, field.name)
    return bool(value != field.default and not (isinstance(value, float) and _holds(op, field.name, field.default)))


def _plain(op: Op, argument: str, value: float) -> float:
    """The shortest number that the operation rounds to this one: 1e-5, not 9.99999974737875e-06."""
    for digits in range(1, 17):
        short = float(f"{value:.{digits}g}")
        if _holds(op, argument, short):
            return short
    return value


def _holds(op: Op, argument: str, value: float) -> bool:
    """Whether the operation, told this value, keeps the one that it has."""
    told: dict[str, Any] = {field.name: getattr(op, field.name) for field in fields(op)} | {argument: value}
    return type(op)(**told) == op


class _Dumper(yaml.SafeDumper):
    """Writes equal lists out each time, not as aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True
