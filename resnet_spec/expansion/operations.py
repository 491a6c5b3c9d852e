"""Expand one operation: bind its arguments, infer its output shape, report what does not fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from resnet_spec.diagnostics.problems import Note, Span, quote
from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.expansion.context import MAX_MAP_VALUES, Context, Expansion
from resnet_spec.expansion.scopes import Bound, Invocation
from resnet_spec.language.scalars import CALL_KEYS
from resnet_spec.language.values import operation_arguments
from resnet_spec.network.input_size import WINDOW
from resnet_spec.network.parts import Leaf
from resnet_spec.ops import OPS, Op, Shape, ShapeError, per_axis

UNKNOWN_SIDE = 2**20
"""The height and width assumed where a problem keeps them from being known: no window is too large for it."""


def expand_operation(context: Context, path: str, name: str, use: Invocation, input_shape: Shape | None) -> Expansion:
    """Expand the use of an operation, by its name, at a path."""
    values, is_complete = _decode_arguments(context, path, name, use)
    if not is_complete or input_shape is None:
        context.lose_shape()
        return [], _guess_output_shape(name, values)
    op = OPS[name](**values)
    try:
        output_shape = op.output_shape(input_shape)
    except ShapeError as error:
        _report_shape_error(context, path, use, error)
        is_known = error.output_shape is not None and len(error.output_shape) == len(input_shape)
        return [], error.output_shape if is_known else context.lose_shape()
    if not context.spatial_size_unknown:
        if _has_too_many_values(context, path, use, op, input_shape, output_shape):
            return [], context.lose_shape()
        context.count(use.span, parameters=sum(math.prod(weight.shape) for weight in op.weights(input_shape)))
    context.paths.claim(path, use.span)
    return [Leaf(path, op, input_shape, output_shape, use.span)], output_shape


def _decode_arguments(context: Context, path: str, name: str, use: Invocation) -> tuple[dict[str, Any], bool]:
    """Return an operation's typed arguments, and whether they are complete and valid."""
    known = operation_arguments(name)
    written = use.arguments
    if name in context.spec.defaults:
        defaults = context.spec.defaults[name].items()
        written = {**{key: Bound(value, context.names.scope) for key, value in defaults}, **written}
    values: dict[str, Any] = {}
    for key, bound in written.items():
        if key not in known:
            span = use.keys[key].span if key in use.keys else bound.written.span
            help = suggest(key, [*known, *CALL_KEYS], written)
            context.reporter.report("RS205", f"{name} does not take {quote(key)}", span, help)
            continue
        note = partial(note_origin, f"{path} takes its {key} from here", bound.written.span)
        value = context.try_or_report(partial(context.names.decode, bound, known[key]), note)
        if value is not None:
            values[key] = value
    missing = [key for key, argument in known.items() if argument.required and key not in written]
    if missing:
        context.reporter.report("RS206", f"{name} needs {' and '.join(missing)}", use.span)
    return values, len(values) == len(written) and not missing


def _has_too_many_values(
    context: Context, path: str, use: Invocation, op: Op, input_shape: Shape, output_shape: Shape
) -> bool:
    """Return whether an operation's padded input or its output exceeds the limit, and report that."""
    padding = getattr(op, "padding", 0)
    sides = per_axis(0 if isinstance(padding, str) else padding)  # same adds less than a window to a map
    padded = input_shape[0] * math.prod(side + 2 * margin for side, margin in zip(input_shape[1:], sides, strict=False))
    values = max(padded, math.prod(output_shape))
    if values <= MAX_MAP_VALUES:
        return False
    message = f"a map of {path} has {values:,} values for one image; the limit is {MAX_MAP_VALUES:,}"
    context.reporter.report("RS104", message, use.span, to=context.size_problems)
    return True


def _guess_output_shape(name: str, values: Mapping[str, Any]) -> Shape | None:
    """Return the output shape of an invalid operation as far as it is known, so that later layers can be checked."""
    match name:
        case "conv" if "out" in values:
            return values["out"], UNKNOWN_SIDE, UNKNOWN_SIDE
        case "linear" if "out" in values:
            return (values["out"],)
        case _:
            return None


def _report_shape_error(context: Context, path: str, use: Invocation, error: ShapeError) -> None:
    if error.input_too_small and context.spatial_size_unknown:
        return
    span: Span = use.span
    notes: list[Note] = []
    if error.argument in use.arguments:
        argument = use.arguments[error.argument]
        span = context.names.scalar(argument).span
        notes = note_origin(f"{path} takes its {error.argument} from here", argument.written.span, span)
    others = [context.names.scalar(use.arguments[error.related]).span] if error.related in use.arguments else []
    code, to = (WINDOW, context.size_problems) if error.input_too_small else ("RS401", None)
    context.reporter.report(code, error.describe_in(path), span, error.help, notes, others, to)


def note_origin(message: str, written: Span, span: Span) -> list[Note]:
    """Return a note on where a value is used, if its problem is shown elsewhere."""
    return [] if span == written else [Note(message, written)]
