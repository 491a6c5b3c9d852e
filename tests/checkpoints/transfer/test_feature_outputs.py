"""Load a checkpoint into a network that ends at a feature map: only what lies behind that map may be left over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from resnet_spec import build, convert, dump, loads
from resnet_spec.weights.canonical import Array, WeightsError, comparison_weights
from shared.small_network import SMALL

DEEPER = SMALL.replace("layer1: {block: basic, depth: 1", "layer1: {block: basic, depth: 2").replace(
    "layer2: {block: basic, depth: 2", "layer2: {block: basic, depth: 4"
)


@pytest.fixture
def deeper(small: Mapping[str, Array]) -> dict[str, Array]:
    """Weights of a network with one block more in layer1 and two more in layer2."""
    network = loads(DEEPER)
    return {name: array.astype(np.float32) for name, array in comparison_weights(network).items()}


def load_kept(path: str, outputs: list[str]) -> dict[str, Array]:
    return dump(build("small.yaml", backend="numpy", weights=path, outputs=outputs, dtype="float32"))


@pytest.mark.parametrize("names", ["torchvision", "paddleclas", "keras", "linen"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pdparams"])
def test_file_of_a_deeper_network_is_refused(names: str, suffix: str, deeper: dict[str, Array]) -> None:
    save_file(deeper, "w.safetensors")
    Path("deeper.yaml").write_text(DEEPER)
    convert("w.safetensors", f"deeper{suffix}", "deeper.yaml", names=names)
    with pytest.raises(WeightsError) as error:
        load_kept(f"deeper{suffix}", ["layer2"])
    if names in ("torchvision", "keras"):  # the others number blocks throughout, so shapes differ too
        assert {problem.split()[0] for problem in error.value.problems} == {"unexpected"}
        assert len(error.value.problems) == 30
    with pytest.raises(WeightsError):
        load_kept(f"deeper{suffix}", ["layer1"])


@pytest.mark.parametrize("names", ["paddleclas", "linen"])
def test_blocks_that_are_numbered_throughout_must_have_the_shapes_of_the_network(
    names: str, small: dict[str, Array]
) -> None:
    """With as many blocks in all, one more in layer1 is called as the first of layer2 is."""
    text = SMALL.replace("depth: 2", "depth: 3").replace("depth: 1", "depth: 2").replace("depth: 3", "depth: 1")
    Path("shifted.yaml").write_text(text)
    weights = comparison_weights(loads(text), dtype="float32")
    save_file(weights, "shifted.safetensors")
    convert("shifted.safetensors", "there.npz", "shifted.yaml", names=names)
    with pytest.raises(WeightsError, match="unexpected"):
        load_kept("there.npz", ["layer1"])


def test_gate_inside_a_kept_block_is_refused(small: dict[str, Array]) -> None:
    small["layer1.0.se.fc1.weight"] = np.zeros((4, 8), np.float32)
    save_file(small, "w.safetensors")
    with pytest.raises(WeightsError, match=re.escape("unexpected layer1.0.se.fc1.weight (4, 8)")):
        load_kept("w.safetensors", ["layer2"])


def test_unknown_layer_beside_kept_ones_is_refused(small: dict[str, Array]) -> None:
    small["attention.weight"] = np.zeros((4, 8), np.float32)
    save_file(small, "w.safetensors")
    with pytest.raises(WeightsError, match=re.escape("unexpected attention.weight (4, 8)")):
        load_kept("w.safetensors", ["layer1"])


@pytest.mark.parametrize("names", ["torchvision", "paddleclas", "keras", "linen"])
@pytest.mark.parametrize("outputs", [["layer1"], ["layer2.0"], ["conv1", "layer2.0"], ["layer2"]])
def test_what_lies_behind_the_last_output_is_left_over(names: str, outputs: list[str], small: dict[str, Array]) -> None:
    convert("w.safetensors", "there.npz", "small.yaml", names=names)
    kept = load_kept("there.npz", outputs)
    assert {name: array.tobytes() for name, array in kept.items()} == {name: small[name].tobytes() for name in kept}
    assert "conv1.weight" in kept
    assert "fc.weight" not in kept


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.", "module.backbone."])
def test_other_heads_are_left_over(prefix: str, small: dict[str, Array]) -> None:
    weights = {f"{prefix}{name}": array for name, array in small.items() if not name.startswith("fc")}
    weights[f"{prefix}fc.0.weight"] = np.zeros((3, 16), np.float32)
    weights["classifier.0.weight"] = np.zeros((3, 16), np.float32)
    if prefix.endswith("backbone."):
        weights["neck.0.weight"] = np.zeros((3, 16), np.float32)
    save_file(weights, "w.safetensors")
    assert load_kept("w.safetensors", ["layer1"])["layer1.0.conv1.weight"].shape == (8, 8, 3, 3)
