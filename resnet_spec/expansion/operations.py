"""One operation of a network: its arguments bound, its shape worked out, and what does not fit it told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from resnet_spec.diagnostics.problems import Note, Span, quote
from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.expansion.context import Context, Expansion
from resnet_spec.expansion.scopes import Bound, Invocation
from resnet_spec.language.scalars import CALL_KEYS
from resnet_spec.language.values import operation_arguments
from resnet_spec.network.input_size import WINDOW
from resnet_spec.network.parts import Leaf
from resnet_spec.ops import OPS, Shape, ShapeError

UNKNOWN_SIDE = 2**20
"""A height and width that no window is too wide for, where a problem before keeps them from being known."""


def expand_operation(context: Context, path: str, name: str, use: Invocation, input_shape: Shape | None) -> Expansion:
    """The operation of a name, used at a path."""
    values, whole = _values(context, path, name, use)
    if not whole or input_shape is None:
        context.lose_shape()
        return [], _guess(name, values)
    op = OPS[name](**values)
    try:
        output_shape = op.output_shape(input_shape)
    except ShapeError as error:
        _misfit(context, path, use, error)
        known = error.output_shape is not None and len(error.output_shape) == len(input_shape)
        return [], error.output_shape if known else context.lose_shape()
    if not context.spatial_size_unknown:
        context.count(use.at, parameters=sum(math.prod(weight.shape) for weight in op.weights(input_shape)))
    context.paths.claim(path, use.at)
    return [Leaf(path, op, input_shape, output_shape, use.at)], output_shape


def _values(context: Context, path: str, name: str, use: Invocation) -> tuple[dict[str, Any], bool]:
    """An operation's arguments, of the types that its declaration says, and whether that is all of them."""
    known = operation_arguments(name)
    written = use.arguments
    if name in context.spec.defaults:
        usual = context.spec.defaults[name]
        written = {**{key: Bound(word, context.names.scope) for key, word in usual.items()}, **written}
    values: dict[str, Any] = {}
    for key, bound in written.items():
        if key not in known:
            at = use.names[key].at if key in use.names else bound.written.at
            context.reporter.report(
                "RS205", f"{name} does not take {quote(key)}", at, suggest(key, [*known, *CALL_KEYS], written)
            )
            continue
        note = partial(note_origin, f"{path} takes its {key} from there", bound.written.at)
        value = context.try_or_report(partial(context.names.typed, bound, known[key]), note)
        if value is not None:
            values[key] = value
    missing = [key for key, argument in known.items() if argument.required and key not in written]
    if missing:
        context.reporter.report("RS206", f"{name} needs {' and '.join(missing)}", use.at)
    return values, len(values) == len(written) and not missing


def _guess(name: str, values: Mapping[str, Any]) -> Shape | None:
    """What an operation gives for all that is known, so that what follows from it can be looked at too."""
    match name:
        case "conv" if "out" in values:
            return values["out"], UNKNOWN_SIDE, UNKNOWN_SIDE
        case "linear" if "out" in values:
            return (values["out"],)
        case _:
            return None


def _misfit(context: Context, path: str, use: Invocation, error: ShapeError) -> None:
    if error.small and context.spatial_size_unknown:
        return
    at: Span = use.at
    notes: list[Note] = []
    if error.argument in use.arguments:
        culprit = use.arguments[error.argument]
        at = context.names.word(culprit).at
        notes = note_origin(f"{path} takes its {error.argument} from there", culprit.written.at, at)
    others = [context.names.word(use.arguments[error.other]).at] if error.other in use.arguments else []
    message = f"{error} of {path}" if str(error).endswith("channels") else f"{error}, in {path}"
    code, to = (WINDOW, context.size_problems) if error.small else ("RS401", None)
    context.reporter.report(code, message, at, error.help, notes, others, to)


def note_origin(message: str, written: Span, at: Span) -> list[Note]:
    """A note on where something is written, if that is not the place of its problem."""
    return [] if at == written else [Note(message, written)]
