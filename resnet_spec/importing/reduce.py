"""Reduce a dataflow graph to a tree: rows of steps, and forks whose branches are rows, by the graph's dominators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

from resnet_spec.importing.graph import Graph, Node
from resnet_spec.language.spec import Join
from resnet_spec.network.shape_rules import joined_shape
from resnet_spec.ops import Scale


@dataclass(frozen=True, slots=True)
class Step:
    """A call of an operation, or of what the tree can't hold."""

    node: Node


@dataclass(frozen=True, slots=True)
class Fork:
    """Branches that read the same value and whose outputs meet, with the fields of ``network.parts.Parallel``."""

    node: Node
    combine: Join
    branches: tuple[Row, ...]
    split: tuple[int, ...] = ()
    cascade: bool = False
    collect: bool = False
    resize: bool = False


Item: TypeAlias = Step | Fork
Row: TypeAlias = tuple[Item, ...]


def reduce_graph(graph: Graph) -> Row:
    """Return the row of items that computes a graph's last output. Marks what is not series-parallel as refused."""
    return _Reducer(graph).row(_trunk(graph), graph.input)


def _trunk(graph: Graph) -> Node:
    """Return the output that depends on the others, if one does."""
    order = {id(node): index for index, node in enumerate(graph.nodes())}
    return max(graph.outputs, key=lambda node: order[id(node)])


def steps(row: Row) -> Iterator[Step]:
    """Yield the steps of a row and of the forks in it."""
    for item in row:
        if isinstance(item, Step):
            yield item
        else:
            for branch in item.branches:
                yield from steps(branch)


def forks(row: Row) -> Iterator[Fork]:
    """Yield the forks of a row and those in them."""
    for item in row:
        if isinstance(item, Fork):
            yield item
            for branch in item.branches:
                yield from forks(branch)


def find_repeated(row: Row) -> list[Node]:
    """Return the calls that stand at several places of a tree, though their weights may be used once only."""
    counts = Counter(id(step.node) for step in steps(row))
    weights = Counter(name for step in steps(row) for name in set(step.node.weights.values()))
    found = {
        id(step.node): step.node
        for step in steps(row)
        if step.node.weights
        and (counts[id(step.node)] > 1 or any(weights[name] > 1 for name in step.node.weights.values()))
    }
    return list(found.values())


class _Reducer:
    def __init__(self, graph: Graph) -> None:
        self.dominator: dict[int, Node] = {}
        self.depth: dict[int, int] = {}
        for node in graph.nodes():
            self._place(node)

    def _place(self, node: Node) -> None:
        """Record a node's immediate dominator: the last value through which all of the input's ways to it go."""
        if not node.inputs:
            self.depth[id(node)] = 0
            return
        common, *others = node.inputs
        for other in others:
            common = self._common(common, other)
        self.dominator[id(node)] = common
        self.depth[id(node)] = self.depth[id(common)] + 1

    def _common(self, a: Node, b: Node) -> Node:
        while a is not b:
            if self.depth[id(a)] >= self.depth[id(b)]:
                a = self.dominator[id(a)]
            else:
                b = self.dominator[id(b)]
        return a

    def dominates(self, a: Node, b: Node) -> bool:
        """Return whether all ways to b go through a."""
        while self.depth[id(b)] > self.depth[id(a)]:
            b = self.dominator[id(b)]
        return a is b

    def row(self, node: Node, source: Node) -> Row:
        """Return the items that compute a node from one of its dominators."""
        items: list[Item] = []
        while node is not source:
            if node.kind == "merge":
                items.append(self.fork(node))
                node = self.dominator[id(node)]
            elif len(node.inputs) == 1:
                items.append(Step(node))
                (node,) = node.inputs
            else:  # refused: what leads to it is not looked at
                items.append(Step(node))
                node = self.dominator[id(node)] if node.inputs else source
        return _with_means(tuple(reversed(items)))

    def fork(self, node: Node) -> Fork:
        source, inputs = self.dominator[id(node)], node.inputs
        assert node.combine is not None
        pairs = list(pairwise(inputs))
        may_collect = node.combine == "concat" and len(inputs) > 2 and inputs[0] is source
        if may_collect and all(self.dominates(before, after) for before, after in pairs):
            rows = tuple(self.row(after, before) for before, after in pairs)
            return Fork(node, "concat", ((), *rows), collect=True)
        fork = Fork(node, node.combine, tuple(self.row(value, source) for value in self._grouped(node, source)))
        return _with_pieces(_flatten(_with_resize(fork)))

    def _grouped(self, node: Node, source: Node) -> tuple[Node, ...]:
        """Return what meets in a node. Values of which each leads to the next are concatenated before the others."""
        groups: list[list[Node]] = []
        for value in node.inputs if node.combine == "concat" else ():
            before = groups[-1][-1] if groups else source
            if before is not source and before is not value and self.dominates(before, value):
                groups[-1].append(value)
            else:
                groups.append([value])
        return tuple(self._concat(group, node) for group in groups) or node.inputs

    def _concat(self, group: list[Node], node: Node) -> Node:
        """Return the concatenation of some of a node's inputs."""
        if len(group) == 1:
            return group[0]
        shape = joined_shape("concat", [value.shape for value in group])
        merged = Node("merge", tuple(group), shape, node.site, combine="concat")
        self._place(merged)
        return merged


def _with_resize(fork: Fork) -> Fork:
    """Return a fork that resizes its branches' maps to the first one's, if some are resized at their end."""
    is_resized = [bool(row) and isinstance(row[-1], Step) and row[-1].node.kind == "resized" for row in fork.branches]
    if fork.combine == "multiply" and is_resized[0]:
        order = sorted(range(len(is_resized)), key=lambda index: is_resized[index])
        fork = replace(fork, branches=tuple(fork.branches[index] for index in order))
        is_resized.sort()
    if is_resized[0] or not any(is_resized):
        return fork
    rows = (row[:-1] if resized else row for row, resized in zip(fork.branches, is_resized, strict=True))
    return replace(fork, branches=tuple(rows), resize=True)


def _with_means(row: Row) -> Row:
    """Return a row in which sums that are divided by the number of their terms are means."""
    found: list[Item] = []
    for item in row:
        before = found[-1] if found else None
        if isinstance(before, Fork) and before.combine == "add" and isinstance(item, Step) and not before.split:
            op = item.node.op
            if isinstance(op, Scale) and not op.learned and abs(op.factor * len(before.branches) - 1) < 1e-9:
                found[-1] = replace(before, node=item.node, combine="mean")
                continue
        found.append(item)
    return tuple(found)


def _flatten(fork: Fork) -> Fork:
    """Return a fork in which sums of sums are one, and concatenations of concatenations."""
    if fork.combine not in ("add", "concat") or fork.resize:
        return fork
    rows: list[Row] = []
    for row in fork.branches:
        match row:
            case (Fork(combine=combine, split=(), cascade=False, collect=False, resize=False) as inner,) if (
                combine == fork.combine
            ):
                rows += inner.branches
            case _:
                rows.append(row)
    return replace(fork, branches=tuple(rows))


def _with_pieces(fork: Fork) -> Fork:
    """Return a fork whose branches each read a piece of the channels as one that splits them, if they do."""
    rows = [_without_cascade(fork, index) for index in range(len(fork.branches))]
    if not all(row and isinstance(row[0], Step) and row[0].node.kind == "piece" for row, _ in rows):
        return fork
    starts = [row[0].node.channels for row, _ in rows if isinstance(row[0], Step)]
    total = next(iter(steps(rows[0][0]))).node.inputs[0].shape[0]
    if [start for start, _ in starts] != [0, *(end for _, end in starts[:-1])] or starts[-1][1] != total:
        return fork
    later = [is_cascade for row, is_cascade in rows[1:] if len(row) > 1]
    if any(later) and not all(later):
        return fork
    sizes = tuple(end - start for start, end in starts)
    return replace(fork, branches=tuple(row[1:] for row, _ in rows), split=sizes, cascade=any(later))


def _without_cascade(fork: Fork, index: int) -> tuple[Row, bool]:
    """Return a branch without the addition of the previous branch's output at its start, and whether it had one."""
    row = fork.branches[index]
    if index and row and isinstance(row[0], Fork) and row[0].combine == "add" and not row[0].split:
        previous = fork.branches[index - 1]
        for mine, other in (row[0].branches, row[0].branches[::-1]) if len(row[0].branches) == 2 else ():
            if other == previous and len(mine) == 1:
                return (*mine, *row[1:]), True
    return row, False
