"""Canonical weights in a safetensors file, with the network that they belong to in its metadata."""

from __future__ import annotations

import json
import os
from os import PathLike
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from resnet_spec.weights import Array, WeightsError


def read(path: str | PathLike[str]) -> dict[str, Array]:
    """The arrays of a safetensors file. Raises WeightsError, and FileNotFoundError."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights file named {str(path)!r}")
    try:
        return load_file(path)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise WeightsError([f"{path} is not a whole safetensors file: {error}"]) from None


def write(path: str | PathLike[str], weights: dict[str, Array]) -> None:
    """Write a safetensors file: whole, or not at all."""
    temporary = Path(f"{os.fspath(path)}.{os.getpid()}.part")
    try:
        save_file(weights, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
