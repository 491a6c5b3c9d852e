"""Convert a checkpoint to another format, one array at a time, with the names and layouts of the target."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from os import PathLike, fspath
from pathlib import Path
from typing import TypeAlias

from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.registry import KINDS
from resnet_spec.checkpoints.formats.tensors import FLOATS, Checkpoint, Dtype, Tensor
from resnet_spec.checkpoints.naming.mapping import WeightMapping, list_layers, map_weights
from resnet_spec.checkpoints.naming.tables import load_dialects, load_layouts
from resnet_spec.checkpoints.transfer.casting import Losses, cast
from resnet_spec.checkpoints.transfer.matching import interpret_checkpoint
from resnet_spec.diagnostics.remedies import describe_argument
from resnet_spec.language.values import join_alternatives
from resnet_spec.library import bundled
from resnet_spec.library.load import Setting, load
from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array, WeightsError, find_mismatches

PROVENANCE = ("weights", "license", "origin")
"""The metadata that say where weights come from: network and tag, license, and address."""

_ARGUMENTS_OF_LOAD = ("spec", "input", "outputs")

Progress: TypeAlias = Callable[[int, int], None]
"""Called after each array with the bytes converted so far and in total."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        losses: The values of each array that are not finite or were lost in a cast, by canonical name.
        read_as: The source's format.
        notes: How the source was read.
    """

    target: str
    kind: str
    network: str
    fingerprint: str
    arrays: int
    nbytes: int
    losses: Mapping[str, Losses]
    source: str = ""
    read_as: str = ""
    notes: tuple[str, ...] = ()


def convert(
    source: str | PathLike[str],
    target: str | PathLike[str],
    spec: str | PathLike[str] | Network | None = None,
    *,
    kind: str | None = None,
    names: str | None = None,
    dtype: str | None = None,
    under: str | None = None,
    layout: str | None = None,
    progress: Progress | None = None,
    settings: Mapping[str, Setting] | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Conversion:
    """Convert a checkpoint; see ``resnet_spec.convert``.

    ``provenance`` is what the target's metadata say of where the weights come from; by default, what the source's do.
    """
    _check_target(source, target)
    checkpoint = registry.read(source)
    network = resolve_network(checkpoint, spec, settings or {})
    known_layout = None if layout is None else _check_choice("layout", layout, load_layouts())
    interpretation = interpret_checkpoint(network, checkpoint, under, known_layout)
    tensors = interpretation.canonical_tensors()
    checkpoint = interpretation.checkpoint
    known = {key: checkpoint.metadata[key] for key in PROVENANCE if key in checkpoint.metadata}
    options = {"kind": kind, "names": names, "dtype": dtype}
    result = write(target, network, tensors, **options, progress=progress, provenance=provenance or known)
    notes = (*checkpoint.notes, *interpretation.notes, *_compare_fingerprints(checkpoint, network))
    return replace(result, source=fspath(source), read_as=checkpoint.format, notes=notes)


def _check_target(source: str | PathLike[str], target: str | PathLike[str]) -> None:
    """Raise ValueError if the target is the source, by whatever path, or lies in the folder of an Orbax source."""
    if not Path(source).exists():
        return
    of_target = Path(os.path.realpath(target))
    for path in (of_target, *of_target.parents):
        if path.exists() and path.samefile(source) and (path == of_target or Path(source).is_dir()):
            raise ValueError(
                f"{fspath(target)} is the source, or lies in it, and a conversion does not overwrite what it reads; "
                "choose another target"
            )


def write(
    target: str | PathLike[str],
    network: Network,
    tensors: Mapping[str, Tensor],
    *,
    kind: str | None = None,
    names: str | None = None,
    dtype: str | None = None,
    progress: Progress | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Conversion:
    """Write the canonical weights of a network to a file, one array at a time; see ``resnet_spec.convert``."""
    kind = registry.infer_kind(target) if kind is None else _check_choice("kind", kind, KINDS)
    target_dtype = None if dtype is None else FLOATS[_check_choice("dtype", dtype, FLOATS)]
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    problems = find_mismatches(network.weights(), shapes, network.takes)
    if problems:
        raise WeightsError(problems)
    mappings = map_to_kind(network, kind, names)
    converter = _Converter(tensors, mappings, target_dtype, progress)
    converted = {mappings[name].name: converter.convert(name) for name in tensors}
    registry.write(target, kind, converted, {**make_metadata(network), **(provenance or {})})
    return Conversion(
        target=fspath(target),
        kind=kind,
        network=network.name,
        fingerprint=network.fingerprint,
        arrays=len(mappings),
        nbytes=converter.total,
        losses=converter.losses,
    )


def resolve_network(
    checkpoint: Checkpoint, spec: str | PathLike[str] | Network | None, settings: Mapping[str, Setting]
) -> Network:
    """Return the network of a spec or, without one, the bundled network that a checkpoint's metadata name.

    Raises ValueError if there is neither.
    """
    if isinstance(spec, Network):
        return spec
    if spec is not None:
        return load(spec, input=None, outputs=None, **settings)
    named = find_named(checkpoint)
    if named is None:
        raise ValueError(
            f"{checkpoint.path} does not name a bundled network; pass its spec, "
            f"as in {describe_argument('spec', 'resnet50')}; resnet-spec identify may find it"
        )
    return named.load(**settings) if settings else named.network


@dataclass(frozen=True, slots=True)
class NamedNetwork:
    """A bundled network by its full name, and the arguments of ``load`` with which it was loaded."""

    name: str
    network: Network
    input: tuple[int, ...] | None
    outputs: tuple[str, ...] | None
    settings: Mapping[str, Setting]

    def load(self, **settings: Setting) -> Network:
        """Load the network with other settings."""
        return load(self.name, input=self.input, outputs=self.outputs, **{**self.settings, **settings})


def find_named(checkpoint: Checkpoint) -> NamedNetwork | None:
    """Return the bundled network that a checkpoint's metadata name, or None if there is none.

    It is loaded with the input, outputs and settings in the metadata, and must have the fingerprint there.
    """
    metadata = checkpoint.metadata
    words = (word.partition("=") for word in metadata.get("settings", "").split())
    settings: dict[str, Setting] = {name: text for name, _, text in words if text and name not in _ARGUMENTS_OF_LOAD}
    sizes = metadata.get("input", "").split("x")
    input = tuple(map(int, sizes)) if all(re.fullmatch("[0-9]{1,6}", size) for size in sizes) else None
    outputs = tuple(metadata.get("outputs", "").split()) or None
    for name in bundled.names():  # a name in the file is compared with these, and never opened as a path
        if name.rpartition("/")[2] != metadata.get("spec"):
            continue
        try:
            network = load(name, input=input, outputs=outputs, **settings)
        except ValueError:  # the network has no such settings, input or outputs
            continue
        if network.fingerprint == metadata.get("fingerprint"):
            return NamedNetwork(name, network, input, outputs, settings)
    return None


def map_to_kind(network: Network, kind: str, names: str | None) -> dict[str, WeightMapping]:
    """Map each weight to where a file of a kind stores it, in the network's own names or in the dialect ``names``.

    Raises ValueError if there is no such dialect, or if it has no names for some layer of the network.
    """
    dialect = None if names is None else load_dialects()[_check_choice("names", names, load_dialects())]
    layout = load_layouts()[(dialect and dialect.layout) or KINDS[kind].layout]
    mappings = map_weights(list_layers(network), dialect, layout)
    if mappings is None:
        raise ValueError(f"the dialect {names} does not have names for all layers of {network.name}")
    return {name: mappings[name] for name in network.weights()}


def make_metadata(network: Network) -> dict[str, str]:
    """Return the metadata that a file of a network's weights holds, from which ``find_named`` finds the network."""
    settings = {**dict(network.takes), **dict(network.settings)}
    return {
        "spec": network.name,
        "settings": " ".join(f"{name}={value}" for name, value in settings.items()),
        "input": "x".join(map(str, network.input)),
        **({"outputs": " ".join(network.outputs)} if network.outputs else {}),
        "fingerprint": network.fingerprint,
        "producer": f"resnet-spec {version('resnet-spec')}",
    }


def _compare_fingerprints(checkpoint: Checkpoint, network: Network) -> list[str]:
    """Return a note if the file was written for a network that computes something else."""
    fingerprint = checkpoint.metadata.get("fingerprint", network.fingerprint)
    if fingerprint == network.fingerprint:
        return []
    name = checkpoint.metadata.get("spec", "another network")
    return [f"the file was written for {name}; its weights fit {network.name}, which computes something else"]


class _Converter:
    """Casts canonical arrays and brings them into the target's layout, and records losses and progress."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        mappings: Mapping[str, WeightMapping],
        dtype: Dtype | None,
        progress: Progress | None,
    ) -> None:
        self.tensors = tensors
        self.mappings = mappings
        self.dtype = dtype
        self.progress = progress
        self.losses: dict[str, Losses] = {}
        self.done = 0
        self.total = sum(self.convert(name).nbytes for name in tensors)

    def convert(self, name: str) -> Tensor:
        """Return a canonical weight as the target stores it; it is converted when it is read."""
        return Tensor(self.mappings[name].shape, self.target_dtype(name), partial(self.read, name))

    def target_dtype(self, name: str) -> Dtype:
        return self.dtype or self.tensors[name].dtype

    def read(self, name: str) -> Array:
        array, losses = cast(self.tensors[name].read(), self.target_dtype(name))
        if str(losses):
            self.losses[name] = losses
        self.done += array.nbytes
        if self.progress is not None:
            self.progress(self.done, self.total)
        return self.mappings[name].to_stored(array)


def _check_choice(option: str, value: str, choices: Mapping[str, object]) -> str:
    if value not in choices:
        raise ValueError(f"{option} is {value!r}; it can be {join_alternatives(choices)}")
    return value
