"""Located nodes to a ``Spec``. What ``form.py`` found wrong is left out, so that the names in the rest can still be looked up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from resnet_spec.diagnostics.problems import Problems
from resnet_spec.language.grammar import BLOCK, SPEC, STAGE
from resnet_spec.language.spec import (
    Argument,
    Block,
    BlockOverride,
    Branches,
    Call,
    Combine,
    Group,
    Invalid,
    Join,
    Layer,
    PerBlockValues,
    Preprocess,
    Project,
    Role,
    Spec,
    Stage,
    Word,
)
from resnet_spec.language.validator import Findings, check, word
from resnet_spec.language.values import decode_integer, decode_number
from resnet_spec.syntax.nodes import List, Mapping, Node, Scalar

T = TypeVar("T")

ROLES: tuple[Role, ...] = get_args(Role)


def read_spec(root: Node, problems: Problems) -> Spec:
    """A network's spec, extends already followed; what is wrong with its form is added to ``problems``."""
    return _Reader(check(root, SPEC, problems)).spec(root)


def read_block(root: Node, name: str) -> Block:
    """A file that defines one block. Raises SpecError with every problem of form."""
    problems = Problems()
    block = _Reader(check(root, BLOCK, problems)).block(name, root)
    problems.stop()
    assert isinstance(block, Block)  # or there is a problem
    return block


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads what is right. ``found`` says what is not, and which keys are misspelt."""

    found: Findings

    def spec(self, root: Node) -> Spec:
        fields = self.fields(root)
        return Spec(
            name=self.text(fields.get("name")),
            source=self.text(fields.get("source")),
            input=self.input(fields.get("input")) if len(fields) == len(self.every(root)) else None,
            takes=self.takes(fields.get("takes")),
            taken=self.names(fields.get("takes")),
            preprocess=self.preprocess(fields.get("preprocess")),
            options=self.each(fields.get("options"), self.value),
            defaults=self.each(fields.get("defaults"), lambda _, node: self.each(node, self.value)),
            layers=self.each(fields.get("layers"), lambda _, node: self.layer(node)),
            configured=self.names(fields.get("layers")),
            blocks=self.each(fields.get("blocks"), lambda key, node: self.block(key.text, node)),
            stem=self.section(fields.get("stem")),
            stages=tuple(self.each(fields.get("stages"), self.stage).values()),
            head=self.section(fields.get("head")),
            at=root.at,
        )

    def block(self, name: str, node: Node) -> Block | Invalid:
        fields = self.fields(node)
        if {id(node), id(fields.get("takes")), id(fields.get("combine"))} & self.found.bad:
            return Invalid(node.at)  # what it takes or gives is not known
        roles: list[Role] = [role for name in fields for role in ROLES if role == name]  # as they are written
        sections = dict[Role, Group]()
        for role in roles:
            if group := self.section(fields[role]):
                sections[role] = group
        combine: Combine = self.text(fields.get("combine")) or "add"  # type: ignore[assignment]
        project = self.project(fields) or "changed"
        reads: Literal["input", "before"] | None = self.text(fields.get("reads")) or None  # type: ignore[assignment]
        return Block(name, self.takes(fields.get("takes")), sections, combine, project, reads, node.at)

    def stage(self, key: Scalar, node: Node) -> Stage:
        fields = self.fields(node)
        return Stage(
            name=word(key),
            block=self.several(fields["block"]) if "block" in fields else Invalid(node.at),
            depth=self.value(key, fields["depth"]) if "depth" in fields else Invalid(node.at),
            numbering=self.text(fields.get("as")) or "{index}",
            project=self.project(fields),
            arguments={name: self.several(given) for name, given in fields.items() if name not in STAGE.keys},
            names=self.names(node),
            first=self.told(fields.get("first")),
            last=self.told(fields.get("last")),
            at=node.at,
        )

    def told(self, node: Node | None) -> BlockOverride:
        return BlockOverride({name: self.layer(given) for name, given in self.fields(node).items()}, self.names(node))

    def takes(self, node: Node | None) -> dict[str, Layer | None]:
        found = self.each(node, lambda _, given: self.layer(given))
        return {name: None if isinstance(it, Word) and it.text == "required" else it for name, it in found.items()}

    # -- layers -------------------------------------------------------------------------------------------------

    def layer(self, node: Node) -> Layer:
        if id(node) in self.found.bad:
            return Invalid(node.at)
        fields = self.fields(node)
        match node:
            case Scalar():
                return word(node)
            case Mapping() if fields.keys() & {"op", "block"}:
                what: Literal["op", "block"] = "op" if "op" in fields else "block"
                target = fields.pop(what)
                assert isinstance(target, Scalar)  # or the whole of it is bad
                arguments: dict[str, Argument] = {name: self.layer(given) for name, given in fields.items()}
                return Call(what, word(target), arguments, self.names(node), node.at)
            case Mapping() if "branches" in fields:
                return self.fork(fields, node)
            case _:
                return self.group(node)

    def fork(self, fields: dict[str, Node], node: Node) -> Branches | Invalid:
        branches, combine = fields["branches"], self.text(fields.get("combine"))
        if not isinstance(branches, List) or not combine:
            return Invalid(node.at)
        split, cascade = (self.value(None, fields[name]) if name in fields else None for name in ("split", "cascade"))
        join: Join = combine  # type: ignore[assignment]
        return Branches(tuple(map(self.branch, branches.items)), split, cascade, join, node.at)

    def branch(self, node: Node) -> Group:
        """A branch of a fork: named layers, or the word none for a piece that is handed on as it is."""
        return Group((), node.at) if isinstance(node, Scalar) else self.group(node)

    def group(self, node: Node) -> Group:
        match node:
            case List():
                items = [(Word(str(index), True, item.at), self.layer(item)) for index, item in enumerate(node.items)]
            case _:
                items = [(word(key), self.layer(item)) for key, item in self.pairs(node)]
        return Group(tuple(items), node.at)

    def section(self, node: Node | None) -> Group | None:
        return None if node is None or isinstance(node, Scalar) or id(node) in self.found.bad else self.group(node)

    def several(self, node: Node) -> Argument:
        if isinstance(node, List):
            return PerBlockValues(tuple(map(self.layer, node.items)), node.at)
        return self.layer(node)

    # -- single values ------------------------------------------------------------------------------------------

    def value(self, _: Scalar | None, node: Node) -> Word | Invalid:
        right = isinstance(node, Scalar) and id(node) not in self.found.bad
        return word(node) if right else Invalid(node.at)  # type: ignore[arg-type]

    def text(self, node: Node | None) -> str:
        return node.text if isinstance(node, Scalar) and id(node) not in self.found.bad else ""

    def project(self, fields: dict[str, Node]) -> Project | None:
        return self.text(fields.get("project")) or None  # type: ignore[return-value]

    def input(self, node: Node | None) -> tuple[int, int, int] | None:
        match self.items(node):
            case [channels, height, width]:
                return decode_integer(channels), decode_integer(height), decode_integer(width)
            case _:
                return None

    def preprocess(self, node: Node | None) -> Preprocess | None:
        match self.fields(node):
            case {"resize": Scalar() as resize, "mean": mean, "std": std} if id(resize) not in self.found.bad:
                means, stds = (tuple(map(decode_number, self.items(given))) for given in (mean, std))
                return Preprocess(decode_integer(word(resize)), means, stds)
            case _:
                return None

    def items(self, node: Node | None) -> list[Word]:
        items = node.items if isinstance(node, List) else ()
        return [word(item) for item in items if isinstance(item, Scalar) and id(item) not in self.found.bad]

    # -- mappings -----------------------------------------------------------------------------------------------

    def pairs(self, node: Node | None) -> list[tuple[Scalar, Node]]:
        return [(key, value) for key, value in self.every(node) if id(key) not in self.found.bad]

    def every(self, node: Node | None) -> tuple[tuple[Scalar, Node], ...]:
        return node.items if isinstance(node, Mapping) else ()

    def fields(self, node: Node | None) -> dict[str, Node]:
        return {self.found.name(key): value for key, value in self.pairs(node)}

    def names(self, node: Node | None) -> dict[str, Word]:
        return {self.found.name(key): word(key) for key, _ in self.pairs(node)}

    def each(self, node: Node | None, read: Callable[[Scalar, Node], T]) -> dict[str, T]:
        """What a mapping of names holds, by name."""
        return {self.found.name(key): read(key, value) for key, value in self.pairs(node)}
