"""Report names that a file defines or a caller sets, and nothing uses: they are misspelt, or have no effect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from resnet_spec.diagnostics.problems import Problems
from resnet_spec.diagnostics.suggestions import find_nearest
from resnet_spec.expansion.error_sites import is_setting
from resnet_spec.expansion.scopes import NameTable
from resnet_spec.language.spec import (
    Argument,
    Branches,
    Call,
    Collect,
    Group,
    Invalid,
    PerBlockValues,
    Repeat,
    Spec,
    Values,
)
from resnet_spec.syntax.nodes import Scalar


def report_unused(spec: Spec, names: NameTable, problems: Problems) -> None:
    """Report unused names under ``takes`` and ``layers`` of the spec's own file; a base may define unused names."""
    for section, keys in (("takes", spec.takes_keys), ("layers", spec.layers_keys)):
        for name, key in keys.items():
            if key.span.source is not spec.span.source or (section, name) in names.used | names.mentioned:
                continue
            if name in _possible_names(spec, section):
                continue
            suggestion = find_nearest(name, [other for other in keys if other != name])
            help = f"did you mean {suggestion!r}?" if suggestion else "remove it, or use it"
            problems.report("RS214", f"nothing uses {name!r}", key.span, help)


def report_settings_without_effect(spec: Spec, names: NameTable, problems: Problems) -> None:
    """Report values that the caller set for names to which no layer of the network refers."""
    sections: dict[str, Mapping[str, Argument | None]] = {"takes": spec.takes, "layers": spec.layers}
    for section, values in sections.items():
        for name, value in values.items():
            if value is not None and is_setting(value.span) and (section, name) not in names.used:
                message = f"{name} has no effect: no layer of {spec.name} refers to it"
                problems.report("RS215", message, value.span, "leave it out")


def _possible_names(spec: Spec, section: str) -> set[str]:
    """Return the text of every value in a spec that may refer to a name in a section, "takes" or "layers".

    A name may be written in a place that this network does not look up, such as an unused block.
    """
    sections = [spec.stem, spec.stages, spec.head]
    arguments: list[Argument | None] = [*sections, *spec.layers.values(), *spec.takes.values()]
    for defaults in spec.defaults.values():
        arguments += defaults.values()
    if section == "layers":  # blocks can't refer to names under takes
        for block in spec.blocks.values():
            arguments += () if isinstance(block, Invalid) else block.sections.values()
    return set(_texts(arguments))


def _texts(arguments: Iterable[Argument | None]) -> Iterator[str]:
    """Yield the text of every scalar in some arguments."""
    for argument in arguments:
        match argument:
            case Scalar(text=text):
                yield text
            case Call(target=target, arguments=inner):
                yield target.text
                yield from _texts(inner.values())
            case Group(layers=layers):
                yield from _texts(layer for _, layer in layers)
            case Repeat():
                yield from _texts([argument.block, argument.depth, *argument.arguments.values()])
                yield from _texts([*argument.first.arguments.values(), *argument.last.arguments.values()])
            case Collect(layers=layers):
                yield from _texts([layers])
            case Values(items=items) | PerBlockValues(items=items):
                yield from _texts(items)
            case Branches(branches=branches, split=split, cascade=cascade):
                yield from _texts([*branches, split, cascade])
