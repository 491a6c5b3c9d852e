"""Graphs for images of any height and width: what depends on the size is computed in the graph.

A size is an int64 vector (height, width).
"""

from __future__ import annotations

from resnet_spec import ops
from resnet_spec.network.free_size import infer_larger
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Parallel, Part
from resnet_spec.ops import Pair, Shape
from resnet_spec_onnx.graph import INPUT, Graph


def infer_larger_shapes(network: Network) -> dict[str, Shape]:
    """Return the shape of each part's output, by path, for an image of twice the height and width.

    Raises ValueError, with the path of the first part that cannot be written for any size.
    """
    larger = infer_larger(network, _find_fixed_matrix)
    return {INPUT: larger.input, **{part.path: part.output_shape for part in larger.nodes()}}


def _find_fixed_matrix(part: Part) -> str:
    """Return why a part is written for one size only, or ""."""
    if isinstance(part, Leaf) and isinstance(part.op, ops.AdaptiveAvgPool | ops.Upsample):
        return f"is an operation {ops.op_name(part.op)}, whose file holds a matrix for one size"
    return "resizes its branches to one size" if isinstance(part, Parallel) and part.resize else ""


def depends_on_size(window: ops.Window) -> bool:
    """Return whether the padding of a window depends on the size of the map."""
    return window.padding is None or window.ceil


Margins = tuple[str, str]
"""The names of two sizes: the rows and columns before a map, and those after it."""


class _Integers:
    """Adds nodes on sizes to a graph, and names them by numbers."""

    def __init__(self, prefix: str, graph: Graph) -> None:
        self._prefix = prefix
        self._graph = graph
        self._count = 0

    def add(self, op_type: str, *operands: str | Pair, **attributes: int) -> str:
        """Add a node; an operand is the name of a value or a pair of numbers."""
        self._count += 1
        name = f"{self._prefix}/size{self._count}"
        inputs = [
            operand if isinstance(operand, str) else self._graph.add_integers(f"{name}/{index}", operand)
            for index, operand in enumerate(operands)
        ]
        return self._graph.add_node(op_type, inputs, name, **attributes)


def add_margins(window: ops.Window, x: str, prefix: str, graph: Graph) -> Margins:
    """Add the computation of a window's margins, as ``Window.margins`` defines them."""
    integers = _Integers(prefix, graph)
    size = integers.add("Gather", integers.add("Shape", x), (2, 3))
    round_up = (window.stride[0] - 1, window.stride[1] - 1)
    if window.padding is None:
        last = integers.add("Sub", integers.add("Div", integers.add("Add", size, round_up), window.stride), (1, 1))
    else:
        padding = window.padding
        fixed = (2 * padding[0] - window.extent[0], 2 * padding[1] - window.extent[1])
        free = integers.add("Add", size, (fixed[0] + round_up[0], fixed[1] + round_up[1]))
        last = integers.add("Div", free, window.stride)
        # As in PyTorch, a last window that would start in the padding after the map is dropped.
        start = integers.add("Mul", last, window.stride)
        is_outside = integers.add("GreaterOrEqual", start, integers.add("Add", size, padding))
        last = integers.add("Sub", last, integers.add("Cast", is_outside, to=7))  # 7 is int64
    reach = integers.add("Add", integers.add("Mul", last, window.stride), window.extent)
    missing = integers.add("Sub", reach, size)
    if window.padding is None:
        total = integers.add("Max", missing, (0, 0))
        before = integers.add("Div", total, (2, 2))
        return before, integers.add("Sub", total, before)
    before = integers.add("Identity", window.padding)
    return before, integers.add("Max", integers.add("Sub", missing, before), (0, 0))


def add_pad(x: str, margins: Margins, value: float, output: str, graph: Graph) -> str:
    """Add a padding by a value."""
    before, after = margins
    no_pixels = graph.add_integers(f"{output}/no_pixels", (0, 0))
    pads = graph.add_node("Concat", [no_pixels, before, no_pixels, after], f"{output}/pads", axis=0)
    return graph.add_node("Pad", [x, pads, graph.add_scalar(f"{output}/value", value)], output)


def add_avg_pool(window: ops.Window, count_padding: bool, path: str, x: str, graph: Graph) -> str:
    """Add an average pool: the mean with its padding, over the mean of pixels that are one if they count."""
    margins = add_margins(window, x, f"{path}/margins", graph)
    attributes = {"kernel_shape": window.kernel, "strides": window.stride, "auto_pad": "VALID"}
    padded = add_pad(x, margins, 0, f"{path}/padded", graph)
    mean = graph.add_node("AveragePool", [padded], f"{path}/mean", **attributes)
    counted = _add_counted_pixels(window, count_padding, margins, path, x, graph)
    share = graph.add_node("AveragePool", [counted], f"{path}/share", **attributes)
    return graph.add_node("Div", [mean, share], path)


def _add_counted_pixels(
    window: ops.Window, count_padding: bool, margins: Margins, path: str, x: str, graph: Graph
) -> str:
    """Add a map (1, 1, height, width) of ones, padded by ones where the padding counts, and by zeros elsewhere."""
    integers = _Integers(f"{path}/counted", graph)
    size = integers.add("Gather", integers.add("Shape", x), (2, 3))
    before, after = margins
    counted_after = after if count_padding else integers.add("Identity", (0, 0))
    if count_padding and window.padding is not None:
        counted_after = integers.add("Min", after, window.padding)
    rest_after = integers.add("Sub", after, counted_after)
    counted_before = before if count_padding else integers.add("Identity", (0, 0))
    rest_before = integers.add("Sub", before, counted_before)
    pixels = integers.add("Add", size, integers.add("Add", counted_before, counted_after))
    shape = integers.add("Concat", (1, 1), pixels, axis=0)
    ones = graph.add_node("Expand", [graph.add_scalar(f"{path}/one", 1), shape], f"{path}/ones")
    return add_pad(ones, (rest_before, rest_after), 0, f"{path}/counted_pixels", graph)
