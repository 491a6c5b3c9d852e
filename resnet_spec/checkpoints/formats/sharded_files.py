"""Checkpoints in several files that an index names (``model.safetensors.index.json``), and Hugging Face's folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from resnet_spec.checkpoints.formats import byte_ranges
from resnet_spec.checkpoints.formats.tensors import Checkpoint, CheckpointError, Tensor, add_tensor, quote

FILES = (
    *("model.safetensors.index.json", "model.safetensors", "diffusion_pytorch_model.safetensors"),
    *("pytorch_model.bin.index.json", "pytorch_model.bin", "flax_model.msgpack"),
)
"""The files of weights in a Hugging Face folder, of which the first is read."""

_MAX_SHARDS = 1000

Read = Callable[[str], Checkpoint]


def is_index(path: str) -> bool:
    """Return whether a path is called as an index of shards is."""
    return path.endswith(".index.json")


def read(path: str, read_file: Read) -> Checkpoint:
    """Return the arrays of all shards that an index names. Raises CheckpointError."""
    shards = _read_index(path)
    tensors: dict[str, Tensor] = {}
    checkpoint = None
    for file in dict.fromkeys(shards.values()):
        place = str(Path(path).parent / file)
        if not Path(place).is_file():
            raise CheckpointError(f"{path} names the file {file!r}, which is not beside it; download all of its files")
        checkpoint = read_file(place)
        for name, tensor in checkpoint.tensors.items():
            if shards.get(name, file) == file:
                add_tensor(path, tensors, name, tensor)
    missing = [name for name in shards if name not in tensors]
    if missing or checkpoint is None:
        raise CheckpointError(f"{path} names {quote(missing[0] if missing else '')}, which its files do not hold")
    count = len(set(shards.values()))
    return Checkpoint(
        path,
        f"{checkpoint.format} in {count} shards",
        checkpoint.layout,
        tensors,
        checkpoint.metadata,
        checkpoint.notes,
    )


def _read_index(path: str) -> dict[str, str]:
    """Return the file of each array by name. All files lie beside the index."""
    size = Path(path).stat().st_size
    byte_ranges.check_header_size(path, "index", size, 0)
    try:
        data = json.loads(byte_ranges.read(path, 0, size).tobytes())
    except (ValueError, RecursionError):
        data = None
    match data:
        case {"weight_map": dict(shards)} if shards:
            pass
        case _:
            raise CheckpointError(
                f"{path} is not an index of a checkpoint's files: expected a JSON object with a weight_map"
            )
    names = set(shards.values()) if all(isinstance(file, str) for file in shards.values()) else {""}
    for file in names:
        if Path(file).name != file or not file.isprintable() or is_index(file) or file in ("", ".", ".."):
            raise CheckpointError(f"{path} is damaged: expected the names of files beside it, found {quote(file)}")
    if len(names) > _MAX_SHARDS:
        raise CheckpointError(f"{path} is damaged: it names {len(names):,} files")
    return shards


def find_file(folder: str) -> str | None:
    """Return the file of weights in a Hugging Face folder, or None if there is none."""
    return next((str(Path(folder, file)) for file in FILES if Path(folder, file).is_file()), None)
