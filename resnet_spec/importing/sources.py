"""Import models: from PyTorch, from ONNX files, from Keras' files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeAlias

from resnet_spec.backend import load_backend
from resnet_spec.importing.foreign import ForeignModel
from resnet_spec.importing.graph import MAX_VALUES, Graph
from resnet_spec.importing.importer import Recovered, import_graphs
from resnet_spec.importing.problems import ImportRefused
from resnet_spec.importing.proof import Comparison, prove
from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array

Shape3: TypeAlias = tuple[int, int, int]

SECOND_SIDES = (33, 65)
"""The heights of the second image that a model is traced for, of small images and of others.

However often they are halved, maps have an odd size: 33, 17, 9, 5, 3.
"""

MAX_TRACED_SIDE = 128
SMALL_SIDES = (65, 96)
"""The sizes that are traced instead of images larger than ``MAX_TRACED_SIDE``, if the model takes them."""


EVEN_SIDES = (64, 96)
"""The sizes of images whose maps are even however often they are halved, down to a few pixels."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A model as a spec. It unpacks into the network and its weights.

    Attributes:
        network: The network that ``spec`` loads as; with the outputs of a model that returns several maps.
        weights: The model's weights in float64, or in the type of a file, under the network's names.
        spec: The text of the spec.
        proof: How the network's outputs compare with the model's.
        renamed: The model's own names of weights that have another one in the network.
        notes: What the proof can't rule out, in sentences.
    """

    network: Network
    weights: dict[str, Array]
    spec: str
    proof: tuple[Comparison, ...]
    renamed: Mapping[str, str]
    notes: tuple[str, ...]

    def __iter__(self) -> Iterator[Any]:
        yield self.network
        yield self.weights

    @property
    def is_proven(self) -> bool:
        """Whether everything that was compared is the same, and outputs were."""
        compared = [comparison for comparison in self.proof if comparison.count]
        return any(comparison.what == "outputs" for comparison in compared) and all(
            comparison.verdict == "same" for comparison in compared
        )


def from_torch(
    model: object,
    input: Sequence[int],
    *,
    name: str | None = None,
    until: str = "",
    extends: bool = True,
    check: bool = True,
) -> Imported:
    """Return a PyTorch model as a network with its weights, proven to compute the same.

    The model is run, and is not changed. ``network, weights = from_torch(model, (3, 224, 224))``.

    Args:
        model: A ``torch.nn.Module``.
        input: The shape (channels, height, width) of an image.
        name: The name of the network. By default, that of the model's class.
        until: The path of a module; the network ends with its output.
        extends: Whether the spec may extend a bundled network that is nearly the same.
        check: Whether to raise an error if the network computes something else than the model.

    Raises:
        ImportRefused: The model makes calls that the language can't say, or the network computes something else. The
            message lists every place.
        BackendError: PyTorch is not installed.
    """
    backend: Any = load_backend("torch")
    return import_model(backend.wrap_model(model), input, name=name, until=until, extends=extends, check=check)


def from_onnx(
    path: str | PathLike[str],
    input: Sequence[int] | None = None,
    *,
    name: str | None = None,
    until: str = "",
    extends: bool = True,
    check: bool = True,
) -> Imported:
    """Return the network in an ONNX file with its weights, proven to compute the same; no framework is needed.

    The arguments are those of ``from_torch``; ``input`` is needed only if the file leaves the size of images open.
    Raises ImportRefused, FileNotFoundError, or BackendError if the package onnx is not installed.
    """
    backend: Any = load_backend("onnx")
    return import_model(backend.wrap_model(path), input, name=name, until=until, extends=extends, check=check)


def from_keras(
    path: str | PathLike[str],
    input: Sequence[int] | None = None,
    *,
    name: str | None = None,
    extends: bool = True,
    check: bool = True,
) -> Imported:
    """Return the network in a Keras file (.keras or .h5) with its weights; neither TensorFlow nor Keras is needed.

    The arguments are those of ``from_torch``; ``input`` is needed only if the file leaves the size of images open.
    Raises ImportRefused, FileNotFoundError, or BackendError if the package h5py is not installed.
    """
    from resnet_spec.importing.keras_file import KerasModel

    return import_model(KerasModel(path), input, name=name, extends=extends, check=check)


def import_model(
    model: ForeignModel,
    input: Sequence[int] | None,
    *,
    name: str | None = None,
    until: str = "",
    extends: bool = True,
    check: bool = True,
    backends: Sequence[str] | None = None,
) -> Imported:
    """Return a wrapped model as a network. ``backends`` prove it: by default numpy, and the model's own."""
    shape = _check_input(model, input)
    sizes, recovered = _recover(model, shape, until, name or file_name(model.name), extends)
    sizes = sorted({*sizes, shape})
    sizes = [sizes[0], *sizes[-1:]] if len(sizes) > 1 else sizes
    proof = prove(model, recovered, sizes, _proving_backends(model) if backends is None else backends, until)
    notes = list(recovered.notes)
    if len(sizes) == 1:
        notes.append("the model takes images of one size only, so no second size was compared")
    elif not any(side % 2 for size in sizes for side in size[1:]):
        notes.append("images of odd height or width were not compared: the model fails on them, or no spec says how")
    imported = Imported(
        recovered.network, recovered.weights, recovered.spec, tuple(proof), recovered.renamed, tuple(notes)
    )
    if check and not imported.is_proven:
        raise ImportRefused(
            "the spec computes something else than the model",
            [describe(line) for line in proof if line.verdict != "same"],
        )
    return imported


def describe(line: Comparison) -> str:
    """Return a comparison as a sentence."""
    if not line.count:
        return f"{line.what} at {line.size} in {line.backend}: not compared, since {line.where}"
    return f"{line.what} at {line.size} in {line.backend}: {line.verdict}, {line.worst:.1e} at most, in {line.where}"


def file_name(name: str) -> str:
    """Return a text as the name of a network."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or "network"


def _proving_backends(model: ForeignModel) -> list[str]:
    kind = type(model).__name__
    return ["torch", "numpy"] if kind == "TorchModel" else ["numpy"]


def _check_input(model: ForeignModel, input: Sequence[int] | None) -> tuple[int, int, int]:
    if input is None and model.input_shape is None:
        raise ValueError("the model does not say the size of its images; pass input, as in (3, 224, 224)")
    shape = tuple(int(size) for size in (input if input is not None else model.input_shape or ()))
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"input must be (channels, height, width), such as (3, 224, 224), not {input!r}")
    if math.prod(shape) > MAX_VALUES:
        raise ValueError(f"images of shape {shape} have more than {MAX_VALUES:,} values")
    return shape[0], shape[1], shape[2]


def _recover(
    model: ForeignModel, shape: Shape3, until: str, name: str, extends: bool
) -> tuple[list[Shape3], Recovered]:
    """Return a model's spec, and the sizes of the images for which it was traced.

    A model that resizes odd maps in a way that no spec says is traced for images whose maps are even.
    """
    try:
        graphs = _trace(model, shape, until)
        may_retry = any(node.kind == "resized" for graph in graphs.values() for node in graph.nodes())
        try:
            return [*graphs], import_graphs([*graphs.values()], name, shape, model.classes, extends=extends)
        except ImportRefused:
            if not may_retry:
                raise
            graphs = {size: graph for size in _even_sizes(shape) if (graph := _usable_graph(model, size, until))}
            if len(graphs) < 2:
                raise
            return [*graphs], import_graphs([*graphs.values()], name, shape, model.classes, extends=extends)
    except RecursionError:
        raise ImportRefused("the model is nested too deeply to trace") from None


def _even_sizes(shape: Shape3) -> list[Shape3]:
    channels, height, width = shape
    if min(shape[1:]) > MAX_TRACED_SIDE:
        return [(channels, side, side) for side in EVEN_SIDES]
    return [shape, (channels, height + EVEN_SIDES[0], width + EVEN_SIDES[0])]


def _trace(model: ForeignModel, shape: Shape3, until: str) -> dict[Shape3, Graph]:
    """Return graphs of a model by the size of the image: two, if the model takes more sizes than one.

    Of large images two smaller sizes are traced, which takes less time.
    """
    if min(shape[1:]) > MAX_TRACED_SIDE:
        sizes = [(shape[0], side, side) for side in SMALL_SIDES]
        graphs = {size: graph for size in sizes if (graph := _usable_graph(model, size, until))}
        if len(graphs) == len(sizes):
            return graphs
    first = model.graph(shape, until)
    for size in _other_sizes(shape):
        other = _usable_graph(model, size, until)
        if other is not None:
            return {shape: first, size: other}
    return {shape: first}


def _usable_graph(model: ForeignModel, size: Shape3, until: str) -> Graph | None:
    """Return a graph for images of another size; None if the model can't take them, or calls what no spec says.

    That includes maps that no longer fit each other, which PyTorch may add all the same.
    """
    try:
        graph = model.graph(size, until)
    except ImportRefused:
        return None
    return None if graph.has_refused() else graph


def _other_sizes(shape: Shape3) -> Iterator[Shape3]:
    """Yield other sizes of images, odd ones first, since padding depends on that."""
    channels, height, width = shape
    usual = SECOND_SIDES[min(height, width) > sum(SECOND_SIDES) // 2]
    for side in (usual, (height + 17) | 1, max(32, height // 2), height + 32):
        size = channels, side, side + (width - height if width > height else 0)
        if size != shape:
            yield size
