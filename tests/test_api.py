"""The public functions, and their error messages."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from resnet_spec import BackendError, SpecError, build, capture, dump, load, run
from resnet_spec.checkpoints.formats.tensors import CheckpointError
from resnet_spec.weights.canonical import comparison_weights, initialize

SMALL = {"input": (3, 32, 32), "classes": 5}


def test_loaded_network_can_be_built() -> None:
    network = load("resnet18", classes=5)
    assert build(network, backend="numpy").network is network


def test_settings_of_a_loaded_network_are_fixed() -> None:
    with pytest.raises(TypeError, match=r"^a loaded network's input and settings are fixed; pass them to load\(\)$"):
        build(load("resnet18"), backend="numpy", classes=5)


def test_weights_can_come_from_a_file(tmp_path: Path) -> None:
    weights = {name: array.astype("float32") for name, array in comparison_weights(load("resnet18")).items()}
    save_file(weights, tmp_path / "w.safetensors")
    dumped = dump(build("resnet18", backend="numpy", weights=tmp_path / "w.safetensors", dtype="float32"))
    assert all(dumped[name].tobytes() == weights[name].tobytes() for name in weights)


def test_initial_weight_depends_on_the_seed_and_its_name_only() -> None:
    small, large = initialize(load("resnet18")), initialize(load("resnet34"))
    assert np.array_equal(small["layer4.1.conv2.weight"], large["layer4.1.conv2.weight"])
    assert not np.array_equal(small["layer4.1.conv1.weight"], small["layer4.1.conv2.weight"])
    assert not np.array_equal(small["conv1.weight"], initialize(load("resnet18"), seed=1)["conv1.weight"])


def test_initial_weights_have_the_defined_standard_deviation() -> None:
    weight = initialize(load("resnet18"))["layer4.1.conv2.weight"]
    assert weight.std() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=1e-2)
    assert abs(weight.mean()) < 1e-4


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: load("resnet19"),
            FileNotFoundError,
            "no file or bundled network named 'resnet19'; did you mean 'resnet18'?",
        ),
        (lambda: build("resnet18", backend="numpi"), BackendError, "no backend named 'numpi'; did you mean 'numpy'?"),
        (
            lambda: build("resnet18", backend="numpy", dtype="float23"),
            ValueError,
            "dtype is 'float23'; it can be float32 or float64",
        ),
        (lambda: run(object(), np.zeros((1, 3, 8, 8))), BackendError, "object was not made by resnet_spec.build"),
        (
            lambda: run(build("resnet18", backend="numpy"), np.zeros((3, 8, 8))),
            ValueError,
            "images must be (batch, 3, height, width) for resnet18, not (3, 8, 8)",
        ),
        (
            lambda: capture(build("resnet18", backend="numpy"), np.zeros((1, 3, 8, 8)), ["layer1.0.con1"]),
            ValueError,
            "resnet18 has no part at 'layer1.0.con1'; did you mean 'layer1.0.conv1'?",
        ),
        (
            lambda: build("resnet18", backend="numpy", weights="no.safetensors"),
            FileNotFoundError,
            "no weights file named 'no.safetensors'",
        ),
        (
            lambda: load("resnet18", input=(3, 224)),
            ValueError,
            "input must be (channels, height, width), such as (3, 224, 224), not (3, 224)",
        ),
    ],
)
def test_error_messages(call: object, error: type[Exception], message: str) -> None:
    assert callable(call)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


def test_file_without_weights_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      junk")
    with pytest.raises(CheckpointError, match="is not a valid safetensors file"):
        build("resnet18", backend="numpy", weights=tmp_path / "w.safetensors")


def test_unknown_setting_raises_an_error() -> None:
    with pytest.raises(SpecError, match="resnet18 does not take 'clases'"):
        load("resnet18", clases=10)


def test_error_for_a_missing_framework_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    distribution = metadata.distribution

    def without_paddle(name: str) -> metadata.Distribution:
        if name == "paddlepaddle":
            raise metadata.PackageNotFoundError(name)
        return distribution(name)

    monkeypatch.setattr(metadata, "distribution", without_paddle)
    message = "backend 'paddle' needs paddlepaddle, which is not installed; try: pip install 'resnet-spec[paddle]'"
    with pytest.raises(BackendError, match=f"^{re.escape(message)}$"):
        build("resnet18", backend="paddle")
