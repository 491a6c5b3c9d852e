"""Match a checkpoint's arrays with a network's weights, by names and shapes alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import PurePath
from typing import TypeAlias

import numpy as np

from resnet_spec.checkpoints.formats.tensors import FLOATS, Checkpoint, Tensor, UnreadTensor
from resnet_spec.checkpoints.naming.mapping import Layer, WeightMapping, list_layers, map_weights, normalize_name
from resnet_spec.checkpoints.naming.tables import Dialect, Layout, load_dialects, load_layouts
from resnet_spec.checkpoints.transfer.combining import combine_tensors
from resnet_spec.checkpoints.transfer.explanation import Fit, explain_misfit, name_mappings
from resnet_spec.checkpoints.transfer.live import MAPPING
from resnet_spec.checkpoints.transfer.prefixes import (
    CLASSIFIERS,
    HEADS,
    add_prefix,
    describe_ignored,
    find_prefixes,
    is_beside,
    is_optimizer,
    is_under,
    is_weight_name,
    join_prefixes,
    list_branches,
    list_prefixes,
)
from resnet_spec.language.values import join_alternatives
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array, WeightsError, find_mismatches

Naming: TypeAlias = tuple[Dialect | None, Layout]
"""A dialect, or None for the network's own names, with a layout."""

_MAX_PREFIXES = 16


@dataclass(frozen=True, slots=True)
class Rival:
    """Another place in the file at which as many weights of the network stand: its prefix and how many fit."""

    prefix: str
    same: int


@dataclass(frozen=True, slots=True)
class Interpretation:
    """One way to read a checkpoint as a network's weights: under some prefixes, in a dialect and a layout.

    Attributes:
        dialect: The dialect of the file's names, or None for the network's own names.
        mappings: How the dialect stores each canonical weight.
        keys: The name of each canonical weight under its prefix, normalized.
        names: The file's full names by their normalized names under the prefix; without what is left out.
        prefixes: The prefixes under which the weights stand: the main one first.
        tail: The beginnings of the stored names behind a network's feature outputs, each with the shape that an array
            called so must have, or None for any. Empty if the network has no feature outputs.
        found: How many weights are in the file by name.
        same: How many weights are in the file by name and shape.
        notes: What the user should know about this interpretation.
        constants: The values of the statistics that the file leaves out, by canonical name.
        rivals: The other places in the file where as many weights stand.
        undecided: The layouts in which the same arrays would fit as well, transposed, where nothing in the file tells.
    """

    network: Network
    checkpoint: Checkpoint
    dialect: Dialect | None
    layout: Layout
    mappings: Mapping[str, WeightMapping]
    keys: Mapping[str, str]
    names: Mapping[str, str]
    prefixes: tuple[str, ...]
    tail: Mapping[str, Shape | None]
    found: int
    same: int
    notes: tuple[str, ...]
    constants: Mapping[str, float] = field(default_factory=dict)
    rivals: tuple[Rival, ...] = ()
    undecided: tuple[str, ...] = ()

    def find_problems(self, *, suggestions: bool = True) -> list[str]:
        """Return every array that is missing, unexpected or of the wrong shape or type, by the file's own names.

        With ``suggestions``, similar names are looked for, which takes a while if many differ.
        """
        expected = {
            self.full_name(name): mapping.shape for name, mapping in self.mappings.items() if name not in self.constants
        }
        tensors = {full: self.checkpoint.tensors[full] for full in self.relevant_names()}
        known = set(FLOATS.values())
        other = {name: tensor for name, tensor in tensors.items() if name in expected and tensor.dtype not in known}
        shapes = {
            name: expected[name] if name in other and isinstance(tensor, UnreadTensor) else tensor.shape
            for name, tensor in tensors.items()
        }
        problems = find_mismatches(expected, shapes, self.network.takes, suggestions=suggestions)
        for name, tensor in other.items():
            what = tensor.what if isinstance(tensor, UnreadTensor) else tensor.dtype
            problems.append(f"{name} is {what}; weights are {join_alternatives(FLOATS)}")
        return problems if self.found else sorted(problems, key=lambda problem: problem.startswith("missing"))

    def full_name(self, name: str) -> str:
        """Return the file's name of a canonical weight, or the name that it would have there."""
        key = self.keys[name]
        if key in self.names:
            return self.names[key]
        stored = self.mappings[name].name
        return stored if self.prefixes[0] == "" else add_prefix(self.prefixes[0], key)

    def raise_for_doubts(self, *, only_places: bool = False) -> None:
        """Raise WeightsError if the file holds several networks' weights, or if nothing tells a matrix's layout."""
        if self.rivals:
            raise WeightsError(*name_mappings(self.network.name, *self.list_places()))
        if self.undecided and not only_places:
            summary = "a square matrix fits transposed too, and nothing in the file tells its layout"
            raise WeightsError(self._list_undecided(), summary)

    def list_places(self) -> tuple[list[tuple[str, int]], int]:
        """Return where in the file the weights stand, each with how many fit, and how many weights there are."""
        constants = len(self.constants)
        places = [(self.prefixes[0], self.same - constants), *((rival.prefix, rival.same) for rival in self.rivals)]
        return places, len(self.mappings) - constants

    def _list_undecided(self) -> list[str]:
        matrices = find_square_matrices(self.mappings.values())
        named = ", ".join(f"{mapping.name} {mapping.shape}" for mapping in matrices)
        choices = join_alternatives((self.layout.name, *self.undecided))
        question = f"{named}: nothing in the file tells whether this is (out, in) or (in, out)"
        return [f"{question}; convert it with --layout, which can be {choices}"]

    def relevant_names(self) -> Iterator[str]:
        """Yield every array's full name, but those of what lies behind a network's feature outputs.

        Behind them are the layers of the full network there, and another library's head.
        """
        for name, full in self.names.items():
            allowed = {self.tail[prefix] for prefix in list_prefixes(name) if prefix in self.tail}
            if None not in allowed and self.checkpoint.tensors[full].shape not in allowed:
                yield full

    def canonical_shapes(self) -> dict[str, Shape]:
        """Return the shape of every array in the file, by its canonical name and in canonical order if it has one."""
        return {name: tensor.shape for name, tensor in self._canonical_order().items()}

    def present_tensors(self) -> dict[str, Tensor]:
        """Return what is in the file: by canonical name and in canonical layout if it fits a weight of the network.

        An array of another shape than the weight's stands under the canonical name too, in PyTorch's order of axes if
        it has as many. Other arrays keep the file's names. Raises WeightsError if the place or the layout is not known.
        """
        self.raise_for_doubts()
        return self._canonical_order()

    def _canonical_order(self) -> dict[str, Tensor]:
        canonical = {key: name for name, key in self.keys.items()}
        tensors = {}
        for key, full in self.names.items():
            stored = self.checkpoint.tensors[full]
            name = canonical.get(key, full)
            if key not in canonical:
                tensors[full] = stored
            elif stored.shape == self.mappings[name].shape:
                tensors[name] = _to_canonical(self.mappings[name], stored)
            else:
                tensors[name] = replace(stored, shape=self.mappings[name].to_canonical_shape(stored.shape))
        tensors |= {name: self._make_constant(name) for name in self.constants}
        order = {name: number for number, name in enumerate(self.network.weights())}
        return dict(sorted(tensors.items(), key=lambda item: order.get(item[0], len(order))))

    def canonical_tensors(self) -> dict[str, Tensor]:
        """Return the canonical weights in the network's order. Raises WeightsError if there are problems.

        Each is read, and brought into the canonical layout, when its ``read`` is called.
        """
        self.raise_for_doubts()
        problems = self.find_problems()
        if problems:
            raise WeightsError(problems, explain_misfit(self.describe_fit()))
        tensors = self._canonical_order()
        return {name: tensors[name] for name in self.network.weights()}

    def describe_fit(self) -> Fit:
        """Return what fits and what does not, from which an explanation follows."""
        tensors = {key: self.checkpoint.tensors[full] for key, full in self.names.items()}
        found = {name: tensors[key] for name, key in self.keys.items() if key in tensors}
        shapes = {name: self.mappings[name].to_canonical_shape(tensor.shape) for name, tensor in found.items()}
        expected = self.network.weights()
        unread = [name for name, tensor in found.items() if tensor.dtype not in FLOATS.values()]
        shapes |= {name: expected[name] for name in unread if isinstance(found[name], UnreadTensor)}
        used = set(self.keys.values())
        return Fit(
            self.network,
            shapes | {name: expected[name] for name in self.constants},
            {name: tensor.shape for name, tensor in tensors.items() if name not in used},
            len(unread),
            self.checkpoint.path,
        )

    def _make_constant(self, name: str) -> Tensor:
        shape, value = self.mappings[name].canonical_shape, self.constants[name]
        return Tensor(shape, np.dtype(np.float32), lambda: np.full(shape, value, np.float32))


def _to_canonical(mapping: WeightMapping, stored: Tensor) -> Tensor:
    return replace(stored, shape=mapping.canonical_shape, read=partial(_read_canonical, mapping, stored))


def _read_canonical(mapping: WeightMapping, tensor: Tensor) -> Array:
    return mapping.to_canonical(tensor.read())


def interpret_checkpoint(
    network: Network, checkpoint: Checkpoint, under: str | None = None, layout: str | None = None
) -> Interpretation:
    """Return the interpretation by which most weights of a network are in a checkpoint.

    ``under`` is the prefix in the file under which the weights stand, and ``layout`` the name of the layout of its
    arrays, if they are known. Raises ValueError if nothing stands under the prefix.
    """
    return Matcher(checkpoint, under, layout).interpret(network)


@dataclass(frozen=True, slots=True)
class _Reading:
    """Where a network's weights stand in one naming: the file's name of each key that is found, and how many fit."""

    naming: Naming
    mappings: Mapping[str, WeightMapping]
    main: str
    found: Mapping[str, str]
    same: int
    leftovers: tuple[str, ...]

    @property
    def rank(self) -> tuple[int, int, int]:
        """Return a key by which the best reading is the largest."""
        return self.same, len(self.found), -len(self.leftovers)


class Matcher:
    """Matches one checkpoint with networks. What does not depend on the network is computed once."""

    def __init__(self, checkpoint: Checkpoint, under: str | None = None, layout: str | None = None) -> None:
        self.checkpoint = combine_tensors(checkpoint)
        self.known_layout = layout
        self.all_names = _normalize_names(self.checkpoint.tensors)
        self.under = None if under is None else normalize_name(under).strip(".")
        self.names = self.all_names
        if self.under is not None:
            self.names = {name: full for name, full in self.names.items() if is_under(name, self.under)}
            if not self.names or self.names.keys() == {self.under}:
                raise ValueError(_describe_unknown(under or "", self.all_names))

    @cached_property
    def namings(self) -> list[Naming]:
        """The namings that the file may be in."""
        return detect_namings(self.names, self.checkpoint.layout, self.known_layout)

    @cached_property
    def names_by_prefix(self) -> dict[str, list[str]]:
        """The names that stand under each prefix."""
        found: dict[str, list[str]] = {}
        for name in self.names:
            for prefix in list_prefixes(name)[:-1]:
                found.setdefault(prefix, []).append(name)
        return found

    def interpret(self, network: Network) -> Interpretation:
        """Return the interpretation by which most weights of a network are in the checkpoint."""
        layers = list_layers(network)
        kept = {layer.path for layer in layers}
        behind = [layer for layer in list_layers(network.full) if layer.path not in kept] if network.full else []
        readings = [reading for naming in self.namings for reading in self.generate_readings(layers, behind, naming)]
        best = max(readings, key=lambda reading: reading.rank)
        interpretation = self.make_interpretation(network, layers, behind, best)
        is_known = self.known_layout is not None or _names_its_layout(self.checkpoint)
        return replace(
            interpretation,
            rivals=tuple(Rival(reading.main, reading.same) for reading in _find_rivals(best, readings)),
            undecided=() if is_known else self.find_undecided(best, layers),
        )

    def generate_readings(self, layers: list[Layer], behind: list[Layer], naming: Naming) -> Iterator[_Reading]:
        """Yield the readings in one naming, one for each prefix under which many weights stand, or one of nothing."""
        mappings = map_weights(layers, *naming)
        if mappings is None:
            return
        by_key = {_make_key(mapping, naming[1]): mapping for mapping in mappings.values()}
        found = find_prefixes(self.names, by_key)
        if not self.under or not is_optimizer(self.under):
            found = {prefix: keys for prefix, keys in found.items() if not is_optimizer(prefix)}
        most = max(map(len, found.values()), default=0)
        mains = sorted(found, key=lambda prefix: -len(found[prefix]))[:_MAX_PREFIXES]
        mains = [prefix for prefix in mains if 2 * len(found[prefix]) >= most]
        tail = _find_tail(mappings, behind, naming)
        for main in mains or [self.under or ""]:
            prefixes = join_prefixes(main, found) if mains else {}
            places = {key: add_prefix(prefix, key) for key, prefix in prefixes.items()}
            places |= self.find_renamed_head(layers, mappings, naming[1], main, places)
            same = sum(by_key[key].shape == self.shape_of(name) for key, name in places.items())
            used = set(places.values())
            leftovers = tuple(
                name
                for name in self.names
                if is_under(name, main)
                and name not in used
                and self.is_leftover(_remove_prefix(main, name), name, tail)
            )
            yield _Reading(naming, mappings, main, places, same, leftovers)

    def shape_of(self, name: str) -> Shape:
        return self.checkpoint.tensors[self.names[name]].shape

    def is_leftover(self, key: str, name: str, tail: Mapping[str, Shape | None]) -> bool:
        """Return whether an array that is no weight should not be where it is, by its name, shape and type."""
        tensor = self.checkpoint.tensors[self.names[name]]
        is_counter = tensor.dtype.kind in "biu" and len(tensor.shape) <= 1  # or an ONNX graph's sizes and pads
        if tensor.shape == () or is_counter or is_beside(key):
            return False
        allowed = {tail[prefix] for prefix in list_prefixes(key) if prefix in tail}
        return None not in allowed and tensor.shape not in allowed

    def find_renamed_head(
        self,
        layers: list[Layer],
        mappings: Mapping[str, WeightMapping],
        layout: Layout,
        main: str,
        places: Mapping[str, str],
    ) -> dict[str, str]:
        """Return where the arrays of the head's last layer stand that is called otherwise, or is in a Sequential.

        It must be the one layer that stands under the name of a classifier, as ``last_linear.weight``, or with a
        number more, as after dropout: ``fc.1.weight`` for ``fc.weight``.
        """
        head = [layer for layer in layers if layer.role is not None and layer.role.section == "head"]
        layer = next((layer for layer in reversed(head) if layer.kind == "linear"), None)
        weights = [f"{layer.path}.{weight.name}" for weight in layer.weights if weight.name] if layer else []
        expected = {_make_key(mappings[weight], layout): mappings[weight] for weight in weights}
        if not expected or any(key in places for key in expected):
            return {}
        own = next(iter(expected)).rpartition(".")[0]
        stems = {own, *CLASSIFIERS} - {""}
        outer = ("", *list_prefixes(main)) if main else ("",)
        candidates = [
            found
            for prefix in (add_prefix(outside, stem) for outside in outer for stem in stems)
            if (found := self.find_only_layer(prefix, expected)) and set(found.values()).isdisjoint(places.values())
        ]
        return candidates[0] if len(candidates) == 1 else {}

    def find_only_layer(self, prefix: str, expected: Mapping[str, WeightMapping]) -> dict[str, str]:
        """Return where the expected arrays of a layer stand if they are all that stands under a prefix, or {}."""
        inner = self.names_by_prefix.get(prefix, [])
        number = _remove_prefix(prefix, inner[0]).rpartition(".")[0] if len(inner) == len(expected) else "none"
        place = add_prefix(prefix, number) if number else prefix
        found = {key: add_prefix(place, key.rpartition(".")[2]) for key in expected}
        if (number and not number.isdecimal()) or set(found.values()) != set(inner):
            return {}
        shapes = {key: expected[key].to_canonical_shape(self.shape_of(name)) for key, name in found.items()}
        fits = all(shapes[key][1:] == mapping.canonical_shape[1:] for key, mapping in expected.items())
        return found if fits else {}

    def make_interpretation(
        self, network: Network, layers: list[Layer], behind: list[Layer], reading: _Reading
    ) -> Interpretation:
        """Return the interpretation of a reading: its names without what is left out, and notes on how it was read."""
        (dialect, layout), mappings = reading.naming, reading.mappings
        keys = {name: _make_key(mapping, layout) for name, mapping in mappings.items()}
        tail = _find_tail(mappings, behind, reading.naming)
        stored = {name: key for key, name in reading.found.items()}
        names, ignored = {}, []
        for name, full in self.names.items():
            key = _remove_prefix(reading.main, name) if is_under(name, reading.main) else ""
            if name in stored:
                names[stored[name]] = full
            elif key and self.is_leftover(key, name, {}):
                names[key] = full
            else:
                ignored.append(name)
        ignored += [name for name in self.all_names if name not in self.names]
        others = [_prefix_of(key, name) for key, name in reading.found.items() if _ends_with_key(name, key)]
        prefixes = tuple(dict.fromkeys([reading.main, *others]))
        renamed = [name.rpartition(".")[0] for key, name in reading.found.items() if not _ends_with_key(name, key)]
        constants = _find_constants(layers, keys, reading.found, dialect)
        notes = [f"read under {' and '.join(prefix or 'the root' for prefix in prefixes)}"] if any(prefixes) else []
        notes += [text for text in (describe_ignored(ignored, prefixes),) if text]
        notes += _describe_naming(dialect, layout, self.checkpoint.layout)
        notes += [f"the head is read from {renamed[0]}"] if renamed else []
        if constants:
            notes.append("its norms have no statistics: running_mean is 0, and running_var 1 less the norm's epsilon")
        return Interpretation(
            network=network,
            checkpoint=self.checkpoint,
            dialect=dialect,
            layout=layout,
            mappings=mappings,
            keys=keys,
            names=names,
            prefixes=prefixes,
            tail=tail,
            found=len(reading.found),
            same=reading.same + len(constants),
            notes=tuple(notes),
            constants=constants,
        )

    def find_undecided(self, best: _Reading, layers: list[Layer]) -> tuple[str, ...]:
        """Return the layouts in which as many weights fit by the same names, and a square matrix is transposed."""
        undecided = []
        for dialect, layout in self.namings:
            is_other = dialect == best.naming[0] and layout != best.naming[1]
            mappings = map_weights(layers, dialect, layout) if is_other else None
            if mappings is None:
                continue
            pairs = [(best.mappings[name], mapping) for name, mapping in mappings.items()]
            fits = all((normalize_name(a.name), a.shape) == (normalize_name(b.name), b.shape) for a, b in pairs)
            if fits and any(a.axes != b.axes for a, b in pairs):
                undecided.append(layout.name)
        return tuple(undecided)


def _normalize_names(names: Iterable[str]) -> dict[str, str]:
    """Return the full names of what may be weights by their normalized names."""
    normalized: dict[str, str] = {}
    for name in names:
        if is_weight_name(name):
            normalized.setdefault(normalize_name(name), name)
            if normalized[normalize_name(name)] != name:  # another name that is written otherwise
                normalized[name] = name
    return normalized


def _describe_unknown(under: str, names: Iterable[str]) -> str:
    known = list_branches(names)
    there = (
        f"there {'is' if len(known) == 1 else 'are'} {', '.join(map(repr, known))}" if known else "it has no mappings"
    )
    return f"the file has no mapping {under!r}; {there}"


def _make_key(mapping: WeightMapping, layout: Layout) -> str:
    """Return the normalized name of a weight as it stands under a prefix."""
    return normalize_name(layout.remove_collection(mapping.name))


def _remove_prefix(prefix: str, name: str) -> str:
    return name.removeprefix(f"{prefix}.") if prefix else name


def _prefix_of(key: str, name: str) -> str:
    return name.removesuffix(key).removesuffix(".")


def _ends_with_key(name: str, key: str) -> bool:
    return name == key or name.endswith(f".{key}")


def _find_rivals(best: _Reading, readings: Iterable[_Reading]) -> list[_Reading]:
    """Return the readings of other arrays that fit as well as the best does, one for each prefix."""
    used = set(best.found.values())
    rivals: dict[str, _Reading] = {}
    for reading in readings:
        is_as_good = reading.same == best.same > 0 and (bool(reading.leftovers) <= bool(best.leftovers))
        if is_as_good and reading.main != best.main and used.isdisjoint(reading.found.values()):
            rivals.setdefault(reading.main, reading)
    return list(rivals.values())


def _find_constants(
    layers: list[Layer], keys: Mapping[str, str], found: Mapping[str, str], dialect: Dialect | None
) -> dict[str, float]:
    """Return the statistics of a network whose norms are frozen in a file that has none of them."""
    if dialect is None or not dialect.freezes_norms:
        return {}
    constants = {}
    for layer in layers:
        for weight in layer.weights:
            if weight.statistic:
                constants[f"{layer.path}.{weight.name}"] = (
                    0.0 if weight.name == "running_mean" else 1 - (layer.epsilon or 0)
                )
    return constants if not any(keys[name] in found for name in constants) else {}


def _names_its_layout(checkpoint: Checkpoint) -> bool:
    """Return whether a checkpoint's format or metadata tell the layout of its arrays.

    NumPy's archives, plain pickles and safetensors files are written by programs of every framework.
    """
    metadata = checkpoint.metadata
    if metadata.get("producer", "").startswith("resnet-spec") or metadata.get("format") == "pt":
        return True
    is_paddles = checkpoint.layout == "paddle" and PurePath(checkpoint.path).suffix.startswith(".pd")
    return is_paddles or checkpoint.format.startswith("PyTorch") or checkpoint.format == MAPPING


def find_square_matrices(mappings: Iterable[WeightMapping]) -> list[WeightMapping]:
    """Return the mappings of matrices of as many rows as columns, which fit transposed too."""
    return [m for m in mappings if len(m.shape) == 2 and m.shape[0] == m.shape[1] > 1]


def _find_tail(mappings: Mapping[str, WeightMapping], behind: list[Layer], naming: Naming) -> dict[str, Shape | None]:
    """Return ``Interpretation.tail``: names of the layers ``behind``, up to the first key that no kept weight has.

    A dialect that numbers blocks throughout gives the blocks of a deeper network the names of later ones, so there the
    names and shapes of later blocks must be the network's.
    """
    if not behind:
        return {}
    dialect, layout = naming
    kept = {prefix for mapping in mappings.values() for prefix in list_prefixes(_make_key(mapping, layout))}
    tail: dict[str, Shape | None] = dict.fromkeys(HEADS - kept)
    for layer in behind:
        is_fixed = dialect is not None and dialect.numbers_throughout and layer.role and layer.role.section != "head"
        for mapping in (map_weights([layer], dialect, layout) or {}).values():
            name = _make_key(mapping, layout)
            shortened = next(prefix for prefix in list_prefixes(name) if prefix not in kept)
            tail |= {name: mapping.shape} if is_fixed else {shortened: None}
    return tail


def detect_namings(names: Iterable[str], native_layout: str, known_layout: str | None = None) -> list[Naming]:
    """Return the dialects that names may be in, each with a layout; the network's own names (None) come first.

    A dialect is a candidate if one of its patterns matches a name, a layout if its name for a convolution's weight ends
    a name. ``native_layout``, the layout of the file's format, is tried first; ``known_layout`` is the only one that is
    tried.
    """
    text = "\n".join(names)
    known = load_layouts()
    order = sorted(known.values(), key=lambda layout: layout.name != native_layout)
    layouts = [layout for layout in order if f"{layout.end}\n" in f"{text}\n"] or [known["torch"]]
    if known_layout is not None:
        layouts = [known[known_layout]]
    dialects = [dialect for dialect in load_dialects().values() if any(p.search(text) for p in dialect.patterns)]
    return [
        (dialect, layout)
        for dialect in (None, *dialects)
        for layout in layouts
        if dialect is None or not dialect.layouts or layout.name in dialect.layouts
    ]


def _describe_naming(dialect: Dialect | None, layout: Layout, native_layout: str) -> list[str]:
    if dialect is not None:
        return [f"the file uses {dialect.title} and {layout.title}", *([dialect.note] if dialect.note else [])]
    return [] if layout.name == native_layout else [f"the file uses {layout.title}"]
