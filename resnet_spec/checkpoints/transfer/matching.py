"""Match a checkpoint's arrays with a network's weights, by names and shapes alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePath

from resnet_spec.checkpoints.formats.tensors import FLOATS, Checkpoint, Tensor
from resnet_spec.checkpoints.naming.mapping import Layer, WeightMapping, list_layers, map_weights, normalize_name
from resnet_spec.checkpoints.naming.tables import Dialect, Layout, load_dialects, load_layouts
from resnet_spec.checkpoints.transfer.live import MAPPING
from resnet_spec.checkpoints.transfer.unwrapping import HEADS, UnwrappedNames, list_prefixes, unwrap_names
from resnet_spec.language.values import join_alternatives
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array, WeightsError, find_mismatches


@dataclass(frozen=True, slots=True)
class Interpretation:
    """One way to read a checkpoint as a network's weights: without some wrappings, in a dialect and a layout.

    Attributes:
        dialect: The dialect of the file's names, or None for the network's own names.
        mappings: How the dialect stores each canonical weight.
        names: The file's full names by their normalized names without wrappings.
        tail: The beginnings of the stored names behind a network's feature outputs, each with the shape that an array
            called so must have, or None for any. Empty if the network has no feature outputs.
        found: How many weights are in the file by name.
        same: How many weights are in the file by name and shape.
        notes: What the user should know about this interpretation.
        undecided: The layouts in which the same arrays would fit as well, transposed, where nothing in the file tells.
    """

    network: Network
    checkpoint: Checkpoint
    dialect: Dialect | None
    layout: Layout
    mappings: Mapping[str, WeightMapping]
    names: Mapping[str, str]
    tail: Mapping[str, Shape | None]
    found: int
    same: int
    notes: tuple[str, ...]
    undecided: tuple[str, ...] = ()

    def find_problems(self, *, suggestions: bool = True) -> list[str]:
        """Return every array that is missing, unexpected or of the wrong shape or type, by the file's own names.

        With ``suggestions``, similar names are looked for, which takes a while if many differ.
        """
        tensors = self.checkpoint.tensors
        expected = {
            self.names.get(normalize_name(mapping.name), mapping.name): mapping.shape
            for mapping in self.mappings.values()
        }
        shapes = {full: tensors[full].shape for _, full in self._relevant_names()}
        problems = find_mismatches(expected, shapes, self.network.takes, suggestions=suggestions)
        known = set(FLOATS.values())
        for name in self.names.values():
            if name in expected and tensors[name].dtype not in known:
                problems.append(f"{name} is {tensors[name].dtype}; weights are {join_alternatives(FLOATS)}")
        return problems

    def _list_undecided(self) -> list[str]:
        if not self.undecided:
            return []
        matrices = find_square_matrices(self.mappings.values())
        named = ", ".join(f"{mapping.name} {mapping.shape}" for mapping in matrices)
        choices = join_alternatives((self.layout.name, *self.undecided))
        question = f"{named}: nothing in the file tells whether this is (out, in) or (in, out)"
        return [f"{question}; convert it with --layout, which can be {choices}"]

    def _relevant_names(self) -> Iterator[tuple[str, str]]:
        """Yield every name without wrappings and in full, but those behind a network's feature outputs.

        Behind them are the layers of the full network there, another library's head, and what is beside the backbone.
        """
        backbone = self._find_backbone()
        for name, full in self.names.items():
            allowed = {self.tail[prefix] for prefix in list_prefixes(name) if prefix in self.tail}
            is_behind = None in allowed or self.checkpoint.tensors[full].shape in allowed
            is_beside = bool(self.tail) and not normalize_name(full).startswith(backbone)
            if not is_behind and not is_beside:
                yield name, full

    def _find_backbone(self) -> str:
        """Return what stands before the name of every weight of the network in the file, such as ``backbone.``."""
        mapped = (normalize_name(mapping.name) for mapping in self.mappings.values())
        found = {normalize_name(self.names[name]).removesuffix(name) for name in mapped if name in self.names}
        return found.pop() if len(found) == 1 else ""

    def canonical_shapes(self) -> dict[str, Shape]:
        """Return the shape of every array in the file, by its canonical name and in canonical order if it has one."""
        canonical = {normalize_name(mapping.name): (name, mapping) for name, mapping in self.mappings.items()}
        shapes = {}
        for name, full in self.names.items():
            shape = self.checkpoint.tensors[full].shape
            if name in canonical:
                canonical_name, mapping = canonical[name]
                shapes[canonical_name] = mapping.to_canonical_shape(shape)
            else:
                shapes[full] = shape
        return shapes

    def present_tensors(self) -> dict[str, Tensor]:
        """Return what is in the file: by canonical name and in canonical layout if it fits a weight of the network.

        An array of another shape than the weight's stands under the canonical name too, in PyTorch's order of axes if
        it has as many. Other arrays keep the file's names. Raises WeightsError if the layout is not known.
        """
        undecided = self._list_undecided()
        if undecided:
            raise WeightsError(undecided)
        by_name = {normalize_name(mapping.name): (name, mapping) for name, mapping in self.mappings.items()}
        tensors = {}
        for name, full in self.names.items():
            stored = self.checkpoint.tensors[full]
            canonical, mapping = by_name.get(name, (full, None))
            if mapping is None:
                tensors[full] = stored
            elif stored.shape == mapping.shape:
                tensors[canonical] = replace(
                    stored, shape=mapping.canonical_shape, read=partial(_read_canonical, mapping, stored)
                )
            else:
                tensors[canonical] = replace(stored, shape=mapping.to_canonical_shape(stored.shape))
        order = {name: number for number, name in enumerate(self.network.weights())}
        return dict(sorted(tensors.items(), key=lambda item: order.get(item[0], len(order))))

    def canonical_tensors(self) -> dict[str, Tensor]:
        """Return the canonical weights in the network's order. Raises WeightsError if there are problems.

        Each is read, and brought into the canonical layout, when its ``read`` is called.
        """
        problems = [*self.find_problems(), *self._list_undecided()]
        if problems:
            raise WeightsError(problems)
        tensors = {}
        for name, mapping in self.mappings.items():
            stored = self.checkpoint.tensors[self.names[normalize_name(mapping.name)]]
            tensors[name] = Tensor(mapping.canonical_shape, stored.dtype, partial(_read_canonical, mapping, stored))
        return {name: tensors[name] for name in self.network.weights()}


def _read_canonical(mapping: WeightMapping, tensor: Tensor) -> Array:
    return mapping.to_canonical(tensor.read())


def interpret_checkpoint(
    network: Network, checkpoint: Checkpoint, under: str | None = None, layout: str | None = None
) -> Interpretation:
    """Return the interpretation by which most weights of a network are in a checkpoint.

    ``under`` is the key of the file's mapping that holds the weights, and ``layout`` the name of the layout of its
    arrays, if they are known.
    """
    layers = list_layers(network)
    behind = list_layers(network.full)[len(layers) :] if network.full else []
    best: Interpretation | None = None
    for unwrapped in unwrap_names(checkpoint.tensors, under):
        for candidate in _generate_interpretations(network, layers, behind, checkpoint, unwrapped, layout):
            if best is None or (candidate.same, candidate.found) > (best.same, best.found):
                best = candidate
        if best is not None and best.same == len(best.mappings) == len(best.names):
            break
    assert best is not None
    is_known = layout is not None or _names_its_layout(checkpoint)
    return best if is_known else replace(best, undecided=_find_undecided(best, layers))


def _names_its_layout(checkpoint: Checkpoint) -> bool:
    """Return whether a checkpoint's format or metadata tell the layout of its arrays.

    NumPy's archives, plain pickles and safetensors files are written by programs of every framework.
    """
    metadata = checkpoint.metadata
    if metadata.get("producer", "").startswith("resnet-spec") or metadata.get("format") == "pt":
        return True
    is_paddles = checkpoint.layout == "paddle" and PurePath(checkpoint.path).suffix.startswith(".pd")
    return is_paddles or checkpoint.format.startswith("PyTorch") or checkpoint.format == MAPPING


def _find_undecided(best: Interpretation, layers: list[Layer]) -> tuple[str, ...]:
    """Return the layouts in which as many weights fit by the same names, and a square matrix means its transpose."""
    undecided = []
    for dialect, layout in detect_dialects(best.names, best.checkpoint.layout):
        mappings = map_weights(layers, dialect, layout) if dialect == best.dialect and layout != best.layout else None
        if mappings is None:
            continue
        pairs = [(best.mappings[name], mapping) for name, mapping in mappings.items()]
        fits = all((a.name, a.shape) == (b.name, b.shape) for a, b in pairs)
        if fits and any(a.axes != b.axes for a, b in pairs):
            undecided.append(layout.name)
    return tuple(undecided)


def find_square_matrices(mappings: Iterable[WeightMapping]) -> list[WeightMapping]:
    """Return the mappings of matrices of as many rows as columns, which fit transposed too."""
    return [m for m in mappings if len(m.shape) == 2 and m.shape[0] == m.shape[1] > 1]


def _generate_interpretations(
    network: Network,
    layers: list[Layer],
    behind: list[Layer],
    checkpoint: Checkpoint,
    unwrapped: UnwrappedNames,
    known_layout: str | None,
) -> Iterator[Interpretation]:
    names = {normalize_name(name): full for name, full in unwrapped.names.items()}
    for dialect, layout in detect_dialects(names, checkpoint.layout, known_layout):
        mappings = map_weights(layers, dialect, layout)
        if mappings is None:
            continue
        found = [
            (mapping, names[normalize_name(mapping.name)])
            for mapping in mappings.values()
            if normalize_name(mapping.name) in names
        ]
        same = sum(checkpoint.tensors[name].shape == mapping.shape for mapping, name in found)
        notes = (*unwrapped.notes, *_describe_naming(dialect, layout, checkpoint.layout))
        tail = _find_tail(mappings, behind, dialect, layout) if network.full else {}
        yield Interpretation(network, checkpoint, dialect, layout, mappings, names, tail, len(found), same, notes)


def _find_tail(
    mappings: Mapping[str, WeightMapping], behind: list[Layer], dialect: Dialect | None, layout: Layout
) -> dict[str, Shape | None]:
    """Return ``Interpretation.tail``: names of the layers ``behind``, up to the first key that no kept weight has.

    A dialect that numbers blocks throughout gives the blocks of a deeper network the names of later ones, so there the
    names and shapes of later blocks must be the network's.
    """
    kept = {prefix for mapping in mappings.values() for prefix in list_prefixes(normalize_name(mapping.name))}
    tail: dict[str, Shape | None] = dict.fromkeys(HEADS - kept)
    for layer in behind:
        is_fixed = dialect is not None and dialect.numbers_throughout and layer.role and layer.role.section != "head"
        for mapping in (map_weights([layer], dialect, layout) or {}).values():
            name = normalize_name(mapping.name)
            shortened = next(prefix for prefix in list_prefixes(name) if prefix not in kept)
            tail |= {name: mapping.shape} if is_fixed else {shortened: None}
    return tail


def detect_dialects(
    names: Mapping[str, str], native_layout: str, known_layout: str | None = None
) -> list[tuple[Dialect | None, Layout]]:
    """Return the dialects that names may be in, each with a layout; the network's own names (None) come first.

    A dialect is a candidate if one of its patterns matches a name, a layout if its name for a convolution's weight is
    among the last parts of the names. ``native_layout``, the layout of the file's format, is tried first;
    ``known_layout`` is the only one that is tried.
    """
    last_keys = {name.rpartition(".")[2] for name in names}
    known = load_layouts()
    order = sorted(known.values(), key=lambda layout: layout.name != native_layout)
    layouts = [layout for layout in order if layout.kernel in last_keys] or [known["torch"]]
    if known_layout is not None:
        layouts = [known[known_layout]]
    dialects = [d for d in load_dialects().values() if any(p.search(name) for p in d.patterns for name in names)]
    return [
        (dialect, layout)
        for dialect in (None, *dialects)
        for layout in layouts
        if layout.name == (dialect.layout if dialect and dialect.layout else layout.name)
    ]


def _describe_naming(dialect: Dialect | None, layout: Layout, native_layout: str) -> list[str]:
    if dialect is not None:
        return [f"the file uses {dialect.title} and {layout.title}"]
    return [] if layout.name == native_layout else [f"the file uses {layout.title}"]
