"""Expand a Spec into a Network; report every problem, and suggest an image size if the image is too small."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from resnet_spec.diagnostics.problems import Problems, SpecError
from resnet_spec.expansion.context import Context, Library
from resnet_spec.expansion.expander import Expander
from resnet_spec.expansion.unused_names import report_settings_without_effect, report_unused
from resnet_spec.language.spec import Spec
from resnet_spec.network.input_size import WINDOW, find_smallest_input
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Part
from resnet_spec.syntax.nodes import Scalar


def expand(
    spec: Spec,
    bundled: Library,
    bundled_names: Iterable[str] = (),
    problems: Problems | None = None,
) -> Network:
    """Return the network of a spec. ``bundled`` returns a bundled block by name, or None.

    Raises SpecError with every problem, including those that ``problems`` held before.
    """
    reported = Problems() if problems is None else problems
    before = reported.copy()
    context = Context(spec, bundled, bundled_names, reported)
    parts = _expand_parts(context)
    if context.size_problems:
        reported = before
        _report_size_problems(context, reported)
    elif not reported:
        if not parts:
            reported.report("RS203", "the network has no layers", spec.span)
        report_unused(spec, context.names, reported)
        report_settings_without_effect(spec, context.names, reported)
    reported.stop()
    assert spec.input is not None  # otherwise there is a problem
    stages = tuple(context.stages)
    return Network(spec.name, spec.input, tuple(parts), spec.source, spec.preprocess, stages, takes=_integers(spec))


def _integers(spec: Spec) -> tuple[tuple[str, int], ...]:
    """Return the integer arguments that the spec takes, with their values."""
    plain = [(name, value.text) for name, value in spec.takes.items() if isinstance(value, Scalar) and value.plain]
    return tuple((name, int(text)) for name, text in plain if text.isdecimal() and len(text) < 20)


def _expand_parts(context: Context) -> list[Part]:
    """Return the network's parts. The list is complete only if no problem was reported."""
    try:
        parts = Expander(context).network()
        context.paths.report_conflicts()
    except SpecError:  # a limit was exceeded, and that is reported already
        return []
    return parts


def _report_size_problems(context: Context, problems: Problems) -> None:
    """Report that the image is too small, the smallest size that fits, and the problems that remain at that size."""

    def codes_at(image: tuple[int, int, int]) -> set[str]:
        resized = Context(replace(context.spec, input=image), context.library, context.library_names, Problems())
        _expand_parts(resized)
        return {problem.code for problem in resized.size_problems}

    size_problems = list(context.size_problems)
    first = size_problems[0]
    assert context.spec.input is not None  # otherwise no size would be known
    image = find_smallest_input(context.spec.input, codes_at, context.steps)
    if image is not None:
        _expand_parts(Context(replace(context.spec, input=image), context.library, context.library_names, problems))
        help = f"the smallest image that fits is {' x '.join(map(str, image))}"
        problems.add(replace(first, help=f"{first.help}; {help}" if first.help else help))
        return
    for problem in context.problems:
        problems.add(problem)
    for problem in size_problems:
        problems.add(problem)
        if problem.code == WINDOW:
            break  # the later ones are its consequences
