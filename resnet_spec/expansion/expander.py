"""The tree of a network: groups, stages, blocks and branches followed down to operations, names to what they stand for."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal, assert_never

from resnet_spec.diagnostics.problems import Span, quote
from resnet_spec.diagnostics.suggestions import nearest, one_edit_away, suggest
from resnet_spec.diagnostics.yaml_pitfalls import explain_pitfall
from resnet_spec.expansion.context import Context, Expansion
from resnet_spec.expansion.operations import expand_operation, note_origin
from resnet_spec.expansion.parallel import branch_input_shape, join_branches
from resnet_spec.expansion.residual import combine_sides
from resnet_spec.expansion.scopes import (
    IN,
    MAX_NESTING,
    NONE,
    Bound,
    Invocation,
    Scope,
    bind_defaults,
    with_input_channels,
)
from resnet_spec.expansion.stages import block_invocation, lists_match_depth, stage_depth
from resnet_spec.language.grammar import PREDEFINED, STAGE
from resnet_spec.language.scalars import CALL_KEYS
from resnet_spec.language.spec import Block, Branches, Call, Group, Invalid, PerBlockValues, Role, Stage, Word
from resnet_spec.language.values import decode_boolean, is_reference, quote_value
from resnet_spec.network.parts import Chain, Parallel, Part, Residual
from resnet_spec.ops import OPS, Shape


class Expander:
    """Parts from what is written, each of the shape that the one before gives."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.spec = context.spec
        self.names = context.names
        self.report = context.reporter.report

    # -- what holds others --------------------------------------------------------------------------------------

    def network(self) -> list[Part]:
        """The network's parts, in the order that they are run."""
        for name, value in self.spec.takes.items():
            if value is None:
                at = self.spec.taken[name].at
                help = f"build(..., {name}=...), or --set {name}=..."
                self.report("RS206", f"{self.spec.name} needs {name!r} to be set", at, help)
        shape: Shape | None = self.spec.input or self.context.lose_shape()
        parts: list[Part] = []
        if self.spec.stem:
            parts, shape = self.section(self.spec.stem, shape)
        for stage in self.spec.stages:
            more, shape = self.stage(stage, shape)
            parts += more
        if self.spec.head:
            more, shape = self.section(self.spec.head, shape)
            parts += more
        return parts

    def section(self, group: Group, input_shape: Shape | None) -> Expansion:
        return self.group("", group, with_input_channels(self.names.scope, input_shape, group.at), input_shape)

    def stage(self, stage: Stage, input_shape: Shape | None) -> Expansion:
        name = stage.name.text
        self.context.paths.reserve("", name, stage.name.at)
        depth = stage_depth(self.context, stage)
        if not depth or not lists_match_depth(self.context, stage, depth):
            input_shape = self.context.lose_shape()
        each = any(isinstance(argument, PerBlockValues) for argument in (stage.block, *stage.arguments.values()))
        parts: list[Part] = []
        shape = input_shape
        for index in range(depth or 1):
            known = len(self.context.problems.found)
            numbered = stage.numbering.format(index=index, number=index + 1)
            self.context.paths.reserve(name, numbered, stage.at)
            use = block_invocation(self.context, stage, index, depth or 1, shape)
            part, shape = self.use(f"{name}.{numbered}", use, shape)
            parts += part
            if index and not each and (shape is None or len(self.context.problems.found) > known):
                break  # the blocks after would only say the same
        return self.sequence(name, parts, input_shape, shape, stage.at), shape

    def group(self, path: str, group: Group, scope: Scope, input_shape: Shape | None) -> Expansion:
        """A group's layers in a row, each named under ``path``."""
        parts: list[Part] = []
        shape = input_shape
        if self.misread(group, scope):
            return [], self.context.lose_shape()
        for name, layer in group.layers:
            full = f"{path}.{name.text}" if path else name.text
            self.context.layer(name.at, full)
            self.context.paths.reserve(path, name.text, name.at)
            more, shape = self.layer(full, Bound(layer, scope), shape)
            parts += more
        return parts, shape

    def layer(self, path: str, layer: Bound, input_shape: Shape | None) -> Expansion:
        found = self.context.try_or_report(partial(self.names.resolve, layer)) or Bound(Invalid(layer.written.at), {})
        match found.written:
            case Word(text=text) if text == NONE:
                return [], input_shape
            case Word() as word if not is_reference(word):
                notes = note_origin(f"as the layer {path}", layer.written.at, word.at)
                self.report("RS301", f"expected a layer, got {quote_value(word)}", word.at, notes=notes)
                return [], self.context.lose_shape()
            case Word():
                return self.use(path, Invocation("any", layer, {}, {}, found.written.at), input_shape)
            case Call() as call:
                bound = {name: Bound(argument, found.scope) for name, argument in call.arguments.items()}
                return self.use(
                    path,
                    Invocation(call.what, Bound(call.target, found.scope), bound, call.names, call.at),
                    input_shape,
                )
            case Group() as group:
                parts, shape = self.group(path, group, found.scope, input_shape)
                return self.sequence(path, parts, input_shape, shape, group.at), shape
            case Branches() as fork:
                return self.fork(path, fork, found.scope, input_shape)
            case PerBlockValues(at=at):
                self.report("RS201", "a list with a value for each block belongs to a stage", at)
                return [], self.context.lose_shape()
            case Invalid():
                return [], self.context.lose_shape()
            case never:
                assert_never(never)

    def misread(self, group: Group, scope: Scope) -> bool:
        """Whether a group is a layer whose op or block is misspelt: beside that, a layer is none, but a value."""
        slips = [(name, meant) for name, _ in group.layers if (meant := one_edit_away(name.text, CALL_KEYS))]
        if not slips:
            return False
        found = [
            self.context.try_or_report(partial(self.names.resolve, Bound(layer, scope))) for _, layer in group.layers
        ]
        if not any(bound and isinstance(bound.written, Word) and not is_reference(bound.written) for bound in found):
            return False
        name, meant = slips[0]
        self.report("RS202", f"unknown key {quote(name.text)}", name.at, f"did you mean {meant!r}?")
        return True

    def sequence(
        self, path: str, parts: list[Part], input_shape: Shape | None, output_shape: Shape | None, at: Span
    ) -> list[Part]:
        if not parts or input_shape is None or output_shape is None:
            return []
        self.context.paths.claim(path, at)
        return [Chain(path, tuple(parts), input_shape, output_shape, at)]

    # -- operations and blocks ----------------------------------------------------------------------------------

    def use(self, path: str, use: Invocation, input_shape: Shape | None) -> Expansion:
        for _ in range(MAX_NESTING):
            target = self.context.try_or_report(partial(self.names.resolve, use.target)) or Bound(Invalid(use.at), {})
            match target.written:
                case Word() as word:
                    return self.named(path, word, use, input_shape)
                case Call() as call:
                    # A name that brings an operation or a block, and some of its arguments.
                    brought = {name: Bound(argument, target.scope) for name, argument in call.arguments.items()}
                    inner, names = Bound(call.target, target.scope), {**call.names, **use.names}
                    use = replace(
                        use, what=call.what, target=inner, arguments={**brought, **use.arguments}, names=names
                    )
                case Invalid():
                    return [], self.context.lose_shape()
                case Group() | Branches() | PerBlockValues() as written:
                    what = "a list" if isinstance(written, PerBlockValues) else "layers"
                    self.report("RS201", f"expected a name, got {what}", written.at)
                    return [], self.context.lose_shape()
        self.report("RS208", "this is defined by itself", use.at)
        return [], self.context.lose_shape()

    def named(self, path: str, word: Word, use: Invocation, input_shape: Shape | None) -> Expansion:
        self.context.count(use.at, layers=1)
        if self.context.names_only and word.text == NONE:
            return [], None
        if word.text in OPS and use.what != "block":
            return expand_operation(self.context, path, word.text, use, input_shape)
        block = None if use.what == "op" else self.spec.blocks.get(word.text) or self.shared(word.text)
        if isinstance(block, Block):
            return self.block(path, block, use, input_shape)
        if block is None:
            kind = {"op": "operation", "block": "block", "any": "operation, block or taken name"}[use.what]
            notes = note_origin(f"for {path}", use.target.written.at, word.at)
            self.report("RS204", f"no {kind} named {quote(word.text)}", word.at, self.nearest(word.text, use), notes)
        return [], self.context.lose_shape()

    def shared(self, name: str) -> Block | None:
        block = self.context.library(name)
        if block is not None:
            self.context.reporter.shared.add(block.at.source.name)
        return block

    def nearest(self, text: str, use: Invocation) -> str:
        blocks = [*self.spec.blocks, *self.context.library_names]
        if use.what == "op":
            return "it is a block: write block, not op" if text in blocks else suggest(text, OPS)
        if use.what == "block":
            return "it is an operation: write op, not block" if text in OPS else suggest(text, blocks)
        scope = [name for name in use.target.scope if name != IN]
        return explain_pitfall(text) or suggest(text, [*OPS, *blocks, *self.spec.layers, *PREDEFINED, *scope])

    def block(self, path: str, block: Block, use: Invocation, input_shape: Shape | None) -> Expansion:
        sites = self.context.reporter.sites
        if len(sites) >= MAX_NESTING:
            message = f"block {block.name} holds itself, or blocks are nested more than {MAX_NESTING} deep"
            self.context.stop(message, use.at, "RS208")
        scope = self.bind(block, use, input_shape)
        sites.append((block.name, use.at))
        try:
            if block.combine == "none":
                return self.chain(path, block, scope, input_shape, use.at)
            return self.residual(path, block, scope, input_shape, use)
        finally:
            sites.pop()

    def bind(self, block: Block, use: Invocation, input_shape: Shape | None) -> Scope:
        """What a block's names stand for, where it is used."""
        self.context.step(use.at, 1 + len(block.takes) + len(use.arguments))
        scope: dict[str, Bound] = {}
        scope |= bind_defaults(block.takes, scope)
        missing = [name for name in block.takes if name not in scope and name not in use.arguments]
        for name, bound in use.arguments.items():
            meant = name
            if name not in block.takes:
                at = use.names[name].at if name in use.names else bound.written.at
                known = [*block.takes, *(CALL_KEYS if use.index is None else STAGE.keys)]
                help = suggest(name, known, {*use.arguments, "block", "depth"})
                self.report("RS205", f"block {block.name} does not take {quote(name)}", at, help)
                near = nearest(name, known, use.arguments)
                meant = near if near in missing else name
            scope[meant] = bound
        missing = [name for name in block.takes if name not in scope]
        if missing:
            help = f"block {block.name} takes {', '.join(block.takes)}"
            self.report("RS206", f"block {block.name} needs {' and '.join(missing)}", use.at, help)
            scope |= {name: Bound(Invalid(use.at), {}) for name in missing}
        return with_input_channels(scope, input_shape, use.at)

    def chain(self, path: str, block: Block, scope: Scope, input_shape: Shape | None, at: Span) -> Expansion:
        parts: list[Part] = []
        shape = input_shape
        for role in ("before", "branch", "after"):
            more, shape = self.part(path, block, role, scope, shape)
            parts += more
        return self.sequence(path, parts, input_shape, shape, at), shape

    def part(self, path: str, block: Block, role: Role, scope: Scope, input_shape: Shape | None) -> Expansion:
        group = block.sections.get(role)
        return self.group(path, group, scope, input_shape) if group else ([], input_shape)

    def look(self, path: str, block: Block, scope: Scope) -> None:
        """Look at the names in a shortcut that is not used here, so that what it is given is not ignored."""
        context = self.context
        if context.names_only or context.spatial_size_unknown:
            return
        layers, context.names_only = context.layers, True
        self.part(path, block, "shortcut", scope, None)
        context.layers, context.names_only, context.spatial_size_unknown = layers, False, False

    def residual(self, path: str, block: Block, scope: Scope, input_shape: Shape | None, use: Invocation) -> Expansion:
        before, read = self.part(path, block, "before", scope, input_shape)
        branch, shape = self.part(path, block, "branch", scope, read)
        shortcut: list[Part] = []
        reads: Literal["input", "before"] = block.reads or "input"
        other = read if reads == "before" else input_shape
        changed = shape != other and block.combine == "add"
        project = use.project or block.project
        always = project == "always" or (project == "first" and use.index == 0)
        if "shortcut" in block.sections and (always or (changed and project != "never")):
            reads = block.reads or "before"
            shortcut, other = self.part(path, block, "shortcut", scope, read if reads == "before" else input_shape)
        elif not use.index:
            self.look(path, block, scope)
        both = combine_sides(self.context, path, block, (branch, shape), (shortcut, other), use)
        after, output_shape = self.part(path, block, "after", scope, both)
        if input_shape is None or output_shape is None:
            return [], output_shape
        self.context.paths.claim(path, use.at)
        held = {"before": before, "branch": branch, "shortcut": shortcut, "after": after}
        roles: tuple[Role, ...] = tuple(role for role in block.sections if held[role])
        sections = (tuple(before), tuple(branch), tuple(shortcut))
        combine = block.combine
        assert combine != "none"
        reads = reads if before else "input"
        return [
            Residual(path, *sections, combine, tuple(after), roles, input_shape, output_shape, reads, use.at)
        ], output_shape

    def fork(self, path: str, fork: Branches, scope: Scope, input_shape: Shape | None) -> Expansion:
        split, cascade = self.flag(fork.split, scope), self.flag(fork.cascade, scope)
        piece = branch_input_shape(self.context, path, fork, input_shape, bool(split))
        rows = [self.group(path.rpartition(".")[0], group, scope, piece) for group in fork.branches]
        output_shape = (
            join_branches(self.context, path, fork, piece, rows, bool(cascade)) if piece else self.context.lose_shape()
        )
        if input_shape is None or output_shape is None or split is None or cascade is None:
            return [], self.context.lose_shape()
        self.context.paths.claim(path, fork.at)
        branches = tuple(tuple(row) for row, _ in rows)
        return [
            Parallel(path, branches, split, cascade, fork.combine, input_shape, output_shape, fork.at)
        ], output_shape

    def flag(self, written: Word | Invalid | None, scope: Scope) -> bool | None:
        if written is None:
            return False
        return self.context.try_or_report(lambda: decode_boolean(self.names.word(Bound(written, scope))))
