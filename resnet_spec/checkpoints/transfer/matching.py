"""Whether a checkpoint's arrays are a network's weights, by names and shapes alone: in whose names, and what does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from resnet_spec.checkpoints.formats.tensors import FLOATS, Checkpoint, Tensor
from resnet_spec.checkpoints.naming.mapping import Layer, Place, layers, places, plain
from resnet_spec.checkpoints.naming.tables import Dialect, Layout, dialects, layouts
from resnet_spec.checkpoints.transfer.unwrapping import Unwrapped, unwrappings
from resnet_spec.language.values import join_alternatives
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array, WeightsError, find_mismatches


@dataclass(frozen=True, slots=True)
class Fit:
    """The best reading of a checkpoint as a network's weights.

    Attributes:
        dialect: Whose names the file has, if not the network's own.
        places: Where that dialect keeps each canonical weight.
        names: The file's own name for each name inside it, as those are compared.
        same: How many weights are found in their shapes.
        notes: What a user should be told of the reading.
    """

    network: Network
    checkpoint: Checkpoint
    dialect: Dialect | None
    layout: Layout
    places: Mapping[str, Place]
    names: Mapping[str, str]
    found: int
    same: int
    notes: tuple[str, ...]

    def problems(self) -> list[str]:
        """Every name that is missing, unexpected or misshapen, in the file's own words; none if the file fits."""
        held = self.checkpoint.tensors
        expected = {self.names.get(plain(place.name), place.name): place.shape for place in self.places.values()}
        # What lies behind the last map that a network gives is not part of it, but of the file.
        within = expected.keys() if self.network.outputs else self.names.values()
        shapes = {name: held[name].shape for name in within if name in held}
        wrong = find_mismatches(expected, shapes, self.network.takes)
        known = set(FLOATS.values())
        for name in self.names.values():
            if name in expected and held[name].dtype not in known:
                wrong.append(f"{name} is {held[name].dtype}; weights are {join_alternatives(FLOATS)}")
        return wrong

    def held(self) -> dict[str, Shape]:
        """The shape of every array in the file, by its canonical name and in canonical order where it has one."""
        canonical = {plain(place.name): (name, place) for name, place in self.places.items()}
        found = {}
        for name, full in self.names.items():
            shape = self.checkpoint.tensors[full].shape
            if name in canonical:
                ours, place = canonical[name]
                found[ours] = place.canonical_shape(shape)
            else:
                found[full] = shape
        return found

    def tensors(self) -> dict[str, Tensor]:
        """The canonical weights in the network's order, each read and put straight when asked for. Raises WeightsError."""
        wrong = self.problems()
        if wrong:
            raise WeightsError(wrong)
        found = {}
        for name, place in self.places.items():
            tensor = self.checkpoint.tensors[self.names[plain(place.name)]]
            found[name] = Tensor(place.ours, tensor.dtype, partial(_straight, place, tensor))
        return {name: found[name] for name in self.network.weights()}


def _straight(place: Place, tensor: Tensor) -> Array:
    return place.canonical(tensor.read())


def fit(network: Network, checkpoint: Checkpoint, under: str | None = None) -> Fit:
    """The best reading of a checkpoint as a network's weights: that which finds most names in their shapes."""
    held = layers(network)
    best: Fit | None = None
    for unwrapped in unwrappings(checkpoint.tensors, under):
        for one in _readings(network, held, checkpoint, unwrapped):
            if best is None or (one.same, one.found) > (best.same, best.found):
                best = one
        if best is not None and best.same == len(best.places) == len(best.names):
            break
    assert best is not None
    return best


def _readings(network: Network, held: list[Layer], checkpoint: Checkpoint, unwrapped: Unwrapped) -> Iterator[Fit]:
    names = {plain(name): full for name, full in unwrapped.names.items()}
    for dialect, layout in spoken(names, checkpoint.layout):
        kept = places(held, dialect, layout)
        if kept is None:
            continue
        found = [(place, names[plain(place.name)]) for place in kept.values() if plain(place.name) in names]
        same = sum(checkpoint.tensors[name].shape == place.shape for place, name in found)
        notes = (*unwrapped.notes, *_said(dialect, layout, checkpoint.layout))
        yield Fit(network, checkpoint, dialect, layout, kept, names, len(found), same, notes)


def spoken(names: Mapping[str, str], native: str) -> list[tuple[Dialect | None, Layout]]:
    """The dialects that names could be in, with the layouts that go with them; the network's own and the file's first.

    A dialect is in question where one of its marks is seen, a layout where what it calls a convolution's kernel is.
    """
    kernels = {name.rpartition(".")[2] for name in names}
    known = layouts()
    order = sorted(known.values(), key=lambda layout: layout.name != native)
    heard = [layout for layout in order if layout.kernel in kernels] or [known["torch"]]
    marked = [d for d in dialects().values() if any(mark.search(name) for mark in d.marks for name in names)]
    return [
        (dialect, layout)
        for dialect in (None, *marked)
        for layout in heard
        if layout.name == (dialect.layout if dialect and dialect.layout else layout.name)
    ]


def _said(dialect: Dialect | None, layout: Layout, native: str) -> list[str]:
    if dialect is not None:
        return [f"the file speaks {dialect.title}, in {layout.title}"]
    return [] if layout.name == native else [f"the arrays are in {layout.title}"]
