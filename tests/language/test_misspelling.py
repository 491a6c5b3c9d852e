"""A letter missing from a key, or two of its letters swapped: that is refused, and the right key suggested first."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from resnet_spec import SpecError
from resnet_spec.diagnostics.problems import Span
from resnet_spec.language.grammar import SPEC, Form, Items, Names, PerBlock, Record, Simple
from resnet_spec.library import bundled
from resnet_spec.library.load import find_source, load_document, loads
from resnet_spec.syntax.nodes import List, Mapping, Node, parse

MOST = 1500
"""How many misspellings are tried, drawn from all by a fixed seed, so that the test takes as long whatever is bundled."""

WHOLE = ({"op"}, {"block"}, {"branch"}, {"block", "depth"})
"""Keys of which a layer, a block or a stage has some if it is said as a whole."""


class Key(NamedTuple):
    """A key, and whether its author was free to choose it: called otherwise, it makes another network, and no mistake."""

    at: Span
    free: bool

    def __str__(self) -> str:
        return self.at.source.line(self.at.line)[self.at.column - 1 : self.at.end - 1]


def names(node: Node | None) -> dict[str, Node]:
    return {key.text: value for key, value in node.items} if isinstance(node, Mapping) else {}


def keys(node: Node, form: Form, base: Node | None) -> Iterator[Key]:
    """The keys of a document, merged over a base: the language's, and names that an author gives."""
    match form:
        case Record():
            for key, value in node.items if isinstance(node, Mapping) else ():
                yield Key(key.at, False)
                inner = form.keys[key.text].form if key.text in form.keys else Simple.GIVEN
                yield from keys(value, inner, names(base).get(key.text))
        case Names(_, each):
            yield from named(node, each, base)
        case Simple.DEFAULTS:
            for key, value in node.items if isinstance(node, Mapping) else ():
                yield Key(key.at, False)
                yield from (
                    (Key(argument.at, False) for argument, _ in value.items) if isinstance(value, Mapping) else ()
                )
        case Items(each) | PerBlock(each) if not isinstance(node, List):
            yield from keys(node, each, base)
        case _ if isinstance(node, List):
            for item in node.items:
                yield from keys(item, Simple.LAYER, None)
        case Simple.GROUP | Simple.LAYER | Simple.GIVEN if isinstance(node, Mapping):
            if form is not Simple.GROUP and {"op", "block"} & {*names(node), *names(base)}:
                for key, value in node.items:
                    yield Key(key.at, False)
                    yield from keys(value, Simple.GIVEN, None)
            else:
                yield from named(node, Simple.LAYER, base)


def named(node: Node, each: Form, base: Node | None) -> Iterator[Key]:
    for key, value in node.items if isinstance(node, Mapping) else ():
        inner = names(base).get(key.text)
        whole = not isinstance(value, Mapping) or any(some <= names(value).keys() for some in WHOLE[:3])
        if isinstance(each, Record) and each.rest:
            whole = WHOLE[3] <= names(value).keys()
        # One that says in part what the base says is the base's name, and not free.
        yield Key(key.at, inner is None or whole)
        yield from keys(value, each, inner)


def misspellings(key: str) -> list[str]:
    deleted = {key[:at] + key[at + 1 :] for at in range(len(key))}
    swapped = {key[:at] + key[at + 1] + key[at] + key[at + 2 :] for at in range(len(key) - 1)}
    return sorted(word for word in deleted | swapped if word and word != key)


def cases() -> list[tuple[Key, str]]:
    """Misspelt keys of all bundled specs: as many as there is time for."""
    found = []
    for name in bundled.names():
        text = find_source(name)
        root = parse(text)
        base = based(root, Path(text.name).parent)
        found += [(key, word) for key in keys(root, SPEC, base) for word in misspellings(str(key))]
    return random.Random(0).sample(found, min(MOST, len(found)))


def based(root: Node, beside: Path) -> Node | None:
    """What a document extends, a file beside its own or a bundled spec, with all that it extends in turn."""
    name = getattr(names(root).get("extends"), "text", None)
    if name is None:
        return None
    file = beside / f"{name}.yaml"
    return load_document(find_source(file if file.is_file() else name))


def right(key: Key, word: str) -> bool:
    """Whether a misspelt key is refused, and what it was is the first thing suggested."""
    lines = key.at.source.text.split("\n")
    line = lines[key.at.line - 1]
    lines[key.at.line - 1] = line[: key.at.column - 1] + word + line[key.at.end - 1 :]
    try:
        loads("\n".join(lines), name=key.at.source.name)
    except SpecError as error:
        suggested = [problem.help for problem in error.problems if "did you mean" in problem.help]
        return bool(suggested) and f"did you mean {str(key)!r}" in suggested[0]
    return False


def test_a_misspelt_key_is_told_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    tried = cases()
    told = [(key, word, right(key, word)) for key, word in tried]
    ours = [well for key, _, well in told if not key.free]
    share = sum(ours) / len(ours)
    every = sum(well for *_, well in told) / len(told)
    with capsys.disabled():
        print(
            f"\nmisspelt keys refused, with the right one suggested first: {share:.2%} of {len(ours):,};"
            f" {every:.2%} of {len(told):,} where names that an author is free to choose count too"
        )
    assert share >= 0.95, [f"{key.at}: {key} as {word}" for key, word, well in told if not well and not key.free]
