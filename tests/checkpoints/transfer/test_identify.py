"""Which network a checkpoint fits, and how two checkpoints differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from resnet_spec import convert, identify
from resnet_spec.checkpoints.transfer.difference import differences
from resnet_spec.weights.canonical import Array
from shared.small_network import state, zeros

torch = pytest.importorskip("torch")


def test_a_file_is_identified_exactly(tmp_path: Path) -> None:
    best, *others = identify(zeros(tmp_path / "w.safetensors", "resnet34"))
    assert (best.network, best.how, best.names, best.same, best.weights) == ("resnet34", "exact", "its own", 182, 182)
    assert all(other.how != "exact" or other.weights == 182 for other in others)


def test_others_names_are_heard(tmp_path: Path) -> None:
    """A network that is known by its own names in one dialect, from a file in another."""
    convert(
        zeros(tmp_path / "w.safetensors", "paddleclas/ResNet18"),
        tmp_path / "w.pdparams",
        "paddleclas/ResNet18",
        names="paddleclas",
    )
    best = identify(tmp_path / "w.pdparams")[0]
    assert (best.network, best.how, best.names) == ("paddleclas/ResNet18", "exact", "PaddleClas's names (resnet.py)")


def test_a_file_is_identified_but_for_the_number_of_classes(tmp_path: Path) -> None:
    found = identify(zeros(tmp_path / "w.safetensors", "timm/resnet50d", classes=37))
    assert ("timm/resnet50d", "but for the head", {"classes": 37}) in [(m.network, m.how, m.settings) for m in found]
    assert not any(match.how == "exact" for match in found)


def test_a_file_is_identified_without_its_head(tmp_path: Path) -> None:
    def headless(weights: dict[str, Array]) -> None:
        del weights["fc.weight"], weights["fc.bias"]

    found = {match.network: match for match in identify(zeros(tmp_path / "w.safetensors", "timm/resnet50d", headless))}
    assert found["timm/resnet50d"].how == "but for the head"
    assert found["timm/resnet50d"].differs == ("missing fc.weight (1000, 2048)", "missing fc.bias (1000,)")


def test_identifying_reads_no_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resnet_spec.checkpoints.formats import byte_ranges

    read, path = byte_ranges.read, zeros(tmp_path / "w.safetensors", "resnet18")

    def short(path: str, offset: int, size: int) -> Array:
        assert size < 50_000
        return read(path, offset, size)

    monkeypatch.setattr(byte_ranges, "read", short)
    assert identify(path)[0].how == "exact"


def test_near_misses_are_ranked_and_say_what_differs(tmp_path: Path) -> None:
    def widened(weights: dict[str, Array]) -> None:
        weights["layer4.1.conv1.weight"] = np.zeros((500, 512, 3, 3), np.float16)

    found = identify(zeros(tmp_path / "w.safetensors", "resnet18", widened))
    assert (found[0].network, found[0].how) == ("resnet18", "near")
    assert found[0].differs == ("layer4.1.conv1.weight is (500, 512, 3, 3), but the network's is (512, 512, 3, 3)",)
    assert [match.same - len(match.differs) for match in found] == sorted(
        (match.same - len(match.differs) for match in found), reverse=True
    )


# -- diff ---------------------------------------------------------------------------------------------------------


def test_two_files_are_compared_whatever_their_formats(small: dict[str, Array]) -> None:
    convert("w.safetensors", "one.pdparams", "small.yaml", names="paddleclas")
    small["layer1.0.conv1.weight"][3, 2, 1, 0] += 0.5
    small["fc.bias"][4] = np.nan
    save_file(small, "w.safetensors")
    found = {one.name: one for one in differences("one.pdparams", "w.safetensors", "small.yaml")}
    assert len(found) == len(small)
    assert [name for name, one in found.items() if not one.identical] == ["layer1.0.conv1.weight", "fc.bias"]
    off = found["layer1.0.conv1.weight"]
    assert (off.at, round(off.worst, 6)) == ((3, 2, 1, 0), 0.5)
    assert (found["fc.bias"].at, found["fc.bias"].worst) == ((4,), np.inf)


def test_files_with_the_same_names_need_no_spec(small: dict[str, Array]) -> None:
    torch.save(state(small), "one.pth")
    assert all(one.identical for one in differences("one.pth", "w.safetensors"))
