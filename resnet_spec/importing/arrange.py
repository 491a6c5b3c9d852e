"""Name the items of a tree, nest them by their paths, and return the parts of a network."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby, takewhile
from typing import Any, Literal

from resnet_spec import ops
from resnet_spec.importing.graph import Node
from resnet_spec.importing.reduce import Fork, Item, Row, Step, forks, steps
from resnet_spec.language.reserved_names import WEIGHT_NAMES, why_reserved
from resnet_spec.language.scalars import LAYER_KEYS
from resnet_spec.language.spec import Role
from resnet_spec.language.values import LAYER_NAME
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual
from resnet_spec.network.shape_rules import infer_row
from resnet_spec.ops import Op, Shape, op_name

MAX_NAMES = 3
"""Most names that one layer may have below what holds it, as in ``paths.0``, where the first is used elsewhere too."""

NAMELESS = "@"
"""What paths of weights begin with that have no name in a file."""

SHORTCUTS = ("shortcut", "downsample", "skip", "proj", "identity", "residual", "res")
"""What names of the layers of a shortcut begin with."""

NAMES: Mapping[str, str] = {
    "global_avg_pool": "avgpool",
    "global_max_pool": "maxpool",
    "adaptive_avg_pool": "avgpool",
    "max_pool": "maxpool",
    "avg_pool": "avgpool",
    "channel_shuffle": "shuffle",
    "zero_pad": "pad",
    "pad_channels": "pad",
    "drop_path": "drop_path",
}
"""Names of layers whose operation has a long name."""

FORKS: Mapping[str, str] = {
    "add": "sum",
    "concat": "concat",
    "multiply": "gate",
    "subtract": "difference",
    "mean": "mean",
}
"""Names of parallel branches, by how they are combined."""


@dataclass(slots=True)
class _Group:
    """Items that have a name in common below a path, or one that has none."""

    key: str
    items: list[Item] = field(default_factory=list)


@dataclass(slots=True)
class _Level:
    """The names below one path: those that are taken, and at how many places each is used."""

    taken: set[str]
    uses: Counter[str] = field(default_factory=Counter)


def weight_path(node: Node) -> str:
    """Return the path that a node's weights have in common, or "" if it has none, or several."""
    paths = {name.removesuffix(f".{own}") if own else name for own, name in node.weights.items()}
    fits = all(name == (f"{path}.{own}" if own else path) for path in paths for own, name in node.weights.items())
    return next(iter(paths)) if len(paths) == 1 and fits else ""


class Arranger:
    """Arranges a tree.

    Attributes:
        renamed: The model's name of each weight, by the name that it gets.
        fixed: The paths that the model gives layers, by the node's identity.
        surrounds: The identities of nodes whose block does not belong to the module that calls them, or to none.
        scopes: The paths of the modules that call layers, where those are inside of a layer with weights.
        placed: The paths of parts by the identity of the nodes whose outputs are theirs.
        unlike: The paths of parts that compute something else than the module there: blocks around a module, and norms
            whose module holds an activation too.
    """

    def __init__(self, row: Row, order: Iterable[str], has_modules: bool = True) -> None:
        self.order = {name: index for index, name in enumerate(order)}
        self.renamed: dict[str, str] = {}
        self.fixed: dict[int, str] = {}
        self.scopes: dict[int, str] = {}
        self.placed: dict[int, str] = {}
        self.unlike: set[str] = set()
        self.surrounds: set[int] = set()
        if all(name.startswith(NAMELESS) for step in steps(row) for name in step.node.weights.values()):
            invent_paths(row, self.fixed)
            self.surrounds |= {id(fork.node) for fork in forks(row)}
        self._fix_paths(row)
        self._find_surrounding(row)
        if not has_modules:
            self._adopt_scopes(row, "")

    def _find_surrounding(self, row: Row) -> None:
        """Find the shortcuts around a module that are no block of the module that calls them.

        That is called from elsewhere, or for several in a row, or is the network itself.
        """
        found = [item for item in row if isinstance(item, Fork)]
        paths = {id(fork.node): _common_path(self._weighted_paths(fork)) for fork in found}
        for fork in found:
            scope = fork.node.site.scope
            is_shortcut = not all(fork.branches) and not fork.split
            below = [fork for fork in found if _is_below(paths[id(fork.node)], scope)]
            if is_shortcut and (not scope or fork not in below or len(below) > 1):
                self.surrounds.add(id(fork.node))
            for branch in fork.branches:
                self._find_surrounding(branch)

    def _weighted_paths(self, fork: Fork) -> list[str]:
        return [self.fixed.get(id(step.node), "") for step in steps((fork,)) if step.node.weights]

    def _adopt_scopes(self, row: Row, outer: str) -> None:
        """Put layers that have no place of their own beside those before and after them, as deep as these are."""
        holders = [self._holder(item) for item in row]
        for index, item in enumerate(row):
            before = next((holder for holder in reversed(holders[:index]) if holder is not None), None)
            after = next((holder for holder in holders[index + 1 :] if holder is not None), None)
            if isinstance(item, Fork):
                for branch in item.branches:
                    self._adopt_scopes(branch, holders[index] or outer)
            elif not item.node.weights and "." not in self.fixed.get(id(item.node), ""):
                both = (
                    _common_path([before, after]) if before is not None and after is not None else before or after or ""
                )
                belongs_before = before is not None and is_activation(item.node.op)
                self.fixed.pop(id(item.node), None)
                scope = (before or "") if belongs_before else both
                self.scopes[id(item.node)] = scope if scope.startswith(outer) else outer

    def _holder(self, item: Item) -> str | None:
        """Return the path of what holds an item, by its layers with weights; None if it has none."""
        paths = [self.fixed.get(id(step.node), "") for step in steps((item,)) if step.node.weights]
        return _common_path([path.rpartition(".")[0] for path in paths]) if paths else None

    def _fix_paths(self, row: Row) -> None:
        """Give layers with weights the weights' path, and others that of their module where it is theirs alone."""
        nodes = [step.node for step in steps(row)]
        for node in nodes:
            path = weight_path(node)
            if (
                id(node) not in self.fixed
                and path
                and not path.startswith(NAMELESS)
                and _is_usable(path, "" in node.weights)
            ):
                self.fixed[id(node)] = path
        weighted = set(self.fixed.values())
        taken = Counter(node.site.path for node in nodes if node.site.is_layer)
        for node in nodes:
            names = node.site.path.split(".")
            above = [".".join(names[:count]) for count in range(1, len(names) + 1)]
            holder = next((path for path in above if path in weighted), "")
            if holder and not node.weights:  # as an activation inside of a norm's module
                self.scopes[id(node)] = holder.rpartition(".")[0]
                self.unlike.add(holder)
            elif (
                id(node) not in self.fixed
                and not node.weights
                and node.site.is_layer
                and taken[node.site.path] == 1
                and _is_usable(node.site.path)
            ):
                self.fixed[id(node)] = node.site.path
        prefixes = {
            ".".join(path.split(".")[:count]) for path in self.fixed.values() for count in range(1, path.count(".") + 1)
        }
        for node in nodes:
            if self.fixed.get(id(node)) in prefixes:  # a module that holds others
                del self.fixed[id(node)]

    def network_parts(self, row: Row, input_shape: Shape) -> tuple[Part, ...]:
        """Return the parts of a tree, with their shapes."""
        parts, _ = infer_row(tuple(self.parts(row, "")), input_shape)
        return parts

    def path_of(self, node: Node) -> str:
        """Return the path of the part whose output a node is."""
        return self.placed.get(id(node), "")

    # -- nesting -------------------------------------------------------------------------------------------------

    def parts(self, row: Iterable[Item], holder: str, level: _Level | None = None) -> list[Part]:
        """Return the parts of items, below the path of what holds them."""
        items = list(row)
        level = self._level(items, holder) if level is None else level
        return [
            part for group in self._groups(items, holder, level) for part in self._group_parts(group, holder, level)
        ]

    def _level(self, items: Iterable[Item], holder: str) -> _Level:
        """Return the names that items have below a path, and which of them are used at one place only."""
        level = _Level(
            {name for item in items for place in self._places(item) if (name := _first_names(place, holder))}
        )
        self._count_uses(items, holder, level)
        level.uses.update(dict.fromkeys(LAYER_KEYS, 1))  # no layer has such a name alone
        return level

    def _count_uses(self, items: Iterable[Item], holder: str, level: _Level) -> None:
        for depth in range(1, MAX_NAMES + 1):
            level.uses.update(key for key, _ in groupby(self._key(item, holder, depth) for item in items) if key)
        for item in items:
            if isinstance(item, Fork) and not self._key(item, holder):
                for branch in item.branches:
                    self._count_uses(branch, holder, level)

    def _groups(self, items: list[Item], holder: str, level: _Level) -> list[_Group]:
        """Return items grouped by their names below a path; those of a name that is used at two places stay apart."""
        groups: list[_Group] = []
        for item in items:
            keys = (self._key(item, holder, depth) for depth in range(1, MAX_NAMES + 1))
            usable = next((key for key in keys if level.uses[key] == 1), "")
            if usable and groups and groups[-1].key == usable:
                groups[-1].items.append(item)
            else:
                groups.append(_Group(usable, [item]))
        return groups

    def _key(self, item: Item, holder: str, count: int = 1) -> str:
        """Return the first names below a path that all layers in an item have in common; "" if there are none."""
        places = set(self._places(item))
        names = {_first_names(place, holder, count) for place in places}
        key = next(iter(names)) if len(names) == 1 else ""
        return "" if isinstance(item, Fork) and _join(holder, key) in places else key  # a layer's own path

    def _places(self, item: Item) -> Iterator[str]:
        """Yield the paths of layers in an item; one without a name has that of the module that calls it, and a dot."""
        if isinstance(item, Step):
            yield self.fixed.get(id(item.node)) or f"{self.scopes.get(id(item.node), item.node.site.scope)}."
            return
        inner = [place for branch in item.branches for step in branch for place in self._places(step)]
        if id(item.node) not in self.surrounds:
            yield f"{item.node.site.scope}."
        yield from inner

    def _group_parts(self, group: _Group, holder: str, level: _Level) -> list[Part]:
        path = _join(holder, group.key)
        if not group.key:
            return [self._lone_part(item, holder, level) for item in group.items]
        match group.items:
            case [Step(node)] if self.fixed.get(id(node)) == path:
                return [self._leaf(node, path)]
        inner_level = self._level(group.items, path)
        groups = self._groups(group.items, path, inner_level)
        lone = [inner.items[0] for inner in groups if not inner.key and isinstance(inner.items[0], Fork)]
        if len(lone) == 1 and isinstance(lone[0], Fork) and _is_residual(lone[0]):
            return [self._residual(group.items, lone[0], path, inner_level)]
        if any(isinstance(item, Fork) and not _is_below(item.node.site.scope, path) for item in group.items):
            self.unlike.add(path)
        return [Chain(path, tuple(self.parts(group.items, path, inner_level)), (), ())]

    def _residual(self, items: list[Item], fork: Fork, path: str, level: _Level) -> Part:
        place = items.index(fork)
        if not _is_below(fork.node.site.scope, path):
            self.unlike.add(path)
        branch, shortcut = self._sides(fork)
        rows: dict[Role, tuple[Part, ...]] = {}
        sections: dict[Role, Iterable[Item]] = {
            "before": items[:place],
            "branch": branch,
            "shortcut": shortcut,
            "after": items[place + 1 :],
        }
        for role, section in sections.items():
            rows[role] = tuple(self.parts(section, path, level))
        if not items[place + 1 :]:
            self.placed[id(fork.node)] = path
        reads: Literal["input", "before"] = "before" if items[:place] else "input"
        combine: Any = fork.combine
        order = sorted((role for role in rows if rows[role]), key=lambda role: self._first_weight(sections[role]))
        return Residual(
            path,
            rows["before"],
            rows["branch"],
            rows["shortcut"],
            combine,
            rows["after"],
            tuple(order),
            (),
            (),
            reads,
        )

    def _first_weight(self, section: Iterable[Item]) -> float:
        indices = [
            self.order.get(name, math.inf) for step in steps(tuple(section)) for name in step.node.weights.values()
        ]
        return min(indices, default=math.inf)

    def _sides(self, fork: Fork) -> tuple[Row, Row]:
        """Return which of two branches is the branch, and which the shortcut."""
        first, second = fork.branches
        if fork.combine == "concat":
            return second, first
        if fork.combine == "multiply":
            is_first = len(second) == 0 or _size(fork.node.inputs[0].shape) < _size(fork.node.inputs[1].shape)
        else:
            is_first = self._shortcut_rank(second) >= self._shortcut_rank(first)
        return (first, second) if is_first else (second, first)

    def _shortcut_rank(self, row: Row) -> tuple[bool, bool, int]:
        """Return how much a row looks like a shortcut."""
        paths = [self.fixed.get(id(step.node), "") for step in steps(row)]
        names = [name for path in paths for name in path.split(".")]
        return not row, any(name.startswith(SHORTCUTS) for name in names), -len(names)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _lone_part(self, item: Item, holder: str, level: _Level) -> Part:
        if isinstance(item, Step):
            fixed = self.fixed.get(id(item.node), "")
            path = fixed if fixed.startswith(f"{holder}." if holder else "") else ""
            return self._leaf(
                item.node,
                path or _join(holder, self._new_name(_step_name(item.node, id(item.node) in self.scopes), level.taken)),
            )
        path = _join(holder, self._new_name(FORKS[item.combine], level.taken))
        self.placed[id(item.node)] = path
        if item.collect:
            rows = [tuple(self.parts(branch, holder, level)) for branch in item.branches[1:]]
            return self._collected(path, rows, holder, level)
        branches = tuple(tuple(self.parts(branch, holder, level)) for branch in self._ordered(item))
        count = len(item.split)
        split = len(set(item.split)) == 1 if count and len(set(item.split)) == 1 else item.split or False
        return Parallel(
            path, branches, split, item.cascade, item.combine, (), (), resize="nearest" if item.resize else ""
        )

    def _collected(self, path: str, rows: list[tuple[Part, ...]], holder: str, level: _Level) -> Parallel:
        """Return rows that run one after another, whose input and outputs are concatenated.

        Each collected row is one part. Of others, the first is a branch beside its input, which ends with the rest.
        """
        if len(rows) > 1 and all(len(row) == 1 for row in rows):
            return Parallel(path, ((), *rows), False, False, "concat", (), (), collect=True)
        first, *rest = rows
        if rest:
            inner = _join(holder, self._new_name(FORKS["concat"], level.taken))
            first = (*first, self._collected(inner, rest, holder, level))
        return Parallel(path, ((), first), False, False, "concat", (), ())

    def _ordered(self, fork: Fork) -> tuple[Row, ...]:
        """Return the branches of a fork, what is multiplied before its gates."""
        if fork.combine != "multiply" or fork.split or fork.resize:
            return fork.branches
        return tuple(sorted(fork.branches, key=len))

    def _new_name(self, name: str, taken: set[str]) -> str:
        candidates = [name, *(f"{name}{number}" for number in range(2, len(taken) + 3))]
        name = next(candidate for candidate in candidates if candidate not in taken and not why_reserved(candidate))
        taken.add(name)
        return name

    def _leaf(self, node: Node, path: str) -> Leaf:
        assert node.op is not None
        self.placed[id(node)] = path
        for own, name in node.weights.items():
            full = f"{path}.{own}" if own else path
            self.renamed[full] = name
        return Leaf(path, node.op, (), ())


def invent_paths(row: Row, fixed: dict[int, str]) -> None:
    """Name the layers of a file that has no names: blocks are numbered, and layers are named by their operation."""
    counts: Counter[str] = Counter()
    blocks = 0
    for item in row:
        if isinstance(item, Fork):
            inner: Counter[str] = Counter()
            for branch in item.branches:
                is_shortcut = branch is min(item.branches, key=len)
                _invent_in(branch, f"blocks.{blocks}", inner, "shortcut_" if is_shortcut else "", fixed)
            blocks += 1
        elif item.node.weights:
            fixed[id(item.node)] = _counted(item.node, counts)


def _invent_in(row: Row, holder: str, counts: Counter[str], prefix: str, fixed: dict[int, str]) -> None:
    for item in row:
        if isinstance(item, Fork):
            for branch in item.branches:
                _invent_in(branch, holder, counts, prefix, fixed)
        elif item.node.weights:
            fixed[id(item.node)] = f"{holder}.{prefix}{_counted(item.node, counts, prefix)}"


def _counted(node: Node, counts: Counter[str], prefix: str = "") -> str:
    name = {"batch_norm": "bn", "linear": "fc"}.get(op_name(node.op), op_name(node.op))
    counts[prefix + name] += 1
    return f"{name}{counts[prefix + name]}"


def _common_path(paths: Iterable[str]) -> str:
    """Return the longest path that all of some paths begin with.

    >>> _common_path(["layer1.0", "layer1.1.se"])
    'layer1'
    """
    columns = zip(*(path.split(".") for path in paths), strict=False)
    return ".".join(names[0] for names in takewhile(lambda names: len(set(names)) == 1, columns))


def _is_residual(fork: Fork) -> bool:
    is_plain = not (fork.split or fork.cascade or fork.collect or fork.resize)
    return (
        is_plain and len(fork.branches) == 2 and fork.combine in ("add", "multiply", "concat") and _has_shortcut(fork)
    )


def _has_shortcut(fork: Fork) -> bool:
    """Return whether a fork is a block's: a concatenation is one only behind what it reads."""
    return fork.combine != "concat" or (not fork.branches[0] and bool(fork.branches[1]))


def _size(shape: Shape) -> int:
    return math.prod(shape)


def _is_below(scope: str, path: str) -> bool:
    return f"{scope}.".startswith(f"{path}.")


def _join(holder: str, name: str) -> str:
    return f"{holder}.{name}" if holder and name else holder or name


def _first_names(place: str, holder: str, count: int = 1) -> str:
    """Return the first names of a path below another; "" if it is not below it, or has fewer."""
    prefix = f"{holder}." if holder else ""
    names = place.removeprefix(prefix).split(".") if place.startswith(prefix) and place != "." else []
    first = names[:count]
    return ".".join(first) if len(first) == count and all(first) else ""


def _is_usable(path: str, is_weight: bool = False) -> bool:
    """Return whether a layer can have a path; the last name may be a weight's where it is one."""
    holder, _, last = path.rpartition(".")
    names = holder if is_weight and last in WEIGHT_NAMES else path
    is_name = bool(LAYER_NAME.fullmatch(path)) and last not in LAYER_KEYS
    return is_name and not (names and why_reserved(names))


def _step_name(node: Node, is_adopted: bool = False) -> str:
    if (
        not is_adopted
        and node.site.name
        and _is_usable(node.site.name)
        and "." not in node.site.name
        and not node.site.name.isdecimal()
    ):
        return node.site.name
    op: Op | None = node.op
    name = op_name(op) if op is not None else node.kind
    return NAMES.get(name, name)


def is_activation(op: Op | None) -> bool:
    """Return whether an operation is an activation, which belongs to the layer before it."""
    return type(op).__module__ == ops.Relu.__module__
