"""On a GPU: parity in full precision, inference mode against evaluation, moves between devices, graphs by shape.

``pytest -m gpu`` runs these alone; they are skipped where there is no GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resnet_spec import build, dump, load, run
from resnet_spec.parity.case import Case
from resnet_spec.parity.examine import examine
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.array_differences import relative_difference
from shared.frameworks import required
from shared.local_runner import LocalRunner

pytestmark = pytest.mark.gpu
NETWORK = load("resnet18", input=(3, 72, 56))


@pytest.fixture(params=["torch", "flax"])
def on_gpu(request: pytest.FixtureRequest) -> str:
    """Return the name of a backend that finds a GPU."""
    required(request.param)
    if request.param == "torch":
        import torch

        found = torch.cuda.is_available()
    else:
        import jax

        found = jax.default_backend() == "gpu"
    if not found:
        pytest.skip(f"{request.param} finds no GPU here, and this test compares what one computes")
    return str(request.param)


def draw_images(batch: int) -> Array:
    return np.random.default_rng(0).standard_normal((batch, *NETWORK.input), np.float32)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_gpu_computes_what_the_reference_does(on_gpu: str, dtype: Any) -> None:
    runner = LocalRunner(on_gpu, required(on_gpu))
    case = Case(NETWORK, dtype, device="cuda")
    findings = examine(case, LocalRunner("numpy", required("numpy")), [runner])
    assert {finding.verdict for finding in findings} <= {"same", "not compared"}


@pytest.mark.parametrize(("dtype", "gate"), [("float32", 1e-5), ("bfloat16", 3e-2)])
@pytest.mark.parametrize("compile", [False, True])
def test_inference_mode_computes_what_evaluation_does(on_gpu: str, dtype: str, gate: float, compile: bool) -> None:
    """Batches of changing sizes: each has a graph of its own, and large ones have none."""
    weights = comparison_weights(NETWORK)
    plain = build(NETWORK, backend=on_gpu, weights=weights, device="cuda")
    frozen = build(
        NETWORK, backend=on_gpu, weights=weights, device="cuda", mode="inference", dtype=dtype, compile=compile
    )
    for batch in (1, 4, 1, 40, 2, 4):
        x = draw_images(batch)
        assert relative_difference(run(frozen, x), run(plain, x)) < gate


def test_a_model_moves_to_the_gpu_and_back(on_gpu: str) -> None:
    weights, x = comparison_weights(NETWORK), draw_images(2)
    backend = required(on_gpu)
    for mode in ("training", "inference"):
        model = build(NETWORK, backend=on_gpu, weights=weights, mode=mode)
        backend.move(model, "cpu")
        expected, before = run(model, x), dump(model)
        for device in ("cuda", "cpu"):
            backend.move(model, device)
            assert relative_difference(run(model, x), expected) < 1e-5
        assert {name: array.tobytes() for name, array in dump(model).items()} == {
            name: array.tobytes() for name, array in before.items()
        }
