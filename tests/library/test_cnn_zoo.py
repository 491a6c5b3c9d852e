"""Convolutional networks beyond residual ones against other libraries: weights in order, and recorded outputs."""

from __future__ import annotations

from typing import Any

import pytest

from resnet_spec import build, load, run
from resnet_spec.library import bundled
from resnet_spec.weights.canonical import comparison_weights
from shared.bundled_networks import bundled_network
from shared.frameworks import required
from shared.peer_recordings import cnn_goldens, cnn_models, make_images, relative_difference, sign_weights
from shared.sampling import one_in

BUNDLED = [name for name in cnn_models() if name in bundled.names()]
LEFT_OUT = dict.fromkeys(("dla", "hrnet", "focalnet", "nasnet", "pnasnet"), "a general graph")
"""Families that the language does not say, with the reason."""

IN_FLOAT32 = {"ese_vovnet39b_evos", "test_efficientnet_evos"}
"""Networks for which timm computes statistics in float32, whatever the type of the model."""

ILL_CONDITIONED = {"ghostnetv3_050"}
"""Networks whose logits reach 1e5 with these weights: an image scaled by 1 + 1e-15 moves them by 5e-8."""

SMALL = 6_000_000
"""Networks of fewer parameters are built in every backend with ``pytest --sweep``, the others in torch alone."""


def test_all_networks_that_can_be_said_are_bundled() -> None:
    missing = {name: row["family"] for name, row in cnn_models().items() if name not in BUNDLED}
    assert set(missing.values()) <= set(LEFT_OUT)
    assert sum(name.startswith("timm/") for name in BUNDLED) >= 420


@pytest.mark.parametrize("name", one_in(5, BUNDLED))
@pytest.mark.share(2)
def test_parameters_names_and_shapes_in_order_are_those_of_the_library(name: str) -> None:
    network, row = bundled_network(name), cnn_models()[name]
    assert network.parameters == row["parameters"]
    assert sign_weights(network.weights().items()) == row["signature"]


def sweep_unless(backend: str, number: int, row: dict[str, Any]) -> tuple[Any, ...]:
    """Return the mark of what does not run each time: a third of the small networks does, in PyTorch."""
    parameters = cnn_models()[f"{row['registry']}/{row['name']}"]["parameters"]
    return () if backend == "torch" and parameters < SMALL and number % 3 == 0 else (pytest.mark.sweep,)


@pytest.mark.parametrize(
    ("backend", "row"),
    [
        pytest.param(
            backend, row, id=f"{backend}-{row['registry']}/{row['name']}", marks=sweep_unless(backend, number, row)
        )
        for backend in ("torch", "numpy", "paddle", "flax", "onnx")
        for number, row in enumerate(cnn_goldens())
    ],
)
def test_logits_are_as_recorded(backend: str, row: dict[str, Any]) -> None:
    required(backend) if backend != "numpy" else None
    network = load(f"{row['registry']}/{row['name']}", input=tuple(row["input"][1:]))
    dtype = "float32" if backend == "onnx" else "float64"
    model = build(network, backend=backend, weights=comparison_weights(network), dtype=dtype)
    logits = run(model, make_images(row).astype(dtype)).reshape(len(make_images(row)), -1)
    loose = row["name"] in IN_FLOAT32 | ILL_CONDITIONED
    assert relative_difference(logits, row) < (1e-5 if backend == "onnx" else 1e-6 if loose else 1e-10)
