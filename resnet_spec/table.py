"""Networks as tables in a terminal."""

from __future__ import annotations

import math

from rich.box import SIMPLE_HEAD
from rich.table import Table

from resnet_spec.network import Leaf, Network
from resnet_spec.ops import Shape, name


def layers(network: Network) -> Table:
    """Every layer: path, operation, shape in and out, parameters, MACs; and the totals."""
    table = Table(box=SIMPLE_HEAD, title=f"{network.name}, for one image {shape(network.input)}", title_justify="left")
    for heading in ("path", "operation", "in", "out"):
        table.add_column(heading, no_wrap=True)
    for heading in ("parameters", "MACs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for leaf in network.leaves():
        cost = [f"{count:,}" if count else "" for count in (parameters(leaf), leaf.op.macs(leaf.given))]
        table.add_row(leaf.path, name(leaf.op), shape(leaf.given), shape(leaf.gives), *cost)
    table.add_section()
    table.add_row("total", "", "", shape(network.output_shape), f"{network.parameters:,}", f"{network.macs:,}")
    table.add_row("running statistics", "", "", "", f"{network.statistics:,}", "")
    table.caption = (
        "MACs: multiplications with addition in convolutions and matrix products, one image; FLOPs = 2 x MACs"
    )
    table.caption_justify = "left"
    return table


def rows(network: Network) -> list[dict[str, object]]:
    """Every layer as data, for ``--json``."""
    return [
        {
            "path": leaf.path,
            "operation": name(leaf.op),
            "in": leaf.given,
            "out": leaf.gives,
            "parameters": parameters(leaf),
            "macs": leaf.op.macs(leaf.given),
        }
        for leaf in network.leaves()
    ]


def summary(network: Network) -> dict[str, object]:
    """A network's totals as data, for ``--json``."""
    return {
        "name": network.name,
        "source": network.source,
        "input": network.input,
        "output": network.output_shape,
        "parameters": network.parameters,
        "statistics": network.statistics,
        "macs": network.macs,
    }


def shape(shape: Shape) -> str:
    """A shape as people write it: 64 x 56 x 56."""
    return " x ".join(map(str, shape))


def parameters(leaf: Leaf) -> int:
    """How many numbers an operation learns."""
    return sum(math.prod(weight.shape) for weight in leaf.op.weights(leaf.given) if not weight.statistic)
