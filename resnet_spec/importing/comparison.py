"""Run a model that exists beside a spec's network, layer by layer, and name the first part that differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from resnet_spec.api import build as build_network
from resnet_spec.api import dump
from resnet_spec.backend import BackendError, load_backend
from resnet_spec.importing.proof import Comparison, compare_outputs
from resnet_spec.library.load import load
from resnet_spec.network.network import Network

FRAMEWORKS = {"torch": "torch", "paddle": "paddle", "flax": "flax"}
"""The backend that wraps a model, by the package of one of its classes."""

IMAGES = 2


def compare_model(
    model: object,
    spec: str | PathLike[str] | Network,
    weights: Mapping[str, Any] | str | PathLike[str] | None = None,
    *,
    input: Sequence[int] | None = None,
) -> list[Comparison]:
    """Compare a PyTorch, Paddle or Flax model with a spec, on random images in evaluation mode.

    Parts are compared where a module of the model has a part's path, then outputs. The first comparison that differs
    names the first part at fault. The reference implementation computes the spec's side, in float64.

    Args:
        model: A ``torch.nn.Module``, a ``paddle.nn.Layer`` or an ``nnx.Module``. It is not changed.
        spec: The name of a bundled network, the path of a YAML file, or a loaded network.
        weights: A checkpoint, which a PyTorch model gets too, or arrays by name. By default, the model's own weights.
        input: The shape (channels, height, width) of an image. By default, the spec's.

    Raises:
        BackendError: The model is of no framework that is known.
        WeightsError: The weights do not fit the spec.
    """
    wrapped = wrap(model)
    network = spec if isinstance(spec, Network) else load(spec, input=input)
    given: Any = wrapped.weights() if weights is None else weights
    ours = build_network(network, backend="numpy", dtype="float64", weights=given)
    arrays = dump(ours)
    if weights is not None and hasattr(wrapped, "load"):
        wrapped.load(arrays)
    shape = tuple(input) if input is not None else network.input
    images = np.random.default_rng(0).standard_normal((IMAGES, *shape))
    return list(compare_outputs("numpy", network, arrays, images, wrapped.run(images), wrapped.dtype))


def wrap(model: object) -> Any:
    """Return a model wrapped by the backend of its framework. Raises BackendError."""
    packages = [kind.__module__.partition(".")[0] for kind in type(model).__mro__]
    framework = next((FRAMEWORKS[package] for package in packages if package in FRAMEWORKS), None)
    if framework is None:
        raise BackendError(f"{type(model).__name__} is no model of PyTorch, Paddle or Flax")
    backend: Any = load_backend(framework)
    return backend.wrap_model(model)


def first_difference(comparisons: Sequence[Comparison]) -> str:
    """Return the path of the first part that differs, "output" if only the output does, or "" if nothing does."""
    return next((comparison.where for comparison in comparisons if comparison.verdict == "differs"), "")
