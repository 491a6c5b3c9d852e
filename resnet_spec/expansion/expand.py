"""A ``Spec`` to a ``Network``: every shape worked out, every problem found, and for what is too small an image that will do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from resnet_spec.diagnostics.problems import Problems, SpecError
from resnet_spec.expansion.context import Context, Library
from resnet_spec.expansion.expander import Expander
from resnet_spec.expansion.unused_names import report_unused
from resnet_spec.language.spec import Spec, Word
from resnet_spec.network.input_size import WINDOW, find_smallest_input
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Part


def expand(
    spec: Spec,
    bundled: Library,
    bundled_names: Iterable[str] = (),
    problems: Problems | None = None,
) -> Network:
    """Expand a spec. ``bundled`` gives a block by name, or None.

    Raises SpecError with every problem found, those in ``problems`` before; each points at what the user wrote.
    """
    found = Problems() if problems is None else problems
    before = dict(found.found)
    context = Context(spec, bundled, bundled_names, found)
    parts = _walked(context)
    if context.size_problems.found:
        found = Problems()
        found.found |= before
        _note_small(context, found)
    elif not found.found:
        if not parts:
            found.report("RS203", "the network has no layers", spec.at)
        report_unused(spec, context.names, found)
    found.stop()
    assert spec.input is not None  # or there is a problem
    stages = tuple(stage.name.text for stage in spec.stages)
    return Network(spec.name, spec.input, tuple(parts), spec.source, spec.preprocess, stages, takes=_numbers(spec))


def _numbers(spec: Spec) -> tuple[tuple[str, int], ...]:
    """The whole numbers that the spec takes, as they are set."""
    words = [(name, value) for name, value in spec.takes.items() if isinstance(value, Word) and value.plain]
    return tuple((name, int(word.text)) for name, word in words if word.text.isdecimal() and len(word.text) < 20)


def _walked(context: Context) -> list[Part]:
    """The network's parts: all of them, if no problem was found."""
    try:
        parts = Expander(context).network()
        context.paths.report_conflicts()
    except SpecError:  # a limit is passed, which is noted
        return []
    return parts


def _note_small(context: Context, found: Problems) -> None:
    """Note what an image is too small for, with one that will do; and what is wrong at that one as well."""

    def codes(image: tuple[int, int, int]) -> set[str]:
        other = Context(replace(context.spec, input=image), context.library, context.library_names, Problems())
        _walked(other)
        return {problem.code for problem in other.size_problems.found.values()}

    small = list(context.size_problems.found.values())
    assert context.spec.input is not None  # or no size would be known
    image = find_smallest_input(context.spec.input, codes, context.steps)
    if image is not None:
        _walked(Context(replace(context.spec, input=image), context.library, context.library_names, found))
        size = " x ".join(map(str, image))
        also = f"{small[0].help}; or " if small[0].help else ""
        found.add(replace(small[0], help=f"{also}an image of {size} is the smallest that will do"))
        return
    for problem in context.problems.found.values():
        found.add(problem)
    for problem in small:
        found.add(problem)
        if problem.code == WINDOW:
            break  # the rest only follows from it
