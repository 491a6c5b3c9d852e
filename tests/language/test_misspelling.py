"""Test that a key with a missing letter or two swapped letters is an error that suggests the right key first."""

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

SPECS, MAX_MISSPELLINGS = 20, 60
"""The number of specs read and of misspellings tried: samples with a fixed seed, so that time does not grow."""

COMPLETE_LAYER_OR_BLOCK = ({"op"}, {"block"}, {"branch"})
"""Sets of keys of which a complete layer or block has one; others are parts of the base's layer or block."""

COMPLETE_STAGE = {"block", "depth"}
"""Keys that a complete stage has."""


class Key(NamedTuple):
    """A key, and whether its author chose the name: if misspelt, it then makes another valid network."""

    span: Span
    is_chosen: bool

    def __str__(self) -> str:
        return self.span.source.line(self.span.line)[self.span.column - 1 : self.span.end - 1]


def entries(node: Node | None) -> dict[str, Node]:
    """Return the values of a mapping by name; none for other nodes."""
    return {key.text: value for key, value in node.items} if isinstance(node, Mapping) else {}


def keys(node: Node, form: Form, base: Node | None) -> Iterator[Key]:
    """Yield the keys of a document that extends a base: keys of the language, and names that the author chose."""
    match form:
        case Record():
            for key, value in node.items if isinstance(node, Mapping) else ():
                yield Key(key.span, False)
                inner = form.keys[key.text].form if key.text in form.keys else Simple.ARGUMENT
                yield from keys(value, inner, entries(base).get(key.text))
        case Names(_, each):
            yield from chosen_names(node, each, base)
        case Simple.DEFAULTS:
            for key, value in node.items if isinstance(node, Mapping) else ():
                yield Key(key.span, False)
                yield from (
                    (Key(argument.span, False) for argument, _ in value.items) if isinstance(value, Mapping) else ()
                )
        case Items(each) | PerBlock(each) if not isinstance(node, List):
            yield from keys(node, each, base)
        case _ if isinstance(node, List):
            for item in node.items:
                yield from keys(item, Simple.LAYER, None)
        case Simple.GROUP | Simple.LAYER | Simple.ARGUMENT if isinstance(node, Mapping):
            if form is not Simple.GROUP and {"op", "block"} & {*entries(node), *entries(base)}:
                for key, value in node.items:
                    yield Key(key.span, False)
                    yield from keys(value, Simple.ARGUMENT, None)
            else:
                yield from chosen_names(node, Simple.LAYER, base)


def chosen_names(node: Node, each: Form, base: Node | None) -> Iterator[Key]:
    for key, value in node.items if isinstance(node, Mapping) else ():
        inner = entries(base).get(key.text)
        present = entries(value).keys()
        if isinstance(each, Record) and each.other_keys:
            is_complete = present >= COMPLETE_STAGE
        else:
            is_complete = not isinstance(value, Mapping) or any(present >= some for some in COMPLETE_LAYER_OR_BLOCK)
        # The name of an incomplete entry is that of the base's entry, and not chosen here.
        yield Key(key.span, inner is None or is_complete)
        yield from keys(value, each, inner)


def misspellings(key: str) -> list[str]:
    """Return the key with each letter deleted, and with each pair of adjacent letters swapped."""
    deleted = {key[:at] + key[at + 1 :] for at in range(len(key))}
    swapped = {key[:at] + key[at + 1] + key[at] + key[at + 2 :] for at in range(len(key) - 1)}
    return sorted(word for word in deleted | swapped if word and word != key)


def cases() -> list[tuple[Key, str]]:
    """Return a sample of misspelt keys of bundled specs."""
    rng, all_cases = random.Random(0), []
    for name in rng.sample(bundled.names(), SPECS):
        source = find_source(name)
        root = parse(source)
        base = load_base(root, Path(source.name).parent)
        all_cases += [(key, word) for key in keys(root, SPEC, base) for word in misspellings(str(key))]
    return rng.sample(all_cases, min(MAX_MISSPELLINGS, len(all_cases)))


def load_base(root: Node, folder: Path) -> Node | None:
    """Return the document that a document in a folder extends, merged over its own base; None if it extends none."""
    name = getattr(entries(root).get("extends"), "text", None)
    if name is None:
        return None
    file = folder / f"{name}.yaml"
    return load_document(find_source(file if file.is_file() else name))


def is_corrected(key: Key, word: str) -> bool:
    """Return whether a misspelt key is an error, and the first suggestion is the right key."""
    lines = key.span.source.text.split("\n")
    line = lines[key.span.line - 1]
    lines[key.span.line - 1] = line[: key.span.column - 1] + word + line[key.span.end - 1 :]
    try:
        loads("\n".join(lines), name=key.span.source.name)
    except SpecError as error:
        suggested = [problem.help for problem in error.problems if "did you mean" in problem.help]
        return bool(suggested) and f"did you mean {str(key)!r}" in suggested[0]
    return False


def test_the_right_key_is_suggested_for_a_misspelt_one(capsys: pytest.CaptureFixture[str]) -> None:
    results = [(key, word, is_corrected(key, word)) for key, word in cases()]
    of_language = [corrected for key, _, corrected in results if not key.is_chosen]
    share = sum(of_language) / len(of_language)
    share_of_all = sum(corrected for *_, corrected in results) / len(results)
    with capsys.disabled():
        print(
            f"\nmisspelt keys that are errors with the right key as first suggestion: {share:.2%} of"
            f" {len(of_language):,}; {share_of_all:.2%} of {len(results):,} if names that authors choose are included"
        )
    missed = [f"{key.span}: {key} as {word}" for key, word, corrected in results if not corrected and not key.is_chosen]
    assert share >= 0.95, missed
