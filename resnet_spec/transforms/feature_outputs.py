"""Networks that output intermediate feature maps instead of the head's output, for detection and segmentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Chain, Part


def with_feature_outputs(network: Network, outputs: Sequence[str]) -> Network:
    """Return the network that outputs the feature maps of parts, given by their paths, and ends after the last of them.

    Parts inside a residual block cannot be outputs; ``network.features()`` lists those that can. Raises ValueError if a
    path is not a possible output, or if there are none.

    >>> from resnet_spec import load
    >>> network = with_feature_outputs(load("resnet18"), ["layer2", "layer4.0"])
    >>> network.outputs, [name for name in network.weights() if name.startswith(("layer4.1", "fc"))]
    (('layer2', 'layer4.0'), [])
    """
    possible = {part.path for part in _trunk(network.parts)}
    for path in check_paths("outputs", outputs):
        if path not in possible:
            raise ValueError(f"{network.name} cannot output {path!r}: {suggest(path, possible) or 'it has no parts'}")
    if not outputs:
        raise ValueError("outputs is empty; omit it for the output of the head")
    flat = list(_flatten(network.parts, set(outputs)))
    paths = {part.path for part in flat}
    resolve = {part.path: _last_path(part, paths) for part in _trunk(network.parts)}
    resolved = tuple(resolve[path] for path in outputs)
    last = max(index for index, part in enumerate(flat) if part.path in resolved)
    return replace(network, parts=tuple(flat[: last + 1]), outputs=resolved, full=network.full or network)


def check_paths(argument: str, paths: Iterable[str]) -> list[str]:
    """Return an argument's paths of parts as a list. Raises ValueError unless it is a list or tuple of texts.

    A text is a sequence of texts too, its characters, so it would be taken for many paths.

    >>> check_paths("outputs", "layer3")
    Traceback (most recent call last):
    ...
    ValueError: outputs must be a list of paths, as in ["layer3"], not 'layer3'
    """
    found = list(paths) if isinstance(paths, Iterable) else [paths]
    if isinstance(paths, str) or not all(isinstance(path, str) for path in found):
        example = paths if isinstance(paths, str) else "layer3"
        raise ValueError(f'{argument} must be a list of paths, as in ["{example}"], not {paths!r}')
    return found


def _trunk(parts: Sequence[Part]) -> Iterator[Part]:
    """Yield the parts on the path that every image takes: those in chains, but not those in blocks."""
    for part in parts:
        if isinstance(part, Chain):
            yield from _trunk(part.parts)
        yield part


def _flatten(parts: Sequence[Part], outputs: set[str]) -> Iterator[Part]:
    """Yield parts, with the parts of a chain in its place if one of them is an output."""
    for part in parts:
        if isinstance(part, Chain) and any(inner.path in outputs for inner in _trunk(part.parts)):
            yield from _flatten(part.parts, outputs)
        else:
            yield part


def _last_path(part: Part, paths: set[str]) -> str:
    """Return the path that has a part's output after flattening: the output of a chain is that of its last part."""
    while part.path not in paths and isinstance(part, Chain):
        part = part.parts[-1]
    return part.path
