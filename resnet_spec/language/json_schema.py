"""The language as a JSON Schema (draft 7), with which editors complete, explain and check specs.

The schema accepts the same documents as the decoder, because both follow the grammar: it checks the form of one file on
its own. It can't check what names refer to, shapes, or ``extends``. Nor can it check how a number is written: in JSON
``64.0`` is an integer, in a spec it is not.

Most definitions exist twice, such as ``layer`` and ``layer_in_part``. The second is for partial specs, which are files
that extend another one: records may lack keys, and values may be null.
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, fields
from typing import Any, assert_never

from resnet_spec.language.docstrings import attribute_descriptions, first_sentence
from resnet_spec.language.grammar import (
    BLOCK,
    BRANCHES,
    COLLECT,
    OVERRIDE,
    POSITIVE_INTEGER,
    REPEAT,
    SPEC,
    Form,
    Items,
    Names,
    Naming,
    PerBlock,
    Record,
    Simple,
    Value,
    options_record,
)
from resnet_spec.language.reserved_names import RESERVED
from resnet_spec.language.scalars import KEYWORDS, LAYER_KEYS
from resnet_spec.language.values import (
    CONTROL_CHARACTER,
    IDENTIFIER,
    LAYER_NAME,
    MAX_INTEGER,
    MAX_NAME_LENGTH,
    MAX_TEXT_LENGTH,
    REFERENCE,
    ArgumentType,
    operation_arguments,
)
from resnet_spec.ops import OPS

DRAFT = "http://json-schema.org/draft-07/schema#"
ADDRESS = "https://www.schemastore.org/resnet-spec.json"
"""The schema's identifier: its address in the catalog that editors load schemas from."""
NULL = {"type": "null"}
NOT_NULL = {"not": NULL}

Schema = dict[str, Any]


def spec_schema() -> Schema:
    """Return the schema of a network's spec."""
    return {
        "$schema": DRAFT,
        "$id": ADDRESS,
        "title": "convolutional network of resnet-spec",
        "description": "A convolutional network as data: its stem, stages and head, and the blocks they use.",
        "type": "object",
        "if": _required("extends"),
        "then": _ref("spec_in_part"),
        "else": _ref("spec"),
        "definitions": _definitions(),
    }


def block_schema(location: str) -> Schema:
    """Return the schema of a file that defines one block. It refers to the schema of specs at a location."""
    return {"$schema": DRAFT, "title": "block of resnet-spec", "$ref": f"{location}#/definitions/block"}


def _definitions() -> Schema:
    names: Schema = {
        "layer_name": _name(LAYER_NAME.pattern, reserved=True, excluded=LAYER_KEYS),
        "operation_name": {"anyOf": [_named_operation(name) for name in OPS]},
        "own_name": _name(IDENTIFIER.pattern, excluded=(*OPS, *KEYWORDS)),
        "argument_name": _name(IDENTIFIER.pattern),
        "argument_name_in_part": _name(LAYER_NAME.pattern),
        "reference": _name(REFERENCE.pattern),
        "numbering": _name(
            r"([A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]*\{(index|number)\}[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*", reserved=True
        ),
    }
    return names | _Definitions(partial=False).all() | _Definitions(partial=True).all()


def _name(pattern: str, reserved: bool = False, excluded: tuple[str, ...] = ()) -> Schema:
    """Return the schema of a name; ``reserved`` excludes the reserved names too."""
    rejected: list[Schema] = [{"enum": list(excluded)}] if excluded else []
    if reserved:
        rejected.append({"pattern": rf"(^|\.)(__|({'|'.join(sorted(RESERVED))})(\.|$))"})
    schema: Schema = {"type": "string", "maxLength": MAX_NAME_LENGTH, "pattern": f"^({pattern})$"}
    return schema | ({"not": {"anyOf": rejected}} if rejected else {})


# The names of definitions are part of the schema's interface: block_schema and schemas of others refer to them.
_FORM_NAMES = {
    Simple.LAYER: "layer",
    Simple.GROUP: "group",
    Simple.ARGUMENT: "given",
    Simple.DEFAULTS: "defaults",
    Simple.OPTIONS: "options",
    Simple.BRANCH: "branch",
    Simple.STAGE: "stage_entry",
    Simple.SPLIT: "split",
}
_KEY_NAMES: dict[Naming, str] = {"layer": "layer_name", "stage": "layer_name", "identifier": "own_name"}
_RECORDS = {"block": BLOCK, "stage": REPEAT, "told": OVERRIDE, "fork": BRANCHES, "collect": COLLECT}
_DESCRIPTIONS = {
    "spec": "A network: its stem, stages and head, and the blocks and layers that they use.",
    "block": "A block: a branch of layers, and a shortcut around it. With combine: none, only the layers.",
    "stage": "A block that is repeated, with its arguments. A list for an argument has one value for each block.",
    "told": "Arguments for one of the repeated blocks.",
    "fork": "Branches that read the same input, and whose outputs are combined.",
    "collect": "Layers that run one after another, and whose outputs are concatenated.",
    "options": "Options that every network has.",
}


class _Definitions:
    """Builds the definitions for complete specs or, if ``partial``, those for specs that extend another one."""

    def __init__(self, partial: bool) -> None:
        self.partial = partial

    def all(self) -> Schema:
        """Return all definitions by name."""
        records = {"spec": SPEC, **_RECORDS, "options": options_record()}
        definitions = {name: self.record(form) | {"description": _DESCRIPTIONS[name]} for name, form in records.items()}
        definitions |= {f"op_{name}": self.operation(name) for name in OPS}
        definitions |= {
            "layer": {
                "anyOf": [
                    self.layer_reference(),
                    {"type": "array", "items": self.ref("layer")},
                    self.ref("layer_mapping"),
                ]
            },
            "layer_mapping": self.layer_mapping(),
            "group": {
                "anyOf": [{"type": "array", "items": self.ref("layer")}, self.names("layer_name", self.ref("layer"))]
            },
            "branch": {"anyOf": [{"const": "none"}, self.ref("group")]},
            "split": {
                "anyOf": [
                    {"type": "boolean"},
                    _ref("reference"),
                    {"type": "array", "items": self.form(Value(POSITIVE_INTEGER))},
                ]
            },
            "stage_entry": self.stage_entry(),
            "single_value": {"anyOf": [{"type": "boolean"}, _number(ArgumentType(float)), _ref("reference")]},
            "given": {
                "anyOf": [
                    {"type": "boolean"},
                    _number(ArgumentType(float)),
                    self.layer_reference(),
                    {"type": "array", "items": self.ref("layer")},
                    {"type": "array", "items": self.ref("single_value")},
                    self.ref("layer_mapping"),
                ]
            },
            "defaults": self.closed({name: self.closed(self.arguments(name)) for name in OPS}),
        }
        return {self.definition_name(name): schema for name, schema in definitions.items()}

    def form(self, form: Form) -> Schema:
        """Return the schema of a value that has a form."""
        match form:
            case Simple.TEXT:
                control = {"pattern": CONTROL_CHARACTER.pattern}
                return {"type": "string", "maxLength": MAX_TEXT_LENGTH, "not": control}
            case Simple.REFERENCE:
                return _ref("reference")
            case Simple.NUMBERING:
                return _ref("numbering")
            case Simple():
                return self.ref(_FORM_NAMES[form])
            case Value(argument, accepts_name):
                return {"anyOf": [_value(argument), _ref("reference")]} if accepts_name else _value(argument)
            case PerBlock(each):
                return {"anyOf": [self.form(each), {"type": "array", "items": self.form(each)}]}
            case Items(each, count, _, min_count):
                maximum = {} if count is None else {"maxItems": count}
                return {"type": "array", "items": self.form(each), "minItems": count or min_count} | maximum
            case Names(naming, each):
                return self.names(_KEY_NAMES[naming], self.form(each))
            case Record():
                defined = next((name for name, record in _RECORDS.items() if record is form), None)
                return self.ref(defined) if defined else self.record(form)
            case _:
                assert_never(form)

    # -- mappings -----------------------------------------------------------------------------------------------

    def record(self, form: Record) -> Schema:
        """Return the schema of a record."""
        properties = {
            name: ({} if name == "extends" else self.value(self.form(key.form))) | {"description": key.description}
            for name, key in form.keys.items()
        }
        if "extends" in properties:
            properties["extends"] |= self.form(form.keys["extends"].form)
        schema = self.closed(properties, nullable=False)
        if form.other_keys is not None:
            values = self.value(self.form(form.other_keys))
            schema |= {"additionalProperties": values, "propertyNames": self.ref("argument_name")}
        if not self.partial:
            schema["required"] = [name for name, key in form.keys.items() if key.required]
            if form.at_least_one_of:
                schema["anyOf"] = [_required(name) for name in form.at_least_one_of]
        if "shortcut" in form.keys:
            schema["not"] = {
                "required": ["combine", "shortcut"],
                "properties": {"combine": {"const": "none"}, "shortcut": NOT_NULL if self.partial else {}},
            }
        return schema

    def names(self, name: str, each: Schema) -> Schema:
        """Return the schema of a mapping from names, whose definition is ``name``, to values."""
        return {"type": "object", "propertyNames": _ref(name), "additionalProperties": self.value(each)}

    def closed(self, properties: Schema, nullable: bool = True) -> Schema:
        """Return the schema of a mapping without other keys. If ``nullable``, values may be null in a partial spec."""
        schemas = {name: self.value(schema) for name, schema in properties.items()} if nullable else properties
        return {"type": "object", "properties": schemas, "additionalProperties": False}

    def value(self, schema: Schema) -> Schema:
        """Return the schema of a value in a mapping, which may be null in a partial spec."""
        if not self.partial:
            return schema
        annotations = {key: schema[key] for key in ("description", "default") if key in schema}
        checks = {key: value for key, value in schema.items() if key not in annotations}
        return annotations | {"anyOf": [checks, NULL]}

    # -- layers -------------------------------------------------------------------------------------------------

    def layer_reference(self) -> Schema:
        """Return the schema of a layer by name. Predefined names come first, so that editors offer them."""
        return {"anyOf": [{"enum": ["norm", "act", "none"]}, _ref("operation_name"), _ref("reference")]}

    def layer_mapping(self) -> Schema:
        """Return the schema of a layer that is a mapping. The keys op, block and branches select one of the cases."""
        op, block, branches, collect = (self.has(key) for key in LAYER_KEYS)
        repeat = {"allOf": [self.has("depth"), {"not": op}, *([] if self.partial else [block])]}
        known: Schema = {"required": ["op"], "properties": {"op": _ref("operation_name")}}
        call: Schema = {
            "properties": {"op": self.call_target("op"), "block": self.call_target("block")},
            "additionalProperties": self.value(self.ref("given")),
            "propertyNames": self.ref("argument_name"),
        }
        cases: list[tuple[Schema, Schema]] = [
            ({"required": ["op"], "properties": {"op": {"const": name}}}, self.ref(f"op_{name}")) for name in OPS
        ]
        cases.append(({"allOf": [op, {"not": known}]}, call))
        cases.append(({"allOf": [block, {"not": op}, {"not": repeat}]}, call))
        cases.append((repeat, self.ref("stage")))
        group = call if self.partial else self.names("layer_name", self.ref("layer"))
        cases.append(({"allOf": [branches, {"not": {"anyOf": [op, block, repeat]}}]}, self.ref("fork")))
        cases.append(({"allOf": [collect, {"not": {"anyOf": [op, block, branches, repeat]}}]}, self.ref("collect")))
        cases.append(({"not": {"anyOf": [op, block, branches, collect, repeat]}}, group))
        return {
            "type": "object",
            "not": {"allOf": [op, block]},
            "allOf": [{"if": condition, "then": schema} for condition, schema in cases],
        }

    def stage_entry(self) -> Schema:
        """Return the schema of an entry of ``stages``: with a block, it is a repeated block and needs a depth."""
        keys = tuple(REPEAT.keys) if self.partial else ("block",)
        repeated = {"type": "object", "anyOf": [self.has(key) for key in keys], "not": self.has("op")}
        return {"if": repeated, "then": self.ref("stage"), "else": self.ref("layer")}

    def operation(self, name: str) -> Schema:
        """Return the schema of an operation with arguments."""
        description = first_sentence(OPS[name])
        schema = self.closed(self.arguments(name) | ({"block": NULL} if self.partial else {}))
        return schema | {
            "properties": {"op": _named_operation(name)} | schema["properties"],
            "description": description,
        }

    def arguments(self, name: str) -> Schema:
        """Return the schemas of an operation's arguments, with the descriptions from its docstring and the defaults."""
        kind, descriptions = OPS[name], attribute_descriptions(OPS[name])
        defaults = {field.name: field.default for field in fields(kind) if field.default is not MISSING}
        return {
            key: self.form(Value(argument))
            | {"description": descriptions[key]}
            | ({"default": defaults[key]} if key in defaults else {})
            for key, argument in operation_arguments(name).items()
        }

    def has(self, key: str) -> Schema:
        """Return a schema that matches mappings with a key; in a partial spec a null key does not count."""
        return _required(key, NOT_NULL if self.partial else {})

    def call_target(self, key: str) -> Schema:
        """Return the schema of the value of op or block."""
        hints: list[Schema] = [_ref("operation_name")] if key == "op" else []
        kind = "operation" if key == "op" else "block"
        return self.value({"anyOf": [*hints, _ref("reference")], "description": f"Name of the {kind}."})

    # -- references ---------------------------------------------------------------------------------------------

    def definition_name(self, name: str) -> str:
        return f"{name}_in_part" if self.partial else name

    def ref(self, name: str) -> Schema:
        return _ref(self.definition_name(name))


def _named_operation(name: str) -> Schema:
    return {"const": name, "description": first_sentence(OPS[name])}


def _required(key: str, value: Schema | None = None) -> Schema:
    """Return a schema that matches mappings with a key. It also defines the key, as strict validators demand."""
    return {"required": [key], "properties": {key: value or {}}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _value(argument: ArgumentType) -> Schema:
    if argument.choices:
        return {"enum": list(argument.choices)}
    if argument.kind is bool:
        return {"type": "boolean"}
    number = _integer(argument) if argument.kind is int else _number(argument)
    words = [{"enum": list(argument.words)}] if argument.words else []
    if not argument.is_pair:
        return number
    side = {"anyOf": [number, _ref("reference")]}
    return {"anyOf": [number, *words, {"type": "array", "items": side, "minItems": 2, "maxItems": 2}]}


def _integer(argument: ArgumentType) -> Schema:
    lower = {"minimum": int(argument.least)} if argument.least > -MAX_INTEGER else {"exclusiveMinimum": -MAX_INTEGER}
    return {"type": "integer", **lower, "exclusiveMaximum": int(min(argument.below, MAX_INTEGER))}


def _number(argument: ArgumentType) -> Schema:
    maximum = sys.float_info.max
    upper = {"exclusiveMaximum": argument.below} if argument.below <= maximum else {"maximum": maximum}
    return {"type": "number", "minimum": max(argument.least, -maximum), **upper}
