"""Say what a file or a folder is that is not a checkpoint in a known format, and how to get on."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path

from resnet_spec.checkpoints.formats.tensors import CheckpointError

_SAVE_NPZ = 'numpy.savez("weights.npz", **arrays), with arrays by name'

_OLD_PICKLE = "it is a pickle of protocol 0 or 1; load it where it comes from and save it with pickle.dump(w, file, 2)"
_DARKNET = f"it is a Darknet model, whose arrays have no names; convert it with OpenCV and save it: {_SAVE_NPZ}"
_TF_CHECKPOINT = "it is a TensorFlow checkpoint; read it with tf.train.load_checkpoint and save it: " + _SAVE_NPZ

_STARTS = (
    (
        b"version https://git-lfs",
        "it is a Git LFS pointer, which stands for a file elsewhere; run git lfs pull, or download the file itself",
    ),
    (b"<", "it is a web page or XML, not the file that a link names; download the file itself"),
    (b"\x1f\x8b", "it is compressed with gzip; decompress it first (gunzip, or tar -xzf)"),
    (b"BZh", "it is compressed with bzip2; decompress it first"),
    (b"\xfd7zXZ", "it is compressed with xz; decompress it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd; decompress it first"),
    (b"\x93NUMPY", f"it is a single NumPy array or a pickled object (.npy); save an archive: {_SAVE_NPZ}"),
    (b"MATLAB", f"it is a MATLAB file; read it with scipy.io.loadmat and save it: {_SAVE_NPZ}"),
    (
        b"\x12\x01\0\0\0\0\0\0",
        f"it is an MXNet file of parameters; load it with mxnet.nd.load and save it: {_SAVE_NPZ}",
    ),
    (b"{", "it is JSON, which holds no arrays as a checkpoint does; an index of shards is called *.index.json"),
    (b"(dp", _OLD_PICKLE),
    (b"}q", _OLD_PICKLE),
    (b"7767517\n", "it is the description of an ncnn model; use the checkpoint from which it was made"),
    (b"\0\0\0\0\1\0\0\0", _DARKNET),
    (b"\0\0\0\0\2\0\0\0", _DARKNET),
    (b"GGUF", "it is a GGUF file, whose arrays are quantised; use the checkpoint from which it was made"),
)
_SUFFIXES = {
    ".caffemodel": "it is a Caffe model; convert it with caffe or OpenCV, and save its blobs: " + _SAVE_NPZ,
    ".index": _TF_CHECKPOINT,
    ".meta": _TF_CHECKPOINT,
    ".pb": "it is a TensorFlow graph; use the checkpoint from which it was made, or its variables: " + _SAVE_NPZ,
    ".prototxt": "it is a description of a Caffe model, without weights; convert its .caffemodel: " + _SAVE_NPZ,
    ".mlmodel": "it is a Core ML model; use the checkpoint from which it was made",
    ".pdiparams": "it is a Paddle model for inference, whose arrays have no names; use the .pdparams file",
}
_TF_DATA = re.compile(r"\.data-\d+-of-\d+")
_TFLITE_AT = 4
_MAX_FOLDERS, _MAX_FILES, _MAX_NAMED = 10, 1000, 4


def describe_file(path: str, head: bytes) -> str:
    """Return what a file is by its first bytes, and how to get on.

    >>> describe_file("w.pth", b"version https://git-lfs.github.com/spec/v1")[:26]
    'it is a Git LFS pointer, w'
    """
    if not head:
        return "it is empty; download or save it again"
    if head[_TFLITE_AT : _TFLITE_AT + 4] == b"TFL3":
        return "it is a TensorFlow Lite model, for inference alone; use the checkpoint from which it was made"
    suffix = Path(path).suffix
    if _TF_DATA.fullmatch(suffix):
        return _TF_CHECKPOINT
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    for start, what in _STARTS:
        if head.lstrip(b" \r\n\t\xef\xbb\xbf").startswith(start):
            return what
    return f"it starts with {head[:32]!r}"


def refuse_folder(path: str) -> None:
    """Raise CheckpointError if a folder is one of a known kind that is not read."""
    if Path(path, "saved_model.pb").is_file():
        advice = f"read its variables with tf.train.load_checkpoint and save them: {_SAVE_NPZ}"
        raise CheckpointError(f"{path} is a TensorFlow SavedModel; {advice}")
    if next(Path(path).glob("data.pkl"), None) or next(Path(path).glob("*/data.pkl"), None):
        raise CheckpointError(
            f"{path} is an unpacked PyTorch checkpoint; zip its contents without compression (zip -0 -r w.pth archive/)"
        )
    if not any(inner.is_dir() for inner in Path(path).iterdir()):
        raise CheckpointError(describe_folder(path))


def describe_folder(path: str) -> str:
    """Return what a folder is in which no checkpoint was found, with some of its files."""
    folders = islice(os.walk(path), _MAX_FOLDERS)
    files = islice((Path(folder, name) for folder, _, names in folders for name in names), _MAX_FILES)
    names = sorted(file.relative_to(path).as_posix() for file in files if file.is_file())[:_MAX_NAMED]
    held = f"it holds {', '.join(map(repr, names))}; choose one of its files" if names else "it holds no files"
    return f"{path} is a folder without a checkpoint of a known name: {held}"
