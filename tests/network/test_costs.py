"""What the core says of a network's costs, against what PyTorch counts on the model it builds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from resnet_spec import build, load, loads
from resnet_spec.library import bundled
from resnet_spec.network.costs import BYTES, compute_costs
from resnet_spec.network.parts import Residual
from resnet_spec.ops import Flatten, Identity
from shared.framework_counts import BATCH, counted
from shared.frameworks import required

CORE = ["resnet18", "seresnet50", "preact_resnet18_cifar", "resnext50_32x4d"]
SHARE = {"torch": 12, "flax": 48, "paddle": 96}
"""One network in so many that each framework builds here; the rest are for --sweep."""
LARGE, DEEP = 150_000_000, 400
"""Parameters and layers past which a network takes too long to be one of a share."""


def every() -> Iterator[Any]:
    """Every bundled network in every framework: those of the core and of a share here, the others in a sweep."""
    for backend, share in SHARE.items():
        for number, name in enumerate(dict.fromkeys([*CORE, *bundled.names()])):
            here = number < len(CORE) or (number % share == 0 and _small(name))
            yield pytest.param(backend, name, marks=[] if here else pytest.mark.sweep)


def _small(name: str) -> bool:
    network = load(name)
    return network.parameters < LARGE and len(list(network.leaves())) < DEEP


@pytest.mark.parametrize(("backend", "name"), list(every()))
def test_costs_and_shapes_are_those_of_the_model_that_is_built(backend: str, name: str) -> None:
    """PyTorch's FlopCounterMode counts twice the MACs, exactly; so do Paddle's static programs and JAX's jaxprs."""
    required(backend)
    network = load(name)
    wanted, found = compute_costs(network)[""], counted(network, backend)
    assert (found.parameters, found.statistics, found.macs) == (wanted.parameters, wanted.statistics, wanted.macs)
    assert found.shapes == {part.path: (BATCH, *part.output_shape) for part in network.nodes()}
    assert (network.parameters, network.statistics, network.macs) == found[:3]
    assert found.macs > 0


@pytest.mark.parametrize("name", ["resnet18", "seresnet50", "preact_resnet18_cifar", "resnet50d"])
def test_memory_is_that_of_what_torchs_modules_give(name: str) -> None:
    required("torch")
    network = load(name)
    shapes = counted(network, "torch").shapes
    views = {leaf.path for leaf in network.leaves() if isinstance(leaf.op, Flatten | Identity)}
    kept = [shapes[leaf.path] for leaf in network.leaves() if leaf.path not in views]
    blocks = [part for part in network.nodes() if isinstance(part, Residual)]
    sums = [shapes[block.path] for block in blocks]  # what follows a sum here keeps its shape
    assert BATCH * compute_costs(network)[""].memory == BYTES * sum(math.prod(shape) for shape in (*kept, *sums))


BOTH = """{takes: {branch: 1, shortcut: 1, around: 0, about: 0},
  branch: {c: {op: conv, out: 2, kernel: branch, padding: around}},
  shortcut: {d: {op: conv, out: 2, kernel: shortcut, padding: about}}}"""
"""A convolution in the branch and one in the shortcut, whose kernels differ."""


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
def test_the_receptive_field_is_where_a_gradient_reaches(layers: str, field: int, step: int) -> None:
    """Every weight one and every input alive: the pixels that move an element are those with a gradient."""
    required("torch")
    import torch

    network = loads(f"{{name: s, input: [1, 33, 33], blocks: {{both: {BOTH}}}, stem: {{{layers}}}}}")
    ones = {name: np.ones(shape) for name, shape in network.weights().items()}
    model = build(network, backend="torch", weights=ones, dtype="float64")
    image = torch.ones(1, *network.input, dtype=torch.float64, requires_grad=True)
    maps = model(image)[0, 0]
    middle = maps.shape[0] // 2
    row, next_row = (torch.autograd.grad(maps[middle + n, middle], image, retain_graph=True)[0][0, 0] for n in (0, 1))
    reached = [torch.nonzero(gradient.sum(1)).flatten() for gradient in (row, next_row)]
    measured = int(reached[0][-1] - reached[0][0]) + 1, int(reached[1][0] - reached[0][0])
    view = compute_costs(network)[""].view
    assert (view.field, view.step) == measured == (field, step)


def test_after_global_pooling_an_element_sees_the_whole_image() -> None:
    found = compute_costs(load("seresnet50"))
    assert found["conv1"].view.field == 7
    assert found["layer1.0.se.squeeze"].view.field is None  # and so all that its gate weighs
    assert found["layer1.0"].view.field is None


@pytest.mark.parametrize(("name", "field"), [("resnet18", 435), ("resnet34", 899), ("resnet50", 427)])
def test_published_receptive_fields(name: str, field: int) -> None:
    """Of the last stage, as others have computed them (Araujo et al. 2019, and tools for PyTorch)."""
    assert compute_costs(load(name))["layer4"].view.field == field
