"""Give layers that share the first of their names a module of their own: ``features.conv0`` is in ``features``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from itertools import groupby

from resnet_spec.network.execution import relative_names
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual, Row


def nest_names(part: Chain, kept: Collection[str] = ()) -> Chain:
    """Return a chain in which layers that share the first of their names, and run one after another, are chains.

    A name with layers in several places, such as one of parallel branches, has no module that runs them all. Parts with
    paths in ``kept`` stay where they are.

    >>> from resnet_spec import load
    >>> root = Chain("", load("timm/convnext_atto").parts, (3, 224, 224), (1000,))
    >>> [part.path for part in root.parts][:3], [part.path for part in nest_names(root).parts][:3]
    (['stem.0', 'stem.1', 'stages.0'], ['stem', 'stages', 'head'])
    """
    return part.with_rows(_nest_rows(part, kept))


def _nest_rows(part: Chain | Residual, kept: Collection[str]) -> tuple[Row, ...]:
    has_order = isinstance(part, Chain) and part.written  # an order of weights that a chain would not keep
    runs = Counter(name for row in part.rows for name, _ in _runs(part.path, row))
    single = set() if has_order else {name for name, count in runs.items() if count == 1}
    return tuple(_nest_row(part.path, row, single, kept) for row in part.rows)


def _nest_row(holder: str, row: Row, single: Collection[str], kept: Collection[str]) -> Row:
    nested: list[Part] = []
    for name, run in _runs(holder, row, inside_branches=False):
        are_below = all(len(relative_names(holder, part)) > 1 for part in run)
        if name in single and are_below and not any(part.path in kept for part in run):
            path = f"{holder}.{name}" if holder else name
            nested.append(nest_names(Chain(path, run, run[0].input_shape, run[-1].output_shape), kept))
        else:
            nested += [_nest_inside(holder, part, single, kept) for part in run]
    return tuple(nested)


def _nest_inside(holder: str, part: Part, single: Collection[str], kept: Collection[str]) -> Part:
    match part:
        case Leaf():
            return part
        case Parallel():  # the parts of branches are held beside it
            return part.with_rows(tuple(_nest_row(holder, branch, single, kept) for branch in part.branches))
        case _:
            return part.with_rows(_nest_rows(part, kept))


def _runs(holder: str, row: Row, inside_branches: bool = True) -> Iterator[tuple[str, Row]]:
    """Yield the first names of parts in a row, each with parts one after another that have it; "" with branches."""
    for name, group in groupby(row, lambda part: _first_name(holder, part)):
        parts = tuple(group)
        yield name, parts
        branches = [branch for part in parts if isinstance(part, Parallel) for branch in part.branches]
        for branch in branches if inside_branches else ():
            yield from _runs(holder, branch)


def _first_name(holder: str, part: Part) -> str:
    return "" if isinstance(part, Parallel) else relative_names(holder, part)[0]
