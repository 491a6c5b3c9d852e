"""Check scalars against their forms, and names against what they name; raise SpecError if a check fails."""

from __future__ import annotations

from typing import assert_never

from resnet_spec.diagnostics.problems import Problem, SpecError, quote
from resnet_spec.diagnostics.yaml_pitfalls import explain_pitfall
from resnet_spec.language.grammar import Naming, Simple, Value
from resnet_spec.language.reserved_names import WEIGHT_NAMES, why_reserved
from resnet_spec.language.values import (
    CONTROL_CHARACTER,
    IDENTIFIER,
    LAYER_NAME,
    MAX_NAME_LENGTH,
    MAX_TEXT_LENGTH,
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
from resnet_spec.syntax.nodes import Scalar

KEYWORDS = ("in", "none", "required")
"""Words with a fixed meaning, which no definition can have as its name."""

CALL_KEYS = ("op", "block")
"""The keys that make a mapping an operation or a block with arguments."""

LAYER_KEYS = (*CALL_KEYS, "branches", "collect")
"""The keys that make a mapping one layer. A mapping without them holds layers by name."""


def check_scalar(scalar: Scalar, form: Simple | Value) -> None:
    """Raise SpecError if a scalar does not have a form. Whether a name in it is defined is checked during expansion."""
    match form:
        case Simple.TEXT:
            if not is_text(scalar):
                help = "put it in quotes to make it text" if scalar.text else ""
                raise value_error("RS301", f"expected text, got {quote_value(scalar)}", scalar, help)
            if CONTROL_CHARACTER.search(scalar.text) or len(scalar.text) > MAX_TEXT_LENGTH:
                help = f"write one line of at most {MAX_TEXT_LENGTH:,} characters; >- joins the lines of a text"
                raise value_error("RS212", f"{quote(scalar.text)} is not one line of text", scalar, help)
        case Simple.REFERENCE:
            _check_reference(scalar, "a name", "a name starts with a letter or _")
        case Simple.LAYER | Simple.STAGE:
            help = "a layer is a name, an operation or block with arguments, or a mapping or list of layers"
            _check_reference(scalar, "a layer", help)
        case Simple.NUMBERING:
            _check_numbering(scalar)
        case Simple.ARGUMENT:
            _check_argument(scalar)
        case Simple.BRANCH:
            if scalar.text != "none":
                message = f"expected a mapping or list of layers, or none, got {quote_value(scalar)}"
                help = "name the layer, even if it is the only one of its branch: {conv1: ...}"
                raise value_error("RS301", message, scalar, help)
        case Simple.SPLIT:
            if not is_reference(scalar):
                decode_boolean(scalar)
        case Simple.GROUP | Simple.DEFAULTS | Simple.OPTIONS:
            raise value_error("RS201", "expected a mapping, got a single value", scalar)
        case Value(argument, accepts_name):
            if not (accepts_name and is_reference(scalar)):
                decode(scalar, argument)
        case _:
            assert_never(form)


def _check_reference(scalar: Scalar, expected: str, help: str) -> None:
    if not is_reference(scalar):
        help = explain_pitfall(scalar.text) or help if scalar.text else "write none to leave a layer out"
        raise value_error("RS301", f"expected {expected}, got {quote_value(scalar)}", scalar, help)


def _check_numbering(scalar: Scalar) -> None:
    placeholder = "{index}" if "{index}" in scalar.text else "{number}"
    example = scalar.text.replace(placeholder, "0", 1)
    if example == scalar.text or not LAYER_NAME.fullmatch(example) or len(scalar.text) > MAX_NAME_LENGTH:
        help = 'write "blocks.{index}", which counts from 0, or "b{number}", which counts from 1'
        raise value_error("RS301", f"{quote(scalar.text)} is not a pattern that numbers blocks", scalar, help)
    reason = why_reserved(scalar.text)
    if reason:
        raise value_error("RS213", f"blocks can't have this name: {reason}", scalar, "choose another name")


def _check_argument(scalar: Scalar) -> None:
    if is_reference(scalar):
        return
    if is_null(scalar):
        help = "write none to leave layers out"
        raise value_error("RS301", "expected a value, a name or layers, got nothing", scalar, help)
    if is_text(scalar):
        message = f"expected a value, a name or layers, got {quote_value(scalar)}"
        raise value_error("RS301", message, scalar, suggest_fix("a number", scalar, []))
    (decode_boolean if scalar.text.isalpha() else decode_number)(scalar)


def check_name(key: Scalar, naming: Naming, names_weight: bool = False) -> None:
    """Raise SpecError if a key is not a valid name for a layer, a stage or a definition.

    ``names_weight`` says that the layer is an operation whose weight has the layer's name, which may be ``bias``.
    """
    is_identifier = naming == "identifier"
    if is_identifier:
        pattern, rule = IDENTIFIER, "letters, digits, _ and -, starting with a letter or _"
    else:
        pattern, rule = LAYER_NAME, "letters, digits, _ and -, with dots between them"
    if not pattern.fullmatch(key.text) or len(key.text) > MAX_NAME_LENGTH:
        help = f"a name has at most {MAX_NAME_LENGTH} characters: {rule}"
        raise value_error("RS212", f"{quote(key.text)} is not a valid name", key, help)
    if is_identifier and (key.text in OPS or key.text in KEYWORDS):
        kind = "the name of an operation" if key.text in OPS else "a keyword"
        raise value_error("RS212", f"{key.text} is already {kind}", key, "choose another name")
    if not is_identifier and key.text in LAYER_KEYS:
        message = f"a {naming} can't be named {key.text}, which is the key that says what a layer is"
        help = "name the layer first: {conv1: {op: conv, ...}}" if naming == "layer" else "choose another name"
        raise value_error("RS212", message, key, help)
    last = key.text.rpartition(".")[2]
    checked = key.text.removesuffix(last).rstrip(".") if names_weight and last in WEIGHT_NAMES else key.text
    reason = "" if is_identifier else why_reserved(checked)
    if reason:
        raise value_error("RS213", f"no layer or stage can have this name: {reason}", key, "choose another name")


def check_argument_name(key: Scalar, partial: bool) -> None:
    """Raise SpecError if a key is not a valid name for an argument or, in a partial spec, for a layer."""
    if not (LAYER_NAME if partial else IDENTIFIER).fullmatch(key.text) or len(key.text) > MAX_NAME_LENGTH:
        raise SpecError([Problem("RS212", f"{quote(key.text)} is not a valid argument name", key.span)])
