"""Evaluate a model: by ONNX Runtime in float32, by ONNX's reference evaluator in float64, which the runtime lacks kernels for."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import onnxruntime
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from resnet_spec.backend import OUTPUT, BackendError
from resnet_spec.network.parts import Part
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec.weights.canonical import Array
from resnet_spec_onnx.graph import INPUT
from resnet_spec_onnx.modules import ResNet


def run(
    model: ResNet, images: Array, watch: Collection[str] = (), *, train: bool = False, part: str = ""
) -> dict[str, Array]:
    """Outputs by path, of the parts to watch and of the network, or of a part alone. It does not train: raises BackendError."""
    if train:
        raise BackendError("the onnx backend evaluates and does not train")
    images = np.asarray(images, model.dtype)
    key = (images.shape[1:], frozenset(watch), part)
    if key not in model.sessions:
        model.sessions.clear()  # each holds the weights once more
        model.sessions[key] = _session(model, images.shape[1:], watch, part)
    session, values = model.sessions[key]
    names = [name for name in dict.fromkeys(values.values()) if name != INPUT]
    found = dict(zip(names, session.run(names, {INPUT: images}), strict=True)) if names else {}
    found[INPUT] = images
    return {path: np.array(found[name]) for path, name in values.items()}


def _session(model: ResNet, given: tuple[int, ...], watch: Collection[str], part: str) -> tuple[Any, dict[str, str]]:
    """What runs the network, or a part of it, on images of a size; and the values that it gives, by path."""
    network = model.network
    parts: tuple[Part, ...] = (network.part(part),) if part else infer_shapes(network, given).parts  # type: ignore[arg-type]  # three axes
    graph, values = model.graph(parts)
    whole = network.outputs if not part and network.outputs else ()
    wanted = {path: values[path] for path in (*watch, *whole) if path}
    if not whole:
        wanted[OUTPUT] = values[parts[-1].path]
    names = [name for name in dict.fromkeys(wanted.values()) if name != INPUT]
    proto = model.model(graph, given, names)
    if model.dtype == "float64":
        return ReferenceEvaluator(proto, new_ops=[Erf]), wanted
    return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]), wanted


class Erf(OpRun):
    """The error function in the type that it is given: the evaluator's own computes in float32, which is off by 1.2e-8."""

    _exact = np.vectorize(math.erf, otypes=[np.float64])

    def _run(self, x: Array) -> tuple[Array]:
        return (self._exact(x).astype(x.dtype),)
