"""The nodes of a network's tree: operations, chains, residual blocks and parallel branches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, assert_never

from resnet_spec.diagnostics.problems import Span
from resnet_spec.language.spec import Join, Resize, Role
from resnet_spec.ops import Op, Shape


@dataclass(frozen=True, slots=True)
class BlockUse:
    """The block of a spec that a part was expanded from, and those of its arguments that are integers."""

    name: str
    arguments: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Leaf:
    """One operation. ``path`` is its dotted name from the root, as in ``layer1.0.conv1``."""

    path: str
    op: Op
    input_shape: Shape
    output_shape: Shape
    span: Span | None = field(default=None, compare=False, repr=False)

    def weight_path(self, name: str) -> str:
        """Return the full name of one of the operation's weights. A weight without a name has that of the operation."""
        return f"{self.path}.{name}" if name else self.path

    @property
    def rows(self) -> tuple[Row, ...]:
        """No parts are inside an operation."""
        return ()

    @property
    def written_rows(self) -> tuple[Row, ...]:
        """No parts are inside an operation."""
        return ()

    def with_rows(self, rows: Sequence[Row]) -> Leaf:
        """Return the operation itself."""
        return self


@dataclass(frozen=True, slots=True)
class Chain:
    """Parts that run one after another.

    Attributes:
        written: The paths of the parts in the order in which the spec writes them, which is the order of their weights;
            empty if that is the order in which they run.
        use: The block that the spec writes; None if it writes layers.
    """

    path: str
    parts: Row
    input_shape: Shape
    output_shape: Shape
    span: Span | None = field(default=None, compare=False, repr=False)
    written: tuple[str, ...] = ()
    use: BlockUse | None = field(default=None, compare=False, repr=False)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The one row of parts."""
        return (self.parts,)

    @property
    def written_rows(self) -> tuple[Row, ...]:
        """The parts in the order in which the spec writes them; those that it does not write come last."""
        places = {path: place for place, path in enumerate(self.written)}
        return (tuple(sorted(self.parts, key=lambda part: places.get(part.path, len(places)))),)

    def with_rows(self, rows: Sequence[Row]) -> Chain:
        """Return the chain with other parts."""
        (parts,) = rows
        paths = tuple(part.path for part in parts)
        written = tuple(path for path in self.written if path in paths)
        return replace(self, parts=parts, written=() if written == paths else written)


@dataclass(frozen=True, slots=True)
class Residual:
    """A residual block: ``after(combine(branch(y), shortcut(z)))``, where y = before(x).

    ``reads`` says whether z is y ("before") or x ("input"). An empty ``shortcut`` is the identity. ``order`` lists the
    sections in the order in which the spec writes them, which is the order of their weights.
    """

    path: str
    before: Row
    branch: Row
    shortcut: Row
    combine: Literal["add", "multiply", "concat"]
    after: Row
    order: tuple[Role, ...]
    input_shape: Shape
    output_shape: Shape
    reads: Literal["input", "before"] = "input"
    span: Span | None = field(default=None, compare=False, repr=False)
    use: BlockUse | None = field(default=None, compare=False, repr=False)

    def section(self, role: Role) -> Row:
        """Return the parts of one section."""
        match role:
            case "before":
                return self.before
            case "branch":
                return self.branch
            case "shortcut":
                return self.shortcut
            case "after":
                return self.after
            case _:
                assert_never(role)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The four sections, in the order in which they run."""
        return (self.before, self.branch, self.shortcut, self.after)

    @property
    def written_rows(self) -> tuple[Row, ...]:
        """The sections that the spec writes, in its order."""
        return tuple(self.section(role) for role in self.order)

    def with_rows(self, rows: Sequence[Row]) -> Residual:
        """Return the block with other parts in its four sections."""
        before, branch, shortcut, after = rows
        changed = replace(self, before=before, branch=branch, shortcut=shortcut, after=after)
        order = tuple(role for role in self.order if changed.section(role))
        # Without parts before the branch, both sides read the input.
        return replace(changed, order=order, reads=self.reads if before else "input")


@dataclass(frozen=True, slots=True)
class Parallel:
    """Parallel branches, whose outputs are combined. An empty branch returns its input.

    The parts of branches are named beside this part, not below it, as in Res2Net (``convs.0``, ``bns.0``).

    Attributes:
        split: Whether each branch reads an equal piece of the input's channels instead of the whole, or the numbers of
            channels of the pieces.
        cascade: Whether each branch reads its piece plus the previous branch's output.
        collect: Whether each branch reads the previous branch's output instead of the input.
        resize: How maps of another size are resized to the first branch's: "nearest", or "" if they have the same size.
    """

    path: str
    branches: tuple[Row, ...]
    split: bool | tuple[int, ...]
    cascade: bool
    combine: Join
    input_shape: Shape
    output_shape: Shape
    collect: bool = False
    resize: Resize | Literal[""] = ""
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The branches."""
        return self.branches

    @property
    def pieces(self) -> tuple[int, ...]:
        """The number of channels of each piece into which the input is split; empty if it is not split."""
        if isinstance(self.split, tuple):
            return self.split
        count = len(self.branches)
        return (self.input_shape[0] // count,) * count if self.split else ()

    @property
    def written_rows(self) -> tuple[Row, ...]:
        """The branches."""
        return self.branches

    def with_rows(self, rows: Sequence[Row]) -> Parallel:
        """Return the part with other branches."""
        return replace(self, branches=tuple(rows))


Part: TypeAlias = Leaf | Chain | Residual | Parallel
Row: TypeAlias = tuple[Part, ...]
"""Parts that run one after another."""
