"""Determine the number of blocks in a stage, and the arguments of each."""

from __future__ import annotations

from resnet_spec.diagnostics.problems import Note
from resnet_spec.expansion.context import MAX_LAYERS, Context
from resnet_spec.expansion.scopes import Bound, Invocation, with_input_channels
from resnet_spec.language.spec import Argument, Invalid, PerBlockValues, Stage
from resnet_spec.language.values import decode_integer
from resnet_spec.ops import Shape


def stage_depth(context: Context, stage: Stage) -> int | None:
    """Return how many blocks a stage has, or None if that is invalid."""
    scope = context.names.scope
    depth = context.try_or_report(
        lambda: decode_integer(context.names.scalar(Bound(stage.depth, scope)), scope, least=1)
    )
    if depth and context.layers + depth > MAX_LAYERS:
        context.count(stage.depth.span, layers=depth)
    return depth


def lists_match_depth(context: Context, stage: Stage, depth: int) -> bool:
    """Return whether each list of a stage has one value per block; report those that do not."""
    fits = True
    for name, argument in {"block": stage.block, **stage.arguments}.items():
        if isinstance(argument, PerBlockValues) and len(argument.items) != depth:
            message = f"{name} is a list of {len(argument.items)} values, but the stage has {depth} blocks"
            notes = [Note("depth is set here", stage.depth.span)]
            context.reporter.report("RS303", message, argument.span, notes=notes)
            fits = False
    return fits


def block_invocation(context: Context, stage: Stage, index: int, depth: int, input_shape: Shape | None) -> Invocation:
    """Return the use of one block of a stage: its item of each list, and a single stride for the first block only."""
    context.step(stage.span, 1 + len(context.names.scope) + len(stage.arguments))
    scope = with_input_channels(context.names.scope, input_shape, stage.span)
    arguments = {
        name: Bound(_item(argument, index), scope)
        for name, argument in stage.arguments.items()
        if isinstance(argument, PerBlockValues) or name != "stride" or index == 0
    }
    keys = dict(stage.keys)
    for override in [stage.first] * (index == 0) + [stage.last] * (index == depth - 1):
        arguments |= {name: Bound(argument, scope) for name, argument in override.arguments.items()}
        keys |= override.keys
    block = arguments.pop("block", Bound(_item(stage.block, index), scope))
    return Invocation("block", block, arguments, keys, stage.span, stage.project, index)


def _item(argument: Argument, index: int) -> Argument:
    """Return one block's value of a stage's argument; Invalid if a list is too short, which is reported already."""
    if not isinstance(argument, PerBlockValues):
        return argument
    return argument.items[index] if index < len(argument.items) else Invalid(argument.span)
