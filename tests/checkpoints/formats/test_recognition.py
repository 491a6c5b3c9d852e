"""Files that are no checkpoints are named as what they are, with the way on."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.tensors import CheckpointError

FILES: dict[str, tuple[bytes, str]] = {
    "0.pkl": (pickle.dumps({"fc.bias": np.ones(3)}, 0), "a pickle of protocol 0 or 1; load it"),
    "1.pkl": (pickle.dumps({"fc.bias": np.ones(3)}, 1), "a pickle of protocol 0 or 1; load it"),
    "m.ckpt.data-00000-of-00001": (b"abc", "a TensorFlow checkpoint; read it with tf.train.load_checkpoint"),
    "m.ckpt.meta": (b"\x0a\x90\x01", "a TensorFlow checkpoint; read it with tf.train.load_checkpoint"),
    "frozen.pb": (b"\x0a\x1d\x0a\x05input", "a TensorFlow graph; use the checkpoint"),
    "deploy.prototxt": (b'name: "ResNet-50"', "a description of a Caffe model, without weights; convert"),
    "resnet50.weights": (b"\0\0\0\0\2\0\0\0\5\0\0\0", "a Darknet model, whose arrays have no names; convert"),
    "resnet50.mlmodel": (b"\x08\x01\x12\x90\x03", "a Core ML model; use the checkpoint"),
    "resnet50.param": (b"7767517\n3 3\n", "the description of an ncnn model; use the checkpoint"),
}


@pytest.mark.parametrize("name", FILES)
def test_file_of_another_program_is_named(name: str, tmp_path: Path) -> None:
    data, words = FILES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=words):
        registry.read(tmp_path / name)


def test_folder_of_other_files_names_them(tmp_path: Path) -> None:
    (tmp_path / "global_step10").mkdir()
    (tmp_path / "global_step10" / "mp_rank_00_model_states.pt").write_bytes(b"")
    (tmp_path / "latest").write_text("global_step10")
    held = "it holds 'global_step10/mp_rank_00_model_states.pt', 'latest'; choose one of its files"
    with pytest.raises(CheckpointError, match=f"without a checkpoint of a known name: {held}"):
        registry.read(tmp_path)


def test_pickled_objects_in_an_archive_are_refused_with_a_way_on(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", arr_0=np.array({"fc.bias": np.ones(3)}, dtype=object))
    with pytest.raises(CheckpointError, match=r"holds pickled objects; save numbers: numpy\.savez"):
        registry.read(tmp_path / "w.npz")
