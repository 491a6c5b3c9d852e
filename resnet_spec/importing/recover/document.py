"""Assemble the document of a spec from terms: its words, its defaults, its blocks, its stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from resnet_spec.importing.recover.bundled_blocks import Words, literal, numeric
from resnet_spec.importing.recover.families import Block, Families, most_common
from resnet_spec.importing.recover.inlining import inline_single_calls
from resnet_spec.importing.recover.layout import lay_out
from resnet_spec.importing.recover.repeats import repeat_calls
from resnet_spec.importing.recover.terms import (
    BlockCall,
    Body,
    Branching,
    Collecting,
    OpCall,
    Param,
    PerBlock,
    Repeats,
    Sequence,
    default_arguments,
    op_term,
    subterms,
)
from resnet_spec.importing.recover.unify import ACTIVATIONS, MISSING
from resnet_spec.library.load import bundled_block
from resnet_spec.network.parts import Leaf, Row
from resnet_spec.network.traversal import walk
from resnet_spec.ops import shortest_decimal
from resnet_spec.syntax.nodes import Scalar

NORMS = ("batch_norm", "layer_norm", "group_norm", "rms_norm", "filter_response_norm", "evo_norm_s0")

UNROUNDED = ("factor", "gamma", "start")
"""What the names of arguments end with that no operation rounds to float32."""

Data = Any
"""Values as YAML has them: mappings, lists and scalars."""


def recover_document(
    name: str,
    input_shape: tuple[int, int, int],
    parts: Row,
    classes: Mapping[str, str],
    uses_bundled: bool = True,
    is_ordered: bool = True,
) -> dict[str, Data]:
    """Return a spec of parts as YAML values. Unless ``is_ordered``, the order of weights does not matter.

    Bundled blocks with a depthwise convolution leave its padding to the network's defaults. Where that makes the spec
    shorter, ``half`` is the default.
    """
    leaves = [leaf for leaf in walk(parts) if isinstance(leaf, Leaf)]
    prefers_same = any(getattr(leaf.op, "padding", 0) == "same" for leaf in leaves)
    calls = [op_term(leaf, prefers_same) for leaf in leaves]
    choices = [_choose_defaults(calls)]
    if "padding" not in choices[0].get("conv", {}) and any(
        call.op == "conv" and call.argument("groups") != 1 and call.argument("padding") == "half" for call in calls
    ):
        choices.append({**choices[0], "conv": {**choices[0].get("conv", {}), "padding": "half"}})
    documents = []
    for defaults in choices:
        words = replace(_choose_words(calls, defaults), is_ordered=is_ordered)
        families = Families(words, classes, uses_bundled, prefers_same)
        documents.append(
            _write(name, input_shape, words, *inline_single_calls(families.row(parts, ""), families.blocks))
        )
    return min(documents, key=lambda document: len(lay_out(document).splitlines()))


def _write(
    name: str, input_shape: tuple[int, int, int], words: Words, row: Sequence, blocks: Mapping[str, Block]
) -> dict[str, Data]:
    """Return the document of a row of terms and the blocks that they call."""
    defaults = words.defaults
    writer = _Writer(words, blocks)
    document: dict[str, Data] = {"name": name}
    row, count = _with_classes(row)
    if count:
        document["takes"] = {"classes": count}
    document["input"] = list(input_shape)
    if defaults:
        document["defaults"] = {
            op: {key: writer.scalar(value) for key, value in found.items()} for op, found in defaults.items()
        }
    layers = {}
    if words.norm != Words(_plain("batch_norm", defaults), words.act, {}).norm:
        layers["norm"] = writer.op_call(words.norm)
    if words.act != _plain("relu", defaults):
        layers["act"] = writer.op_call(words.act)
    stem, stages, head = _sections(row)
    body = {"stem": stem, "stages": stages, "head": head}
    written = {key: {name: writer.layer(term) for name, term in items} for key, items in body.items() if items}
    definitions = {name: writer.block(block) for name, block in blocks.items()}
    if layers:
        used = repr((written, definitions))
        document["layers"] = {word: value for word, value in layers.items() if f"'{word}'" in used or "'block'" in used}
    if definitions:
        document["blocks"] = definitions
    return document | written


def _plain(op: str, defaults: Mapping[str, Mapping[str, Any]]) -> OpCall:
    return OpCall(op, tuple((default_arguments(op) | dict(defaults.get(op, {}))).items()), op in NORMS)


def _choose_words(calls: list[OpCall], defaults: Mapping[str, Mapping[str, Any]]) -> Words:
    """Return what norm and act stand for, beside the defaults of operations."""
    norm = most_common([_without_gamma(call) for call in calls], NORMS) or _plain("batch_norm", {})
    act = most_common(
        [call for call in calls if not call.has_weights], ACTIVATIONS - {"sigmoid", "identity", "hard_sigmoid"}
    )
    return Words(norm, act or _plain("relu", {}), defaults)


def _choose_defaults(calls: list[OpCall]) -> dict[str, dict[str, Any]]:
    """Return the arguments that most calls of an operation have in common."""
    defaults: dict[str, dict[str, Any]] = {}
    for op in ("conv", "standardized_conv", "linear"):
        found = [call for call in calls if call.op == op]
        for name in ("bias", "init", "padding", "epsilon"):
            common = _common_argument(found, name)
            if common is not None:
                defaults.setdefault(op, {})[name] = common
    return defaults


def _common_argument(calls: list[OpCall], name: str) -> Any:
    """Return the value of an argument that most calls have, unless it is the default."""
    values = [value for call in calls if (value := call.argument(name)) is not None]
    if not values or (name == "padding" and "same" not in values):
        return None
    value, count = Counter(values).most_common(1)[0]
    usual = default_arguments(calls[0].op).get(name)
    return (
        value
        if value != usual and value != "half" and count * 2 > len(values) and (len(values) > 2 or name == "init")
        else None
    )


def _without_gamma(call: OpCall) -> OpCall:
    return OpCall(call.op, tuple((name, value) for name, value in call.arguments), call.has_weights)


def _with_classes(row: Sequence) -> tuple[Sequence, int]:
    """Return a row whose last linear layer has as many outputs as the argument ``classes`` says, and their number."""
    if not row.items:
        return row, 0
    name, last = row.items[-1]
    match last:
        case OpCall("linear" | "conv", arguments) if isinstance(last.argument("out"), int):
            out = last.argument("out")
            changed: Any = replace(
                last, arguments=tuple((key, Param("classes") if key == "out" else value) for key, value in arguments)
            )
        case Sequence():
            changed, out = _with_classes(last)
        case OpCall() if last.has_weights is False and len(row.items) > 1:
            inner, out = _with_classes(Sequence(row.items[:-1]))
            return Sequence((*inner.items, row.items[-1])), out
        case _:
            return row, 0
    return Sequence((*row.items[:-1], (name, changed))), out


def _sections(row: Sequence) -> tuple[Any, Any, Any]:
    """Return the items before the first stage, the stages, and those after the last."""
    holds = [_holds_blocks(term) and not isinstance(term, BlockCall) for _, term in row.items]
    first = next((index for index, held in enumerate(holds) if held), len(holds))
    last = next((index for index in range(len(holds), first, -1) if holds[index - 1]), first)
    if any(isinstance(term, BlockCall) for _, term in row.items[first:last]):
        return row.items, (), ()  # a block alone is no stage
    return row.items[:first], row.items[first:last], row.items[last:]


def _holds_blocks(term: Any) -> bool:
    return any(isinstance(inner, BlockCall | Repeats) for inner in subterms(term)) and not isinstance(term, OpCall)


class _Writer:
    """Writes terms as YAML values, without arguments that have their defaults."""

    def __init__(self, words: Words, blocks: Mapping[str, Block]) -> None:
        self.words = words
        self.blocks = blocks
        self.nonlinear = words.act

    def layer(self, term: Any) -> Data:
        match term:
            case OpCall():
                return "norm" if term == self.words.norm else "act" if term == self.words.act else self.op_call(term)
            case BlockCall(block, arguments):
                written = self.block_arguments(block, dict(arguments))
                return {"block": block, **written} if written else block
            case Repeats():
                return self.repeats(term)
            case Sequence(items):
                return self.sequence(items)
            case Branching():
                return self.branching(term)
            case Collecting(items):
                return {"collect": {name: self.layer(inner) for name, inner in self._runs(items.items)}}
            case Param(name):
                return name
            case _:
                return self.scalar(term)

    def _runs(self, items: tuple[tuple[str, Any], ...]) -> Any:
        return items

    def sequence(self, items: tuple[tuple[str, Any], ...]) -> Data:
        """Return layers as a mapping, or as a list if they are numbered; equal blocks in a list are one item."""
        if not items:
            return "none"
        is_numbered = [name for name, _ in items] == [str(index) for index in range(len(items))]
        if not is_numbered or any(isinstance(inner, Repeats) and inner.numbering != "{index}" for _, inner in items):
            return {name: self.layer(inner) for name, inner in items}
        written: list[Data] = []
        index = 0
        while index < len(items):
            run = self._run([term for _, term in items[index:]])
            if len(run) > 1 or (run and (run[0].project or self._is_residual(run[0].block))):
                written.append(self.repeats(repeat_calls(run)))
                index += len(run)
            else:
                item = self.layer(items[index][1])
                # In a list each block of a repeat has a number, so a chain of blocks is a list in it.
                written.append([item] if isinstance(items[index][1], Repeats) else item)
                index += 1
        return written

    def _is_residual(self, name: str) -> bool:
        """Return whether a block has a shortcut. Options such as drop_path count it if it is written with a depth."""
        if name in self.blocks:
            return self.blocks[name].body.combine == "add"
        block = bundled_block(name)
        return block is not None and block.combine == "add"

    def _run(self, terms: list[Any]) -> list[BlockCall]:
        """Return the calls of one block with which a list of terms begins, as far as one repeat can say them."""
        run: list[BlockCall] = []
        for term in terms:
            if not isinstance(term, BlockCall) or (run and not _continues(run, term)):
                break
            run.append(term)
        return run

    def op_call(self, term: OpCall) -> Data:
        usual = default_arguments(term.op) | dict(self.words.defaults.get(term.op, {}))
        written = {}
        for name, value in term.arguments:
            plain = (
                numeric(term, name)
                if value == "half"
                and isinstance(term.argument("kernel"), int | tuple)
                and isinstance(term.argument("dilation") or 1, int | tuple)
                else value
            )
            if name not in usual or usual[name] not in (value, plain):
                written[name] = self.scalar(plain, name)
        return {"op": term.op, **written} if written else term.op

    def block_arguments(self, block: str, arguments: Mapping[str, Any]) -> dict[str, Data]:
        defaults = self._defaults(block)
        return {
            name: self.value(value, name)
            for name, value in arguments.items()
            if name not in defaults or not _equal(defaults[name], value)
        }

    def _defaults(self, block: str) -> dict[str, Any]:
        if block in self.blocks:
            return {name: value for name, value in self.blocks[block].takes.items() if value is not MISSING}
        found = bundled_block(block)
        takes = found.takes if found is not None else {}
        return {name: literal(value) for name, value in takes.items() if isinstance(value, Scalar) and name}

    def _common_defaults(self, blocks: Iterable[str]) -> dict[str, Any]:
        """Return the defaults of arguments that are the same for all blocks that take them."""
        every = [self._defaults(block) for block in blocks]
        taken = [self._taken(block) for block in blocks]
        return {
            name: value
            for defaults in every
            for name, value in defaults.items()
            if all(
                name in other and _equal(other[name], value)
                for other, takes in zip(every, taken, strict=True)
                if name in takes
            )
        }

    def _taken(self, block: str) -> set[str]:
        found = bundled_block(block)
        return set(self.blocks[block].takes) if block in self.blocks else set(found.takes if found else ())

    def repeats(self, term: Repeats) -> Data:
        names = term.block.values if isinstance(term.block, PerBlock) else (term.block,)
        written: dict[str, Data] = {"block": names[-1], "depth": self.value(term.depth)}
        defaults, first = self._common_defaults(set(names)), {}
        if len(set(names)) > 1 and len(set(names[1:])) == 1:
            first["block"] = names[0]
        elif len(set(names)) > 1 and len(set(names[:-1])) == 1:
            written |= {"block": names[0], "last": {"block": names[-1]}}
        elif len(names) > 1:
            written["block"] = list(names)
        for name, value in term.arguments:
            if not isinstance(value, PerBlock):
                if name not in defaults or not _equal(defaults[name], value):
                    written[name] = self.value(value, name)
                continue
            head, *rest = value.values
            is_usual = bool(rest) and name in defaults and _equal(defaults[name], rest[0])
            if all(_equal(item, rest[0]) for item in rest) and name != "stride" and (len(rest) > 1 or is_usual):
                first[name] = self.value(head, name)
                if name not in defaults or not _equal(defaults[name], rest[0]):
                    written[name] = self.value(rest[0], name)
            else:
                written[name] = [self.value(item, name) for item in value.values]
        if first:
            written["first"] = first
        if term.project:
            written["project"] = term.project
        if term.numbering != "{index}":
            written["as"] = term.numbering
        return written

    def branching(self, term: Branching) -> Data:
        written: dict[str, Data] = {}
        if term.split:
            written["split"] = [self.value(size) for size in term.split] if isinstance(term.split, tuple) else True
        if term.cascade:
            written["cascade"] = True
        if term.resize:
            written["resize"] = term.resize
        branches = [{name: self.layer(inner) for name, inner in row.items} or "none" for row in term.branches]
        return {**written, "combine": term.combine, "branches": branches}

    def block(self, block: Block) -> Data:
        written: dict[str, Data] = {}
        takes = {
            name: "required" if value is MISSING else self.value(value, name) for name, value in block.takes.items()
        }
        if takes:
            written["takes"] = takes
        body: Body = block.body
        if body.combine != "add":
            written["combine"] = body.combine
        if body.project:
            written["project"] = body.project
        if body.reads:
            written["reads"] = body.reads
        for role, row in body.sections:
            if row.items:
                written[role] = self.sequence(row.items)
        return written

    def value(self, value: Any, name: str = "") -> Data:
        """Return the value of an argument, which may be a layer."""
        is_layer = isinstance(value, OpCall | BlockCall | Sequence | Branching | Collecting | Repeats)
        return self.layer(value) if is_layer else self.scalar(value, name)

    def scalar(self, value: Any, name: str = "") -> Data:
        """Return a number, a word or an argument; a number that an operation rounds to float32 is shortened."""
        match value:
            case Param(name):
                return name
            case tuple():
                return [self.scalar(item) for item in value]
            case float() if not name.endswith(UNROUNDED):
                return _shortest(value)
            case _:
                return value


def _shortest(value: float) -> float:
    """Return the number with the fewest digits that means the same where it is rounded to float32."""
    try:
        return shortest_decimal(value)
    except StopIteration:
        return value


def _equal(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def _continues(run: list[BlockCall], call: BlockCall) -> bool:
    """Return whether a call reads well as one more block of a repeat: its number of channels is the same."""
    first = run[0]
    if call.block != first.block or [name for name, _ in call.arguments] != [name for name, _ in first.arguments]:
        return False
    if bool(call.project) != bool(run[-1].project) and len(run) > 1:
        return False
    known, given = dict(first.arguments), dict(call.arguments)
    return known.get("out") == given.get("out") and given.get("stride", 1) == 1
