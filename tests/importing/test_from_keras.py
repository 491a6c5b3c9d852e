"""Keras' files become specs without Keras; code in them is refused, never run."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from resnet_spec import ImportRefused, build, from_keras, run
from shared.keras_files import small_model, write_keras_file


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_small_model_is_proven(tmp_path: Path, suffix: str) -> None:
    config, weights = small_model()
    imported = from_keras(write_keras_file(tmp_path / f"small{suffix}", config, weights))
    assert imported.is_proven
    network, arrays = imported
    assert network.input == (3, 8, 8)
    assert np.array_equal(arrays["stem_conv.weight"], weights["stem_conv"][0].transpose(3, 2, 0, 1))
    assert "the softmax of scores is left out" in imported.notes[0]
    assert "block1: residual" in imported.spec
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8))
    assert run(build(network, backend="numpy", weights=arrays), x).shape == (2, 5)


def test_a_lambda_layer_is_refused(tmp_path: Path) -> None:
    config, weights = small_model(stem_relu={"class_name": "Lambda"})
    path = write_keras_file(tmp_path / "code.keras", config, weights)
    with pytest.raises(
        ImportRefused, match="stem_relu: Lambda: no operation of the language is this layer, which is code"
    ):
        from_keras(path)


def test_every_unknown_layer_is_listed(tmp_path: Path) -> None:
    config, weights = small_model(stem_relu={"class_name": "MyLayer"}, pool={"class_name": "Other"})
    with pytest.raises(ImportRefused) as caught:
        from_keras(write_keras_file(tmp_path / "two.keras", config, weights))
    assert [place.split(":")[0] for place in caught.value.places] == ["stem_relu", "pool"]


def test_a_merge_that_loses_an_operand_is_refused(tmp_path: Path) -> None:
    config, weights = small_model()
    config["config"]["layers"][6]["inbound_nodes"] = [[["block1_b", 0, 0, {}]]]
    with pytest.raises(ImportRefused, match=r"block1\.add: Add: it combines other values"):
        from_keras(write_keras_file(tmp_path / "sum.keras", config, weights))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no archive", b"\x89HDF\r\n\x1a\n and no more"])
def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path, data: bytes) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed")
    path = tmp_path / "damaged.h5"
    path.write_bytes(data)
    with pytest.raises(ImportRefused, match=r"damaged\.h5 is no Keras file that can be read"):
        from_keras(path)


def test_an_archive_without_a_configuration_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("other.json", "{}")
    with pytest.raises(ImportRefused, match=r"empty\.keras is no Keras file"):
        from_keras(tmp_path / "empty.keras")
