"""Evaluate a model: by ONNX Runtime in float32, and in float64, for which it lacks kernels, by ONNX's own evaluator."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import onnxruntime
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from resnet_spec.backend import OUTPUT, BackendError
from resnet_spec.network.parts import Row
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.weights.canonical import Array
from resnet_spec_onnx.graph import INPUT
from resnet_spec_onnx.modules import ResNet


def run(
    model: ResNet, images: Array, capture: Collection[str] = (), *, train: bool = False, part: str = ""
) -> dict[str, Array]:
    """Return by path the outputs of the parts in ``capture`` and of the network, or of one part run on its own.

    The model does not change. Raises BackendError for ``train``.
    """
    if train:
        raise BackendError("the onnx backend only evaluates: it has no training mode")
    images = np.asarray(images, model.dtype)
    key = (images.shape[1:], frozenset(capture), part)
    if key not in model.sessions:
        model.sessions.clear()  # each session holds a copy of the weights
        model.sessions[key] = _make_session(model, images.shape[1:], capture, part)
    session, values = model.sessions[key]
    names = [name for name in dict.fromkeys(values.values()) if name != INPUT]
    arrays = dict(zip(names, session.run(names, {INPUT: images}), strict=True)) if names else {}
    arrays[INPUT] = images
    return {path: np.array(arrays[name]) for path, name in values.items()}


def _make_session(
    model: ResNet, input_shape: tuple[int, ...], capture: Collection[str], part: str
) -> tuple[Any, dict[str, str]]:
    """Return a session that runs the network, or a part of it, and the names of the values to return, by path."""
    network = model.network
    # A part's input may have one axis only, but images have three.
    parts: Row = (network.part(part),) if part else infer_shapes(network, input_shape).parts  # type: ignore[arg-type]
    graph, values = model.to_graph(parts)
    outputs = network.outputs if not part and network.outputs else ()
    returned = {path: values[path] for path in (*capture, *outputs) if path}
    if not outputs:
        returned[OUTPUT] = values[parts[-1].path]
    names = [name for name in dict.fromkeys(returned.values()) if name != INPUT]
    proto = model.make_model_proto(graph, input_shape, names)
    if model.dtype == "float64":
        return ReferenceEvaluator(proto, new_ops=[Erf]), returned
    return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]), returned


class Erf(OpRun):
    """The error function in the dtype of its input.

    Replaces the evaluator's own, which computes in float32, with an error of 1.2e-8.
    """

    _erf = np.vectorize(math.erf, otypes=[np.float64])

    def _run(self, x: Array) -> tuple[Array]:
        return (self._erf(x).astype(x.dtype),)
