"""Costs of a network, against those that frameworks count for the models that are built."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from resnet_spec import Network, build, load, loads
from resnet_spec.library import bundled
from resnet_spec.library.index import read_index
from resnet_spec.network.costs import BYTES, compute_costs
from resnet_spec.network.execution import own_weight
from resnet_spec.network.parts import Residual
from resnet_spec.ops import Flatten, Identity
from shared.bundled_networks import bundled_network
from shared.every_operation import EVERY_OPERATION, MODERN_OPERATIONS
from shared.framework_counts import BATCH, count_in_framework
from shared.frameworks import required

CORE = ["resnet18", "seresnet50", "preact_resnet18_cifar", "resnext50_32x4d"]
SHARE = {"torch": 100, "flax": 400, "paddle": 1000}
"""Every how many networks one is built in a framework; all others are built with --sweep."""
LARGE, DEEP = 60_000_000, 400
"""Parameters and layers of networks that take so long that they are built with --sweep only."""


def all_cases() -> Iterator[Any]:
    """Yield every bundled network in every framework, with most of them marked for the sweep."""
    small = [entry.name for entry in read_index() if entry.parameters < LARGE]
    for backend, share in SHARE.items():
        always = {*(CORE if backend == "torch" else CORE[:1]), *filter(_is_shallow, small[::share])}
        for name in dict.fromkeys([*CORE, *bundled.names()]):
            yield pytest.param(backend, name, marks=[] if name in always else pytest.mark.sweep)


def _is_shallow(name: str) -> bool:
    return len(list(bundled_network(name).leaves())) < DEEP


@pytest.mark.parametrize(("backend", "name"), list(all_cases()))
@pytest.mark.share(6)
def test_costs_and_shapes_are_those_that_a_framework_counts(backend: str, name: str) -> None:
    """PyTorch's FlopCounterMode counts exactly twice the MACs, as do Paddle's static programs and JAX's jaxprs."""
    check_costs(bundled_network(name), backend)


@pytest.mark.parametrize("spec", [EVERY_OPERATION, MODERN_OPERATIONS], ids=["residual", "modern"])
def test_costs_and_shapes_of_every_operation_are_those_that_pytorch_counts(spec: str) -> None:
    check_costs(loads(spec), "torch")


def check_costs(network: Network, backend: str) -> None:
    required(backend)
    costs, counts = compute_costs(network)[""], count_in_framework(network, backend)
    assert (counts.parameters, counts.statistics, counts.macs) == (costs.parameters, costs.statistics, costs.macs)
    modules = [part for part in network.nodes() if not own_weight(part)]
    assert counts.shapes == {part.path: (BATCH, *part.output_shape) for part in modules}
    assert (network.parameters, network.statistics, network.macs) == counts[:3]
    assert counts.macs > 0


@pytest.mark.parametrize("name", ["resnet18", "seresnet50", "preact_resnet18_cifar", "resnet50d"])
def test_memory_is_that_of_outputs_of_pytorch_modules(name: str) -> None:
    required("torch")
    network = load(name)
    shapes = count_in_framework(network, "torch").shapes
    views = {leaf.path for leaf in network.leaves() if isinstance(leaf.op, Flatten | Identity)}
    kept = [shapes[leaf.path] for leaf in network.leaves() if leaf.path not in views]
    blocks = [part for part in network.nodes() if isinstance(part, Residual)]
    sums = [shapes[block.path] for block in blocks]  # the operations after a sum keep its shape here
    assert BATCH * compute_costs(network)[""].memory == BYTES * sum(math.prod(shape) for shape in (*kept, *sums))


BLOCK = """{takes: {branch: 1, shortcut: 1, around: 0, about: 0},
  branch: {c: {op: conv, out: 2, kernel: branch, padding: around}},
  shortcut: {d: {op: conv, out: 2, kernel: shortcut, padding: about}}}"""
"""A block with a convolution in the branch and one in the shortcut, whose kernels differ."""


@pytest.mark.parametrize(
    ("layers", "field", "step"),
    [
        ("a: {op: conv, out: 1, kernel: 3, stride: 2}", 3, 2),
        ("a: {op: conv, out: 1, kernel: 3, stride: 2}, b: {op: conv, out: 1, kernel: 3, stride: 2}", 7, 4),
        ("a: {op: conv, out: 1, kernel: 3, dilation: 3}, b: {op: avg_pool, kernel: 2, stride: 2}", 8, 2),
        ("a: {block: both, branch: 5, around: 2}, b: {op: conv, out: 1, kernel: 3}", 7, 1),
        ("a: {block: both, shortcut: 3, about: 1}, b: {op: avg_pool, kernel: 2, stride: 2}", 4, 2),
    ],
)
def test_receptive_field_is_where_gradients_are_not_zero(layers: str, field: int, step: int) -> None:
    """All weights and inputs are 1, so the gradient of an output is positive at every pixel that it depends on."""
    required("torch")
    import torch

    network = loads(f"{{name: s, input: [1, 33, 33], blocks: {{both: {BLOCK}}}, stem: {{{layers}}}}}")
    ones = {name: np.ones(shape) for name, shape in network.weights().items()}
    model = build(network, backend="torch", weights=ones, dtype="float64")
    image = torch.ones(1, *network.input, dtype=torch.float64, requires_grad=True)
    maps = model(image)[0, 0]
    middle = maps.shape[0] // 2
    row, next_row = (torch.autograd.grad(maps[middle + n, middle], image, retain_graph=True)[0][0, 0] for n in (0, 1))
    reachable = [torch.nonzero(gradient.sum(1)).flatten() for gradient in (row, next_row)]
    measured = int(reachable[0][-1] - reachable[0][0]) + 1, int(reachable[1][0] - reachable[0][0])
    view = compute_costs(network)[""].view
    assert (view.field, view.step) == measured == (field, step)


def test_receptive_field_after_global_pooling_is_the_entire_image() -> None:
    costs = compute_costs(load("seresnet50"))
    assert costs["conv1"].view.field == 7
    assert costs["layer1.0.se.squeeze"].view.field is None  # as is that of all that the gate multiplies
    assert costs["layer1.0"].view.field is None


@pytest.mark.parametrize(("name", "field"), [("resnet18", 435), ("resnet34", 899), ("resnet50", 427)])
def test_published_receptive_fields(name: str, field: int) -> None:
    """Receptive fields of the last stage, as in Araujo et al. (2019) and from tools for PyTorch."""
    assert compute_costs(load(name))["layer4"].view.field == field
