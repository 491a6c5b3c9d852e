"""Read a checkpoint into a network with another classifier, or for images with other channels, where that is asked."""

from __future__ import annotations

import numpy as np

from resnet_spec.checkpoints.formats.tensors import Checkpoint
from resnet_spec.checkpoints.transfer.matching import Interpretation, interpret_checkpoint
from resnet_spec.network.network import Network
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.ops import Conv, StandardizedConv
from resnet_spec.transforms.adaptation import Adaptation, FirstLayer, Stem, find_first_layers, without_classifier
from resnet_spec.weights.canonical import Array, initialize


def read_adapted(
    network: Network, checkpoint: Checkpoint, adaptation: Adaptation, seed: int, under: str | None = None
) -> dict[str, Array]:
    """Return a network's weights from a checkpoint whose classifier and first layers may be another network's.

    With ``head="new"``, the classifier is drawn from the seed, and what the file has instead is left out. With ``stem``
    the first layers are converted to the channels of the network's input. ``network`` is the one that is built: with
    ``head="none"`` it has no classifier.

    Raises WeightsError if the rest does not fit, and ValueError if there is nothing to convert.
    """
    wanted = without_classifier(network) if adaptation.head == "new" else network
    interpretation = interpret_checkpoint(wanted, checkpoint, under)
    first_layers: tuple[FirstLayer, ...] = ()
    if adaptation.stem:
        first_layers = find_first_layers(network)
        channels = _find_channels(interpretation, first_layers)
        interpretation = interpret_checkpoint(infer_shapes(wanted, (channels, *network.input[1:])), checkpoint, under)
    arrays = {name: tensor.read() for name, tensor in interpretation.canonical_tensors().items()}
    for first in first_layers:
        name = first.leaf.weight_path("weight")
        arrays[name] = convert_channels(arrays[name], network.input[0], adaptation.stem or "sum", first)
    if adaptation.head == "new":
        initial = initialize(network, seed)
        return {name: arrays.get(name, array) for name, array in initial.items()}
    return arrays


def _find_channels(interpretation: Interpretation, first_layers: tuple[FirstLayer, ...]) -> int:
    """Return for how many channels of an image a file is, or the network's own number if its layers differ otherwise.

    Raises ValueError if a first layer fits as it is, or is no convolution.
    """
    network = interpretation.network
    for first in first_layers:
        if not isinstance(first.leaf.op, Conv | StandardizedConv):
            raise ValueError(f"{network.name} reads images by {first.leaf.path}, which is no convolution to convert")
        name = first.leaf.weight_path("weight")
        key = interpretation.keys[name]
        if key not in interpretation.names:
            continue  # it is reported as missing
        stored = interpretation.checkpoint.tensors[interpretation.names[key]].shape
        expected = interpretation.mappings[name].shape
        if stored == expected:
            is_for = f"{name} is for {network.input[0]} channels in the file too"
            raise ValueError(f"stem has no effect, since {is_for}; leave it out")
        different = [pair for pair in zip(stored, expected, strict=False) if pair[0] != pair[1]]
        if len(stored) == len(expected) and len(different) == 1:
            channels, rest = divmod(network.input[0] * different[0][0], different[0][1])
            if not rest:
                return channels
    return network.input[0]


def convert_channels(weight: Array, channels: int, stem: Stem, first: FirstLayer) -> Array:
    """Return the weight of a first layer for another number of channels of the image.

    "sum" adds the filters of all channels, for one channel. "repeat" repeats them in turn, and "mean" gives each new
    channel their mean; both scale by the old number of channels over the new one. With "sum" and "mean", an image whose
    channels are equal gives what it gave before. The first two are timm's. Arithmetic is in float32, or in the weight's
    own float64.

    Raises ValueError if "sum" is asked for more than one channel, or "repeat" for one.
    """
    if (stem == "sum") != (channels == 1) and stem != "mean":
        kind, other = ("more than one channel", "repeat") if stem == "sum" else ("one channel", "sum")
        raise ValueError(f"stem={stem!r} is not for {kind}; use {other!r} or 'mean'")
    out, read, *kernel = weight.shape
    dtype = np.result_type(weight.dtype, np.float32)
    old = read // first.tiles
    # (out, tiles, channels, ...), so that the filters of one pixel's channels lie together
    order = (out, old, first.tiles, *kernel) if first.channel_first else (out, first.tiles, old, *kernel)
    filters = weight.astype(dtype).reshape(order)
    filters = np.moveaxis(filters, 1, 2) if first.channel_first else filters
    if stem == "repeat":
        converted = np.take(filters, np.arange(channels) % old, axis=2) * dtype.type(old / channels)
    else:
        total = filters.sum(axis=2, keepdims=True)
        converted = np.repeat(total, channels, axis=2) / dtype.type(channels) if channels > 1 else total
    converted = np.moveaxis(converted, 2, 1) if first.channel_first else converted
    return np.ascontiguousarray(converted.reshape(out, channels * first.tiles, *kernel)).astype(weight.dtype)
