"""The state of one walk through a spec: its names, its problems, what is taken, and how much there may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NoReturn, TypeAlias, TypeVar

from resnet_spec.diagnostics.problems import Note, Problems, Span, SpecError
from resnet_spec.expansion.error_sites import Reporter
from resnet_spec.expansion.path_conflicts import PathRegistry
from resnet_spec.expansion.scopes import NameTable
from resnet_spec.language.spec import Block, Spec
from resnet_spec.network.parts import Part
from resnet_spec.ops import Shape

T = TypeVar("T")

MAX_LAYERS = 10_000
MAX_PARAMETERS = 2**40
MAX_PATH_NAMES = 48  # in a path: frameworks recurse into what holds what
MAX_STEPS = (
    200_000  # names and layers looked at, those that come to nothing too: what bounds the time that a spec takes
)

Expansion: TypeAlias = tuple[list[Part], Shape | None]
"""Parts, and the shape that the last gives: None once that is unknown, after a problem."""


Library: TypeAlias = Callable[[str], Block | None]
"""A block for everyone's use, by its name, or None."""


class Context:
    """One walk. ``shelf`` names the library's blocks, and ``small`` are the problems that a larger image might not have.

    ``vague`` says that heights and widths are not known, after a problem, so that what depends on them is not to be told.
    """

    def __init__(
        self,
        spec: Spec,
        library: Library,
        library_names: Iterable[str],
        problems: Problems,
        spatial_size_unknown: bool = False,
    ) -> None:
        self.spec = spec
        self.library = library
        self.library_names = library_names
        self.problems = problems
        self.spatial_size_unknown = False
        self.names_only = False  # at names alone, in what is not part of the network
        self.size_problems = Problems()
        self.names = NameTable(spec)
        self.reporter = Reporter(problems, spec.at.source)
        self.paths = PathRegistry(self.reporter)
        self.layers = self.parameters = self.steps = 0

    def lose_shape(self) -> Shape | None:
        """The shape after a problem."""
        self.spatial_size_unknown = True
        return None

    def try_or_report(self, value: Callable[[], T], notes: Callable[[Span], Iterable[Note]] | None = None) -> T | None:
        """A value, or None if it raises: what is wrong is noted, and beside it what ``notes`` says of the place."""
        try:
            return value()
        except SpecError as error:
            for problem in error.problems:
                beside = [*problem.notes, *(notes(problem.at) if notes else ())]
                self.reporter.report(problem.code, problem.message, problem.at, problem.help, beside)
            return None

    # -- limits: what passes one ends the walk ------------------------------------------------------------------

    def step(self, at: Span, count: int = 1) -> None:
        """Count what is looked at."""
        self.steps += count
        if self.steps > MAX_STEPS:
            self.stop(f"more than {MAX_STEPS:,} steps to expand the spec", at)

    def layer(self, at: Span, path: str) -> None:
        """Count a layer at a path."""
        self.step(at)
        if path.count(".") >= MAX_PATH_NAMES:
            self.stop(f"a path of more than {MAX_PATH_NAMES} names", at)

    def count(self, at: Span, layers: int = 0, parameters: int = 0) -> None:
        """Count what a network is made of."""
        self.layers += layers
        self.parameters += parameters
        if self.layers > MAX_LAYERS:
            self.stop(f"the network has more than {MAX_LAYERS:,} layers and blocks", at)
        if self.parameters > MAX_PARAMETERS:
            self.stop(f"the network has more than {MAX_PARAMETERS:,} weights", at)

    def stop(self, message: str, at: Span, code: str = "RS104") -> NoReturn:
        """Note what ends the walk. Raises SpecError."""
        self.reporter.report(code, message, at)
        raise SpecError([])
