"""Find the bundled networks that a checkpoint fits, or nearly fits, by names and shapes alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, Literal, TypeAlias

from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.tensors import Checkpoint
from resnet_spec.checkpoints.naming.mapping import list_layers
from resnet_spec.checkpoints.naming.roles import find_roles
from resnet_spec.checkpoints.transfer.convert import NamedNetwork, find_named
from resnet_spec.checkpoints.transfer.evaluation import describe_difference
from resnet_spec.checkpoints.transfer.explanation import name_mappings
from resnet_spec.checkpoints.transfer.matching import Interpretation, Matcher
from resnet_spec.checkpoints.transfer.prefixes import is_optimizer, is_under, list_mappings
from resnet_spec.language.options import OPTION_NAMES
from resnet_spec.library.index import count_shapes, read_shapes
from resnet_spec.library.load import load
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import suggest_setting

How: TypeAlias = Literal["exact", "but for the head", "near"]

MAX_NEAR_MATCHES = 5

OWN_NAMES = "its own"
"""What ``Match.names`` says of a file with the network's own names."""

_ORDER: tuple[How, ...] = ("exact", "but for the head", "near")
_MIN_CANDIDATES = 8
_MIN_RELATIVE_SIMILARITY = 0.98
_MAX_SUGGESTED = 40
_MAX_READINGS = 12
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
        published: The tag of the network's published weights that the file is, by its hash; otherwise "".
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
    published: str = ""


def identify(
    path: str | PathLike[str], progress: Callable[[str], object] | None = None, *, under: str | None = None
) -> tuple[Checkpoint, list[Match]]:
    """Return a checkpoint and the bundled networks that it fits, the best first, then those that it nearly fits.

    ``progress`` is called with the name of each network. Raises CheckpointError and FileNotFoundError, and ValueError
    if nothing stands ``under`` the prefix.
    """
    matcher = Matcher(registry.read(path), under)
    reader = _Reader(matcher)
    named = find_named(matcher.checkpoint)
    matches = []
    for name in _select_candidates(matcher):
        (progress or str)(name)
        matches.append(reader.match(name))
    if named is not None:
        matches = [match for match in matches if match.network != named.name]
        matches.append(_match_named(named, reader))
    matches.sort(key=lambda match: (named is None or match.network != named.name, _rank_key(match)))
    fits = _compare_functions([match for match in matches if match.how != "near"], reader)
    near = [match for match in matches if match.how == "near" and match.same][:MAX_NEAR_MATCHES]
    found = [
        match if match.how == "exact" else _with_suggestions(match, reader.readings[match.network])
        for match in fits + near
    ]
    return matcher.checkpoint, found


class _Reader:
    """Interprets one checkpoint for several networks, once for those whose weights have the same names and roles."""

    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher
        self.readings: dict[str, Interpretation] = {}
        self.known: dict[object, Interpretation] = {}

    def read(self, name: str, network: Network) -> Interpretation:
        key = tuple(list_layers(network)), network.outputs
        if key not in self.known:
            self.known[key] = self.matcher.interpret(network)
        self.readings[name] = replace(self.known[key], network=network)
        return self.readings[name]

    def match(self, name: str) -> Match:
        return _match_network(name, self.read(name, load(name)), self.matcher)


def _match_named(named: NamedNetwork, reader: _Reader) -> Match:
    """Return the match of the network that the file's metadata name, with the arguments that are not the defaults."""
    reading = reader.read(named.name, named.network)
    match, default = _match_network(named.name, reading, reader.matcher), load(named.name)
    takes = dict(named.network.takes)
    known = {**dict(default.takes), **dict.fromkeys(OPTION_NAMES)}
    settings: dict[str, Any] = {name: takes.get(name, text) for name, text in named.settings.items()}
    settings = {name: value for name, value in settings.items() if name not in known or value != known[name]}
    if named.network.input != default.input:
        settings["input"] = named.network.input
    if named.outputs:
        settings["outputs"] = named.outputs
    return replace(match, settings={**settings, **match.settings})


def _compare_functions(fits: list[Match], reader: _Reader) -> list[Match]:
    """Return matches with how each computes something else than the first does, with the same weights."""
    networks = [
        load(match.network, **match.settings) if match.settings else reader.readings[match.network].network
        for match in fits
    ]
    return [
        replace(match, computes=describe_difference(networks[0], network))
        for match, network in zip(fits, networks, strict=True)
    ]


def _with_suggestions(match: Match, reading: Interpretation) -> Match:
    """Return a match whose differences, if they are not many, suggest similar names, which takes a while."""
    is_near = 0 < len(match.differs) <= _MAX_SUGGESTED
    return replace(match, differs=tuple(reading.find_problems())) if is_near else match


def _select_candidates(matcher: Matcher) -> list[str]:
    """Return the networks that share the most shapes with the file, whatever the names of the arrays.

    All are within a fiftieth of the best, but for the first few, so that a file of a few arrays, which shares little
    with any network, has few candidates, and one that shares no shape has none. Networks with more than four times as
    many parameters as the file, or less than a fourth, are skipped.
    """
    groups = [(group, _count_values(group.shapes)) for group in read_shapes()]
    similarity: dict[str, float] = {}
    for shapes in _count_readings(matcher):
        values = _count_values(shapes)
        for group, parameters in groups:
            if values / _MAX_PARAMETER_RATIO <= parameters <= values * _MAX_PARAMETER_RATIO:
                found = _similarity(shapes, group.shapes)
                similarity |= {name: max(found, similarity.get(name, 0.0)) for name in group.names}
    order = sorted(similarity, key=lambda name: (-similarity[name], name.count("/"), name))
    threshold = _MIN_RELATIVE_SIMILARITY * max(similarity.values(), default=0.0)
    likely = [name for index, name in enumerate(order) if index < _MIN_CANDIDATES or similarity[name] >= threshold]
    return [name for name in likely if similarity[name] > 0]


def _count_values(shapes: Counter[Shape]) -> int:
    return sum(math.prod(shape) * count for shape, count in shapes.items())


def _count_readings(matcher: Matcher) -> list[Counter[Shape]]:
    """Return the shapes of a whole file, and of what stands under each prefix of many names, without optimisers."""
    tensors = matcher.checkpoint.tensors
    names = {name: full for name, full in matcher.names.items() if not is_optimizer(name)}
    readings: list[Counter[Shape]] = []
    for prefix in ("", *list_mappings(names, _MAX_READINGS)):
        shapes = count_shapes(tensors[full].shape for name, full in names.items() if is_under(name, prefix))
        if shapes not in readings:
            readings.append(shapes)
    return readings


def _similarity(first: Counter[Shape], second: Counter[Shape]) -> float:
    """Return the share of arrays whose shapes the two have in common (Dice coefficient)."""
    common = sum(min(count, second[shape]) for shape, count in first.items() if shape in second)
    return 2 * common / max(1, first.total() + second.total())


def _match_network(name: str, interpretation: Interpretation, matcher: Matcher) -> Match:
    problems = tuple(interpretation.find_problems(suggestions=False))
    names = OWN_NAMES if interpretation.dialect is None else interpretation.dialect.title
    counts = (interpretation.same, len(interpretation.mappings))
    notes = (*interpretation.notes, *_describe_rivals(interpretation))
    if not problems:
        return Match(name, "exact", names, {}, *counts, (), notes)
    settings = _suggest_settings(interpretation)
    if settings:
        network = load(name, input=None, outputs=None, **settings)
        changed = matcher.interpret(network)
        if not changed.find_problems(suggestions=False):
            counts = (changed.same, len(changed.mappings))
            return Match(name, "but for the head", names, settings, *counts, (), notes)
    how: How = "but for the head" if _fits_but_for_head(interpretation) else "near"
    return Match(name, how, names, {}, *counts, problems, notes)


def _describe_rivals(reading: Interpretation) -> list[str]:
    """Return a note that names the places in the file where as many weights stand, if there are several."""
    places = reading.list_places()
    return [
        f"{text}: {', '.join(lines)}"
        for lines, text in [name_mappings(reading.network.name, *places)]
        if reading.rivals
    ]


def _suggest_settings(interpretation: Interpretation) -> dict[str, int]:
    """Return the settings of the spec that would give the shapes in the file, as far as they are known."""
    settings = {}
    for canonical, mapping in interpretation.mappings.items():
        name = interpretation.names.get(interpretation.keys[canonical])
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
        interpretation.keys[name]: mapping.shape
        for name, mapping in interpretation.mappings.items()
        if name.rpartition(".")[0] not in head and name not in interpretation.constants
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
