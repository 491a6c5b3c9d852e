"""A ``Spec`` to a ``Network``: blocks repeated, arguments bound, every shape worked out, every problem found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, TypeVar

from resnet_spec.combine import added, joined, pieces
from resnet_spec.network import Leaf, Network, Parallel, Part, Residual, Sequence, combined
from resnet_spec.ops import OPS, Misfit, Op, Shape
from resnet_spec.source import Note, Problem, Span, SpecError
from resnet_spec.spec import Argument, Block, Call, Fork, Group, Project, Role, Several, Spec, Stage, Word
from resnet_spec.values import arguments, boolean, integer, suggestion, typed

T = TypeVar("T")

MOST_LAYERS = 10_000
MOST_PARAMETERS = 2**40
MOST_NESTED = 32

NONE = "none"
IN = "in"
PREDEFINED = {"norm": "batch_norm", "act": "relu", "projection": "conv_projection", "convolution": "conv"}
"""Words that blocks use and networks may give another meaning under ``layers:``."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Something written, and the names that count where it was written."""

    written: Argument
    scope: Scope


Scope: TypeAlias = Mapping[str, Bound]


@dataclass(frozen=True, slots=True)
class Use:
    """An operation or a block about to be used: by what name, with which arguments, where."""

    what: Literal["op", "block", "any"]
    target: Bound
    arguments: Mapping[str, Bound]
    names: Mapping[str, Word]
    at: Span
    project: Project | None = None
    index: int = 0  # of the block in its stage


Run: TypeAlias = tuple[list[Part], Shape | None]
"""Parts, and the shape that the last gives: None once that is unknown, after a problem."""


def expand(spec: Spec, bundled: Callable[[str], Block | None], bundled_names: Iterable[str] = ()) -> Network:
    """Expand a spec. ``bundled`` gives a block by name, or None.

    Raises SpecError with every problem found, each pointing at what the user wrote.
    """
    expander = _Expander(spec, bundled, bundled_names)
    try:
        parts = expander.network()
    except _Stop:
        parts = []
    if not expander.problems and not parts:
        expander.note("RS203", "the network has no layers", spec.at)
    if expander.problems:
        raise SpecError(expander.problems.values())
    stages = tuple(stage.name.text for stage in spec.stages)
    return Network(spec.name, spec.input, tuple(parts), spec.source, spec.preprocess, stages, takes=_numbers(spec))


def _numbers(spec: Spec) -> tuple[tuple[str, int], ...]:
    """The whole numbers that the spec takes, as they are set."""
    words = [(name, value) for name, value in spec.takes.items() if isinstance(value, Word) and value.plain]
    return tuple((name, int(word.text)) for name, word in words if word.text.isdecimal() and len(word.text) < 20)


class _Stop(Exception):
    """A limit is passed; its problem is noted."""


class _Expander:
    def __init__(self, spec: Spec, bundled: Callable[[str], Block | None], bundled_names: Iterable[str]) -> None:
        self.spec = spec
        self.bundled = bundled
        self.bundled_names = bundled_names
        self.problems: dict[tuple[object, ...], Problem] = {}
        self.paths: dict[str, Span] = {}
        self.leaves: set[str] = set()
        self.sites: list[tuple[str, Span]] = []  # the blocks we are in: name, and where used
        self.layers = 0
        self.parameters = 0
        self.scope: dict[str, Bound] = {}
        self.scope |= self.defaults(spec.takes, self.scope)

    # -- the tree -----------------------------------------------------------------------------------------------

    def network(self) -> list[Part]:
        for name, value in self.spec.takes.items():
            if value is None:
                self.note("RS206", f"{self.spec.name} needs {name!r} to be set", self.spec.at)
        shape: Shape | None = self.spec.input
        parts: list[Part] = []
        if self.spec.stem:
            parts, shape = self.group("", self.spec.stem, self.arriving(self.scope, shape, self.spec.at), shape)
        for stage in self.spec.stages:
            more, shape = self.stage(stage, shape)
            parts += more
        if self.spec.head:
            more, shape = self.group("", self.spec.head, self.arriving(self.scope, shape, self.spec.at), shape)
            parts += more
        return parts

    def stage(self, stage: Stage, given: Shape | None) -> Run:
        depth = self.attempt(lambda: integer(self.word(Bound(stage.depth, self.scope)), self.scope, least=1))
        if depth is None or not self.fitting(stage, depth):
            return [], None
        if self.layers + depth > MOST_LAYERS:
            self.counted(stage.depth.at, layers=depth)
        parts: list[Part] = []
        shape = given
        for index in range(depth):
            path = f"{stage.name.text}.{stage.numbering.format(index=index, number=index + 1)}"
            part, shape = self.use(path, self.of_block(stage, index, depth, shape), shape)
            parts += part
            if shape is None and self.problems:
                return [], None  # the blocks after would only say the same
        return self.sequence(stage.name.text, parts, given, shape, stage.at), shape

    def fitting(self, stage: Stage, depth: int) -> bool:
        known = len(self.problems)
        for name, argument in {"block": stage.block, **stage.arguments}.items():
            if isinstance(argument, Several) and len(argument.items) != depth:
                message = f"{name} is a list of {len(argument.items)} values, but the stage has {depth} blocks"
                self.note("RS303", message, argument.at, notes=(Note("the depth is given here", stage.depth.at),))
        return len(self.problems) == known

    def of_block(self, stage: Stage, index: int, depth: int, given: Shape | None) -> Use:
        """What a stage says of one of its blocks: an item of each list, and the plain stride only of the first."""
        told = [stage.first] * (index == 0) + [stage.last] * (index == depth - 1)
        scope = self.arriving(self.scope, given, stage.at)
        found: dict[str, Bound] = {}
        for name, argument in stage.arguments.items():
            if isinstance(argument, Several):
                found[name] = Bound(argument.items[index], scope)
            elif name != "stride" or index == 0:
                found[name] = Bound(argument, scope)
        names = dict(stage.names)
        for one in told:
            found |= {name: Bound(argument, scope) for name, argument in one.arguments.items()}
            names |= one.names
        of_stage = stage.block.items[index] if isinstance(stage.block, Several) else stage.block
        block = found.pop("block").written if "block" in found else of_stage
        return Use("block", Bound(block, scope), found, names, stage.at, stage.project, index)

    def group(self, path: str, group: Group, scope: Scope, given: Shape | None) -> Run:
        """A group's layers in a row, each named under ``path``."""
        parts: list[Part] = []
        shape = given
        for name, layer in group.layers:
            full = f"{path}.{name.text}" if path else name.text
            more, shape = self.layer(full, Bound(layer, scope), shape)
            parts += more
        return parts, shape

    def layer(self, path: str, layer: Bound, given: Shape | None) -> Run:
        layer = self.resolved(layer)
        match layer.written:
            case Word(text=text, plain=True) if text == NONE:
                return [], given
            case Word(at=at):
                return self.use(path, Use("any", layer, {}, {}, at), given)
            case Call() as call:
                bound = {name: Bound(argument, layer.scope) for name, argument in call.arguments.items()}
                use = Use(call.what, Bound(call.target, layer.scope), bound, call.names, call.at)
                return self.use(path, use, given)
            case Group() as group:
                parts, shape = self.group(path, group, layer.scope, given)
                return self.sequence(path, parts, given, shape, group.at), shape
            case Fork() as fork:
                return self.fork(path, fork, layer.scope, given)
            case Several(at=at):
                self.note("RS201", "a list with a value for each block belongs to a stage", at)
                return [], None

    def sequence(self, path: str, parts: list[Part], given: Shape | None, gives: Shape | None, at: Span) -> list[Part]:
        if not parts or given is None or gives is None:
            return []
        self.taken(path, at)
        return [Sequence(path, tuple(parts), given, gives, at)]

    # -- names --------------------------------------------------------------------------------------------------

    def resolved(self, bound: Bound) -> Bound:
        """What is meant: taken names and those under ``layers`` followed to what they stand for."""
        for _ in range(MOST_NESTED):
            written = bound.written
            if not isinstance(written, Word):
                return bound
            if written.text in bound.scope:
                bound = bound.scope[written.text]
            elif written.text in self.spec.layers:
                bound = Bound(self.spec.layers[written.text], self.scope)
            elif written.text in PREDEFINED:
                return Bound(Word(PREDEFINED[written.text], True, written.at), {})
            else:
                return bound
        self.note("RS208", f"{self.shown(bound.written)} is defined by itself", bound.written.at)
        raise _Stop

    def word(self, bound: Bound) -> Word:
        resolved = self.resolved(bound).written
        if isinstance(resolved, Word):
            return resolved
        raise SpecError([Problem("RS201", "expected a single value, got layers or a list", resolved.at)])

    def arriving(self, scope: Scope, given: Shape | None, at: Span) -> Scope:
        """The scope with ``in``: how many channels arrive."""
        return {**scope, IN: Bound(Word(str(given[0] if given else 1), True, at), {})}

    def defaults(self, takes: Mapping[str, Argument | None], scope: dict[str, Bound]) -> dict[str, Bound]:
        """Taken names at their defaults. A default may use the other names; its own means what it does outside."""
        found: dict[str, Bound] = {}
        for name, value in takes.items():
            if value is not None:
                own = isinstance(value, Word) and value.text == name
                found[name] = Bound(value, {} if own else scope)
        return found

    # -- operations and blocks ----------------------------------------------------------------------------------

    def use(self, path: str, use: Use, given: Shape | None) -> Run:
        for _ in range(MOST_NESTED):
            target = self.resolved(use.target)
            match target.written:
                case Word() as word:
                    return self.named(path, word, use, given)
                case Call() as partial:
                    # A name that brings an operation or a block, and some of its arguments.
                    brought = {name: Bound(argument, target.scope) for name, argument in partial.arguments.items()}
                    names = {**partial.names, **use.names}
                    inner = Bound(partial.target, target.scope)
                    use = replace(
                        use, what=partial.what, target=inner, arguments={**brought, **use.arguments}, names=names
                    )
                case written:
                    self.note("RS201", f"expected a name, got {self.shown(written)}", written.at)
                    return [], None
        self.note("RS208", "this is defined by itself", use.at)
        raise _Stop

    def named(self, path: str, word: Word, use: Use, given: Shape | None) -> Run:
        self.counted(use.at, layers=1)
        if word.text in OPS and use.what != "block":
            return self.leaf(path, OPS[word.text], word.text, use, given)
        block = None if use.what == "op" else self.spec.blocks.get(word.text) or self.bundled(word.text)
        if block is not None:
            return self.block(path, block, use, given)
        kind = {"op": "operation", "block": "block", "any": "operation, block or taken name"}[use.what]
        self.note("RS204", f"no {kind} named {word.text!r}", word.at, self.nearest(word.text, use))
        return [], None

    def nearest(self, text: str, use: Use) -> str:
        blocks = [*self.spec.blocks, *self.bundled_names]
        if use.what == "op":
            return "it is a block: write block, not op" if text in blocks else suggestion(text, OPS)
        if use.what == "block":
            return "it is an operation: write op, not block" if text in OPS else suggestion(text, blocks)
        scope = [name for name in use.target.scope if name != IN]
        return suggestion(text, [*OPS, *blocks, *self.spec.layers, *PREDEFINED, *scope])

    def leaf(self, path: str, kind: type[Op], name: str, use: Use, given: Shape | None) -> Run:
        op = self.operation(kind, name, use)
        if op is None or given is None:
            return [], None
        try:
            gives = op.gives(given)
        except Misfit as error:
            self.misfit(path, use, error)
            return [], error.gives
        self.counted(use.at, parameters=sum(math.prod(weight.shape) for weight in op.weights(given)))
        self.taken(path, use.at)
        self.leaves.add(path)
        return [Leaf(path, op, given, gives, use.at)], gives

    def operation(self, kind: type[Op], name: str, use: Use) -> Op | None:
        known = arguments(name)
        defaults = self.spec.defaults.get(name)
        written = (
            {**{key: Bound(word, self.scope) for key, word in defaults.items()}, **use.arguments}
            if defaults
            else use.arguments
        )
        given: dict[str, Any] = {}  # of the types that the declaration says
        for key, bound in written.items():
            if key not in known:
                at = use.names[key].at if key in use.names else bound.written.at
                self.note("RS205", f"{name} does not take {key!r}", at, suggestion(key, known))
                continue
            value = self.attempt(lambda bound=bound, key=key: typed(self.word(bound), known[key], bound.scope))  # type: ignore[misc]
            if value is not None:
                given[key] = value
        missing = [key for key, argument in known.items() if argument.required and key not in written]
        if missing:
            self.note("RS206", f"{name} needs {' and '.join(missing)}", use.at)
        return kind(**given) if len(given) == len(written) and not missing else None

    def misfit(self, path: str, use: Use, error: Misfit) -> None:
        culprit = use.arguments.get(error.argument)
        if culprit is None:
            self.note("RS401", f"{error}, in {path}", use.at, error.help, self.used())
            return
        at, here = self.word(culprit).at, culprit.written.at
        notes = self.used() if at == here else (Note(f"{path} takes its {error.argument} from there", here),)
        self.note(
            "RS401",
            f"{error} of {path}" if str(error).endswith("channels") else f"{error}, in {path}",
            at,
            error.help,
            notes,
        )

    def block(self, path: str, block: Block, use: Use, given: Shape | None) -> Run:
        if len(self.sites) >= MOST_NESTED:
            self.note(
                "RS208", f"block {block.name} holds itself, or blocks are nested more than {MOST_NESTED} deep", use.at
            )
            raise _Stop
        scope = self.bind(block, use, given)
        if scope is None:
            return [], None
        self.sites.append((block.name, use.at))
        try:
            if block.combine == "none":
                return self.chain(path, block, scope, given, use.at)
            return self.residual(path, block, scope, given, use)
        finally:
            self.sites.pop()

    def bind(self, block: Block, use: Use, given: Shape | None) -> Scope | None:
        scope: dict[str, Bound] = {}
        scope |= self.defaults(block.takes, scope)
        scope[IN] = Bound(Word(str(given[0] if given else 1), True, use.at), {})
        known = len(self.problems)
        for name, bound in use.arguments.items():
            if name not in block.takes:
                at = use.names[name].at if name in use.names else bound.written.at
                self.note("RS205", f"block {block.name} does not take {name!r}", at, suggestion(name, block.takes))
            scope[name] = bound
        missing = [name for name in block.takes if name not in scope]
        if missing:
            self.note("RS206", f"block {block.name} needs {' and '.join(missing)}", use.at)
        return scope if len(self.problems) == known else None

    def chain(self, path: str, block: Block, scope: Scope, given: Shape | None, at: Span) -> Run:
        parts: list[Part] = []
        shape = given
        for role in ("before", "branch", "after"):
            more, shape = self.section(path, block, role, scope, shape)
            parts += more
        return self.sequence(path, parts, given, shape, at), shape

    def section(self, path: str, block: Block, role: Role, scope: Scope, given: Shape | None) -> Run:
        group = block.sections.get(role)
        return self.group(path, group, scope, given) if group else ([], given)

    def residual(self, path: str, block: Block, scope: Scope, given: Shape | None, use: Use) -> Run:
        before, read = self.section(path, block, "before", scope, given)
        branch, shape = self.section(path, block, "branch", scope, read)
        shortcut: list[Part] = []
        reads: Literal["input", "before"] = block.reads or "input"
        other = read if reads == "before" else given
        changed = shape != other and block.combine == "add"
        project = use.project or block.project
        always = project == "always" or (project == "first" and use.index == 0)
        if "shortcut" in block.sections and (always or (changed and project != "never")):
            reads = block.reads or "before"
            shortcut, other = self.section(path, block, "shortcut", scope, read if reads == "before" else given)
        sum_ = self.combined(path, block, shape, other, use, bool(shortcut)) if shape and other else None
        after, gives = self.section(path, block, "after", scope, sum_)
        if given is None or gives is None:
            return [], gives
        self.taken(path, use.at)
        held = {"before": before, "branch": branch, "shortcut": shortcut, "after": after}
        roles: tuple[Role, ...] = tuple(role for role in block.sections if held[role])
        sections = (tuple(before), tuple(branch), tuple(shortcut))
        combine = block.combine
        assert combine != "none"
        reads = reads if before else "input"
        return [Residual(path, *sections, combine, tuple(after), roles, given, gives, reads, use.at)], gives

    def combined(self, path: str, block: Block, branch: Shape, other: Shape, use: Use, projected: bool) -> Shape | None:
        try:
            return combined(branch, other, block.combine)
        except Misfit:
            pass
        shortcut = "the shortcut gives" if projected else "x itself is"
        sign = {"add": "adds", "multiply": "multiplies by"}[block.combine]
        message = f"the branch of {path} gives {branch}, but {shortcut} {other}, to which the block {sign} it"
        notes = [Note("the branch", block.sections["branch"].at)]
        if "shortcut" in block.sections:
            notes.append(Note("the shortcut", block.sections["shortcut"].at))
        help = "" if "shortcut" in block.sections else "give the block a shortcut that changes the shape alike"
        self.note("RS402", message, use.at, help, tuple(notes))
        return branch

    def fork(self, path: str, fork: Fork, scope: Scope, given: Shape | None) -> Run:
        split, cascade = self.flag(fork.split, scope), self.flag(fork.cascade, scope)
        if given is None or split is None or cascade is None:
            return [], None
        beside = path.rpartition(".")[0]
        branches: list[tuple[Part, ...]] = []
        gives: list[Shape] = []
        try:
            piece = pieces(given, len(fork.branches)) if split else given
            for group in fork.branches:
                parts, shape = self.group(beside, group, scope, piece)
                if shape is None:
                    return [], None
                if cascade and parts and gives:
                    added(piece, gives[-1])
                branches.append(tuple(parts))
                gives.append(shape)
            joined_ = joined(fork.combine, gives)
        except Misfit as error:
            self.note("RS402", f"{error}, in {path}", fork.at, error.help, self.used())
            return [], None
        self.taken(path, fork.at)
        return [Parallel(path, tuple(branches), split, cascade, fork.combine, given, joined_, fork.at)], joined_

    def flag(self, word: Word | None, scope: Scope) -> bool | None:
        return False if word is None else self.attempt(lambda: boolean(self.word(Bound(word, scope))))

    # -- limits and problems ------------------------------------------------------------------------------------

    def counted(self, at: Span, layers: int = 0, parameters: int = 0) -> None:
        self.layers += layers
        self.parameters += parameters
        if self.layers > MOST_LAYERS:
            self.note("RS104", f"the network has more than {MOST_LAYERS:,} layers and blocks", at)
            raise _Stop
        if self.parameters > MOST_PARAMETERS:
            self.note("RS104", f"the network has more than {MOST_PARAMETERS:,} weights", at)
            raise _Stop

    def taken(self, path: str, at: Span) -> None:
        """A path belongs to one part, and no operation has a part beneath it."""
        parent = path.rpartition(".")[0]
        while parent and parent not in self.leaves:
            parent = parent.rpartition(".")[0]
        other = self.paths.get(parent or path)
        if other is not None:
            what = (
                f"{path} stands beneath {parent}, which is an operation" if parent else f"two parts are called {path}"
            )
            self.note("RS207", what, at, notes=(Note("the other one", other),))
        self.paths[path] = at

    def used(self) -> tuple[Note, ...]:
        return (Note(f"in block {self.sites[0][0]}, used here", self.sites[0][1]),) if self.sites else ()

    def attempt(self, value: Callable[[], T]) -> T | None:
        try:
            return value()
        except SpecError as error:
            for problem in error.problems:
                self.add(problem)
            return None

    def note(self, code: str, message: str, at: Span, help: str = "", notes: tuple[Note, ...] = ()) -> None:
        self.add(Problem(code, message, at, help, notes))

    def add(self, problem: Problem) -> None:
        """Note a problem; of several with one code at one place, as a repeated block makes them, the first will do."""
        at = problem.at
        self.problems.setdefault((problem.code, at.source.name, at.line, at.column), problem)

    def shown(self, written: Argument) -> str:
        match written:
            case Word():
                return repr(written.text)
            case Several():
                return "a list"
            case Call() | Group() | Fork():
                return "layers"
