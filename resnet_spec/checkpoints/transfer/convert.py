"""A checkpoint to another kind of file: every array once, exactly, in the names and layouts that the target is to have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from os import PathLike, fspath
from typing import TypeAlias

from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.registry import KINDS
from resnet_spec.checkpoints.formats.tensors import FLOATS, Checkpoint, Dtype, Tensor
from resnet_spec.checkpoints.naming.mapping import Place, layers, places
from resnet_spec.checkpoints.naming.tables import dialects, layouts
from resnet_spec.checkpoints.transfer.casting import Losses, cast
from resnet_spec.checkpoints.transfer.matching import fit
from resnet_spec.diagnostics.problems import SpecError
from resnet_spec.language.values import join_alternatives
from resnet_spec.library import bundled
from resnet_spec.library.load import Setting, load
from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array

Progress: TypeAlias = Callable[[int, int], None]
"""What is told of bytes written, and of how many there are."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was done.

    Attributes:
        losses: What is not finite, or was lost in another type, by canonical name.
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
    progress: Progress | None = None,
    settings: Mapping[str, Setting] | None = None,
) -> Conversion:
    """Convert a checkpoint, as ``resnet_spec.convert`` says."""
    checkpoint = registry.read(source)
    network = meant(checkpoint, spec, settings or {})
    reading = fit(network, checkpoint, under)
    written = write(target, network, reading.tensors(), kind=kind, names=names, dtype=dtype, progress=progress)
    notes = (*checkpoint.notes, *reading.notes, *_of_another(checkpoint, network))
    return replace(written, source=fspath(source), read_as=checkpoint.format, notes=notes)


def write(
    target: str | PathLike[str],
    network: Network,
    given: Mapping[str, Tensor],
    *,
    kind: str | None = None,
    names: str | None = None,
    dtype: str | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Write canonical weights of a network, as ``convert`` does, an array at a time."""
    wanted = registry.kind_of(target) if kind is None else _known("kind", kind, KINDS)
    kept = None if dtype is None else FLOATS[_known("dtype", dtype, FLOATS)]
    put = placed(network, wanted, names)
    writing = _Writing(kept, progress, given, put)
    registry.write(target, wanted, {put[name].name: writing.tensor(name) for name in given}, said(network))
    return Conversion(
        target=fspath(target),
        kind=wanted,
        network=network.name,
        fingerprint=network.fingerprint,
        arrays=len(put),
        nbytes=writing.total,
        losses=writing.losses,
    )


def meant(
    checkpoint: Checkpoint, spec: str | PathLike[str] | Network | None, settings: Mapping[str, Setting]
) -> Network:
    """The network that is asked for, or the bundled one that the checkpoint names. Raises ValueError where neither says."""
    if isinstance(spec, Network):
        return spec
    if spec is not None:
        return load(spec, input=None, outputs=None, **settings)
    kept = (
        setting.split("=") for setting in checkpoint.metadata.get("settings", "").split() if setting.count("=") == 1
    )
    own = dict(kept)
    name = _bundled(checkpoint, own)
    if name is None:
        raise ValueError(
            f"{checkpoint.path} names no bundled network: --spec says which it is, and resnet-spec identify finds it"
        )
    return load(name, input=None, outputs=None, **{**own, **settings})


def _bundled(checkpoint: Checkpoint, settings: Mapping[str, Setting]) -> str | None:
    """The full name of the bundled network that a checkpoint was written for: by its name, and as its fingerprint says which."""
    said = checkpoint.metadata
    for full in bundled.names():  # never a path that a file names
        if full.rpartition("/")[2] == said.get("spec"):
            try:
                network = load(full, input=None, outputs=None, **settings)
            except SpecError:  # of settings that it does not take
                continue
            if network.fingerprint == said.get("fingerprint"):
                return full
    return None


def placed(network: Network, kind: str, names: str | None) -> dict[str, Place]:
    """Where each weight goes in a file of a kind, in the network's own names or a dialect's. Raises ValueError."""
    dialect = None if names is None else dialects()[_known("names", names, dialects())]
    layout = layouts()[(dialect and dialect.layout) or KINDS[kind].layout]
    found = places(layers(network), dialect, layout)
    if found is None:
        raise ValueError(f"{names} has no names for all the layers of {network.name}")
    return {name: found[name] for name in network.weights()}


def said(network: Network) -> dict[str, str]:
    """What a file says of itself."""
    return {
        "spec": network.name,
        "settings": " ".join(f"{name}={value}" for name, value in network.takes),
        "fingerprint": network.fingerprint,
        "producer": f"resnet-spec {version('resnet-spec')}",
    }


def _of_another(checkpoint: Checkpoint, network: Network) -> list[str]:
    written = checkpoint.metadata.get("fingerprint", network.fingerprint)
    if written == network.fingerprint:
        return []
    name = checkpoint.metadata.get("spec", "another network")
    return [f"the file was written for {name}, whose weights fit {network.name}, but which computes something else"]


class _Writing:
    """Arrays on their way to a file: cast, put as the target has them, counted."""

    def __init__(
        self,
        dtype: Dtype | None,
        progress: Progress | None,
        given: Mapping[str, Tensor],
        put: Mapping[str, Place],
    ) -> None:
        self.dtype = dtype
        self.progress = progress
        self.input_shape = given
        self.put = put
        self.losses: dict[str, Losses] = {}
        self.done = 0
        self.total = sum(self.tensor(name).nbytes for name in given)

    def tensor(self, name: str) -> Tensor:
        """A canonical array as the target has it."""
        return Tensor(self.put[name].shape, self.dtype or self.input_shape[name].dtype, partial(self.array, name))

    def array(self, name: str) -> Array:
        found, lost = cast(self.input_shape[name].read(), self.dtype or self.input_shape[name].dtype)
        if str(lost):
            self.losses[name] = lost
        self.done += found.nbytes
        if self.progress is not None:
            self.progress(self.done, self.total)
        return self.put[name].kept(found)


def _known(what: str, name: str, known: Mapping[str, object]) -> str:
    if name not in known:
        raise ValueError(f"{what} is {name!r}; it can be {join_alternatives(known)}")
    return name
