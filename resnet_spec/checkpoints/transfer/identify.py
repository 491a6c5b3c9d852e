"""Find the bundled networks that a checkpoint fits, or nearly fits, by names and shapes alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from os import PathLike
from typing import Any, Literal, TypeAlias

from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.tensors import Checkpoint
from resnet_spec.checkpoints.naming.mapping import normalize_name
from resnet_spec.checkpoints.naming.roles import find_roles
from resnet_spec.checkpoints.transfer.convert import NamedNetwork, find_named
from resnet_spec.checkpoints.transfer.evaluation import describe_difference
from resnet_spec.checkpoints.transfer.matching import Interpretation, interpret_checkpoint
from resnet_spec.checkpoints.transfer.unwrapping import unwrap_names
from resnet_spec.language.options import OPTION_NAMES
from resnet_spec.library.index import read_index
from resnet_spec.library.load import load
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import suggest_setting

How: TypeAlias = Literal["exact", "but for the head", "near"]

MAX_NEAR_MATCHES = 5

OWN_NAMES = "its own"
"""What ``Match.names`` says of a file with the network's own names."""

_ORDER: tuple[How, ...] = ("exact", "but for the head", "near")
_MIN_CANDIDATES = 24
_MAX_PARAMETER_RATIO = 4
_MAX_HEAD_ARRAYS = 8


@dataclass(frozen=True, slots=True)
class Match:
    """A bundled network, and how well a checkpoint fits it.

    Attributes:
        names: The title of the dialect of the file's names, or "its own" for the network's own names.
        settings: The arguments of ``load`` with which the network fits, as in ``{"classes": 10}``.
        same: How many of the network's ``weights`` are in the file by name and shape.
        differs: Every array that is missing, unexpected or of the wrong shape or type.
        notes: How the file was read.
        computes: If it computes something else than the best match with the same weights, what; otherwise "".
    """

    network: str
    how: How
    names: str
    settings: Mapping[str, Any]
    same: int
    weights: int
    differs: tuple[str, ...]
    notes: tuple[str, ...]
    computes: str = ""


def identify(
    path: str | PathLike[str], progress: Callable[[str], object] | None = None
) -> tuple[Checkpoint, list[Match]]:
    """Return a checkpoint and the bundled networks that it fits, the best first, then those that it nearly fits.

    ``progress`` is called with the name of each network. Raises CheckpointError and FileNotFoundError.
    """
    checkpoint = registry.read(path)
    named = find_named(checkpoint)
    candidates = _select_candidates(checkpoint, progress or str)
    readings = {name: interpret_checkpoint(load(name), checkpoint) for name in candidates}
    matches = [_match_network(name, reading) for name, reading in readings.items()]
    if named is not None:
        readings[named.name] = interpret_checkpoint(named.network, checkpoint)
        matches = [match for match in matches if match.network != named.name]
        matches.append(_match_named(named, readings[named.name]))
    matches.sort(key=lambda match: (named is None or match.network != named.name, _rank_key(match)))
    fits = _compare_functions([match for match in matches if match.how != "near"])
    near = [match for match in matches if match.how == "near" and match.same][:MAX_NEAR_MATCHES]
    found = [
        match if match.how == "exact" else _with_suggestions(match, readings[match.network]) for match in fits + near
    ]
    return checkpoint, found


def _match_named(named: NamedNetwork, reading: Interpretation) -> Match:
    """Return the match of the network that the file's metadata name, with the arguments that are not the defaults."""
    match, default = _match_network(named.name, reading), load(named.name)
    takes = dict(named.network.takes)
    known = {**dict(default.takes), **dict.fromkeys(OPTION_NAMES)}
    settings: dict[str, Any] = {name: takes.get(name, text) for name, text in named.settings.items()}
    settings = {name: value for name, value in settings.items() if name not in known or value != known[name]}
    if named.network.input != default.input:
        settings["input"] = named.network.input
    if named.outputs:
        settings["outputs"] = named.outputs
    return replace(match, settings={**settings, **match.settings})


def _compare_functions(fits: list[Match]) -> list[Match]:
    """Return matches with how each computes something else than the first does, with the same weights."""
    networks = [load(match.network, **match.settings) for match in fits]
    return [
        replace(match, computes=describe_difference(networks[0], network))
        for match, network in zip(fits, networks, strict=True)
    ]


def _with_suggestions(match: Match, reading: Interpretation) -> Match:
    """Return a match whose differences suggest similar names. It takes a while, so only for matches that are shown."""
    return replace(match, differs=tuple(reading.find_problems())) if match.differs else match


def _select_candidates(checkpoint: Checkpoint, progress: Callable[[str], object]) -> list[str]:
    """Return the networks that share the most shapes with the file, whatever the names of the arrays.

    Networks with more than four times as many parameters as the file, or less than a fourth, are skipped.
    """
    similarity: dict[str, float] = {}
    for shapes, count in _count_readings(checkpoint):
        for entry in read_index():
            if count / _MAX_PARAMETER_RATIO <= entry.parameters <= count * _MAX_PARAMETER_RATIO:
                progress(entry.name)
                found = _similarity(shapes, _shapes_of(entry.name))
                similarity[entry.name] = max(found, similarity.get(entry.name, 0.0))
    order = sorted(similarity, key=lambda name: -similarity[name])
    threshold = min(1.0, max(similarity.values(), default=1.0)) - 0.02
    return [name for index, name in enumerate(order) if index < _MIN_CANDIDATES or similarity[name] >= threshold]


def _count_readings(checkpoint: Checkpoint) -> list[tuple[Counter[Shape], int]]:
    """Return the shapes and the number of values in each reading of a file: whole, and without one wrapping or more.

    What is beside the weights, such as averaged weights or an optimizer's state, is in the first of them alone.
    """
    readings: list[tuple[Counter[Shape], int]] = []
    for unwrapped in unwrap_names(checkpoint.tensors):
        shapes = [checkpoint.tensors[full].shape for full in unwrapped.names.values()]
        reading = _count_shapes(shapes), sum(map(math.prod, shapes))
        if reading not in readings:
            readings.append(reading)
    return readings


@cache
def _shapes_of(name: str) -> Counter[Shape]:
    """Count the shapes of a bundled network's weights."""
    return _count_shapes(load(name).weights().values())


def _count_shapes(shapes: Iterable[Shape]) -> Counter[Shape]:
    """Count shapes, ignoring the order of axes and axes of size 1, in which layouts and kinds of layers differ."""
    return Counter(tuple(sorted(size for size in shape if size != 1)) for shape in shapes)


def _similarity(first: Counter[Shape], second: Counter[Shape]) -> float:
    """Return the share of arrays whose shapes the two have in common (Dice coefficient)."""
    return 2 * (first & second).total() / max(1, first.total() + second.total())


def _match_network(name: str, interpretation: Interpretation) -> Match:
    problems = tuple(interpretation.find_problems(suggestions=False))
    names = OWN_NAMES if interpretation.dialect is None else interpretation.dialect.title
    counts = (interpretation.same, len(interpretation.mappings))
    if not problems:
        return Match(name, "exact", names, {}, *counts, (), interpretation.notes)
    settings = _suggest_settings(interpretation)
    if settings:
        network = load(name, input=None, outputs=None, **settings)
        changed = interpret_checkpoint(network, interpretation.checkpoint)
        if not changed.find_problems(suggestions=False):
            counts = (changed.same, len(changed.mappings))
            return Match(name, "but for the head", names, settings, *counts, (), changed.notes)
    how: How = "but for the head" if _fits_but_for_head(interpretation) else "near"
    return Match(name, how, names, {}, *counts, problems, interpretation.notes)


def _suggest_settings(interpretation: Interpretation) -> dict[str, int]:
    """Return the settings of the spec that would give the shapes in the file, as far as they are known."""
    settings = {}
    for mapping in interpretation.mappings.values():
        name = interpretation.names.get(normalize_name(mapping.name))
        shape = mapping.shape if name is None else interpretation.checkpoint.tensors[name].shape
        if shape == mapping.shape:
            continue
        suggestion = suggest_setting(mapping.shape, shape, interpretation.network.takes)
        if suggestion is not None and suggestion[2] > 0:
            setting, _, value = suggestion
            settings[setting] = value
    return settings


def _fits_but_for_head(interpretation: Interpretation) -> bool:
    """Return whether the file has every weight before the head, and few enough other arrays for another head."""
    roles = find_roles(interpretation.network)
    head = {path for path, role in roles.items() if role.section == "head"}
    body = {
        normalize_name(mapping.name): mapping.shape
        for name, mapping in interpretation.mappings.items()
        if name.rpartition(".")[0] not in head
    }
    names, tensors = interpretation.names, interpretation.checkpoint.tensors
    found = [name for name, shape in body.items() if name in names and tensors[names[name]].shape == shape]
    return 0 < len(found) == len(body) and len(names) - len(found) <= _MAX_HEAD_ARRAYS


def _rank_key(match: Match) -> tuple[object, ...]:
    """Return a key that sorts matches, the best first.

    Fits come before near matches, then fewer differences, the network's own names, and networks outside of folders.
    """
    return (
        _ORDER.index(match.how),
        len(match.differs) - match.same,
        match.names != OWN_NAMES,
        match.network.count("/"),
        match.network,
    )
