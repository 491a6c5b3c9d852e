"""Decode located nodes by the grammar into typed records and layers; report unknown keys and values of the wrong kind.

A file that extends another is decoded as a partial spec: no key is required, a value in a mapping may be null, and a
layer may have only some of its arguments. The merged document is decoded again as a complete spec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

from resnet_spec.diagnostics.problems import Note, Problem, Problems, Span, SpecError, quote
from resnet_spec.diagnostics.suggestions import find_nearest, one_edit_away, suggest, translate
from resnet_spec.language.grammar import (
    BRANCHES,
    COLLECT,
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
from resnet_spec.language.scalars import CALL_KEYS, LAYER_KEYS, check_argument_name, check_name, check_scalar
from resnet_spec.language.spec import (
    Argument,
    BlockOverride,
    Branches,
    Call,
    Collect,
    Group,
    Invalid,
    Layer,
    PerBlockValues,
    Repeat,
    Values,
)
from resnet_spec.language.values import is_null, is_text, join_alternatives, operation_arguments
from resnet_spec.ops import OPS
from resnet_spec.syntax import nodes
from resnet_spec.syntax.nodes import List, Node, Scalar, describe_kind

MAX_NEIGHBOURS = 200
"""The number of keys in a mapping among which a similar key is searched."""


@dataclass(frozen=True, slots=True)
class Fields:
    """A decoded mapping.

    Attributes:
        values: The values by name; a misspelt key stands under the name that was probably meant.
        keys: The keys as written, by the same names.
        complete: Whether all keys are included; false if the meaning of one is unknown.
    """

    span: Span
    values: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, Scalar] = field(default_factory=dict)
    complete: bool = True

    def add(self, name: str, key: Scalar, value: Any) -> None:
        self.values[name] = value
        self.keys[name] = key


def decode(root: Node, form: Record, problems: Problems) -> Fields | Invalid:
    """Decode a document, which may be merged from several files; add its problems to ``problems``."""
    keys = [key.text for key, _ in root.items] if isinstance(root, nodes.Mapping) else []
    partial = form is SPEC and any(key == "extends" or one_edit_away(key, ("extends",)) for key in keys)
    return _Decoder(problems, partial).record(root, form)


class _Keys:
    """The meaning of each key of a mapping: the key itself or, if it is misspelt, the key that was probably meant."""

    def __init__(self, node: nodes.Mapping) -> None:
        self.meanings = {key.text: key.text for key, _ in node.items}

    @property
    def present(self) -> set[str]:
        return set(self.meanings.values())


class _Decoder:
    def __init__(self, problems: Problems, partial: bool) -> None:
        self.problems = problems
        self.partial = partial
        self.neighbours: list[tuple[str, list[str]]] = []
        """The path of names to the node being decoded; each name comes with the keys beside it in the base."""

    def decode(self, node: Node, form: Form) -> Any:
        """Decode a node that has a form."""
        match form:
            case Value(argument) if argument.is_pair and isinstance(node, List):
                return self.pair(node, form)
            case Simple.TEXT | Simple.REFERENCE | Simple.NUMBERING | Value():
                return self.scalar(node, form)
            case Simple.SPLIT:
                return self.split(node)
            case Simple.ARGUMENT | Simple.LAYER | Simple.STAGE:
                return self.layer(node, form)
            case Simple.GROUP:
                return self.group(node)
            case Simple.BRANCH:
                return self.branch(node)
            case Simple.DEFAULTS:
                return self.defaults(node)
            case Simple.OPTIONS:
                return self.record(node, options_record())
            case PerBlock(each):
                if isinstance(node, List):
                    return PerBlockValues(tuple(self.decode(item, each) for item in node.items), node.span)
                return self.decode(node, each)
            case Items():
                return self.items(node, form)
            case Names(naming, each):
                return self.names(node, naming, each)
            case Record():
                return self.record(node, form)
            case _:
                assert_never(form)

    def scalar(self, node: Node, form: Simple | Value) -> Scalar | Invalid:
        if not isinstance(node, Scalar):
            return self.invalid(node, "RS201", f"expected a single value, got {describe_kind(node)}")
        return node if self.is_right(lambda: check_scalar(node, form)) else Invalid(node.span)

    def items(self, node: Node, form: Items) -> tuple[Any, ...] | Invalid:
        if not isinstance(node, List):
            return self.invalid(node, "RS201", f"expected {form.description}, got {describe_kind(node)}")
        if len(node.items) < form.min_count or form.count not in (None, len(node.items)):
            return self.invalid(node, "RS301", f"expected {form.description}, got {len(node.items) or 'no'} values")
        return tuple(self.decode(item, form.each) for item in node.items)

    # -- layers -----------------------------------------------------------------------------------------------------

    def pair(self, node: List, form: Value) -> Values | Invalid:
        """Decode a list of two values, for height and width."""
        if len(node.items) != 2:
            message = f"expected one value, or [height, width], got {len(node.items) or 'no'} values"
            return self.invalid(node, "RS301", message)
        return Values(tuple(self.scalar(item, form) for item in node.items), node.span)

    def split(self, node: Node) -> Scalar | Values | Invalid:
        """Decode the value of ``split``: a boolean or the name of one, or the sizes of the pieces."""
        if not isinstance(node, List):
            return self.scalar(node, Simple.SPLIT)
        form = Value(POSITIVE_INTEGER)
        return Values(tuple(self.scalar(item, form) for item in node.items), node.span)

    def layer(self, node: Node, form: Simple) -> Argument:
        match node:
            case Scalar():
                return self.scalar(node, form)
            case List() if form is Simple.ARGUMENT and any(map(_is_literal, node.items)):
                return Values(tuple(self.scalar(item, Simple.ARGUMENT) for item in node.items), node.span)
            case List():
                return self.numbered(node)
            case nodes.Mapping():
                keys = {key.text: key for key, value in node.items if not self.is_dropped(value)}
                if self.is_repeat(node, keys, form):
                    return self.repeat(node)
                match [name for name in CALL_KEYS if name in keys]:
                    case [] if "branches" in keys:
                        return self.branches(node)
                    case [] if "collect" in keys:
                        return self.collect(node)
                    case []:
                        return self.uncalled(node)
                    case ["op" | "block" as what]:
                        return self.call(node, what, keys[what])
                    case _:
                        notes = (Note("the operation is named here", keys["op"].span),)
                        message = "a layer is an operation or a block, not both"
                        self.report("RS211", message, keys["block"], "remove one of the two", notes)
                        return Invalid(node.span)
            case _:
                assert_never(node)

    def group(self, node: Node) -> Group | Invalid:
        """Decode layers that run one after another. A mapping that is a single layer is an error, and is skipped."""
        if isinstance(node, List):
            return self.numbered(node)
        called = [key for key, _ in node.items if key.text in LAYER_KEYS] if isinstance(node, nodes.Mapping) else []
        if called:
            self.is_right(lambda: check_name(called[0], "layer"))
            return Invalid(node.span)
        return self.named(node)

    def numbered(self, node: List) -> Group:
        """Decode a list of layers, whose names are their indices."""
        named = ((Scalar(str(index), True, item.span), item) for index, item in enumerate(node.items))
        return Group(tuple((name, self.decode(item, Simple.LAYER)) for name, item in named), node.span, True)

    def named(self, node: Node) -> Group | Invalid:
        """Decode a mapping of layers by name."""
        fields = self.names(node, "layer", Simple.LAYER)
        if isinstance(fields, Invalid):
            return fields
        return Group(tuple(zip(fields.keys.values(), fields.values.values(), strict=True)), node.span)

    def branch(self, node: Node) -> Group | Invalid:
        """Decode one of several branches: layers, or the word none for a branch that returns its input."""
        if isinstance(node, Scalar):
            self.scalar(node, Simple.BRANCH)
            return Group((), node.span)
        return self.group(node)

    def branches(self, node: nodes.Mapping) -> Branches | Invalid:
        fields = self.record(node, BRANCHES)
        if isinstance(fields, Invalid):
            return fields
        branches, combine = fields.values.get("branches"), fields.values.get("combine")
        if not isinstance(branches, tuple) or not isinstance(combine, Scalar):
            return Invalid(node.span)
        groups = tuple(branch if isinstance(branch, Group) else Group((), branch.span) for branch in branches)
        split, cascade, resize = (fields.values.get(key) for key in ("split", "cascade", "resize"))
        join: Any = combine.text
        mode: Any = resize.text if isinstance(resize, Scalar) else None
        return Branches(groups, split, cascade, join, mode, node.span)

    def collect(self, node: nodes.Mapping) -> Collect | Invalid:
        fields = self.record(node, COLLECT)
        layers = fields.values.get("collect") if isinstance(fields, Fields) else None
        return Collect(layers, node.span) if isinstance(layers, Group) else Invalid(node.span)

    def is_repeat(self, node: nodes.Mapping, keys: Mapping[str, Scalar], form: Simple) -> bool:
        """Return whether a mapping, which has these keys, is a repeated block.

        Among the stages, a block always is. A partial spec may leave out the block.
        """
        if "op" in keys:
            return False
        if form is Simple.STAGE:
            single = [key.text for key, value in node.items if isinstance(value, Scalar)]
            if "block" in keys or any(one_edit_away(key, ("block",)) for key in single):
                return True
        if self.partial:
            return bool(keys.keys() & (REPEAT.keys if form is Simple.STAGE else {"depth"}))
        return "block" in keys and "depth" in keys

    def repeat(self, node: nodes.Mapping) -> Repeat | Invalid:
        """Decode a repeated block."""
        fields = self.record(node, REPEAT)
        if isinstance(fields, Invalid):
            return fields
        found, invalid = fields.values, Invalid(node.span)
        numbering, project = (found.get(key) for key in ("as", "project"))
        word: Any = project.text if isinstance(project, Scalar) else None
        first, last = (
            BlockOverride(override.values, override.keys) if isinstance(override, Fields) else BlockOverride({}, {})
            for override in (found.get("first"), found.get("last"))
        )
        return Repeat(
            block=found.get("block", invalid),
            depth=found.get("depth", invalid),
            numbering=numbering.text if isinstance(numbering, Scalar) else "{index}",
            project=word,
            arguments={name: value for name, value in found.items() if name not in REPEAT.keys},
            keys=fields.keys,
            first=first,
            last=last,
            span=node.span,
        )

    def uncalled(self, node: nodes.Mapping) -> Layer:
        """Decode a mapping without op or block: layers by name or, in a partial spec, arguments of a base's layer."""
        if self.partial:
            fields = self.arguments(node, Simple.ARGUMENT, ())
            return Group(tuple(zip(fields.keys.values(), fields.values.values(), strict=True)), node.span)
        if not any(_is_literal(value) for _, value in node.items):
            return self.named(node)
        if any(one_edit_away(key.text, ("branches",)) for key, _ in node.items):
            return self.branches(node)
        for key, _ in node.items:
            match one_edit_away(key.text, CALL_KEYS):  # one value is a literal, so the keys are arguments, not layers
                case "op" | "block" as what:
                    self.report("RS202", f"unknown key {quote(key.text)}", key, f"did you mean {what!r}?")
                    return self.call(node, what, key)
                case _:
                    pass
        help = self.suggest_neighbour() or "a layer with arguments needs the key op or block, which names what it is"
        return self.invalid(node, "RS203", "missing op or block", help)

    def call(self, node: nodes.Mapping, what: Literal["op", "block"], key: Scalar) -> Call | Invalid:
        """Decode an operation or a block with arguments; ``key`` is the key op or block, or a misspelling of it."""
        named = next(value for other, value in node.items if other is key)
        target = self.scalar(named, Simple.REFERENCE)
        operation = named.text if what == "op" and isinstance(named, Scalar) else ""
        reserved = (*CALL_KEYS, key.text)
        if operation in OPS:
            fields = self.operation_arguments(node, operation, reserved)
        else:
            fields = self.arguments(node, Simple.ARGUMENT, reserved)
        if isinstance(target, Invalid):
            return Invalid(node.span)  # its arguments are unknown too
        return Call(what, target, fields.values, {**fields.keys, what: key}, node.span)

    def operation_arguments(self, node: nodes.Mapping, operation: str, reserved: tuple[str, ...]) -> Fields:
        """Decode the arguments of a known operation; ``reserved`` are the keys that are no arguments."""
        fields, keys, known = Fields(node.span), _Keys(node), operation_arguments(operation)
        for key, value in node.items:
            if key.text in reserved:
                continue
            if key.text in known:
                fields.add(key.text, key, self.value(value, Value(known[key.text])))
                continue
            message = f"{operation} does not take {quote(key.text)}"
            meant, is_new = self.unknown(key, "RS205", message, [*known, *CALL_KEYS], keys)
            if meant is not None and meant in known:
                decoded = self.value(value, Value(known[meant]))
                if is_new:
                    fields.add(meant, key, decoded)
        return fields

    def arguments(self, node: nodes.Mapping, form: Form, reserved: tuple[str, ...]) -> Fields:
        """Decode the arguments of a call whose parameters are not known yet."""
        fields = Fields(node.span)
        for key, value in node.items:
            if key.text not in reserved:
                is_right = self.is_right(lambda key=key: check_argument_name(key, self.partial))  # type: ignore[misc]
                decoded = self.value(value, form)
                if is_right:
                    fields.add(key.text, key, decoded)
        return fields

    # -- mappings ---------------------------------------------------------------------------------------------------

    def names(self, node: Node, naming: Naming, each: Form) -> Fields | Invalid:
        """Decode a mapping whose keys are names that the author chooses."""
        if not isinstance(node, nodes.Mapping):
            return self.invalid(node, "RS201", f"expected a mapping, got {describe_kind(node)}")
        fields = Fields(node.span)
        for key, value in node.items:
            names_weight = _names_weight(value)
            self.is_right(lambda key=key, own=names_weight: check_name(key, naming, own))  # type: ignore[misc]
            neighbours = node.items[:MAX_NEIGHBOURS]
            of_base = [other.text for other, inner in neighbours if inner.span.source is not value.span.source]
            self.neighbours.append((key.text, of_base))
            fields.add(key.text, key, self.value(value, each))
            self.neighbours.pop()
        return fields

    def defaults(self, node: Node) -> dict[str, dict[str, Scalar | Invalid]]:
        """Decode a mapping of operations to some of their arguments."""
        defaults: dict[str, dict[str, Scalar | Invalid]] = {}
        if not isinstance(node, nodes.Mapping):
            self.invalid(node, "RS201", f"expected a mapping, got {describe_kind(node)}")
            return defaults
        keys = _Keys(node)
        for key, value in node.items:
            if key.text not in OPS:
                self.unknown(key, "RS204", f"no operation named {quote(key.text)}", OPS, keys)
            elif self.is_dropped(value):
                continue
            elif isinstance(value, nodes.Mapping):
                defaults[key.text] = self.operation_arguments(value, key.text, ()).values
            else:
                self.invalid(value, "RS201", f"expected a mapping, got {describe_kind(value)}")
        return defaults

    def record(self, node: Node, form: Record) -> Fields | Invalid:
        """Decode a mapping of known keys."""
        if not isinstance(node, nodes.Mapping):
            return self.invalid(node, "RS201", f"expected a mapping, got {describe_kind(node)}")
        fields, keys = Fields(node.span), _Keys(node)
        required = [] if self.partial else [name for name, key in form.keys.items() if key.required]
        missing = [name for name in required if name not in keys.present]
        for key, value in node.items:
            name, is_kept = self.meaning(key, form, missing, keys)
            if name is None:
                continue
            decoded: Any = None
            if name == "extends":
                decoded = self.decode(value, Simple.TEXT)
            elif name in form.keys:
                decoded = self.value(value, form.keys[name].form)
            elif form.other_keys:
                is_kept = self.is_right(lambda key=key: check_argument_name(key, self.partial))  # type: ignore[misc]
                decoded = self.value(value, form.other_keys)
            if is_kept:
                fields.add(name, key, decoded)
        self.check_record(node, form, required, {keys.meanings[key.text]: value for key, value in node.items})
        return Fields(node.span, fields.values, fields.keys, len(fields.values) == len(node.items))

    def meaning(self, key: Scalar, form: Record, missing: list[str], keys: _Keys) -> tuple[str | None, bool]:
        """Return what a key of a record means, or None if unknown, and whether its value is kept under that name."""
        if key.text in form.keys:
            return key.text, True
        message = f"unknown key {quote(key.text)}"
        if form.other_keys is None:
            return self.unknown(key, "RS202", message, form.keys, keys)
        if one_edit_away(key.text, tuple(missing)) or translate(key.text) in missing:
            return self.unknown(key, "RS202", message, missing, keys)
        return key.text, True

    def check_record(
        self, node: nodes.Mapping, form: Record, required: Iterable[str], values: Mapping[str, Node]
    ) -> None:
        """Report required keys that a record lacks, and keys that exclude each other."""
        missing = [name for name in required if name not in values]
        if missing:
            # If some of the keys come from a base, the record exists there under the same name, which is not misspelt.
            is_single_file = all(key.span.source is node.span.source for key, _ in node.items)
            description = form.keys[missing[0]].description
            meaning = f"{missing[0]}: {description[0].lower()}{description[1:].rstrip('.')}"
            help = (self.suggest_neighbour() if form.other_keys and is_single_file else "") or meaning
            self.report("RS203", f"{form.name} needs {' and '.join(missing)}", node, help)
        if form.at_least_one_of and not self.partial and not values.keys() & set(form.at_least_one_of):
            self.report("RS203", f"{form.name} needs layers: {join_alternatives(form.at_least_one_of)}", node)
        combine, shortcut = values.get("combine"), values.get("shortcut")
        has_shortcut = shortcut is not None and not self.is_dropped(shortcut)
        if isinstance(combine, Scalar) and combine.text == "none" and shortcut is not None and has_shortcut:
            notes = (Note("combine is set here", combine.span),)
            self.report("RS211", "a block with combine: none can't have a shortcut", shortcut, notes=notes)

    def suggest_neighbour(self) -> str:
        """Return a hint to another key of the same mapping that the name of this node, or of one around it, resembles.

        A child that misspells the name of a base's layer or stage adds an incomplete one beside it.
        """
        similar = (find_nearest(name, others) for name, others in reversed(self.neighbours))
        meant = next(filter(None, similar), None)
        return f"did you mean {meant!r}, which is defined beside it?" if meant else ""

    # -- null, unknown keys, problems -------------------------------------------------------------------------------

    def value(self, node: Node, form: Form) -> Any:
        """Decode a value in a mapping; in a partial spec it may be null, which removes the key."""
        return node if self.is_dropped(node) else self.decode(node, form)

    def is_dropped(self, node: Node) -> bool:
        return self.partial and isinstance(node, Scalar) and is_null(node)

    def unknown(
        self, key: Scalar, code: str, message: str, known: Iterable[str], keys: _Keys
    ) -> tuple[str | None, bool]:
        """Report an unknown key. Return the key that was probably meant, or None, and whether it is absent so far."""
        present = keys.present
        self.report(code, message, key, suggest(key.text, known, present))
        meant = find_nearest(key.text, known, present)
        if meant is None or meant in present:
            return meant, False
        keys.meanings[key.text] = meant
        return meant, True

    def is_right(self, check: Callable[[], None]) -> bool:
        """Return whether a check passes; report the problems of the SpecError it raises otherwise."""
        try:
            check()
        except SpecError as error:
            for problem in error.problems:
                self.problems.add(problem)
            return False
        return True

    def invalid(self, node: Node, code: str, message: str, help: str = "") -> Invalid:
        self.report(code, message, node, help)
        return Invalid(node.span)

    def report(self, code: str, message: str, node: Node, help: str = "", notes: tuple[Note, ...] = ()) -> None:
        self.problems.add(Problem(code, message, node.span, help, notes))


def _names_weight(node: Node) -> bool:
    """Return whether a layer is an operation whose weight has the layer's name."""
    operation = node
    if isinstance(node, nodes.Mapping):
        operation = next((value for key, value in node.items if key.text == "op"), node)
    return isinstance(operation, Scalar) and operation.text in ("scale", "shift")


def _is_literal(node: Node) -> bool:
    """Return whether a node is a number, true, false or null, which can't be a name."""
    return isinstance(node, Scalar) and not is_text(node)
