"""Determine the number of repeated blocks, and the arguments of each."""

from __future__ import annotations

from resnet_spec.diagnostics.problems import Note
from resnet_spec.expansion.context import MAX_LAYERS, Context
from resnet_spec.expansion.scopes import Bound, Invocation, Scope, with_input_channels
from resnet_spec.language.spec import Argument, Invalid, PerBlockValues, Repeat
from resnet_spec.language.values import decode_integer
from resnet_spec.ops import Shape


def repeat_depth(context: Context, repeat: Repeat, scope: Scope) -> int | None:
    """Return how many blocks there are, or None if that is invalid."""
    depth = context.try_or_report(
        lambda: decode_integer(context.names.scalar(Bound(repeat.depth, scope)), scope, least=1)
    )
    if depth and context.layers + depth > MAX_LAYERS:
        context.count(repeat.depth.span, layers=depth)
    return depth


def has_lists(repeat: Repeat) -> bool:
    """Return whether an argument has one value for each block."""
    return any(isinstance(argument, PerBlockValues) for argument in (repeat.block, *repeat.arguments.values()))


def lists_match_depth(context: Context, repeat: Repeat, depth: int) -> bool:
    """Return whether each list has one value per block; report those that do not."""
    fits = True
    for name, argument in {"block": repeat.block, **repeat.arguments}.items():
        if isinstance(argument, PerBlockValues) and len(argument.items) != depth:
            message = f"{name} is a list of {len(argument.items)} values, but the stage has {depth} blocks"
            notes = [Note("depth is set here", repeat.depth.span)]
            context.reporter.report("RS303", message, argument.span, notes=notes)
            fits = False
    return fits


def block_names(repeat: Repeat, depth: int) -> list[Argument]:
    """Return the different blocks that are repeated, as written."""
    count = depth if isinstance(repeat.block, PerBlockValues) else 1
    overrides = (override.arguments.get("block") for override in (repeat.first, repeat.last))
    return [*(_item(repeat.block, index) for index in range(count)), *(name for name in overrides if name is not None)]


def block_invocation(
    context: Context, repeat: Repeat, index: int, depth: int, scope: Scope, input_shape: Shape | None
) -> Invocation:
    """Return the use of one of the blocks: its item of each list, and a single stride for the first block only."""
    context.step(repeat.span, 1 + len(scope) + len(repeat.arguments))
    inner = with_input_channels(scope, input_shape, repeat.span)
    arguments = {
        name: Bound(_item(argument, index), inner)
        for name, argument in repeat.arguments.items()
        if isinstance(argument, PerBlockValues) or name != "stride" or index == 0
    }
    keys = dict(repeat.keys)
    for override in [repeat.first] * (index == 0) + [repeat.last] * (index == depth - 1):
        arguments |= {name: Bound(argument, inner) for name, argument in override.arguments.items()}
        keys |= override.keys
    block = arguments.pop("block", Bound(_item(repeat.block, index), inner))
    return Invocation("block", block, arguments, keys, repeat.span, repeat.project, index)


def _item(argument: Argument, index: int) -> Argument:
    """Return one block's value of an argument; Invalid if a list is too short, which is reported already."""
    if not isinstance(argument, PerBlockValues):
        return argument
    return argument.items[index] if index < len(argument.items) else Invalid(argument.span)
