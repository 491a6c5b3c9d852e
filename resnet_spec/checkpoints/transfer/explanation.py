"""Explain in a sentence why a checkpoint does not fit a network, and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resnet_spec.checkpoints.naming.roles import find_roles
from resnet_spec.checkpoints.transfer.prefixes import HEADS, is_average
from resnet_spec.diagnostics.remedies import describe_argument, describe_outputs, describe_setting
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape
from resnet_spec.transforms.adaptation import find_first_layers
from resnet_spec.weights.canonical import suggest_setting

MISFIT = "the weights do not fit the network"

_NUMBERED = re.compile("arr_[0-9]+")
_SAVE_BY_NAME = 'numpy.savez("weights.npz", **{v.path: v for v in model.weights})'
_FLAT = re.compile(r"(^|\.)_?flat_param(_\d+)?$")
_SHARD = re.compile(r"-(\d{1,5})-of-(\d{1,5})\.")
_MIN_FOLDED = 2


@dataclass(frozen=True, slots=True)
class Fit:
    """What of a file fits a network.

    Attributes:
        shapes: The shape of each weight that the file has, by canonical name.
        others: The shape of each other array, by its name under the weights' prefix.
        unread: How many weights are of a type that weights do not have.
        path: The file.
    """

    network: Network
    shapes: Mapping[str, Shape]
    others: Mapping[str, Shape]
    unread: int
    path: str


def explain_misfit(fit: Fit) -> str:
    """Return a sentence that says what the misfit amounts to, if it is one that is known."""
    expected = fit.network.weights()
    if not fit.shapes and fit.others and all(_NUMBERED.fullmatch(name) for name in fit.others):
        return "the file's arrays are numbered, and not named; save them by name: " + _SAVE_BY_NAME
    if not fit.shapes and not fit.others:
        return "the file holds no arrays of weights; save model.state_dict(), or the arrays by name"
    if any(_FLAT.search(name) for name in fit.others):
        return "the file's parameters are flattened (FSDP); save a full state dict: StateDictType.FULL_STATE_DICT"
    if not fit.shapes:
        return f"no array has the name of a weight of {fit.network.name} in any naming convention that is known"
    if fit.unread and dict(fit.shapes) == expected and not fit.others:
        are = "is" if fit.unread == 1 else "are"
        return f"all {len(expected):,} arrays are in the file, but {fit.unread:,} {are} in a type that is not read"
    if any(len(shape) == 5 for shape in fit.shapes.values()):
        return "the file's convolutions are three-dimensional, and a spec describes networks of images"
    if _has_folded_norms(fit):
        return (
            "the norms of the file's network are folded into its convolutions, as for inference, "
            "and what was folded cannot be loaded again; use the checkpoint from which it was made"
        )
    head = _list_head(fit.network)
    body = [name for name in expected if name not in head]
    differs = any(fit.shapes.get(name) != expected[name] for name in head)
    if differs and body and all(fit.shapes.get(name) == expected[name] for name in body):
        return f"all {len(body):,} arrays before the head fit; {_explain_head(fit, head)}"
    return _explain_shard(fit) or _explain_first_layers(fit) or MISFIT


def _explain_shard(fit: Fit) -> str:
    """Return what to read instead of a file that is called as one of several is, if its arrays fit, or ""."""
    shard = _SHARD.search(fit.path)
    expected = fit.network.weights()
    if shard is None or fit.others or not all(expected[name] == shape for name, shape in fit.shapes.items()):
        return ""
    number, count = int(shard[1]), int(shard[2])
    return f"the file is number {number} of {count} that hold the weights together; name their .index.json or folder"


def _explain_first_layers(fit: Fit) -> str:
    """Return what to do if nothing but the first layers' channels differ, or ""."""
    expected = fit.network.weights()
    different = {name for name, shape in expected.items() if fit.shapes.get(name) != shape}
    first = {layer.leaf.weight_path("weight") for layer in find_first_layers(fit.network)}
    if not different or not different <= first:
        return ""
    stem = "sum" if fit.network.input[0] == 1 else "repeat"
    return (
        f"all arrays but {', '.join(sorted(different))} fit, since the network's images have "
        f'{fit.network.input[0]} channels; build with stem="{stem}" to convert them'
    )


def name_mappings(network: str, places: Sequence[tuple[str, int]], weights: int) -> tuple[list[str], str]:
    """Return a line for each place in a file where a network's weights stand, and a sentence that asks for one."""
    lines = [
        f"{prefix or 'the root'}: {same:,} of {weights:,} weights fit{' (EMA)' if is_average(prefix) else ''}"
        for prefix, same in places
    ]
    example = describe_argument("under", next((prefix for prefix, _ in places if prefix), ""))
    return lines, f"the file holds weights of {network} in {len(places)} places; choose one, as in {example}"


def _has_folded_norms(fit: Fit) -> bool:
    """Return whether the file has biases for the convolutions, and nothing of the norms behind them."""
    gained = [
        name for name in fit.others if name.endswith(".bias") and f"{name.removesuffix('bias')}weight" in fit.shapes
    ]
    statistics = [name for name in fit.network.weights() if name.endswith("running_var")]
    return len(gained) >= _MIN_FOLDED and bool(statistics) and not any(name in fit.shapes for name in statistics)


def _list_head(network: Network) -> list[str]:
    paths = {path for path, role in find_roles(network).items() if role.section == "head"}
    return [name for name in network.weights() if name.rpartition(".")[0] in paths]


def _explain_head(fit: Fit, head: Sequence[str]) -> str:
    """Return how the head differs, and the arguments with which the file fits."""
    expected = fit.network.weights()
    for name in head:
        setting = suggest_setting(expected[name], fit.shapes.get(name, ()), fit.network.takes)
        if setting is not None:
            what, value, fitting = setting
            differs = f"the head has {fitting:,} {what}, and the spec says {value:,}"
            return f'{differs}: {describe_setting(what, fitting)}, or build with head="new" to draw another'
    ending = describe_outputs([stage.path for stage in fit.network.stages][-1])
    sizes = _list_sizes(fit, head)
    other = f"the file's head is another, {sizes}" if sizes else "the file has no head"
    return f'{other}; to load the rest: {ending}, or build with head="new" to draw another'


def _list_sizes(fit: Fit, head: Sequence[str]) -> str:
    """Return the channels between the layers of the file's head, as in "2048 -> 512 -> 10"."""
    stems = {name.partition(".")[0] for name in head} | HEADS
    matrices = [
        shape[:2]
        for name, shape in [*fit.others.items(), *((name, fit.shapes[name]) for name in head if name in fit.shapes)]
        if name.partition(".")[0] in stems and len(shape) in (2, 4)
    ]
    return " -> ".join(map(str, [matrices[0][1], *(out for out, _ in matrices)])) if matrices else ""
