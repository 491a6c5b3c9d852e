"""Find the classes of a module: parts of a network that differ in the arguments of their layers alone are one class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from resnet_spec.emitting.dialect import Dialect, class_name
from resnet_spec.emitting.expressions import (
    Argument,
    Atom,
    Call,
    Raw,
    atoms,
    positional,
    skeleton,
    with_atoms,
)
from resnet_spec.emitting.nesting import nest_names
from resnet_spec.emitting.parameters import HOLE, Binding, Hole, Parameter, Slot, bind
from resnet_spec.network.execution import held_parts, is_plain_row, plan_residual, relative_names
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row
from resnet_spec.network.traversal import walk

NUMBERED = "numbered"
"""The helper that makes a chain of layers whose names end with consecutive numbers."""

MAX_LEVELS = 100
"""How many modules can be inside one another: more than blocks can."""

Composite = Chain | Residual


@dataclass(frozen=True, slots=True)
class Member:
    """What a module holds under a name: a layer, a module, a weight, or the sizes into which it splits its input.

    Attributes:
        names: The names that lead to it from the module.
        call: The expression that makes it; None for a function, which is not held.
        apply: The expression that applies it.
        starts_statement: As in ``Reference``.
        is_optional: Whether it belongs to the shortcut, which some blocks of the class lack.
    """

    part: Part
    names: tuple[str, ...]
    call: Call | None
    apply: str
    starts_statement: bool = False
    is_optional: bool = False
    module: Call | Raw | None = None


@dataclass
class Template:
    """An emitted class, with all parts of the network that are made by it.

    Attributes:
        parts: The parts, each as a key of ``Templates.members``.
        shown: The index of the part whose structure is written: one that has a shortcut, if there is any.
    """

    name: str
    parts: list[Part]
    members: list[list[Member]]
    shown: int = 0
    binding: Binding = field(default_factory=lambda: Binding((), ()))

    @cached_property
    def slots(self) -> list[Slot]:
        """The arguments of all layers, with their values in all parts."""
        found: list[Slot] = []
        known = [{member.names: member for member in members} for members in self.members]
        for member in self.members[self.shown]:
            if member.call is None:
                continue
            own = [row.get(member.names) for row in known]
            columns = [list(atoms(one.call)) if one and one.call else None for one in own]
            for index, argument in enumerate(atoms(member.call)):
                values: list[Atom | Hole] = []
                for column in columns:
                    value = HOLE if column is None else column[index].value
                    assert not isinstance(value, Call)
                    values.append(value)
                found.append(Slot(member.names[-1], argument, tuple(values)))
        return found

    def bound_members(self) -> list[Member]:
        """Return the members of the class, with its arguments in place of what differs."""
        values = iter(self.binding.atoms)
        shown = self.members[self.shown]
        return [replace(member, call=member.call and with_atoms(member.call, values)) for member in shown]

    def call(self, use: int, extra: str) -> Call:
        """Return the call that makes one of the parts."""
        arguments = [parameter.argument(use) for parameter in self.binding.parameters]
        if extra:
            arguments.append(Argument(extra.partition("=")[0], Raw(extra.partition("=")[2])))
        return Call(self.name, tuple(arguments))

    def flags(self, kind: str) -> list[bool]:
        """Return for each part whether it has a shortcut ("adds"), or one with layers ("projects")."""
        blocks = [part if isinstance(part, Residual) else None for part in self.parts]
        if kind == "adds":
            return [block is not None for block in blocks]
        return [block is not None and bool(block.shortcut) for block in blocks]


@dataclass
class StageTemplate:
    """An emitted class of stages: blocks of one class in a row, of which the first may differ."""

    name: str
    block: str
    binding: Binding
    first: Call
    rest: Call
    starts: list[Part]


class Templates:
    """The classes of a network, found from the innermost parts outwards.

    Networks that differ in an argument of their specification, such as the number of classes, are given together: what
    differs between them becomes an argument of the outermost class. ``kept`` are the paths of parts that this class
    itself must run, since they are among its outputs.
    """

    def __init__(self, networks: Sequence[Network], dialect: Dialect, native: bool, kept: Collection[str] = ()) -> None:
        self.networks = networks
        self.dialect = dialect
        self.native = native
        self.found: list[Template | StageTemplate] = []
        self.calls: dict[int, Call] = {}
        """The expression that makes each part, by the part's identity."""
        self.notes: dict[str, None] = {}
        self.leaves: dict[str, Leaf] = {}
        self._held: dict[int, list[Member]] = {}
        self._names: set[str] = set()
        self._adding = {
            part.use.name for part in walk(networks[0].parts) if isinstance(part, Residual) and part.use is not None
        }
        self._collect(kept)

    def root(self) -> Template:
        """Return the outermost class, whose parts are the networks themselves."""
        template = self.found[-1]
        assert isinstance(template, Template)
        return template

    def has_arguments(self) -> bool:
        """Return whether the networks differ in nothing but the arguments that they take."""
        if not self.is_uniform:
            return False
        known = {name: tuple(values) for name, values in self._arguments().items()}
        return all(known.get(parameter.name) == parameter.values for parameter in self.root().binding.parameters)

    def reserve(self, name: str) -> str:
        """Return a name that no other class has."""
        number, unique = 2, name
        while unique in self._names:
            unique, number = f"{name}{number}", number + 1
        self._names.add(unique)
        return unique

    def _collect(self, kept: Collection[str]) -> None:
        network = self.networks[0]
        self._names.update(self.dialect.syntax.reserved)
        roots = [nest_names(Chain("", item.parts, item.input, item.output_shape), kept) for item in self.networks]
        model = self.reserve(class_name(network.name))
        by_level: dict[int, list[Composite]] = defaultdict(list)
        for part, level in _levels([part for root in roots for part in walk(root.parts)]):
            by_level[level].append(part)
        for level in sorted(by_level):
            self._collect_level(by_level[level])
        members = [self._members(root) for root in roots]
        self.is_uniform = len({_made(row) for row in members}) == 1
        hints = self._arguments()
        template = Template(model, list(roots), members if self.is_uniform else members[:1])
        self._add(template, hints)
        parameters = [replace(one, default=_known(one.values[0])) for one in template.binding.parameters]
        template.binding = replace(template.binding, parameters=tuple(parameters))

    def _arguments(self) -> dict[str, list[Atom]]:
        """Return the values of the arguments that the specification takes."""
        return {name: [dict(network.takes)[name] for network in self.networks] for name, _ in self.networks[0].takes}

    def _collect_level(self, parts: Sequence[Composite]) -> None:
        """Find the classes of parts that hold only parts whose classes are known."""
        groups: dict[object, list[Composite]] = defaultdict(list)
        chains: list[Chain] = []
        for part in parts:
            if isinstance(part, Chain) and self._is_sequence(part):
                self.calls[id(part)] = self._sequence(part)
                chains.append(part)
            else:
                groups[self._key(part)].append(part)
        for group in _merge_dropped(groups):
            for alike in self._by_shortcut(group):
                self._add_class(alike)
        self._add_stages(chains)

    # -- classes ------------------------------------------------------------------------------------------------

    def _add_class(self, parts: Sequence[Composite]) -> None:
        uses = [part.use for part in parts]
        name = class_name(uses[0].name if uses[0] else _common_name(parts))
        hints: dict[str, list[Atom]] = {"in_channels": [part.input_shape[0] for part in parts]}
        if all(uses):
            for key, _ in uses[0].arguments if uses[0] else ():
                values = [dict(use.arguments).get(key) for use in uses if use]
                if None not in values:
                    hints[{"out": "out_channels", "in": "in_channels"}.get(key, key)] = list(values)
        template = Template(self.reserve(name), list(parts), [self._members(part) for part in parts])
        template.shown = max(range(len(parts)), key=lambda index: _detail(parts[index]))
        self._add(template, hints)

    def _add(self, template: Template, hints: Mapping[str, Sequence[Atom]]) -> None:
        binding = bind(template.slots, hints)
        template.binding = binding
        choices = tuple(self._choices(template))
        template.binding = replace(binding, parameters=(*binding.parameters, *choices))
        self.found.append(template)
        for use, part in enumerate(template.parts):
            self.calls[id(part)] = template.call(use, self.dialect.syntax.extra_argument)

    def _choices(self, template: Template) -> Iterator[Parameter]:
        """Yield arguments for what a block decides, unless that follows from its other arguments."""
        for name in ("projects", "adds"):
            flags = template.flags(name)
            is_block = isinstance(template.parts[template.shown], Residual)
            if is_block and len(set(flags)) == 2 and not template.binding.condition(flags):
                yield Parameter(name, tuple(flags), False)

    def _key(self, part: Composite) -> object:
        """Return what the parts of one class have in common, apart from their shortcuts."""
        made = _made(member for member in self._members(part) if not member.is_optional)
        use = part.use.name if part.use else ""
        if isinstance(part, Chain):
            return "chain", use, made, _structure(part.path, part.parts)
        plan = plan_residual(part)
        rows = tuple(_structure(part.path, row) for row in (part.before, part.branch, part.after))
        return "block", use, made, sum(rows, ()), part.combine, plan.missing_axes, tuple(map(len, rows))

    def _by_shortcut(self, parts: Sequence[Composite]) -> Iterator[Sequence[Composite]]:
        """Divide parts by their shortcuts: a class has one kind of layers there, and one that reads the input."""
        kinds: dict[object, list[Composite]] = defaultdict(list)
        for part in parts:
            kinds[self._shortcut_key(part)].append(part)
        with_layers = [key for key in kinds if isinstance(key, tuple)]
        others = [key for key in kinds if not isinstance(key, tuple)]
        projecting = [member for key in with_layers for member in self._members(kinds[key][0]) if member.is_optional]
        has_plain_layers = all(
            len(member.names) == 1 and member.call is not None and member.apply == "{f}({x})" for member in projecting
        )
        kinds_of_others = {key == "none" for key in others}
        is_one_class = len(with_layers) + len(kinds_of_others) <= 2 and len(others) == len(kinds_of_others)
        if is_one_class and has_plain_layers and not (with_layers and "none" in others):
            yield parts
        else:
            yield from kinds.values()

    def _shortcut_key(self, part: Composite) -> object:
        if isinstance(part, Chain):
            return "none"
        if not part.shortcut:
            return part.reads
        made = _made(member for member in self._members(part) if member.is_optional)
        return part.reads, made, _structure(part.path, part.shortcut)

    # -- members ------------------------------------------------------------------------------------------------

    def _members(self, part: Composite) -> list[Member]:
        """Return what the module of a part holds, in the order of its weights."""
        if id(part) not in self._held:
            self._held[id(part)] = self._find_members(part)
        return self._held[id(part)]

    def _find_members(self, part: Composite) -> list[Member]:
        rows = part.written_rows
        optional = {id(row) for row in (part.shortcut,)} if isinstance(part, Residual) else set()
        return [
            replace(member, is_optional=id(row) in optional)
            for row in rows
            for names, inner in held_parts(part.path, row)
            for member in [self._member(part.path, inner)]
            if member is not None
        ]

    def _member(self, holder: str, part: Part) -> Member | None:
        names = relative_names(holder, part)
        match part:
            case Leaf():
                layer = self.dialect.layer(part, self.native)
                if layer.note:
                    self.notes[layer.note] = None
                self.leaves.setdefault(part.path, part)
                return Member(part, names, layer.call, layer.apply, hasattr(part.op, "out"), module=layer.module)
            case Parallel(split=tuple()):
                sizes = part.pieces
                if self.dialect.syntax.splits_at_ends:
                    sizes = tuple(sum(sizes[: index + 1]) for index in range(len(sizes) - 1))
                arguments = tuple(positional(f"piece{index}", size) for index, size in enumerate(sizes))
                return Member(part, (*names[:-1], f"{names[-1]}_sizes"), Call("", arguments), "")
            case Parallel():
                return None
            case _:
                return Member(part, names, self.calls[id(part)], "{f}({x})", True)

    # -- rows of layers -----------------------------------------------------------------------------------------

    def _is_sequence(self, part: Chain) -> bool:
        """Return whether a chain is one of the framework's own, without a class."""
        if not part.parts or not is_plain_row(part) or (part.use and part.use.name in self._adding):
            return False
        return _numbering(part) is not None

    def _sequence(self, part: Chain) -> Call:
        prefix, first = _numbering(part) or ("", 0)
        items: list[Argument] = []
        for inner in part.parts:
            number = int(_bare_name(inner.path)[len(prefix) :])
            while not prefix and len(items) < number:
                items.append(positional(str(len(items)), Raw(self.dialect.syntax.identity)))
            items.append(positional(str(number), self._item(inner)))
        if not prefix and first >= 0:
            return Call(self.dialect.syntax.sequential, tuple(items))
        start = [Argument("start", first, 0)]
        return Call(NUMBERED, (positional("name", prefix), *items, *start))

    def _item(self, part: Part) -> Call | Raw:
        """Return the expression that makes a layer of a sequence."""
        if not isinstance(part, Leaf):
            return self.calls[id(part)]
        member = self._member("", part)
        assert member is not None
        made = member.module or member.call
        assert made is not None, "every layer that has no weight in its holder can stand in a row"
        return made

    def _add_stages(self, chains: Sequence[Chain]) -> None:
        """Find classes of stages among chains of blocks of one class."""
        groups: dict[object, list[Chain]] = defaultdict(list)
        for chain in chains:
            call = self.calls[id(chain)]
            blocks = [argument.value for argument in call.arguments]
            first = blocks[0]
            is_own = isinstance(first, Call) and any(first.function == one.name for one in self.found)
            if call.function == self.dialect.syntax.sequential and is_own and len(blocks) > 1:
                same = all(skeleton(block) == skeleton(first) for block in blocks if isinstance(block, Call))
                if same and all(block == blocks[1] for block in blocks[2:]):
                    groups[skeleton(first)].append(chain)
        for group in groups.values():
            if len({chain.path for chain in group}) > 1:
                self._add_stage(group)

    def _add_stage(self, chains: Sequence[Chain]) -> None:
        calls = [self.calls[id(chain)] for chain in chains]
        pairs = []
        for call in calls:
            first, second = call.arguments[0].value, call.arguments[1].value
            assert isinstance(first, Call) and isinstance(second, Call)
            pairs.append((first, second))
        slots = [
            Slot("first" if side == 0 else "next", argument, tuple(_atom(pair[side], index) for pair in pairs))
            for side in (0, 1)
            for index, argument in enumerate(atoms(pairs[0][side]))
        ]
        depth = Slot("", positional("depth", 0), tuple(len(call.arguments) for call in calls), True)
        binding = bind([*slots, depth], {})
        values = iter(binding.atoms)
        first, rest = (with_atoms(pairs[0][side], values) for side in (0, 1))
        stage = StageTemplate(self.reserve("Layer"), first.function, binding, first, rest, list(chains))
        self.found.append(stage)
        for use, chain in enumerate(chains):
            arguments = [parameter.argument(use) for parameter in binding.parameters]
            if self.dialect.syntax.extra_argument:
                arguments.append(Argument("rngs", Raw("rngs")))
            self.calls[id(chain)] = Call(stage.name, tuple(arguments))


def _made(members: Iterable[Member]) -> object:
    """Return how members are made, apart from the atoms in it."""
    return tuple(
        (member.names, member.apply, None if member.call is None else skeleton(member.call)) for member in members
    )


def _atom(call: Call, index: int) -> Atom:
    value = list(atoms(call))[index].value
    assert not isinstance(value, Call)
    return value


def _known(value: Atom | Hole) -> Atom:
    assert not isinstance(value, Hole)
    return value


def _levels(parts: Sequence[Part]) -> list[tuple[Composite, int]]:
    """Return the parts that have modules of their own, each with a level above that of those inside it.

    Blocks of one name have one level, so that those with and without a shortcut are compared.
    """
    levels: dict[object, int] = {}

    def name(part: Composite) -> object:
        return part.use.name if part.use else id(part)

    def inner(part: Part) -> int:
        below = [inner(child) for row in part.rows for child in row] if isinstance(part, Parallel) else []
        return levels.get(name(part), 0) if isinstance(part, Chain | Residual) else max(below, default=0)

    composites = [part for part in parts if isinstance(part, Chain | Residual)]
    for _ in range(MAX_LEVELS):
        before = dict(levels)
        for part in composites:
            level = 1 + max((inner(child) for row in part.rows for child in row), default=0)
            levels[name(part)] = max(level, levels.get(name(part), 0))
        if levels == before:
            break
    return [(part, levels[name(part)]) for part in composites]


def _structure(holder: str, row: Row) -> tuple[object, ...]:
    """Return the order in which a row runs the parts of its holder."""
    return tuple((relative_names(holder, part), _branch_structure(holder, part)) for part in row)


def _branch_structure(holder: str, part: Part) -> tuple[object, ...]:
    if not isinstance(part, Parallel):
        return ()
    settings = part.combine, bool(part.split), part.cascade, part.collect, part.resize
    axes = tuple(len(branch[-1].output_shape) if branch else 0 for branch in part.branches)
    return *settings, axes, tuple(_structure(holder, branch) for branch in part.branches)


def _merge_dropped(groups: Mapping[object, list[Composite]]) -> Iterator[list[Composite]]:
    """Yield groups of parts, with chains that are blocks without their shortcut beside the blocks that have it."""
    keys = [key for key in groups if isinstance(key, tuple)]
    chains = {key[1:4]: groups[key] for key in keys if key[0] == "chain" and key[1]}
    blocks = Counter(key[1:4] for key in keys if key[0] == "block" and key[4] == "add")
    merged = {key for key in chains if blocks[key] == 1}
    for key, parts in groups.items():
        assert isinstance(key, tuple)
        if key[0] == "block" and key[4] == "add" and key[1:4] in merged:
            yield [*parts, *chains[key[1:4]]]
        elif not (key[0] == "chain" and key[1:4] in merged):
            yield parts


def _detail(part: Part) -> int:
    """Return how much of a class's structure a part shows."""
    return isinstance(part, Residual) + (isinstance(part, Residual) and bool(part.shortcut))


def _bare_name(path: str) -> str:
    return path.rpartition(".")[2]


def _common_name(parts: Sequence[Part]) -> str:
    """Return a name for parts without a block: that of the first without its number, or of what these are items of."""
    *outer, name = parts[0].path.split(".")
    if name.isdecimal():
        names = [one.rstrip("0123456789") for one in outer if not one.isdecimal()]
        return names[-1].removesuffix("s") if names and names[-1] else "block"
    is_one_of_many = len({_bare_name(part.path) for part in parts}) > 1
    return (is_one_of_many and name.rstrip("0123456789")) or name


def _numbering(part: Chain) -> tuple[str, int] | None:
    """Return the prefix of consecutive names and the first number; None if the names are no such row.

    Numbers without a prefix may leave some out, as a list does for layers that are none.
    """
    names = [_bare_name(inner.path) for inner in part.parts]
    prefix = names[0].rstrip("0123456789")
    ends = [name[len(prefix) :] for name in names]
    are_numbers = all(end.isdecimal() and str(int(end)) == end for end in ends)
    if not are_numbers or not all(name.startswith(prefix) for name in names):
        return None
    numbers = list(map(int, ends))
    if prefix:
        is_long = len(numbers) > 2 or not names[0].isidentifier()
        is_row = is_long and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        return (prefix, numbers[0]) if is_row else None
    return ("", 0) if numbers == sorted(numbers) and numbers[-1] < 2 * len(numbers) + 4 else None
