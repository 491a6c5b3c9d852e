"""Names that a file gives, and nothing in it asks for: most likely they were to be another's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from resnet_spec.diagnostics.problems import Problems
from resnet_spec.diagnostics.suggestions import nearest
from resnet_spec.expansion.scopes import NameTable
from resnet_spec.language.spec import Argument, Branches, Call, Group, Invalid, PerBlockValues, Spec, Word


def report_unused(spec: Spec, names: NameTable, problems: Problems) -> None:
    """Note what the file that was read takes or configures for nothing. What it extends may have more than it needs."""
    for what, given, values in (("takes", spec.taken, spec.takes), ("layers", spec.configured, spec.layers)):
        for name, key in given.items():
            if key.at.source is not spec.at.source or id(values[name]) in names.asked:
                continue
            if name in _words(spec, what):
                continue
            near = nearest(name, [other for other in given if other != name])
            help = f"did you mean {near!r}?" if near else "take it away, or name it where it is to count"
            problems.report("RS214", f"nothing uses {name!r}", key.at, help)


def _words(spec: Spec, what: str) -> set[str]:
    """The words that a spec holds, wherever they would be looked up."""
    stages: list[Argument | None] = []
    for stage in spec.stages:
        for given in (stage.arguments, stage.first.arguments, stage.last.arguments):
            stages += given.values()
        stages += [stage.block, stage.depth]
    usual = [word for arguments in spec.defaults.values() for word in arguments.values()]
    found: list[Argument | None] = [spec.stem, spec.head, *stages, *usual, *spec.layers.values(), *spec.takes.values()]
    if what == "layers":
        found += [
            group
            for block in spec.blocks.values()
            if not isinstance(block, Invalid)
            for group in block.sections.values()
        ]
    return set(_texts(found))


def _texts(arguments: Iterable[Argument | None]) -> Iterator[str]:
    for argument in arguments:
        match argument:
            case Word(text=text):
                yield text
            case Call(target=target, arguments=inner):
                yield target.text
                yield from _texts(inner.values())
            case Group(layers=layers):
                yield from _texts(layer for _, layer in layers)
            case PerBlockValues(items=items):
                yield from _texts(items)
            case Branches(branches=branches, split=split, cascade=cascade):
                yield from _texts([*branches, split, cascade])
