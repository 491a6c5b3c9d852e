"""Expand a spec into the tree of a network: groups, repeated blocks and layers, down to operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Literal, assert_never

from resnet_spec.diagnostics.problems import Span, SpecError, quote
from resnet_spec.diagnostics.remedies import describe_setting
from resnet_spec.diagnostics.suggestions import find_nearest, one_edit_away, suggest
from resnet_spec.diagnostics.yaml_pitfalls import explain_pitfall
from resnet_spec.expansion.context import Context, Expansion
from resnet_spec.expansion.error_sites import is_setting
from resnet_spec.expansion.operations import expand_operation, note_origin
from resnet_spec.expansion.parallel import branch_input_shapes, check_cascades, join_branches
from resnet_spec.expansion.repeats import block_invocation, block_names, has_lists, lists_match_depth, repeat_depth
from resnet_spec.expansion.residual import combine_sides, lacks_padding
from resnet_spec.expansion.scopes import (
    IN,
    MAX_NESTING,
    NONE,
    Bound,
    Invocation,
    Scope,
    bind_defaults,
    integer_arguments,
    with_input_channels,
)
from resnet_spec.language.grammar import PREDEFINED, REPEAT
from resnet_spec.language.scalars import CALL_KEYS
from resnet_spec.language.spec import (
    Block,
    Branches,
    Call,
    Collect,
    Group,
    Invalid,
    PerBlockValues,
    Repeat,
    Role,
    Values,
)
from resnet_spec.language.values import decode_boolean, decode_integer, is_reference, quote_value
from resnet_spec.network.parts import BlockUse, Chain, Leaf, Parallel, Part, Residual
from resnet_spec.ops import OPS, Linear, Shape
from resnet_spec.syntax.nodes import Scalar


class Expander:
    """Expands groups, blocks and layers, and carries the shape from each part to the next."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.spec = context.spec
        self.names = context.names
        self.report = context.reporter.report

    # -- groups and repeated blocks -----------------------------------------------------------------------------

    def network(self) -> list[Part]:
        """Return the network's parts, in the order in which they run."""
        for name, value in self.spec.takes.items():
            if value is None:
                span = self.spec.takes_keys[name].span
                help = f"set it: {describe_setting(name, '...')}"
                self.report("RS206", f"{self.spec.name} needs a value for {name!r}", span, help)
        shape: Shape | None = self.spec.input or self.context.lose_shape()
        parts: list[Part] = []
        for group in (self.spec.stem, self.spec.stages, self.spec.head):
            if group is not None:
                more, shape = self.section(group, shape)
                parts += more
        self.check_classifier(parts)
        return parts

    def check_classifier(self, parts: Sequence[Part]) -> None:
        """Report a linear layer at the end of the network that reads a map, since a pooling was forgotten."""
        last = parts[-1] if parts else None
        while isinstance(last, Chain):
            last = last.parts[-1]
        if (
            isinstance(last, Leaf)
            and isinstance(last.op, Linear)
            and math.prod(last.output_shape[1:]) > 1
            and last.span
        ):
            message = f"the classifier {last.path} reads a map, {last.input_shape}, and gives {last.output_shape}"
            help = "put global_avg_pool or flatten before it; for an output of each pixel, write a 1 x 1 convolution"
            self.report("RS401", message, last.span, help)

    def section(self, group: Group, input_shape: Shape | None) -> Expansion:
        """Expand the stem, the stages or the head."""
        return self.group("", group, with_input_channels(self.names.scope, input_shape, group.span), input_shape)

    def repeated(self, path: str, repeat: Repeat, scope: Scope, input_shape: Shape | None) -> Expansion:
        """Expand a repeated block into a chain of blocks, which are named below ``path``."""
        names = partial(self.block_name, path, repeat)
        parts, shape = self.joined(self.blocks(path, repeat, scope, input_shape, names, path), input_shape)
        return self.sequence(path, parts, input_shape, shape, repeat.span), shape

    def block_name(self, path: str, repeat: Repeat, index: int) -> str:
        """Return the name of a block below a path, as the pattern of a repeated block says."""
        name = repeat.numbering.format(index=index, number=index + 1)
        self.context.paths.reserve(path, name, repeat.span)
        return name

    def blocks(
        self,
        path: str,
        repeat: Repeat,
        scope: Scope,
        shape: Shape | None,
        name: Callable[[int], str],
        chain_path: str = "",
    ) -> Iterator[Expansion]:
        """Yield the parts of each repeated block, and the shape after it.

        Args:
            path: The path below which ``name`` names the blocks by their index.
            chain_path: The path of the chain that holds the blocks and nothing else, if there is one.
        """
        depth = repeat_depth(self.context, repeat, scope)
        if not depth or not lists_match_depth(self.context, repeat, depth):
            shape = self.context.lose_shape()
        taken = self.arguments_taken(repeat, depth or 1, scope)
        with self.context.stage(chain_path) as stage:
            for index in range(depth or 1):
                known = len(self.context.problems)
                use = block_invocation(self.context, repeat, index, depth or 1, scope, shape)
                full = ".".join(filter(None, [path, name(index)]))
                parts, shape = self.invoke(full, replace(use, taken_elsewhere=taken), shape)
                stage += [part.path for part in parts]
                yield parts, shape
                if index and not has_lists(repeat) and (shape is None or len(self.context.problems) > known):
                    break  # the blocks after it have the same problem

    def joined(self, rows: Iterable[Expansion], shape: Shape | None) -> Expansion:
        """Return the parts of several rows that run one after another, and the shape after the last."""
        parts: list[Part] = []
        for row, after in rows:
            parts += row
            shape = after
        return parts, shape

    def arguments_taken(self, repeat: Repeat, depth: int, scope: Scope) -> frozenset[str]:
        """Return the arguments that at least one of the repeated blocks takes, if they are of several kinds."""
        names = block_names(repeat, depth)
        if len(names) == 1:
            return frozenset()
        blocks = (self.find_block(Bound(name, scope)) for name in names)
        return frozenset(argument for block in blocks if block is not None for argument in block.takes)

    def find_block(self, bound: Bound) -> Block | None:
        """Return the block that a name stands for, or None."""
        for _ in range(MAX_NESTING):
            try:
                bound = self.names.resolve(bound)
            except SpecError:
                return None
            match bound.written:
                case Call(target=target):
                    bound = Bound(target, bound.scope)
                case Scalar(text=text):
                    block = self.spec.blocks.get(text) or self.bundled_block(text)
                    return block if isinstance(block, Block) else None
                case _:
                    return None
        return None

    def group(self, path: str, group: Group, scope: Scope, input_shape: Shape | None) -> Expansion:
        """Expand layers that run one after another, each named below ``path``."""
        if self.is_misspelt_call(group, scope):
            return [], self.context.lose_shape()
        return self.joined(self.rows(path, group, scope, input_shape), input_shape)

    def rows(self, path: str, group: Group, scope: Scope, shape: Shape | None) -> Iterator[Expansion]:
        """Yield the parts of each layer of a group, and the shape after it.

        In a list, each block of a repeated block has a number of its own.
        """
        numbers = count()
        for key, layer in group.layers:
            bound = self.resolved(Bound(layer, scope))
            if group.is_numbered and isinstance(bound.written, Repeat):
                rows = self.blocks(path, bound.written, bound.scope, shape, lambda _: str(next(numbers)))
                for row, after in rows:
                    shape = after
                    yield row, shape
                continue
            full = self.layer_path(path, str(next(numbers)) if group.is_numbered else key.text, key.span)
            row, shape = self.layer(full, bound, shape)
            yield row, shape

    def layer_path(self, path: str, name: str, span: Span) -> str:
        """Return the path of a layer below a path, and record it."""
        full = f"{path}.{name}" if path else name
        self.context.layer(span, full)
        self.context.paths.reserve(path, name, span)
        return full

    def resolved(self, layer: Bound) -> Bound:
        """Return what the name of a layer stands for; report a problem with it, and return Invalid then."""
        return self.context.try_or_report(partial(self.names.resolve, layer)) or Bound(Invalid(layer.written.span), {})

    def layer(self, path: str, layer: Bound, input_shape: Shape | None) -> Expansion:
        """Expand a layer in any of its forms."""
        found = self.resolved(layer)
        match found.written:
            case Scalar(text=text) if text == NONE:
                return [], input_shape
            case Scalar() as scalar if not is_reference(scalar):
                notes = note_origin(f"it is used as layer {path} here", layer.written.span, scalar.span)
                self.report("RS301", f"expected a layer, got {quote_value(scalar)}", scalar.span, notes=notes)
                return [], self.context.lose_shape()
            case Scalar():
                return self.invoke(path, Invocation("any", layer, {}, {}, found.written.span), input_shape)
            case Call() as call:
                bound = {name: Bound(argument, found.scope) for name, argument in call.arguments.items()}
                use = Invocation(call.what, Bound(call.target, found.scope), bound, call.keys, call.span)
                return self.invoke(path, use, input_shape)
            case Group() as group:
                parts, shape = self.group(path, group, found.scope, input_shape)
                return self.sequence(path, parts, input_shape, shape, group.span), shape
            case Repeat() as repeat:
                return self.repeated(path, repeat, found.scope, input_shape)
            case Branches() as written:
                return self.parallel(path, written, found.scope, input_shape)
            case Collect() as written:
                return self.collected(path, written, found.scope, input_shape)
            case Values(span=span) | PerBlockValues(span=span):
                self.report("RS201", "expected a layer, got a list of values", span)
                return [], self.context.lose_shape()
            case Invalid():
                return [], self.context.lose_shape()
            case never:
                assert_never(never)

    def is_misspelt_call(self, group: Group, scope: Scope) -> bool:
        """Return whether a group is one layer whose key op or block is misspelt, and report it.

        The entries of a group are layers, but a call has arguments, which may be names of literal values.
        """
        misspelt = [(name, meant) for name, _ in group.layers if (meant := one_edit_away(name.text, CALL_KEYS))]
        if not misspelt:
            return False
        resolved = [
            self.context.try_or_report(partial(self.names.resolve, Bound(layer, scope))) for _, layer in group.layers
        ]
        written = [bound.written for bound in resolved if bound]
        if not any(isinstance(value, Scalar) and not is_reference(value) for value in written):
            return False
        name, meant = misspelt[0]
        self.report("RS202", f"unknown key {quote(name.text)}", name.span, f"did you mean {meant!r}?")
        return True

    def sequence(
        self, path: str, parts: list[Part], input_shape: Shape | None, output_shape: Shape | None, span: Span
    ) -> list[Part]:
        """Return a chain of parts at a path, as a list of one part; an empty list if it has no parts or no shape."""
        if not parts or input_shape is None or output_shape is None:
            return []
        self.context.paths.claim(path, span)
        return [Chain(path, tuple(parts), input_shape, output_shape, span)]

    # -- operations and blocks ----------------------------------------------------------------------------------

    def invoke(self, path: str, use: Invocation, input_shape: Shape | None) -> Expansion:
        """Expand the use of an operation or a block, whose name may stand for another call."""
        for _ in range(MAX_NESTING):
            target = self.context.try_or_report(partial(self.names.resolve, use.target)) or Bound(Invalid(use.span), {})
            match target.written:
                case Scalar() as name:
                    return self.invoke_by_name(path, name, use, input_shape)
                case Call() as call:
                    # The name stands for an operation or a block with some arguments, which those of the use override.
                    bound = {name: Bound(argument, target.scope) for name, argument in call.arguments.items()}
                    use = replace(
                        use,
                        what=call.what,
                        target=Bound(call.target, target.scope),
                        arguments={**bound, **use.arguments},
                        keys={**call.keys, **use.keys},
                    )
                case Invalid():
                    return [], self.context.lose_shape()
                case Group() | Repeat() | Branches() | Collect() | Values() | PerBlockValues() as written:
                    kind = "a list" if isinstance(written, Values | PerBlockValues) else "layers"
                    self.report("RS201", f"expected a name, got {kind}", written.span)
                    return [], self.context.lose_shape()
        self.report("RS208", "this is defined in terms of itself", use.span)
        return [], self.context.lose_shape()

    def invoke_by_name(self, path: str, name: Scalar, use: Invocation, input_shape: Shape | None) -> Expansion:
        """Expand the use of an operation or a block by its own name."""
        self.context.count(use.span, layers=1)
        if self.context.names_only and name.text == NONE:
            return [], None
        # The keys op and block say what their value is; a name that is defined may stand for either.
        what = use.what if name is use.target.written else "any"
        if name.text in OPS and what != "block":
            return expand_operation(self.context, path, name.text, use, input_shape)
        block = None if what == "op" else self.spec.blocks.get(name.text) or self.bundled_block(name.text)
        if isinstance(block, Block):
            return self.block(path, block, use, input_shape)
        if block is None:
            kind = {"op": "operation", "block": "block", "any": "operation, block or definition"}[use.what]
            notes = note_origin(f"it is used for {path} here", use.target.written.span, name.span)
            message = f"no {kind} named {quote(name.text)}"
            self.report("RS204", message, name.span, self.suggest_target(name.text, use), notes)
        return [], self.context.lose_shape()

    def bundled_block(self, name: str) -> Block | None:
        """Return a bundled block by name, or None; problems are not shown inside its file from now on.

        If the block itself has problems, they are reported, and the expansion ends.
        """
        try:
            block = self.context.library(name)
        except SpecError as error:
            for problem in error.problems:
                self.context.problems.add(problem)
            raise SpecError([]) from None
        if block is not None:
            self.context.reporter.shared.add(block.span.source.name)
        return block

    def suggest_target(self, text: str, use: Invocation) -> str:
        """Return a hint for an unknown operation or block."""
        blocks = [*self.spec.blocks, *self.context.library_names]
        if use.what == "op":
            return "it is a block; use the key block instead of op" if text in blocks else suggest(text, OPS)
        if use.what == "block":
            return "it is an operation; use the key op instead of block" if text in OPS else suggest(text, blocks)
        scope = [name for name in use.target.scope if name != IN]
        return explain_pitfall(text) or suggest(text, [*OPS, *blocks, *self.spec.layers, *PREDEFINED, *scope])

    def block(self, path: str, block: Block, use: Invocation, input_shape: Shape | None) -> Expansion:
        """Expand a block into a residual block, or into a chain if it combines nothing."""
        sites = self.context.reporter.sites
        if len(sites) >= MAX_NESTING:
            message = f"block {block.name} contains itself, or blocks are nested more than {MAX_NESTING} deep"
            self.context.stop(message, use.span, "RS208")
        scope = self.bind(block, use, input_shape)
        sites.append((block.name, use.span))
        try:
            if block.combine == "none":
                parts, shape = self.chain(path, block, scope, input_shape, use.span)
            else:
                parts, shape = self.residual(path, block, scope, input_shape, use)
            used = BlockUse(block.name, integer_arguments(block.takes, scope))
            return [replace(part, use=used) for part in parts if isinstance(part, Chain | Residual)], shape
        finally:
            sites.pop()

    def bind(self, block: Block, use: Invocation, input_shape: Shape | None) -> Scope:
        """Return the scope inside a block: its arguments as a use sets them, and their defaults."""
        self.context.step(use.span, 1 + len(block.takes) + len(use.arguments))
        scope: dict[str, Bound] = {}
        scope |= bind_defaults(block.takes, scope)
        missing = [name for name in block.takes if name not in scope and name not in use.arguments]
        for name, bound in use.arguments.items():
            meant = name
            if name not in block.takes and name in use.taken_elsewhere:
                continue
            if name not in block.takes:
                span = use.keys[name].span if name in use.keys else bound.written.span
                known = [*block.takes, *(CALL_KEYS if use.index is None else REPEAT.keys)]
                help = suggest(name, known, {*use.arguments, "block", "depth"})
                if span.source.name != self.spec.span.source.name and not is_setting(span):
                    help = f"{help}; write {name}: null to drop an argument of the base"
                message = f"block {block.name} does not take {quote(name)}"
                self.report("RS205", message, span, help, others=[use.target.written.span])
                suggestion = find_nearest(name, known, use.arguments)
                meant = suggestion if suggestion in missing else name
            scope[meant] = bound
        missing = [name for name in block.takes if name not in scope]
        if missing:
            help = f"block {block.name} takes {', '.join(block.takes)}"
            self.report("RS206", f"block {block.name} needs {' and '.join(missing)}", use.span, help)
            scope |= {name: Bound(Invalid(use.span), {}) for name in missing}
        scope |= with_input_channels({}, input_shape, use.span)  # in place: defaults may refer to it
        return scope

    def chain(self, path: str, block: Block, scope: Scope, input_shape: Shape | None, span: Span) -> Expansion:
        """Expand a block with ``combine: none``."""
        rows: dict[Role, list[Part]] = {}
        shape = input_shape
        for role in ("before", "branch", "after"):
            rows[role], shape = self.part(path, block, role, scope, shape)
        parts = [part for row in rows.values() for part in row]
        written = tuple(part.path for role in block.sections if role in rows for part in rows[role])
        chain = self.sequence(path, parts, input_shape, shape, span)
        if written != tuple(part.path for part in parts):
            chain = [replace(part, written=written) for part in chain if isinstance(part, Chain)]
        return chain, shape

    def part(self, path: str, block: Block, role: Role, scope: Scope, input_shape: Shape | None) -> Expansion:
        """Expand one section of a block."""
        group = block.sections.get(role)
        return self.group(path, group, scope, input_shape) if group else ([], input_shape)

    def look_up_names(self, path: str, block: Block, scope: Scope) -> None:
        """Look up the names in a shortcut that is not used here, so that arguments meant for it count as used."""
        context = self.context
        if context.names_only or context.spatial_size_unknown:
            return
        layers, context.names_only = context.layers, True
        with self.names.mentioning():
            self.part(path, block, "shortcut", scope, None)
        context.layers, context.names_only, context.spatial_size_unknown = layers, False, False

    def residual(self, path: str, block: Block, scope: Scope, input_shape: Shape | None, use: Invocation) -> Expansion:
        """Expand a block whose branch is combined with a shortcut."""
        before, before_shape = self.part(path, block, "before", scope, input_shape)
        branch, branch_shape = self.part(path, block, "branch", scope, before_shape)
        shortcut: list[Part] = []
        reads: Literal["input", "before"] = block.reads or "input"
        shortcut_shape = before_shape if reads == "before" else input_shape
        changed = branch_shape != shortcut_shape and block.combine == "add"
        project = use.project or block.project
        always = project == "always" or (project == "first" and use.index == 0)
        if changed and project == "drop" and not lacks_padding(branch, branch_shape, shortcut_shape):
            after, output_shape = self.part(path, block, "after", scope, branch_shape)
            return self.sequence(path, [*before, *branch, *after], input_shape, output_shape, use.span), output_shape
        if "shortcut" in block.sections and (always or (changed and project not in ("never", "drop"))):
            reads = block.reads or "before"
            shortcut_input = before_shape if reads == "before" else input_shape
            shortcut, shortcut_shape = self.part(path, block, "shortcut", scope, shortcut_input)
        elif not use.index:
            self.look_up_names(path, block, scope)
        sides = (branch, branch_shape), (shortcut, shortcut_shape)
        combined_shape = combine_sides(self.context, path, block, *sides, use)
        after, output_shape = self.part(path, block, "after", scope, combined_shape)
        if input_shape is None or output_shape is None:
            return [], output_shape
        self.context.paths.claim(path, use.span)
        sections = {"before": before, "branch": branch, "shortcut": shortcut, "after": after}
        combine = block.combine
        assert combine != "none"
        part = Residual(
            path,
            before=tuple(before),
            branch=tuple(branch),
            shortcut=tuple(shortcut),
            combine=combine,
            after=tuple(after),
            order=tuple(role for role in block.sections if sections[role]),
            input_shape=input_shape,
            output_shape=output_shape,
            reads=reads if before else "input",
            span=use.span,
        )
        return [part], output_shape

    def parallel(self, path: str, written: Branches, scope: Scope, input_shape: Shape | None) -> Expansion:
        """Expand parallel branches, whose layers are named beside them."""
        split, cascade = self.pieces(written, scope), self.flag(written.cascade, scope)
        inputs = branch_input_shapes(self.context, path, written, input_shape, split or False)
        holder = path.rpartition(".")[0]
        rows = [self.group(holder, group, scope, piece) for group, piece in zip(written.branches, inputs, strict=True)]
        if cascade:
            check_cascades(self.context, path, written, inputs, rows)
        spans = [group.span for group in written.branches]
        output_shape = join_branches(
            self.context, path, written.combine, written.span, spans, rows, written.resize is not None
        )
        if input_shape is None or output_shape is None or split is None or cascade is None:
            return [], self.context.lose_shape()
        self.context.paths.claim(path, written.span)
        branches = tuple(tuple(row) for row, _ in rows)
        part = Parallel(
            path,
            branches,
            split,
            cascade,
            written.combine,
            input_shape,
            output_shape,
            resize=written.resize or "",
            span=written.span,
        )
        return [part], output_shape

    def collected(self, path: str, written: Collect, scope: Scope, input_shape: Shape | None) -> Expansion:
        """Expand layers whose input and outputs are concatenated; they are named beside the part."""
        holder, shape = path.rpartition(".")[0], input_shape
        rows: list[Expansion] = [([], input_shape)]
        for key, layer in written.layers.layers:
            full, bound = self.layer_path(holder, key.text, key.span), self.resolved(Bound(layer, scope))
            if isinstance(bound.written, Repeat):
                names = partial(self.block_name, full, bound.written)
                rows += self.blocks(full, bound.written, bound.scope, shape, names)
            else:
                rows.append(self.layer(full, bound, shape))
            shape = rows[-1][1]
        output_shape = join_branches(self.context, path, "concat", written.span, [written.span] * len(rows), rows)
        if input_shape is None or output_shape is None:
            return [], self.context.lose_shape()
        self.context.paths.claim(path, written.span)
        branches = tuple(tuple(row) for row, _ in rows)
        part = Parallel(
            path, branches, False, False, "concat", input_shape, output_shape, collect=True, span=written.span
        )
        return [part], output_shape

    def piece(self, item: Bound) -> int:
        """Return the size of a piece. Raises SpecError."""
        return decode_integer(self.names.scalar(item), item.scope, least=1)

    def pieces(self, written: Branches, scope: Scope) -> tuple[int, ...] | bool | None:
        """Return the value of ``split``: sizes of pieces, or whether they are equal; None if it is invalid."""
        if written.split is None or isinstance(written.split, Scalar | Invalid):
            items = None if written.split is None else self.names.items(self.resolved(Bound(written.split, scope)))
            if items is None:
                return self.flag(written.split, scope)
        else:
            items = self.names.items(Bound(written.split, scope)) or []
        if len(items) != len(written.branches):
            assert written.split is not None
            message = f"split is a list of {len(items)} sizes, but there are {len(written.branches)} branches"
            self.report("RS303", message, written.split.span)
            return None
        sizes = [self.context.try_or_report(partial(self.piece, item)) for item in items]
        return None if None in sizes else tuple(size for size in sizes if size is not None)

    def flag(self, written: Scalar | Invalid | None, scope: Scope) -> bool | None:
        """Return the value of ``split`` or ``cascade``; False by default, None if it is invalid."""
        if written is None:
            return False
        return self.context.try_or_report(lambda: decode_boolean(self.names.scalar(Bound(written, scope))))
