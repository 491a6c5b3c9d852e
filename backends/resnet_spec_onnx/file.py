"""An ONNX file of a model: checked, and then written whole or not at all."""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import onnx
from onnx import ModelProto, helper

from resnet_spec.network.network import Network
from resnet_spec_onnx.modules import OPSET, ResNet

OPSETS = range(13, onnx.defs.onnx_opset_version() + 1)
"""The versions of ONNX's operators that can be written: before 13 axes were attributes."""

PROTOBUF_MOST = 2**31 - 2**20
"""Protobuf's limit for a file, less some for all but the weights: above it weights go to a file beside."""


def export(model: ResNet, path: Path, *, opset: int = OPSET, batch: int | str = 1) -> list[Path]:
    """Write a model to an ONNX file, and a large one's weights beside it. Gives the files. Raises ValueError for an opset.

    It passes ``onnx.checker`` with strict shape inference, which must agree with the shapes of the core.
    """
    if opset not in OPSETS:
        raise ValueError(f"opset is {opset}; it can be {OPSETS[0]} to {OPSETS[-1]}")
    proto = model.proto(opset=opset, batch=batch)
    proto.producer_version = version("resnet-spec")
    helper.set_model_props(proto, _properties(model.network))
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".onnx-") as folder:
        written = _written(proto, Path(folder) / path.name)
        onnx.checker.check_model(str(Path(folder) / path.name), full_check=True)
        return [file.replace(path.parent / file.name) for file in written]


def _written(proto: ModelProto, path: Path) -> list[Path]:
    """The weights' file first: the model must not be seen without it."""
    size = sum(len(tensor.raw_data) for tensor in proto.graph.initializer)
    if size < PROTOBUF_MOST:
        onnx.save_model(proto, path)
        return [path]
    beside = path.with_name(f"{path.name}.data")
    onnx.save_model(proto, path, save_as_external_data=True, location=beside.name)
    beside.chmod(path.stat().st_mode)  # onnx makes it its owner's alone
    return [beside, path]


def _properties(network: Network) -> dict[str, str]:
    """What a reader of the file may want to know: the spec's source, and how images are prepared."""
    found = {"source": network.source} if network.source else {}
    if network.preprocess is not None:
        words = {name: getattr(network.preprocess, name) for name in network.preprocess.__dataclass_fields__}
        found["preprocess"] = json.dumps(words)
    return found
