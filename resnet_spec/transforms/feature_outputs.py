"""A network that gives maps on its way, as detection and segmentation need, in place of what its head makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Part


def with_feature_outputs(network: Network, outputs: Sequence[str]) -> Network:
    """The network cut behind the last part that is asked for, giving the outputs of those parts in the order of asking.

    What is inside a residual block can't be asked for: ``network.features()`` lists what can. Raises ValueError.

    >>> from resnet_spec import load
    >>> network = with_feature_outputs(load("resnet18"), ["layer2", "layer4.0"])
    >>> network.outputs, [name for name in network.weights() if name.startswith(("layer4.1", "fc"))]
    (('layer2', 'layer4.0'), [])
    """
    known = {part.path for part in _trunk(network.parts)}
    for path in outputs:
        if path not in known:
            raise ValueError(f"{network.name} can't give {path!r}: {suggest(path, known) or 'it has no parts'}")
    if not outputs:
        raise ValueError("outputs is empty; leave it out for what the head gives")
    wanted = set(outputs)
    flat = list(_flat(network.parts, wanted))
    # A row that was taken apart gives what its last part does.
    stands = {part.path: _end(part, {one.path for one in flat}) for part in _trunk(network.parts)}
    resolved = tuple(stands[path] for path in outputs)
    last = max(index for index, part in enumerate(flat) if part.path in resolved)
    return replace(network, parts=tuple(flat[: last + 1]), outputs=resolved)


def _trunk(parts: Sequence[Part]) -> Iterator[Part]:
    """Parts that every image goes through: those of rows, but not of blocks."""
    for part in parts:
        if isinstance(part, Chain):
            yield from _trunk(part.parts)
        yield part


def _flat(parts: Sequence[Part], wanted: set[str]) -> Iterator[Part]:
    """Parts with every row taken apart that holds one of the wanted."""
    for part in parts:
        if isinstance(part, Chain) and any(inner.path in wanted for inner in _trunk(part.parts)):
            yield from _flat(part.parts, wanted)
        else:
            yield part


def _end(part: Part, there: set[str]) -> str:
    """The path of the part that is there and gives what this one gives."""
    while part.path not in there and isinstance(part, Chain):
        part = part.parts[-1]
    return part.path
