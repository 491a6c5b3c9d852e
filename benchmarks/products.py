"""The sizes of the matrix products that a network's convolutions and linear layers compute."""

from __future__ import annotations

import math
from dataclasses import dataclass

from resnet_spec.network.network import Network
from resnet_spec.ops import Conv, Linear, per_axis


@dataclass(frozen=True, slots=True)
class Product:
    """A number of products of a (rows, inner) and an (inner, columns) matrix."""

    count: int
    rows: int
    inner: int
    columns: int


def matrix_products(network: Network, batch: int) -> list[Product]:
    """Return the products of a network in the order of its operations."""
    products = []
    for leaf in network.leaves():
        match leaf.op:
            case Conv(out=out, groups=groups, kernel=kernel):
                pixels = batch * math.prod(leaf.output_shape[1:])
                products.append(
                    Product(groups, out // groups, leaf.input_shape[0] // groups * math.prod(per_axis(kernel)), pixels)
                )
            case Linear(out=out):
                products.append(Product(1, out, leaf.input_shape[0], batch * math.prod(leaf.input_shape[1:])))
            case _:
                pass
    assert sum(p.count * p.rows * p.inner * p.columns for p in products) == batch * network.macs
    return products
