"""Identify the network that a checkpoint fits, and compare two checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from resnet_spec import convert, identify, load
from resnet_spec.checkpoints.formats import byte_ranges
from resnet_spec.checkpoints.transfer.convert import make_metadata
from resnet_spec.checkpoints.transfer.difference import compare_checkpoints
from resnet_spec.checkpoints.transfer.identify import identify as identify_with_progress
from resnet_spec.weights.canonical import Array, WeightsError
from shared.small_network import save_zeros, to_torch

torch = pytest.importorskip("torch")


def test_exact_match(tmp_path: Path) -> None:
    best, *others = identify(save_zeros(tmp_path / "w.safetensors", "resnet34"))
    assert (best.network, best.how, best.names, best.same, best.weights) == ("resnet34", "exact", "its own", 182, 182)
    assert all(other.how != "exact" or other.weights == 182 for other in others)


def test_match_with_names_of_a_dialect(tmp_path: Path) -> None:
    """The bundled network has the names of one dialect, the file those of another."""
    convert(
        save_zeros(tmp_path / "w.safetensors", "paddleclas/ResNet18"),
        tmp_path / "w.pdparams",
        "paddleclas/ResNet18",
        names="paddleclas",
    )
    best = identify(tmp_path / "w.pdparams")[0]
    assert (best.network, best.how, best.names) == ("paddleclas/ResNet18", "exact", "PaddleClas's names (resnet.py)")


def test_match_but_for_the_number_of_classes(tmp_path: Path) -> None:
    matches = identify(save_zeros(tmp_path / "w.safetensors", "timm/resnet50d", classes=37))
    assert ("timm/resnet50d", "but for the head", {"classes": 37}) in [(m.network, m.how, m.settings) for m in matches]
    assert not any(match.how == "exact" for match in matches)


def test_match_without_a_head(tmp_path: Path) -> None:
    def remove_head(weights: dict[str, Array]) -> None:
        del weights["fc.weight"], weights["fc.bias"]

    matches = {
        match.network: match
        for match in identify(save_zeros(tmp_path / "w.safetensors", "timm/resnet50d", remove_head))
    }
    assert matches["timm/resnet50d"].how == "but for the head"
    assert matches["timm/resnet50d"].differs == ("missing fc.weight (1000, 2048)", "missing fc.bias (1000,)")


def test_identifying_reads_no_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, path = byte_ranges.read, save_zeros(tmp_path / "w.safetensors", "resnet18")

    def read_header(path: str, offset: int, size: int) -> Array:
        assert size < 50_000
        return read(path, offset, size)

    monkeypatch.setattr(byte_ranges, "read", read_header)
    assert identify(path)[0].how == "exact"


@pytest.mark.parametrize("shapes", [[(1001, 1003)], [(1000,), (1001, 1003)], [(64,), (1001, 1003)]])
def test_few_networks_are_expanded_for_a_file_of_a_few_arrays(shapes: list[tuple[int, ...]], tmp_path: Path) -> None:
    path, expanded = tmp_path / "w.safetensors", list[str]()
    save_file({f"w{index}": np.zeros(shape, np.float16) for index, shape in enumerate(shapes)}, path)
    assert identify_with_progress(path, expanded.append)[1] == []
    assert len(expanded) <= 8 * (len(shapes) - 1)


def test_near_matches_are_ranked_and_list_differences(tmp_path: Path) -> None:
    def widen(weights: dict[str, Array]) -> None:
        weights["layer4.1.conv1.weight"] = np.zeros((500, 512, 3, 3), np.float16)

    matches = identify(save_zeros(tmp_path / "w.safetensors", "resnet18", widen))
    assert (matches[0].network, matches[0].how) == ("resnet18", "near")
    assert matches[0].differs == ("layer4.1.conv1.weight is (500, 512, 3, 3), but the network's is (512, 512, 3, 3)",)
    assert [match.same - len(match.differs) for match in matches] == sorted(
        (match.same - len(match.differs) for match in matches), reverse=True
    )


def save_training_state(path: Path, spec: str, beside: Sequence[str]) -> Path:
    """Save zeros for a network under "model", and as much again under each of the other keys."""
    weights = {name: np.zeros(shape, np.float16) for name, shape in load(spec).weights().items()}
    save_file({f"{key}.{name}": array for key in ("model", *beside) for name, array in weights.items()}, path)
    return path


@pytest.mark.parametrize(
    "beside",
    [
        ["model_ema"],
        ["optimizer.state.0.exp_avg", "optimizer.state.0.exp_avg_sq"],
        ["model_ema", "optimizer.m", "optimizer.v", "optimizer.max"],
    ],
)
def test_what_is_beside_the_weights_does_not_count(beside: list[str], tmp_path: Path) -> None:
    best = identify(save_training_state(tmp_path / "w.safetensors", "resnet18", beside))[0]
    assert (best.network, best.how, best.same, best.differs) == ("resnet18", "exact", 102, ())


def test_networks_that_compute_something_else_with_the_same_weights_are_told(tmp_path: Path) -> None:
    fits = {match.network: match.computes for match in identify(save_zeros(tmp_path / "w.safetensors", "resnet18"))}
    assert fits["resnet18"] == fits["torchvision/resnet18"] == fits["timm/resnet18"] == fits["paddle/resnet18"] == ""
    assert fits["timm/resnetblur18"] == (
        "max_pool {kernel: 3, padding: 1}, 4 blur_pool, 3 conv {kernel: 3, padding: 1} "
        "instead of max_pool {kernel: 3, stride: 2, padding: 1}, 3 conv {kernel: 3, stride: 2, padding: 1}"
    )
    assert fits["flax/ResNet18"].startswith("4 zero_pad {bottom: 1, right: 1}")


def test_network_that_the_metadata_name_comes_first(tmp_path: Path) -> None:
    network = load("timm/resnetblur18")
    save_file(
        {name: np.zeros(shape, np.float16) for name, shape in network.weights().items()},
        tmp_path / "w.safetensors",
        make_metadata(network),
    )
    matches = {match.network: match for match in identify(tmp_path / "w.safetensors")}
    assert next(iter(matches)) == "timm/resnetblur18"
    assert matches["timm/resnetblur18"].computes == ""
    assert matches["resnet18"].computes.startswith("max_pool {kernel: 3, stride: 2, padding: 1}")


# -- diff -------------------------------------------------------------------------------------------------------------


def test_files_of_different_formats_are_compared(small: dict[str, Array]) -> None:
    convert("w.safetensors", "one.pdparams", "small.yaml", names="paddleclas")
    small["layer1.0.conv1.weight"][3, 2, 1, 0] += 0.5
    small["fc.bias"][4] = np.nan
    save_file(small, "w.safetensors")
    differences = {d.name: d for d in compare_checkpoints("one.pdparams", "w.safetensors", "small.yaml")}
    assert len(differences) == len(small)
    assert [name for name, d in differences.items() if not d.identical] == ["layer1.0.conv1.weight", "fc.bias"]
    kernel, bias = differences["layer1.0.conv1.weight"], differences["fc.bias"]
    assert (kernel.at, round(kernel.worst, 6)) == ((3, 2, 1, 0), 0.5)
    assert (bias.at, bias.worst) == ((4,), np.inf)


def test_imaginary_parts_are_compared_too(small: dict[str, Array]) -> None:
    array = np.array([1 + 2j, 3 - 1j])
    torch.save({**to_torch(small), "spectrum": torch.tensor(array)}, "one.pth")
    torch.save({**to_torch(small), "spectrum": torch.tensor(array + 0.5j * np.arange(2))}, "two.pth")
    (difference,) = [d for d in compare_checkpoints("one.pth", "two.pth") if not d.identical]
    assert (difference.name, difference.at, difference.worst) == ("spectrum", (1, 1), 0.5)
    assert difference.values == (-1.0, -0.5)


def test_files_with_the_same_names_need_no_spec(small: dict[str, Array]) -> None:
    torch.save(to_torch(small), "one.pth")
    assert all(difference.identical for difference in compare_checkpoints("one.pth", "w.safetensors"))


@pytest.mark.parametrize("suffix", [".pth", ".pdparams"])
def test_what_is_in_both_files_is_compared_and_the_rest_is_listed(suffix: str, small: dict[str, Array]) -> None:
    other = {**small, "fc.weight": small["fc.weight"][:7], "fc.bias": small["fc.bias"][:7], "extra": small["fc.bias"]}
    del other["bn1.bias"]
    other["conv1.weight"] = small["conv1.weight"] + 1
    save_file(other, "b.safetensors")
    convert("w.safetensors", f"a{suffix}", "small.yaml")
    differences = compare_checkpoints(f"a{suffix}", "b.safetensors", None if suffix == ".pth" else "small.yaml")
    found = {d.name: (d.shapes, d.is_compared) for d in differences if not d.identical}
    assert found == {
        "conv1.weight": (((8, 3, 3, 3), (8, 3, 3, 3)), True),
        "bn1.bias": (((8,), None), False),
        "fc.weight": (((10, 16), (7, 16)), False),
        "fc.bias": (((10,), (7,)), False),
        "extra": ((None, (10,)), False),
    }
    assert len(differences) == len(small) + 1


def test_wrapped_files_are_compared_without_a_spec(small: dict[str, Array]) -> None:
    torch.save({"state_dict": to_torch(small), "epoch": 3}, "one.pth")
    small["fc.weight"] = np.zeros((7, 16), np.float32)
    torch.save({"model": {f"module.{name}": tensor for name, tensor in to_torch(small).items()}}, "two.pth")
    differences = compare_checkpoints("one.pth", "two.pth")
    assert len(differences) == len(small)
    assert [d.name for d in differences if not d.identical] == ["fc.weight"]


def test_files_without_a_common_weight_are_refused(small: dict[str, Array]) -> None:
    save_file({"a": np.zeros(3, np.float32)}, "b.safetensors")
    with pytest.raises(ValueError, match="does not name a bundled network; pass its spec"):
        compare_checkpoints("b.safetensors", "w.safetensors")
    with pytest.raises(WeightsError, match="unexpected a"):
        compare_checkpoints("w.safetensors", "b.safetensors", "small.yaml")
