"""Models that exist are compared with specs, and the first part that differs is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from resnet_spec import BackendError, WeightsError, build, compare_model, dump, load
from resnet_spec.importing.comparison import first_difference
from resnet_spec.weights.canonical import comparison_weights
from shared.frameworks import required


def make_model(backend: str) -> Any:
    network = load("resnet18", input=(3, 32, 32), classes=5)
    return build(network, backend=backend, weights=comparison_weights(network, dtype="float32"))


@pytest.mark.parametrize("backend", ["torch", "paddle", "flax"])
def test_a_port_that_is_right(backend: str) -> None:
    required(backend)
    network = load("resnet18", input=(3, 32, 32), classes=5)
    found = compare_model(make_model(backend), network)
    assert first_difference(found) == ""
    assert {line.what for line in found if line.count} == ({"outputs"} if backend == "flax" else {"outputs", "parts"})


def test_a_port_that_is_wrong_names_the_first_part() -> None:
    required("torch")
    model = make_model("torch")
    model.layer2[1].bn2.eps = 0.1
    found = compare_model(model, load("resnet18", input=(3, 32, 32), classes=5))
    assert first_difference(found) == "layer2.1.bn2"


def test_a_checkpoint_goes_to_both(tmp_path: Path) -> None:
    required("torch")
    network = load("resnet18", input=(3, 32, 32), classes=5)
    save_file(comparison_weights(network, seed=3, dtype="float32"), str(tmp_path / "w.safetensors"))
    model = make_model("torch")
    before = dump(model)["fc.weight"]
    assert first_difference(compare_model(model, network, tmp_path / "w.safetensors")) == ""
    assert np.array_equal(dump(model)["fc.weight"], before)


def test_another_network_is_refused() -> None:
    required("torch")
    with pytest.raises(WeightsError, match="layer1"):
        compare_model(make_model("torch"), load("resnet34", input=(3, 32, 32), classes=5))
    with pytest.raises(BackendError, match="dict is no model of PyTorch, Paddle or Flax"):
        compare_model({}, "resnet18")
