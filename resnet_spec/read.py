"""Located nodes to a ``Spec``: the form of every file is checked here, and every problem of it found at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar, get_args

from resnet_spec.nodes import List, Mapping, Node, Scalar, kind
from resnet_spec.ops import OPS
from resnet_spec.options import NAMES
from resnet_spec.source import Note, Problem, Span, SpecError
from resnet_spec.spec import (
    Argument,
    Block,
    Call,
    Combine,
    Fork,
    Group,
    Join,
    Layer,
    Preprocess,
    Project,
    Role,
    Several,
    Spec,
    Stage,
    Told,
    Word,
)
from resnet_spec.values import either, integer, null, number, suggestion

T = TypeVar("T")

ROLES: tuple[Role, ...] = get_args(Role)
SPEC_KEYS = (
    *("name", "source", "takes", "input", "preprocess", "options"),
    *("defaults", "layers", "blocks", "stem", "stages", "head"),
)
BLOCK_KEYS = ("takes", "combine", "project", "reads", *ROLES)
STAGE_KEYS = ("block", "depth", "as", "project", "first", "last")
FORK_KEYS = ("branches", "split", "cascade", "combine")
NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def read_spec(root: Node) -> Spec:
    """Read a network's spec, extends already followed. Raises SpecError with every problem of form."""
    return _whole(root, _Reader.spec)


def read_block(root: Node, name: str) -> Block:
    """Read a file that defines one block. Raises SpecError with every problem of form."""
    return _whole(root, lambda reader, node: reader.block(name, node))


def _whole(root: Node, read: Callable[[_Reader, Node], T]) -> T:
    reader = _Reader()
    try:
        result = read(reader, root)
    except _Wrong:
        raise SpecError(reader.problems) from None
    if reader.problems:
        raise SpecError(reader.problems)
    return result


class _Wrong(Exception):
    """Reading can't go on below this node; its problem is already noted."""


class _Reader:
    def __init__(self) -> None:
        self.problems: list[Problem] = []

    # -- what the language is made of ---------------------------------------------------------------------------

    def spec(self, root: Node) -> Spec:
        fields = self.fields(root, required=("name", "input"), optional=SPEC_KEYS)
        if not fields.keys() & {"stem", "stages", "head"}:
            self.note("RS203", "a network needs layers: a stem, stages or a head", root.at)
        blocks = self.each(self.optional(fields, "blocks"), self.block)
        return Spec(
            name=self.word(fields["name"]).text if "name" in fields else "",
            source=self.word(fields["source"]).text if "source" in fields else "",
            input=self.attempt(self.input, fields.get("input")) or (1, 1, 1),
            takes=self.attempt(self.takes, fields.get("takes")) or {},
            preprocess=self.attempt(self.preprocess, fields.get("preprocess")),
            options=self.attempt(self.options, self.optional(fields, "options")) or {},
            defaults=self.each(self.optional(fields, "defaults"), self.operation_defaults),
            layers=self.each(self.optional(fields, "layers"), self.named_layer),
            blocks=blocks,
            stem=self.attempt(self.group, fields.get("stem")),
            stages=tuple(self.each(self.optional(fields, "stages"), self.stage).values()),
            head=self.attempt(self.group, fields.get("head")),
            at=root.at,
        )

    def block(self, name: str, node: Node) -> Block:
        fields = self.fields(node, required=("branch",), optional=BLOCK_KEYS)
        sections: dict[Role, Group] = {}
        for key, given in fields.items():
            if key in ROLES and (group := self.attempt(self.group, given)):
                sections[key] = group
        combine: Combine = self.choice(fields["combine"], get_args(Combine)) if "combine" in fields else "add"  # type: ignore[assignment]
        if combine == "none" and "shortcut" in fields:
            self.note("RS206", "a block that combines nothing has no shortcut", fields["shortcut"].at)
        takes = self.attempt(self.takes, fields.get("takes")) or {}
        reads = self.choice(fields["reads"], ("input", "before")) if "reads" in fields else None
        return Block(name, takes, sections, combine, self.project(fields) or "changed", reads, node.at)  # type: ignore[arg-type]

    def stage(self, name: str, node: Node) -> Stage:
        key, pairs = self.named(name, node), self.entries(node)
        fields = {key.text: value for key, value in pairs}
        missing = [key for key in ("block", "depth") if key not in fields]
        if missing:
            raise self.wrong("RS203", f"stage {name} lacks {' and '.join(missing)}", node.at)
        block = fields["block"]
        return Stage(
            name=key,
            block=self.several(block, self.word) if isinstance(block, List) else self.word(block),
            depth=self.word(fields["depth"]),
            numbering=self.numbering(fields["as"]) if "as" in fields else "{index}",
            project=self.project(fields),
            arguments={
                key: self.argument(given, by_block=True) for key, given in fields.items() if key not in STAGE_KEYS
            },
            names={key.text: _word(key) for key, _ in pairs},
            first=self.told(fields.get("first")),
            last=self.told(fields.get("last")),
            at=node.at,
        )

    def project(self, fields: dict[str, Node]) -> Project | None:
        return self.choice(fields["project"], get_args(Project)) if "project" in fields else None  # type: ignore[return-value]

    def told(self, node: Node | None) -> Told:
        pairs = self.entries(node) if node else []
        arguments = {key.text: self.argument(given) for key, given in pairs}
        return Told(arguments, {key.text: _word(key) for key, _ in pairs})

    def named(self, name: str, node: Node) -> Word:
        """The name of a stage, which ``each`` has checked, as a word at the stage's place."""
        return Word(name, True, node.at)

    def numbering(self, node: Node) -> str:
        text = self.word(node).text
        bare = text.replace("{index}", "0", 1) if "{index}" in text else text.replace("{number}", "1", 1)
        if bare == text or not NAME.fullmatch(bare):
            raise self.wrong(
                "RS301", f"{text!r} does not number blocks", node.at, 'write "blocks.{index}" or "b{number}"'
            )
        return text

    def takes(self, node: Node) -> dict[str, Layer | None]:
        def default(_: str, given: Node) -> list[Layer | None]:
            layer = self.layer(given)
            return [None if isinstance(layer, Word) and layer.text == "required" else layer]

        return {name: value for name, (value,) in self.each(node, default).items()}

    def named_layer(self, name: str, node: Node) -> Layer:
        if name in OPS:
            raise self.wrong("RS206", f"{name} is an operation already; give the layer a name of its own", node.at)
        return self.layer(node)

    def options(self, node: Node) -> dict[str, Word]:
        return {name: self.word(given) for name, given in self.fields(node, required=(), optional=NAMES).items()}

    def operation_defaults(self, name: str, node: Node) -> dict[str, Word]:
        if name not in OPS:
            raise self.wrong("RS204", f"no operation named {name!r}", node.at, suggestion(name, OPS))
        return {key.text: self.word(given) for key, given in self.entries(node)}

    def group(self, node: Node) -> Group:
        match node:
            case List():
                pairs = [(Scalar(str(index), True, item.at), item) for index, item in enumerate(node.items)]
            case _:
                pairs = self.entries(node)
        layers: list[tuple[Word, Layer]] = []
        for key, given in pairs:
            self.checked(key)
            layer = self.attempt(self.layer, given)
            if layer is not None:
                layers.append((_word(key), layer))
        return Group(tuple(layers), node.at)

    def layer(self, node: Node) -> Layer:
        match node:
            case Scalar():
                return _word(node)
            case List():
                return self.group(node)
            case Mapping():
                keys = {key.text for key, _ in node.items}
                if keys & {"op", "block"}:
                    return self.call(node)
                return self.fork(node) if "branches" in keys else self.group(node)

    def fork(self, node: Mapping) -> Fork:
        fields = self.fields(node, required=("branches", "combine"), optional=FORK_KEYS)
        branches = fields["branches"]
        if not isinstance(branches, List) or not branches.items:
            raise self.wrong("RS201", f"expected a list of branches, got {kind(branches)}", branches.at)
        if "combine" not in fields:
            raise _Wrong
        return Fork(
            branches=tuple(self.branch(item) for item in branches.items),
            split=self.word(fields["split"]) if "split" in fields else None,
            cascade=self.word(fields["cascade"]) if "cascade" in fields else None,
            combine=self.choice(fields["combine"], get_args(Join)),  # type: ignore[arg-type]
            at=node.at,
        )

    def branch(self, node: Node) -> Group:
        """A branch of a fork: named layers, or the word none for a piece that is handed on as it is."""
        empty = isinstance(node, Scalar) and node.text == "none"
        return Group((), node.at) if empty else self.group(node)

    def call(self, node: Mapping) -> Call:
        fields = {key.text: value for key, value in node.items}
        if "op" in fields and "block" in fields:
            raise self.wrong("RS206", "a layer is an operation or a block, not both", node.at)
        what = "op" if "op" in fields else "block"
        target = self.word(fields.pop(what))
        arguments = {key: self.argument(given) for key, given in fields.items()}
        names = {key.text: _word(key) for key, _ in node.items}
        return Call("op" if what == "op" else "block", target, arguments, names, node.at)

    def argument(self, node: Node, by_block: bool = False) -> Argument:
        if by_block and isinstance(node, List):
            return self.several(node, self.layer)
        return self.layer(node)

    def several(self, node: List, read: Callable[[Node], Layer]) -> Several:
        return Several(tuple(read(item) for item in node.items), node.at)

    def input(self, node: Node) -> tuple[int, int, int]:
        sizes = [self.attempt(self.size, item) for item in node.items] if isinstance(node, List) else []
        match sizes:
            case [int(channels), int(height), int(width)]:
                return channels, height, width
            case _:
                if None in sizes:
                    raise _Wrong
                raise self.wrong("RS301", "input is [channels, height, width], as in [3, 224, 224]", node.at)

    def size(self, node: Node) -> int:
        return self.valued(lambda: integer(self.word(node), least=1))

    def preprocess(self, node: Node) -> Preprocess:
        fields = self.fields(node, required=("resize", "mean", "std"))
        if len(fields) != 3:
            raise _Wrong
        return Preprocess(self.size(fields["resize"]), self.numbers(fields["mean"]), self.numbers(fields["std"]))

    def numbers(self, node: Node) -> tuple[float, ...]:
        if not isinstance(node, List):
            raise self.wrong("RS201", f"expected a list of numbers, got {kind(node)}", node.at)
        return tuple(self.valued(lambda item=item: number(self.word(item))) for item in node.items)  # type: ignore[misc]

    # -- what nodes are made of ---------------------------------------------------------------------------------

    def fields(self, node: Node, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Node]:
        known = list(dict.fromkeys([*optional, *required]))
        fields: dict[str, Node] = {}
        for key, value in self.entries(node):
            if key.text in known:
                fields[key.text] = value
            else:
                self.note("RS202", f"unknown key {key.text!r}", key.at, suggestion(key.text, known))
        missing = [name for name in required if name not in fields]
        if missing:
            self.note("RS203", f"missing {' and '.join(missing)}", node.at)
        return fields

    def optional(self, fields: dict[str, Node], name: str) -> Node | None:
        node = fields.get(name)
        return None if isinstance(node, Scalar) and null(_word(node)) else node

    def each(self, node: Node | None, read: Callable[[str, Node], T]) -> dict[str, T]:
        """What a mapping of names holds, by name, less what is wrong."""
        found: dict[str, T] = {}
        for key, value in self.entries(node) if node else ():
            self.checked(key)
            result = self.attempt(lambda value, name=key.text: read(name, value), value)  # type: ignore[misc]
            if result is not None:
                found[key.text] = result
        return found

    def entries(self, node: Node) -> list[tuple[Scalar, Node]]:
        if not isinstance(node, Mapping):
            raise self.wrong("RS201", f"expected a mapping, got {kind(node)}", node.at)
        return list(node.items)

    def checked(self, key: Scalar) -> None:
        if not NAME.fullmatch(key.text):
            help = "letters, digits, _ and -, in parts joined by dots"
            self.note("RS301", f"{key.text!r} can't name anything here", key.at, help)

    def word(self, node: Node) -> Word:
        if not isinstance(node, Scalar):
            raise self.wrong("RS201", f"expected a single value, got {kind(node)}", node.at)
        return _word(node)

    def choice(self, node: Node, choices: tuple[str, ...]) -> str:
        word = self.word(node)
        if word.text not in choices:
            self.note(
                "RS301", f"expected {either(choices)}, got {word.text!r}", word.at, suggestion(word.text, choices)
            )
            return choices[0]
        return word.text

    # -- problems -----------------------------------------------------------------------------------------------

    def attempt(self, read: Callable[[Node], T], node: Node | None) -> T | None:
        """What ``read`` makes of a node, or None if it noted a problem: so that the next one is found too."""
        try:
            return None if node is None else read(node)
        except _Wrong:
            return None

    def valued(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except SpecError as error:
            self.problems += error.problems
            raise _Wrong from None

    def note(self, code: str, message: str, at: Span, help: str = "", notes: tuple[Note, ...] = ()) -> None:
        self.problems.append(Problem(code, message, at, help, notes))

    def wrong(self, code: str, message: str, at: Span, help: str = "") -> _Wrong:
        self.note(code, message, at, help)
        return _Wrong()


def _word(scalar: Scalar) -> Word:
    return Word(scalar.text, scalar.plain, scalar.at)
