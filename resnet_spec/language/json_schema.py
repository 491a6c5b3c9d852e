"""The language as a JSON Schema (2020-12), so that editors complete, explain and check specs as they are typed.

It says what ``form.py`` says: of what form a file is, told of that file alone. A spec that the schema refuses is refused here, and one
that is refused here for its form is refused by the schema; what keys mean (names, shapes, ``extends``) no schema can tell. How a number
is written is beyond it too: ``64.0`` is a whole number in JSON, and not here.

A file that extends another may say things in part, so there are two of most definitions: ``layer``, and ``layer_in_part``.
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, fields
from typing import Any, assert_never

from resnet_spec.language.docstrings import attribute_descriptions, first_sentence
from resnet_spec.language.grammar import (
    BLOCK,
    BRANCHES,
    OVERRIDE,
    SPEC,
    STAGE,
    Form,
    Items,
    Names,
    PerBlock,
    Record,
    Simple,
    Value,
    options_record,
)
from resnet_spec.language.reserved_names import RESERVED
from resnet_spec.language.scalars import KEYWORDS, LAYER_KEYS
from resnet_spec.language.values import (
    IDENTIFIER,
    LAYER_NAME,
    MAX_INTEGER,
    MAX_NAME_LENGTH,
    REFERENCE,
    ArgumentType,
    operation_arguments,
)
from resnet_spec.ops import OPS

DRAFT = "https://json-schema.org/draft/2020-12/schema"
NULL = {"type": "null"}
NOT_NULL = {"not": NULL}

Schema = dict[str, Any]


def spec_schema() -> Schema:
    """The schema of a network's spec."""
    return {
        "$schema": DRAFT,
        "title": "resnet-spec: a residual network",
        "type": "object",
        "if": {"required": ["extends"]},
        "then": _ref("spec_in_part"),
        "else": _ref("spec"),
        "$defs": _definitions(),
    }


def block_schema(at: str) -> Schema:
    """The schema of a file that holds one block, which refers to the one of networks at an address."""
    return {"$schema": DRAFT, "title": "resnet-spec: a block", "$ref": f"{at}#/$defs/block"}


def _definitions() -> Schema:
    names: Schema = {
        "layer_name": _name(LAYER_NAME.pattern, reserved=True, but=LAYER_KEYS),
        "stage_name": _name(LAYER_NAME.pattern, reserved=True),
        "operation_name": {"enum": list(OPS)},
        "own_name": _name(IDENTIFIER.pattern, but=(*OPS, *KEYWORDS)),
        "argument_name": _name(IDENTIFIER.pattern),
        "argument_name_in_part": _name(LAYER_NAME.pattern),
        "reference": _name(REFERENCE.pattern),
        "numbering": _name(
            r"([A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]*\{(index|number)\}[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*", reserved=True
        ),
    }
    found: Schema = {}
    for part in (_Part(False), _Part(True)):
        found |= part.definitions()
    return names | found


def _name(pattern: str, reserved: bool = False, but: tuple[str, ...] = ()) -> Schema:
    refused: list[Schema] = [{"enum": list(but)}] if but else []
    if reserved:
        refused.append({"pattern": rf"(^|\.)(__|({'|'.join(sorted(RESERVED))})(\.|$))"})
    rule: Schema = {"type": "string", "maxLength": MAX_NAME_LENGTH, "pattern": f"^({pattern})$"}
    return rule | ({"not": {"anyOf": refused}} if refused else {})


class _Part:
    """The definitions for whole files, or for those that say what differs from another."""

    def __init__(self, partial: bool) -> None:
        self.partial = partial

    def definitions(self) -> Schema:
        records = {
            "spec": SPEC,
            "block": BLOCK,
            "stage": STAGE,
            "told": OVERRIDE,
            "fork": BRANCHES,
            "options": options_record(),
        }
        calls = {f"op_{name}": self.operation(name) for name in OPS}
        found = {name: self.record(form) for name, form in records.items()} | calls
        found |= {
            "layer": {
                "anyOf": [self.named(), {"type": "array", "items": self.ref("layer")}, self.ref("layer_mapping")]
            },
            "layer_mapping": self.layer_mapping(),
            "group": {
                "anyOf": [{"type": "array", "items": self.ref("layer")}, self.names("layer_name", self.ref("layer"))]
            },
            "branch": {"anyOf": [{"const": "none"}, self.ref("group")]},
            "given": {
                "anyOf": [
                    {"type": "boolean"},
                    _number(ArgumentType(float)),
                    self.named(),
                    {"type": "array", "items": self.ref("layer")},
                    self.ref("layer_mapping"),
                ]
            },
            "defaults": self.closed({name: self.closed(self.properties(name)) for name in OPS}),
        }
        return {self.called(name): rule for name, rule in found.items()}

    def form(self, form: Form) -> Schema:
        match form:
            case Simple.TEXT:
                return {"type": "string"}
            case Simple.REFERENCE:
                return _ref("reference")
            case Simple.NUMBERING:
                return _ref("numbering")
            case Simple():
                return self.ref(form.name.lower())
            case Value(argument, named):
                return {"anyOf": [_value(argument), _ref("reference")]} if named else _value(argument)
            case PerBlock(each):
                return {"anyOf": [self.form(each), {"type": "array", "items": self.form(each)}]}
            case Items(each, count, _, least):
                most = {} if count is None else {"maxItems": count}
                return {"type": "array", "items": self.form(each), "minItems": count or least} | most
            case Names(naming, each):
                return self.names(f"{naming}_name", self.form(each))
            case Record():
                known = {"block": BLOCK, "stage": STAGE, "told": OVERRIDE, "fork": BRANCHES}
                shared = next((name for name, record in known.items() if record is form), None)
                return self.ref(shared) if shared else self.record(form)
            case _:
                assert_never(form)

    # -- mappings -----------------------------------------------------------------------------------------------

    def record(self, form: Record) -> Schema:
        properties = {
            name: ({} if name == "extends" else self.value(self.form(key.form))) | {"description": key.says}
            for name, key in form.keys.items()
        }
        if "extends" in properties:
            properties["extends"] |= self.form(form.keys["extends"].form)
        rule = self.closed(properties, nullable=False)
        if form.rest is not None:
            rule |= {"additionalProperties": self.value(self.form(form.rest)), "propertyNames": self.argument_name()}
        if not self.partial:
            rule["required"] = [name for name, key in form.keys.items() if key.required]
            if form.some:
                rule["anyOf"] = [{"required": [name]} for name in form.some]
        if "shortcut" in form.keys:
            rule["not"] = {
                "required": ["combine", "shortcut"],
                "properties": {"combine": {"const": "none"}} | ({"shortcut": NOT_NULL} if self.partial else {}),
            }
        return rule

    def names(self, name: str, each: Schema) -> Schema:
        return {"type": "object", "propertyNames": _ref(name), "additionalProperties": self.value(each)}

    def closed(self, properties: Schema, nullable: bool = True) -> Schema:
        held = {name: self.value(rule) for name, rule in properties.items()} if nullable else properties
        return {"type": "object", "properties": held, "additionalProperties": False}

    def value(self, rule: Schema) -> Schema:
        """A mapping's value, which in part of a file may be null."""
        if not self.partial:
            return rule
        said = {key: rule[key] for key in ("description", "default") if key in rule}
        return said | {"anyOf": [{key: held for key, held in rule.items() if key not in said}, NULL]}

    # -- layers -------------------------------------------------------------------------------------------------

    def named(self) -> Schema:
        """A layer by name: those that are always known first, for an editor to offer."""
        return {"anyOf": [{"enum": ["norm", "act", "none"]}, _ref("operation_name"), _ref("reference")]}

    def layer_mapping(self) -> Schema:
        """What each mapping is taken for, by its op and block: only one of the cases applies."""
        op, block, fork = self.has("op"), self.has("block"), self.has("branches")
        known: Schema = {"required": ["op"], "properties": {"op": _ref("operation_name")}}
        named: Schema = {"properties": {"op": self.nullable("op"), "block": self.nullable("block")}}
        free = named | {"additionalProperties": self.value(self.ref("given")), "propertyNames": self.argument_name()}
        cases: list[tuple[Schema, Schema]] = [
            ({"required": ["op"], "properties": {"op": {"const": name}}}, self.ref(f"op_{name}")) for name in OPS
        ]
        cases.append(({"allOf": [op, {"not": known}]}, free))
        cases.append(({"allOf": [block, {"not": op}]}, free))
        neither = free if self.partial else self.names("layer_name", self.ref("layer"))
        cases.append(({"allOf": [fork, {"not": {"anyOf": [op, block]}}]}, self.ref("fork")))
        cases.append(({"not": {"anyOf": [op, block, fork]}}, neither))
        return {
            "type": "object",
            "not": {"allOf": [op, block]},
            "allOf": [{"if": condition, "then": rule} for condition, rule in cases],
        }

    def operation(self, name: str) -> Schema:
        kind = OPS[name]
        properties = self.properties(name) | ({"block": NULL} if self.partial else {})
        said = {"op": {"const": name, "description": first_sentence(kind)}}
        closed = self.closed(properties)
        return closed | {"properties": said | closed["properties"], "description": first_sentence(kind)}

    def properties(self, name: str) -> Schema:
        """An operation's arguments, as its declaration and its docstring say them."""
        kind, says = OPS[name], attribute_descriptions(OPS[name])
        usual = {field.name: field.default for field in fields(kind) if field.default is not MISSING}
        return {
            key: self.form(Value(argument))
            | {"description": says[key]}
            | ({"default": usual[key]} if key in usual else {})
            for key, argument in operation_arguments(name).items()
        }

    def has(self, key: str) -> Schema:
        return {"required": [key]} | ({"properties": {key: NOT_NULL}} if self.partial else {})

    def nullable(self, key: str) -> Schema:
        said = "The operation that this is." if key == "op" else "The block that this is."
        hints: list[Schema] = [_ref("operation_name")] if key == "op" else []
        rule: Schema = {"anyOf": [*hints, _ref("reference")], "description": said}
        return self.value(rule)

    # -- definitions --------------------------------------------------------------------------------------------

    def argument_name(self) -> Schema:
        return self.ref("argument_name")

    def called(self, name: str) -> str:
        return f"{name}_in_part" if self.partial else name

    def ref(self, name: str) -> Schema:
        return _ref(self.called(name))


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _value(argument: ArgumentType) -> Schema:
    if argument.choices:
        return {"enum": list(argument.choices)}
    if argument.kind is bool:
        return {"type": "boolean"}
    return _whole(argument) if argument.kind is int else _number(argument)


def _whole(argument: ArgumentType) -> Schema:
    least = {"minimum": int(argument.least)} if argument.least > -MAX_INTEGER else {"exclusiveMinimum": -MAX_INTEGER}
    return {"type": "integer", **least, "exclusiveMaximum": int(min(argument.below, MAX_INTEGER))}


def _number(argument: ArgumentType) -> Schema:
    most = sys.float_info.max
    above = {"exclusiveMaximum": argument.below} if argument.below <= most else {"maximum": most}
    return {"type": "number", "minimum": max(argument.least, -most), **above}
