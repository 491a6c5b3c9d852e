"""Which bundled networks a checkpoint fits, exactly or but for the head, and which it comes near: from names and shapes alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Literal, TypeAlias

from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.tensors import Checkpoint
from resnet_spec.checkpoints.naming.mapping import plain
from resnet_spec.checkpoints.naming.roles import roles
from resnet_spec.checkpoints.transfer.matching import Fit, fit
from resnet_spec.checkpoints.transfer.unwrapping import counted
from resnet_spec.library.index import read_index
from resnet_spec.library.load import load
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import suggest_setting

How: TypeAlias = Literal["exact", "but for the head", "near"]

NEAR = 5
"""How many near misses are told."""

OWN = "its own"
"""What is said of a file's names that are those of the network."""

_ORDER: tuple[How, ...] = ("exact", "but for the head", "near")
_TRIED = 24
_FARTHEST = 4  # times as many parameters, or as few, as a network may have to be looked at
_LARGEST_HEAD = 8  # arrays that may be a head of another kind


@dataclass(frozen=True, slots=True)
class Match:
    """A bundled network, and how a checkpoint fits it.

    Attributes:
        names: Whose names the file has, if not the network's own.
        settings: What to set for it to fit, as in ``{"classes": 10}``.
        same: Of how many weights the name and the shape are found, of ``weights``.
        differs: What is missing, unexpected or misshapen.
    """

    network: str
    how: How
    names: str
    settings: Mapping[str, int]
    same: int
    weights: int
    differs: tuple[str, ...]
    notes: tuple[str, ...]


def identify(
    path: str | PathLike[str], progress: Callable[[str], object] | None = None
) -> tuple[Checkpoint, list[Match]]:
    """A checkpoint, and the bundled networks that it fits, the best first; then those that it comes near.

    Raises CheckpointError and FileNotFoundError.
    """
    checkpoint = registry.read(path)
    found = [_match(name, fit(load(name), checkpoint)) for name in _likely(checkpoint, progress or str)]
    found.sort(key=_rank)
    fits = [match for match in found if match.how != "near"]
    near = [match for match in found if match.how == "near" and match.same]
    return checkpoint, fits + near[:NEAR]


def _likely(checkpoint: Checkpoint, progress: Callable[[str], object]) -> list[str]:
    """The networks whose arrays have most shapes in common with the file's, whatever their names."""
    weights = [tensor for name, tensor in checkpoint.tensors.items() if counted(name)]
    held, count = _shapes(tensor.shape for tensor in weights), sum(math.prod(tensor.shape) for tensor in weights)
    alike = {}
    for entry in read_index():
        if count / _FARTHEST <= entry.parameters <= count * _FARTHEST:
            progress(entry.name)
            alike[entry.name] = _alike(held, _shapes(load(entry.name).weights().values()))
    order = sorted(alike, key=lambda name: -alike[name])
    least = min(1.0, max(alike.values(), default=1.0)) - 0.02
    return [name for index, name in enumerate(order) if index < _TRIED or alike[name] >= least]


def _rank(match: Match) -> tuple[object, ...]:
    """Fits before near misses, what differs least before what differs more, a network's own names before others', plain names first."""
    return (
        _ORDER.index(match.how),
        len(match.differs) - match.same,
        match.names != OWN,
        match.network.count("/"),
        match.network,
    )


def _match(name: str, reading: Fit) -> Match:
    network = reading.network
    problems = tuple(reading.problems())
    names = OWN if reading.dialect is None else reading.dialect.title
    numbers = (reading.same, len(reading.places))
    if not problems:
        return Match(name, "exact", names, {}, *numbers, (), reading.notes)
    settings = _settings(reading)
    if settings:
        other = fit(load(name, input=None, outputs=None, **settings), reading.checkpoint)
        if not other.problems():
            return Match(name, "but for the head", names, settings, other.same, len(other.places), (), other.notes)
    how: How = "but for the head" if _all_but_head(network, reading) else "near"
    return Match(name, how, names, {}, *numbers, problems, reading.notes)


def _settings(reading: Fit) -> dict[str, int]:
    """What the spec would have to be told for the shapes that differ."""
    found = {}
    for place in reading.places.values():
        name = reading.names.get(plain(place.name))
        shape = place.shape if name is None else reading.checkpoint.tensors[name].shape
        wanted = None if shape == place.shape else suggest_setting(place.shape, shape, reading.network.takes)
        if wanted is not None and wanted[2] > 0:
            found[wanted[0]] = wanted[2]
    return found


def _all_but_head(network: Network, reading: Fit) -> bool:
    """Whether every weight before the head is found, and no more is there than another head could have."""
    head = {path for path, role in roles(network).items() if role.section == "head"}
    body = {name: place for name, place in reading.places.items() if name.rpartition(".")[0] not in head}
    held = reading.checkpoint.tensors
    names = {plain(place.name): place.shape for place in body.values()}
    found = [name for name in names if name in reading.names and held[reading.names[name]].shape == names[name]]
    return 0 < len(found) == len(body) and len(reading.names) - len(found) <= _LARGEST_HEAD


def _shapes(shapes: Iterable[Shape]) -> Counter[Shape]:
    """Shapes without the order of their axes, which layouts change, and without ones, which kinds of layer do."""
    return Counter(tuple(sorted(size for size in shape if size != 1)) for shape in shapes)


def _alike(one: Counter[Shape], other: Counter[Shape]) -> float:
    """The share of arrays that have a shape in common, whatever their names."""
    return 2 * (one & other).total() / max(1, one.total() + other.total())
