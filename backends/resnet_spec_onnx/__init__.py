"""Write networks as ONNX models, and evaluate them: by ONNX Runtime in float32, by ONNX's own reference in float64."""

from typing import Any

from resnet_spec.backend import Capabilities, ExportFormat
from resnet_spec_onnx.build import build as build
from resnet_spec_onnx.file import export as export
from resnet_spec_onnx.quantization import run_file as run_file
from resnet_spec_onnx.run import devices as devices
from resnet_spec_onnx.run import run as run
from resnet_spec_onnx.weights import dump as dump
from resnet_spec_onnx.weights import load as load

DTYPE = "float32"
"""The default dtype."""

CAPABILITIES = Capabilities(exports=(ExportFormat("onnx", ".onnx", ("free_size", "opset", "calibration")),))
"""It only evaluates: ONNX graphs of this backend have no training mode."""


def wrap_model(path: Any) -> Any:
    """Return the model in a file, as ``importing.foreign.ForeignModel`` describes."""
    from resnet_spec_onnx.foreign import OnnxModel

    return OnnxModel(path)
