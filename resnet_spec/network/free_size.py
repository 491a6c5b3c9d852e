"""Whether a network takes images of any height and width, and which part fixes the size if it does not."""

from __future__ import annotations

from collections.abc import Callable

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Part
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.ops import ShapeError

FindReason = Callable[[Part], str]
"""Returns why a part whose input depends on the size of the image fixes that size, or ""."""


def infer_larger(network: Network, find_reason: FindReason = lambda part: "") -> Network:
    """Return the network with its shapes for an image of twice the height and width.

    Raises ValueError, with the path of the first part that fixes the size: a vector whose length follows from the size
    of the image, or a part for which ``find_reason`` returns a reason.

    >>> from resnet_spec import load
    >>> infer_larger(load("resnet18")).input
    (3, 448, 448)
    """
    channels, height, width = network.input
    try:
        larger = infer_shapes(network, (channels, 2 * height, 2 * width))
    except ShapeError as error:
        raise ValueError(f"height and width of {network.name} cannot be free: {error}") from None
    for part, other in zip(network.nodes(), larger.nodes(), strict=True):
        reason = _find_vector(part, other) or (find_reason(part) if part.input_shape != other.input_shape else "")
        if reason:
            size = "x".join(map(str, network.input))
            raise ValueError(
                f"height and width of {network.name} cannot be free: {part.path} {reason}; give a size, as in {size}"
            )
    return larger


def _find_vector(part: Part, larger: Part) -> str:
    if not isinstance(part, Leaf) or len(part.output_shape) != 1 or part.output_shape == larger.output_shape:
        return ""
    (count,), (larger_count,) = part.output_shape, larger.output_shape
    return f"gives {count} values for this image, and {larger_count} for one of twice the height and width"
