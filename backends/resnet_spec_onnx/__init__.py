"""Write a network as an ONNX model, and evaluate it: by ONNX Runtime in float32, by ONNX's own reference in float64."""

from resnet_spec_onnx.build import build as build
from resnet_spec_onnx.file import export as export
from resnet_spec_onnx.run import run as run
from resnet_spec_onnx.weights import dump as dump
from resnet_spec_onnx.weights import load as load

DTYPE = "float32"
"""What it computes in unless asked otherwise."""

EVALUATES_ONLY = True
"""An ONNX model is a network's inference form: there is no training to run."""
