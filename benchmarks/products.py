"""The matrix products that a network's convolutions and linears are, in their sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from resnet_spec.network.network import Network
from resnet_spec.ops import Conv, Linear


@dataclass(frozen=True, slots=True)
class Product:
    """So many products of (rows, inner) by (inner, columns)."""

    count: int
    rows: int
    inner: int
    columns: int


def products(network: Network, batch: int) -> list[Product]:
    """In the order that the operations run."""
    found = []
    for leaf in network.leaves():
        match leaf.op:
            case Conv(out=out, groups=groups, kernel=kernel):
                pixels = batch * math.prod(leaf.output_shape[1:])
                found.append(Product(groups, out // groups, leaf.input_shape[0] // groups * kernel**2, pixels))
            case Linear(out=out):
                found.append(Product(1, out, leaf.input_shape[0], batch))
            case _:
                pass
    assert sum(one.count * one.rows * one.inner * one.columns for one in found) == batch * network.macs
    return found
