"""A single value against its form, and a name against what it names. Each function raises SpecError with what is wrong."""

from __future__ import annotations

from typing import assert_never

from resnet_spec.diagnostics.problems import Problem, SpecError, quote
from resnet_spec.diagnostics.yaml_pitfalls import explain_pitfall
from resnet_spec.language.grammar import Naming, Simple, Value
from resnet_spec.language.reserved_names import why_reserved
from resnet_spec.language.spec import Word
from resnet_spec.language.values import (
    IDENTIFIER,
    LAYER_NAME,
    MAX_NAME_LENGTH,
    decode,
    decode_boolean,
    decode_number,
    is_null,
    is_reference,
    is_text,
    quote_value,
    suggest_fix,
    value_error,
)
from resnet_spec.ops import OPS

KEYWORDS = ("in", "none", "required")
"""Words that stand for something wherever they are written."""

CALL_KEYS = ("op", "block")
"""The keys that make a mapping an operation or a block with arguments."""

LAYER_KEYS = (*CALL_KEYS, "branches")
"""The keys that make a mapping one layer, and not layers by name."""


def check_scalar(word: Word, form: Simple | Value) -> None:
    """Whether a word fits a form; that it names something known is for ``expand.py`` to see."""
    match form:
        case Simple.TEXT:
            if not is_text(word):
                raise value_error(
                    "RS301",
                    f"expected text, got {quote_value(word)}",
                    word,
                    "in quotes it is text" if word.text else "",
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
                raise value_error("RS301", f"expected layers in a row, or none, got {quote_value(word)}", word, help)
        case Simple.GROUP | Simple.DEFAULTS | Simple.OPTIONS:
            raise value_error("RS201", "expected a mapping, got a single value", word)
        case Value(argument, named):
            if not (named and is_reference(word)):
                decode(word, argument)
        case _:
            assert_never(form)


def _reference(word: Word, what: str, help: str) -> None:
    if not is_reference(word):
        help = explain_pitfall(word.text) or help if word.text else "write none to leave a layer out"
        raise value_error("RS301", f"expected {what}, got {quote_value(word)}", word, help)


def _numbering(word: Word) -> None:
    mark = "{index}" if "{index}" in word.text else "{number}"
    bare = word.text.replace(mark, "0", 1)
    if bare == word.text or not LAYER_NAME.fullmatch(bare) or len(word.text) > MAX_NAME_LENGTH:
        help = 'write "blocks.{index}", which counts from 0, or "b{number}", which counts from 1'
        raise value_error("RS301", f"{quote(word.text)} does not number blocks", word, help)
    reason = why_reserved(word.text)
    if reason:
        raise value_error("RS213", f"no block can be called so: {reason}", word, "call it otherwise")


def _given(word: Word) -> None:
    if is_reference(word):
        return
    if is_null(word):
        help = "write none to leave layers out"
        raise value_error("RS301", "expected a value, a name or layers, got nothing", word, help)
    if is_text(word):
        message = f"expected a value, a name or layers, got {quote_value(word)}"
        raise value_error("RS301", message, word, suggest_fix("a number", word, []))
    (decode_boolean if word.text.isalpha() else decode_number)(word)


def check_name(key: Word, what: Naming) -> None:
    """Whether a layer, a stage or something of one's own can be called so."""
    own = what == "own"
    pattern, may = (
        (IDENTIFIER, "letters, digits, _ and -")
        if own
        else (LAYER_NAME, "letters, digits, _ and -, and dots between them")
    )
    if not pattern.fullmatch(key.text) or len(key.text) > MAX_NAME_LENGTH:
        help = f"a name is {may}, {MAX_NAME_LENGTH} at most"
        raise value_error("RS212", f"{quote(key.text)} can't name anything here", key, help)
    if own and (key.text in OPS or key.text in KEYWORDS):
        already = "an operation" if key.text in OPS else "a word of the language"
        raise value_error("RS212", f"{key.text} is {already} already", key, "call it otherwise")
    if what == "layer" and key.text in LAYER_KEYS:
        help = "give the layer a name, and say there what it is: {conv1: {op: conv, ...}}"
        raise value_error("RS212", f"a layer can't be called {key.text}, which says what a layer is", key, help)
    reason = "" if own else why_reserved(key.text)
    if reason:
        raise value_error("RS213", f"nothing in a network can be called so: {reason}", key, "call it otherwise")


def check_argument_name(key: Word, partial: bool) -> None:
    """Whether an argument can be called so. In part of a file it may be a layer's name as well."""
    if not (LAYER_NAME if partial else IDENTIFIER).fullmatch(key.text) or len(key.text) > MAX_NAME_LENGTH:
        raise SpecError([Problem("RS212", f"{quote(key.text)} can't name an argument", key.at)])
