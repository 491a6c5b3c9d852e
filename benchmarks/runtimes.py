"""ONNX Runtime and OpenVINO, to compare with on a CPU. Both run the file that the onnx backend writes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spec import build
from resnet_spec.backend import ExportOptions

Evaluation = Callable[[], object]


def make_runtimes(name: str, images: NDArray[np.float32]) -> dict[str, Evaluation]:
    """Return functions that evaluate a folded network, by the name of the runtime, of those that are installed."""
    makers = {"ONNX Runtime": ("onnxruntime", make_onnxruntime), "OpenVINO": ("openvino", make_openvino)}
    installed = {runtime: make for runtime, (package, make) in makers.items() if find_spec(package)}
    if not installed:
        return {}
    from resnet_spec_onnx.file import export

    with TemporaryDirectory() as folder:
        model = build(name, backend="onnx", mode="inference")
        (path,) = export(model, Path(folder) / "n.onnx", ExportOptions("onnx", len(images)))
        return {runtime: make(path, images) for runtime, make in installed.items()}


def make_onnxruntime(path: Path, images: NDArray[np.float32]) -> Evaluation:
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    return lambda: session.run(None, {image.name: images})


def make_openvino(path: Path, images: NDArray[np.float32]) -> Evaluation:
    openvino: Any = import_module("openvino")  # by name: it is no dependency
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda: compiled(images)
