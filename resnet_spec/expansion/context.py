"""The state of one expansion: names, problems, paths in use, and limits on the size of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeAlias, TypeVar

from resnet_spec.diagnostics.problems import Note, Problems, Span, SpecError
from resnet_spec.expansion.error_sites import Reporter
from resnet_spec.expansion.path_conflicts import PathRegistry
from resnet_spec.expansion.scopes import NameTable
from resnet_spec.language.spec import Block, Spec
from resnet_spec.network.network import Stage
from resnet_spec.network.parts import Part
from resnet_spec.ops import Shape

T = TypeVar("T")

MAX_LAYERS = 10_000
MAX_PARAMETERS = 2**40
MAX_MAP_VALUES = 2**31  # of one image, padding included: frameworks index larger maps with more than 32 bits, or not
MAX_PATH_NAMES = 48  # frameworks recurse into nested modules, and would exceed Python's stack
MAX_STEPS = 200_000  # visits to names and layers, including those that are left out: this bounds the time

Expansion: TypeAlias = tuple[list[Part], Shape | None]
"""The parts that something expands to, and the shape after them: None if a problem keeps it from being known."""

Library: TypeAlias = Callable[[str], Block | None]
"""Returns a bundled block by its name, or None."""


class Context:
    """The state of one expansion.

    Attributes:
        library_names: The names of the bundled blocks, to suggest.
        spatial_size_unknown: Whether a problem keeps heights and widths from being known. If so, problems that depend
            on them are not reported.
        names_only: Whether only names are looked up, in layers that are not part of the network.
        size_problems: Problems that a larger image might not have.
        stages: The outermost repeated blocks, in the order in which they run.
    """

    def __init__(
        self,
        spec: Spec,
        library: Library,
        library_names: Iterable[str],
        problems: Problems,
    ) -> None:
        self.spec = spec
        self.library = library
        self.library_names = library_names
        self.problems = problems
        self.spatial_size_unknown = False
        self.names_only = False
        self.size_problems = Problems()
        self.names = NameTable(spec)
        self.reporter = Reporter(problems, spec.span.source)
        self.paths = PathRegistry(self.reporter)
        self.layers = self.parameters = self.steps = self.repeats = 0
        self.stages: list[Stage] = []

    def lose_shape(self) -> Shape | None:
        """Return the shape after a problem: none."""
        self.spatial_size_unknown = True
        return None

    def try_or_report(self, value: Callable[[], T], notes: Callable[[Span], Iterable[Note]] | None = None) -> T | None:
        """Return ``value()``; if it raises SpecError, report its problems and return None.

        ``notes`` returns notes to add to a problem at a place.
        """
        try:
            return value()
        except SpecError as error:
            for problem in error.problems:
                beside = [*problem.notes, *(notes(problem.span) if notes else ())]
                self.reporter.report(problem.code, problem.message, problem.span, problem.help, beside)
            return None

    @contextmanager
    def stage(self, path: str) -> Iterator[list[str]]:
        """Collect the paths of repeated blocks, which are a stage unless they are inside another repeated block."""
        blocks: list[str] = []
        self.repeats += 1
        yield blocks
        self.repeats -= 1
        if not self.repeats and not self.names_only:
            self.stages.append(Stage(path, tuple(blocks)))

    # -- limits: exceeding one ends the expansion ----------------------------------------------------------------

    def step(self, span: Span, count: int = 1) -> None:
        """Count steps of the expansion, which are a measure of its time."""
        self.steps += count
        if self.steps > MAX_STEPS:
            self.stop(f"expanding the spec takes more than {MAX_STEPS:,} steps", span)

    def layer(self, span: Span, path: str) -> None:
        """Count a visit to a layer."""
        self.step(span)
        if path.count(".") >= MAX_PATH_NAMES:
            self.stop(f"the path of this layer has more than {MAX_PATH_NAMES} names", span)

    def count(self, span: Span, layers: int = 0, parameters: int = 0) -> None:
        """Count layers and parameters of the network."""
        self.layers += layers
        self.parameters += parameters
        if self.layers > MAX_LAYERS:
            self.stop(f"the network has more than {MAX_LAYERS:,} layers and blocks", span)
        if self.parameters > MAX_PARAMETERS:
            self.stop(f"the network has more than {MAX_PARAMETERS:,} weights", span)

    def stop(self, message: str, span: Span, code: str = "RS104") -> NoReturn:
        """Report a problem that ends the expansion, and raise SpecError."""
        self.reporter.report(code, message, span)
        raise SpecError([])
