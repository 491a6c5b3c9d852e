"""Evaluate a model: by ONNX Runtime in float32, and in float64, for which it lacks kernels, by ONNX's own evaluator."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from resnet_spec.backend import OUTPUT, BackendError
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
    cached, session, values = model.session
    if cached != key:
        session, values = _make_session(model, images.shape[1:], capture, part)
        model.session = key, session, values  # one only, since each session holds a copy of the weights
    names = [name for name in dict.fromkeys(values.values()) if name != INPUT]
    arrays = dict(zip(names, session.run(names, {INPUT: images}), strict=True)) if names else {}
    arrays[INPUT] = images
    return {path: np.array(arrays[name]) for path, name in values.items()}


def _make_session(
    model: ResNet, input_shape: tuple[int, ...], capture: Collection[str], part: str
) -> tuple[Any, dict[str, str]]:
    """Return a session that runs the network, or a part of it, and the names of the values to return, by path."""
    network = replace(model.network, parts=(model.network.part(part),), outputs=()) if part else model.network
    # A part's input may have one axis only, but images have three.
    network = infer_shapes(network, input_shape)  # type: ignore[arg-type]
    graph, values = model.to_graph(network.parts)
    returned = {path: values[path] for path in (*capture, *network.outputs) if path}
    if not network.outputs:
        returned[OUTPUT] = values[network.parts[-1].path]
    names = [name for name in dict.fromkeys(returned.values()) if name != INPUT]
    return make_evaluator(model.make_model_proto(graph, input_shape, names), model.dtype), returned


def make_evaluator(proto: ModelProto | Path, dtype: str) -> Any:
    """Return an object whose ``run`` evaluates a model or a file: ONNX Runtime's session, or ONNX's own evaluator.

    ONNX Runtime lacks kernels for float64, and supports a new version of the operators or of the format only some
    releases later.
    """
    source = str(proto) if isinstance(proto, Path) else proto.SerializeToString()
    if dtype != "float64":
        try:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3  # errors: files of others have what it warns about
            return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own classes have no other base
            if not re.search(r"[Uu]nsupported model IR version|opset", str(error)):
                raise
    return ReferenceEvaluator(str(proto) if isinstance(proto, Path) else proto, new_ops=[Erf])


class Erf(OpRun):
    """The error function in the dtype of its input.

    Replaces the evaluator's own, which computes in float32, with an error of 1.2e-8.
    """

    _erf = np.vectorize(math.erf, otypes=[np.float64])

    def _run(self, x: Array) -> tuple[Array]:
        return (self._erf(x).astype(x.dtype),)


def devices() -> list[str]:
    """Return the execution providers of the ONNX Runtime that is installed."""
    return list(onnxruntime.get_available_providers())
