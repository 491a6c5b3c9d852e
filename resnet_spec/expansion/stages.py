"""A stage's blocks: how many, and what each of them is told."""

from __future__ import annotations

from resnet_spec.diagnostics.problems import Note
from resnet_spec.expansion.context import MAX_LAYERS, Context
from resnet_spec.expansion.scopes import Bound, Invocation, with_input_channels
from resnet_spec.language.spec import Argument, Invalid, PerBlockValues, Stage
from resnet_spec.language.values import decode_integer
from resnet_spec.ops import Shape


def stage_depth(context: Context, stage: Stage) -> int | None:
    """How many blocks a stage has; None if that is wrong."""
    scope = context.names.scope
    depth = context.try_or_report(lambda: decode_integer(context.names.word(Bound(stage.depth, scope)), scope, least=1))
    if depth and context.layers + depth > MAX_LAYERS:
        context.count(stage.depth.at, layers=depth)
    return depth


def lists_match_depth(context: Context, stage: Stage, depth: int) -> bool:
    """Whether each list that a stage gives has a value for each of its blocks."""
    fits = True
    for name, argument in {"block": stage.block, **stage.arguments}.items():
        if isinstance(argument, PerBlockValues) and len(argument.items) != depth:
            message = f"{name} is a list of {len(argument.items)} values, but the stage has {depth} blocks"
            context.reporter.report(
                "RS303", message, argument.at, notes=[Note("the depth is given here", stage.depth.at)]
            )
            fits = False
    return fits


def block_invocation(context: Context, stage: Stage, index: int, depth: int, input_shape: Shape | None) -> Invocation:
    """What a stage says of one of its blocks: an item of each list, and the plain stride only of the first."""
    context.step(stage.at, 1 + len(context.names.scope) + len(stage.arguments))
    scope = with_input_channels(context.names.scope, input_shape, stage.at)
    found = {
        name: Bound(_item(argument, index), scope)
        for name, argument in stage.arguments.items()
        if isinstance(argument, PerBlockValues) or name != "stride" or index == 0
    }
    names = dict(stage.names)
    for told in [stage.first] * (index == 0) + [stage.last] * (index == depth - 1):
        found |= {name: Bound(argument, scope) for name, argument in told.arguments.items()}
        names |= told.names
    block = found.pop("block", Bound(_item(stage.block, index), scope))
    return Invocation("block", block, found, names, stage.at, stage.project, index)


def _item(argument: Argument, index: int) -> Argument:
    """A block's own of what a stage gives; nothing to read where its list is too short, which is said."""
    if not isinstance(argument, PerBlockValues):
        return argument
    return argument.items[index] if index < len(argument.items) else Invalid(argument.at)
