"""Build a ``Spec`` from decoded records. Invalid values keep their places, so that all other names are looked up."""

from __future__ import annotations

from typing import Any, get_args

from resnet_spec.diagnostics.problems import Problems, Span
from resnet_spec.language.decoder import Fields, decode
from resnet_spec.language.grammar import BLOCK, SPEC
from resnet_spec.language.spec import (
    Block,
    Group,
    Invalid,
    Layer,
    Preprocess,
    Role,
    Spec,
)
from resnet_spec.language.values import decode_integer, decode_number
from resnet_spec.syntax.nodes import Mapping, Node, Scalar

ROLES: tuple[Role, ...] = get_args(Role)


def read_spec(root: Mapping, problems: Problems) -> Spec:
    """Read a network's spec, with ``extends`` already merged; add problems with its form to ``problems``."""
    fields = decode(root, SPEC, problems)
    assert isinstance(fields, Fields)  # a mapping decodes to fields
    found = fields.values
    defaults: dict[str, dict[str, Scalar | Invalid]] = found.get("defaults", {})
    blocks = _fields(found.get("blocks"), root.span)
    return Spec(
        name=_text(found.get("name")),
        source=_text(found.get("source")),
        input=_input(found.get("input")) if fields.complete else None,
        takes=_takes(found.get("takes"), root.span),
        takes_keys=_fields(found.get("takes"), root.span).keys,
        preprocess=_preprocess(found.get("preprocess"), root.span),
        options=_fields(found.get("options"), root.span).values,
        defaults=defaults if isinstance(defaults, dict) else {},
        layers=_fields(found.get("layers"), root.span).values,
        layers_keys=_fields(found.get("layers"), root.span).keys,
        blocks={name: _block(name, block) for name, block in blocks.values.items()},
        stem=_group(found.get("stem")),
        stages=_stages(found.get("stages")),
        head=_group(found.get("head")),
        span=root.span,
    )


def read_block(root: Node, name: str) -> Block:
    """Read a file that defines one block. Raises SpecError with every problem of form."""
    problems = Problems()
    block = _block(name, decode(root, BLOCK, problems))
    problems.stop()
    assert isinstance(block, Block)  # otherwise there is a problem
    return block


def _block(name: str, fields: Fields | Invalid | Scalar) -> Block | Invalid:
    if not isinstance(fields, Fields) or isinstance(fields.values.get("combine"), Invalid):
        return Invalid(fields.span)
    found = fields.values
    if isinstance(found.get("takes"), Invalid):
        return Invalid(fields.span)  # its arguments are unknown
    written = ((role, _group(found[role])) for key in found for role in ROLES if role == key)
    combine: Any = _text(found.get("combine")) or "add"
    reads: Any = _text(found.get("reads")) or None
    project: Any = _text(found.get("project")) or "changed"
    sections = {role: group for role, group in written if group}
    return Block(name, _takes(found.get("takes"), fields.span), sections, combine, project, reads, fields.span)


def _stages(fields: Any) -> Group | None:
    if not isinstance(fields, Fields):
        return None
    return Group(tuple(zip(fields.keys.values(), fields.values.values(), strict=True)), fields.span)


def _takes(fields: Any, span: Span) -> dict[str, Layer | None]:
    """Return the default of each argument; None for a required one."""
    found = _fields(fields, span).values
    return {name: None if isinstance(it, Scalar) and it.text == "required" else it for name, it in found.items()}


def _input(items: Any) -> tuple[int, int, int] | None:
    match items:
        case (Scalar() as channels, Scalar() as height, Scalar() as width):
            return decode_integer(channels), decode_integer(height), decode_integer(width)
        case _:
            return None


def _preprocess(fields: Any, span: Span) -> Preprocess | None:
    match _fields(fields, span).values:
        case {"resize": Scalar() as resize, "mean": mean, "std": std}:
            return Preprocess(decode_integer(resize), _numbers(mean), _numbers(std))
        case _:
            return None


def _numbers(items: Any) -> tuple[float, ...]:
    return tuple(decode_number(item) for item in items if isinstance(item, Scalar)) if isinstance(items, tuple) else ()


def _text(value: Any) -> str:
    return value.text if isinstance(value, Scalar) else ""


def _group(value: Any) -> Group | None:
    return value if isinstance(value, Group) else None


def _fields(value: Any, span: Span) -> Fields:
    return value if isinstance(value, Fields) else Fields(span)
