"""A single value against its form, and a name against what it names. Each function raises SpecError with what is wrong."""

from __future__ import annotations

from typing import assert_never

from resnet_spec.diagnostics.problems import Problem, SpecError, shown
from resnet_spec.diagnostics.yaml_pitfalls import trap
from resnet_spec.language.grammar import Naming, Simple, Value
from resnet_spec.language.reserved_names import reserved
from resnet_spec.language.spec import Word
from resnet_spec.language.values import (
    LONGEST_NAME,
    NAME,
    TAKEN,
    boolean,
    null,
    number,
    quoted,
    reference,
    remedy,
    text,
    typed,
    wrong,
)
from resnet_spec.ops import OPS

MEANINGS = ("in", "none", "required")
"""Words that stand for something wherever they are written."""

CALLS = ("op", "block")
"""The keys that make a mapping an operation or a block with arguments."""

LAYER_KEYS = (*CALLS, "branches")
"""The keys that make a mapping one layer, and not layers by name."""


def fitting(word: Word, form: Simple | Value) -> None:
    """Whether a word fits a form; that it names something known is for ``expand.py`` to see."""
    match form:
        case Simple.TEXT:
            if not text(word):
                raise wrong(
                    "RS301", f"expected text, got {quoted(word)}", word, "in quotes it is text" if word.text else ""
                )
        case Simple.REFERENCE:
            _reference(word, "a name", "a name starts with a letter or _")
        case Simple.LAYER:
            _reference(word, "a layer", "a layer is a name, an operation or block with arguments, or layers in a row")
        case Simple.NUMBERING:
            _numbering(word)
        case Simple.GIVEN:
            _given(word)
        case Simple.BRANCH:
            if word.text != "none":
                help = "a branch of one layer names it too: {conv1: ...}"
                raise wrong("RS301", f"expected layers in a row, or none, got {quoted(word)}", word, help)
        case Simple.GROUP | Simple.DEFAULTS | Simple.OPTIONS:
            raise wrong("RS201", "expected a mapping, got a single value", word)
        case Value(argument, named):
            if not (named and reference(word)):
                typed(word, argument)
        case _:
            assert_never(form)


def _reference(word: Word, what: str, help: str) -> None:
    if not reference(word):
        help = trap(word.text) or help if word.text else "write none to leave a layer out"
        raise wrong("RS301", f"expected {what}, got {quoted(word)}", word, help)


def _numbering(word: Word) -> None:
    mark = "{index}" if "{index}" in word.text else "{number}"
    bare = word.text.replace(mark, "0", 1)
    if bare == word.text or not NAME.fullmatch(bare) or len(word.text) > LONGEST_NAME:
        help = 'write "blocks.{index}", which counts from 0, or "b{number}", which counts from 1'
        raise wrong("RS301", f"{shown(word.text)} does not number blocks", word, help)
    reason = reserved(word.text)
    if reason:
        raise wrong("RS213", f"no block can be called so: {reason}", word, "call it otherwise")


def _given(word: Word) -> None:
    if reference(word):
        return
    if null(word):
        help = "write none to leave layers out"
        raise wrong("RS301", "expected a value, a name or layers, got nothing", word, help)
    if text(word):
        message = f"expected a value, a name or layers, got {quoted(word)}"
        raise wrong("RS301", message, word, remedy("a number", word, []))
    (boolean if word.text.isalpha() else number)(word)


def naming(key: Word, what: Naming) -> None:
    """Whether a layer, a stage or something of one's own can be called so."""
    own = what == "own"
    pattern, may = (
        (TAKEN, "letters, digits, _ and -") if own else (NAME, "letters, digits, _ and -, and dots between them")
    )
    if not pattern.fullmatch(key.text) or len(key.text) > LONGEST_NAME:
        help = f"a name is {may}, {LONGEST_NAME} at most"
        raise wrong("RS212", f"{shown(key.text)} can't name anything here", key, help)
    if own and (key.text in OPS or key.text in MEANINGS):
        already = "an operation" if key.text in OPS else "a word of the language"
        raise wrong("RS212", f"{key.text} is {already} already", key, "call it otherwise")
    if what == "layer" and key.text in LAYER_KEYS:
        help = "give the layer a name, and say there what it is: {conv1: {op: conv, ...}}"
        raise wrong("RS212", f"a layer can't be called {key.text}, which says what a layer is", key, help)
    reason = "" if own else reserved(key.text)
    if reason:
        raise wrong("RS213", f"nothing in a network can be called so: {reason}", key, "call it otherwise")


def argument(key: Word, partial: bool) -> None:
    """Whether an argument can be called so. In part of a file it may be a layer's name as well."""
    if not (NAME if partial else TAKEN).fullmatch(key.text) or len(key.text) > LONGEST_NAME:
        raise SpecError([Problem("RS212", f"{shown(key.text)} can't name an argument", key.at)])
