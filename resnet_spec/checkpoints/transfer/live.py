"""Read a mapping of live arrays as a checkpoint, such as the ``state_dict`` of a PyTorch or Paddle model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from resnet_spec.checkpoints.formats.tensors import BFLOAT16, Checkpoint, Dtype, Tensor
from resnet_spec.weights.canonical import Array, WeightsError

MAPPING = "mapping of arrays"
"""The format of a checkpoint that is no file."""

_LAYOUTS = {"torch": "torch", "paddle": "paddle", "jax": "nnx", "jaxlib": "nnx"}
"""The layout of a framework's arrays, by the package of their type."""

_MAX_DEPTH = 32


def read_mapping(weights: Mapping[Any, Any]) -> Checkpoint:
    """Return a mapping of arrays, which may be nested, as a checkpoint; what is not an array is left out.

    Arrays may be NumPy's or a framework's. No framework is imported, since an array of one brings it.

    >>> checkpoint = read_mapping({"state_dict": {"fc.bias": np.zeros(3)}, "epoch": 7})
    >>> checkpoint.layout, [(name, tensor.shape) for name, tensor in checkpoint.tensors.items()]
    ('torch', [('state_dict.fc.bias', (3,))])
    """
    values = dict(_flatten(weights, ""))
    layouts = (_LAYOUTS[_package(value)] for value in values.values() if _package(value) in _LAYOUTS)
    tensors = {name: Tensor(tuple(v.shape), _dtype_of(v), partial(_to_numpy, name, v)) for name, v in values.items()}
    return Checkpoint("weights", MAPPING, next(layouts, "torch"), tensors)


def _flatten(weights: Mapping[Any, Any], prefix: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield every array with its name; keys of nested mappings are joined by dots."""
    for key, value in weights.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if depth < _MAX_DEPTH:
                yield from _flatten(value, f"{name}.", depth + 1)
            continue
        array = value.get_value() if hasattr(value, "get_value") else value  # a variable of Flax NNX
        if isinstance(array, list | tuple | float):
            array = _from_numbers(array)
        if hasattr(array, "shape") and hasattr(array, "dtype"):
            yield name, array


def _from_numbers(value: object) -> Array | None:
    """Return (nested) lists of floating-point numbers as an array, and None for anything else."""
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        return None
    return array if array.dtype.kind == "f" else None


def _package(value: object) -> str:
    """Return the framework that defines an array's type, or the package of the type if it is none that is known."""
    packages = [kind.__module__.partition(".")[0] for kind in type(value).__mro__]
    return next((package for package in packages if package in _LAYOUTS), packages[0])


def _dtype_of(value: Any) -> Dtype:
    name = str(value.dtype).rpartition(".")[2]
    try:
        return np.dtype(getattr(ml_dtypes, name, name))
    except TypeError:  # a type that neither NumPy nor ml_dtypes has, which is no type of weights
        return np.dtype(np.void)


def _to_numpy(name: str, value: Any) -> Array:
    """Return an array as NumPy's, with the same bits. Raises WeightsError if that is not possible."""
    try:
        match _package(value):
            case "torch":
                value = value.detach().cpu().resolve_conj().resolve_neg()
                if _dtype_of(value) == BFLOAT16:  # NumPy has no such type, so PyTorch does not convert it
                    return np.asarray(value.view(sys.modules["torch"].int16).numpy().view(BFLOAT16))
                return np.asarray(value.numpy())
            case "paddle":  # it gives the bits of bfloat16 as uint16
                array = np.asarray(value.numpy())
                return array.view(BFLOAT16) if _dtype_of(value) == BFLOAT16 else array
            case _:
                return np.asarray(value)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise WeightsError([f"{name} cannot be read as an array ({type(value).__name__}): {reason}"]) from None
