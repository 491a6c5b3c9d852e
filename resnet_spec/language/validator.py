"""Located nodes against the language: every key that is not known, every value of the wrong kind, found at once.

In a file that extends another nothing need be there, any value of a mapping may be null, and a layer may be said in part; what is
merged is checked again, as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import assert_never

from resnet_spec.diagnostics.problems import Note, Problem, Problems, SpecError, quote
from resnet_spec.diagnostics.suggestions import nearest, one_edit_away, suggest
from resnet_spec.language.grammar import (
    BRANCHES,
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
from resnet_spec.language.spec import Word
from resnet_spec.language.values import is_null, is_text, join_alternatives, operation_arguments
from resnet_spec.ops import OPS
from resnet_spec.syntax.nodes import List, Mapping, Node, Scalar, describe_kind

MOST_BESIDE = 200  # names among which a nearest one is looked for


class Findings:
    """What is wrong in a tree of nodes, by identity: nodes to pass over, and keys to read as the ones they were meant to be."""

    def __init__(self) -> None:
        self.bad: set[int] = set()
        self.meant: dict[int, str] = {}

    def name(self, key: Scalar) -> str:
        """What a key says, or was meant to."""
        return self.meant.get(id(key), key.text)


def check(root: Node, form: Record, problems: Problems) -> Findings:
    """Note all that is wrong with the form of a file, or of what files are merged to."""
    keys = [key.text for key, _ in root.items] if isinstance(root, Mapping) else []
    partial = form is SPEC and any(key == "extends" or one_edit_away(key, ("extends",)) for key in keys)
    checker = _Checker(problems, partial)
    checker.visit(root, form)
    return checker.found


def word(scalar: Scalar) -> Word:
    """A scalar as the spec keeps it."""
    return Word(scalar.text, scalar.plain, scalar.at)


class _Checker:
    def __init__(self, problems: Problems, partial: bool) -> None:
        self.problems = problems
        self.partial = partial
        self.found = Findings()
        self.beside: list[
            tuple[str, list[str]]
        ] = []  # the names that lead to what is looked at, each with those beside it

    def visit(self, node: Node, form: Form) -> None:
        match form:
            case Simple.TEXT | Simple.REFERENCE | Simple.NUMBERING | Value():
                self.single(node, form)
            case Simple.GIVEN | Simple.LAYER:
                self.layer(node, form)
            case Simple.GROUP:
                self.group(node)
            case Simple.BRANCH:
                if isinstance(node, Scalar):
                    self.single(node, form)
                else:
                    self.group(node)
            case Simple.DEFAULTS:
                self.defaults(node)
            case Simple.OPTIONS:
                self.record(node, options_record())
            case PerBlock(each):
                self.visit(node, Items(each) if isinstance(node, List) else each)
            case Items():
                self.items(node, form)
            case Names(what, each):
                self.names(node, what, each)
            case Record():
                self.record(node, form)
            case _:
                assert_never(form)

    def single(self, node: Node, form: Simple | Value) -> None:
        if isinstance(node, Scalar):
            self.attempt(node, lambda: check_scalar(word(node), form))
        else:
            self.wrong(node, "RS201", f"expected a single value, got {describe_kind(node)}")

    # -- layers -------------------------------------------------------------------------------------------------

    def layer(self, node: Node, form: Simple) -> None:
        match node:
            case Scalar():
                self.single(node, form)
            case List() if form is Simple.GIVEN and node.items and all(map(_literal, node.items)):
                help = "a list with a value for each block belongs to a stage"
                self.wrong(node, "RS201", "expected a value, a name or layers, got a list of values", help)
            case List():
                self.items(node, Items(Simple.LAYER))
            case Mapping():
                keys = {key.text: key for key, value in node.items if not self.dropped(value)}
                match [name for name in CALL_KEYS if name in keys]:
                    case [] if "branches" in keys:
                        self.record(node, BRANCHES)
                    case []:
                        self.uncalled(node)
                    case [what]:
                        self.call(node, what)
                    case _:
                        notes = (Note("the operation is named here", keys["op"].at),)
                        help = "take one of the two away"
                        self.note("RS211", "a layer is an operation or a block, not both", keys["block"], help, notes)
                        self.found.bad.add(id(node))
            case _:
                assert_never(node)

    def group(self, node: Node) -> None:
        """Layers in a row, and not one layer: what could be read as one is told, and no more said of what is in it."""
        called = [key for key, _ in node.items if key.text in LAYER_KEYS] if isinstance(node, Mapping) else []
        if isinstance(node, List):
            self.items(node, Items(Simple.LAYER))
        elif called:
            self.attempt(node, lambda: check_name(word(called[0]), "layer"))
        else:
            self.names(node, "layer", Simple.LAYER)

    def uncalled(self, node: Mapping) -> None:
        """Layers by name; or in part of a file, maybe arguments for a layer of the base."""
        if self.partial:
            self.arguments(node, Simple.GIVEN)
        elif not any(_literal(value) for _, value in node.items):
            self.names(node, "layer", Simple.LAYER)
        elif any(one_edit_away(key.text, ("branches",)) for key, _ in node.items):
            self.record(node, BRANCHES)
        elif key := next((key for key, _ in node.items if one_edit_away(key.text, CALL_KEYS)), None):
            name = one_edit_away(key.text, CALL_KEYS)  # a layer is no number, so these are arguments
            self.note("RS202", f"unknown key {quote(key.text)}", key, f"did you mean {name!r}?")
            self.found.meant[id(key)] = name
            self.call(node, name)
        else:
            help = self.meant() or "a layer with arguments says which operation or block it is"
            self.wrong(node, "RS203", "missing op or block", help)

    def call(self, node: Mapping, what: str) -> None:
        named = next(value for key, value in node.items if self.found.name(key) == what)
        self.visit(named, Simple.REFERENCE)
        if id(named) in self.found.bad or not isinstance(named, Scalar):
            self.found.bad.add(id(node))  # what it is given is then not known either
        operation = named.text if what == "op" and isinstance(named, Scalar) else ""
        if operation not in OPS:
            return self.arguments(node, Simple.GIVEN)
        known = operation_arguments(operation)
        for key, value in node.items:
            if self.found.name(key) not in CALL_KEYS:
                message = f"{operation} does not take {quote(key.text)}"
                name = (
                    key.text if key.text in known else self.unknown(key, "RS205", message, [*known, *CALL_KEYS], node)
                )
                if name in known:
                    self.value(value, Value(known[name]))
        return None

    def arguments(self, node: Mapping, form: Form) -> None:
        for key, value in node.items:
            if self.found.name(key) not in CALL_KEYS:
                self.attempt(key, lambda key=key: check_argument_name(word(key), self.partial))  # type: ignore[misc]
                self.value(value, form)

    # -- lists and mappings -------------------------------------------------------------------------------------

    def items(self, node: Node, form: Items) -> None:
        if not isinstance(node, List):
            return self.wrong(node, "RS201", f"expected {form.like}, got {describe_kind(node)}")
        if len(node.items) < form.least or form.count not in (None, len(node.items)):
            return self.wrong(node, "RS301", f"expected {form.like}, got {len(node.items) or 'no'} values")
        for item in node.items:
            self.visit(item, form.each)
        return None

    def names(self, node: Node, what: Naming, each: Form) -> None:
        entries = self.entries(node)
        for key, value in entries:
            self.tell(lambda key=key: check_name(word(key), what))  # type: ignore[misc]
            others = [pair for pair in entries[:MOST_BESIDE] if pair[0] is not key]
            others.sort(key=lambda pair: pair[1].at.source is value.at.source)  # first what only a base says
            self.beside.append((key.text, [other.text for other, _ in others]))
            self.value(value, each)
            self.beside.pop()

    def defaults(self, node: Node) -> None:
        for key, value in self.entries(node):
            if key.text not in OPS:
                self.unknown(key, "RS204", f"no operation named {quote(key.text)}", OPS, node)
            elif not self.dropped(value):
                known = operation_arguments(key.text)
                for inner, given in self.entries(value):
                    if inner.text in known:
                        self.value(given, Value(known[inner.text]))
                    else:
                        self.unknown(inner, "RS205", f"{key.text} does not take {quote(inner.text)}", known, value)

    def record(self, node: Node, form: Record) -> None:
        pairs = self.entries(node)
        if not isinstance(node, Mapping):
            return
        given = {key.text for key, _ in pairs}
        required = [] if self.partial else [name for name, key in form.keys.items() if key.required]
        missing = [name for name in required if name not in given]
        for key, value in pairs:
            name = key.text if key.text in form.keys else self.unlisted(key, form, missing, node)
            if name is None:
                continue
            if name == "extends":
                self.visit(value, Simple.TEXT)
            elif name in form.keys:
                self.value(value, form.keys[name].form)
            elif form.rest:
                self.attempt(key, lambda key=key: check_argument_name(word(key), self.partial))  # type: ignore[misc]
                self.value(value, form.rest)
        self.whole(node, form, required)

    def unlisted(self, key: Scalar, form: Record, missing: list[str], node: Mapping) -> str | None:
        """What a key means that a record does not list: itself, one that was meant, or nothing."""
        message = f"unknown key {quote(key.text)}"
        if form.rest is None:
            return self.unknown(key, "RS202", message, form.keys, node)
        return (
            self.unknown(key, "RS202", message, missing, node) if one_edit_away(key.text, tuple(missing)) else key.text
        )

    def whole(self, node: Mapping, form: Record, required: Iterable[str]) -> None:
        """Note what a record lacks, and what in it excludes each other."""
        given = {self.found.name(key): value for key, value in node.items}
        missing = [name for name in required if name not in given]
        if missing:
            alone = all(key.at.source is node.at.source for key, _ in node.items)  # no base says the rest of it
            says = form.keys[missing[0]].says
            meaning = f"{missing[0]}: {says[0].lower()}{says[1:].rstrip('.')}"
            help = (self.meant() if form.rest and alone else "") or meaning
            self.note("RS203", f"{form.what} needs {' and '.join(missing)}", node, help)
        if form.some and not self.partial and not given.keys() & set(form.some):
            self.note("RS203", f"{form.what} needs layers: {join_alternatives(form.some)}", node)
        combine, shortcut = given.get("combine"), given.get("shortcut")
        if isinstance(combine, Scalar) and combine.text == "none" and shortcut and not self.dropped(shortcut):
            notes = (Note("nothing is combined", combine.at),)
            self.note("RS211", "a block that combines nothing has no shortcut", shortcut, notes=notes)

    def meant(self) -> str:
        """What to say of something that is whole only if it is called as something beside it, or what it lies in is."""
        near = next((near for name, others in reversed(self.beside) if (near := nearest(name, others))), None)
        return f"did you mean {near!r}, which stands beside it?" if near else ""

    def entries(self, node: Node) -> tuple[tuple[Scalar, Node], ...]:
        if isinstance(node, Mapping):
            return node.items
        if id(node) not in self.found.bad:
            self.wrong(node, "RS201", f"expected a mapping, got {describe_kind(node)}")
        return ()

    # -- what is left out, and what is wrong --------------------------------------------------------------------

    def value(self, node: Node, form: Form) -> None:
        """A mapping's value, which in part of a file may be dropped."""
        if not self.dropped(node):
            self.visit(node, form)

    def dropped(self, node: Node) -> bool:
        return self.partial and isinstance(node, Scalar) and is_null(word(node))

    def unknown(self, key: Scalar, code: str, message: str, known: Iterable[str], node: Node) -> str | None:
        """Note an unknown key; give the one that was meant, if that is plain and not there too, else nothing."""
        given = {self.found.name(other) for other, _ in self.entries(node)}
        self.note(code, message, key, suggest(key.text, known, given))
        near = nearest(key.text, known, given)
        if near is None or near in given:
            self.found.bad.add(id(key))
        else:
            self.found.meant[id(key)] = near
        return near

    def attempt(self, node: Node, look: Callable[[], None]) -> None:
        """Look at a node; what is wrong with it is noted, and it is passed over."""
        if not self.tell(look):
            self.found.bad.add(id(node))

    def tell(self, look: Callable[[], None]) -> bool:
        """Whether a look finds nothing wrong; what it finds is noted."""
        try:
            look()
        except SpecError as error:
            for problem in error.problems:
                self.problems.add(problem)
            return False
        return True

    def wrong(self, node: Node, code: str, message: str, help: str = "") -> None:
        self.found.bad.add(id(node))
        self.note(code, message, node, help)

    def note(self, code: str, message: str, node: Node, help: str = "", notes: tuple[Note, ...] = ()) -> None:
        self.problems.add(Problem(code, message, node.at, help, notes))


def _literal(node: Node) -> bool:
    """Whether a node is a single value that names nothing: a number, true, false or null."""
    return isinstance(node, Scalar) and not is_text(word(node))
