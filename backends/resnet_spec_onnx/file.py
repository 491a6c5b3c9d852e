"""Write an ONNX file: it is checked first, and appears complete or not at all."""

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
"""The supported versions of ONNX's operators. Before 13 the axes of some operators were attributes."""

MAX_PROTOBUF_BYTES = 2**31 - 2**20
"""Protobuf's limit for a file, less room for everything but the weights. Larger weights go to a separate file."""


def export(model: ResNet, path: Path, *, opset: int = OPSET, batch: int | str = 1) -> list[Path]:
    """Write a model to an ONNX file, and large weights to a second file beside it; return the files.

    The file passes ``onnx.checker`` with strict shape inference, so ONNX agrees with the shapes that the core inferred.
    Raises ValueError if the opset is not supported.
    """
    if opset not in OPSETS:
        raise ValueError(f"opset is {opset}; it can be {OPSETS[0]} to {OPSETS[-1]}")
    proto = model.to_proto(opset=opset, batch=batch)
    proto.producer_version = version("resnet-spec")
    helper.set_model_props(proto, _metadata(model.network))
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".onnx-") as folder:
        temporary = Path(folder) / path.name
        files = _save(proto, temporary)
        onnx.checker.check_model(str(temporary), full_check=True)
        return [file.replace(path.parent / file.name) for file in files]


def _save(proto: ModelProto, path: Path) -> list[Path]:
    """Save a model; return its files in the order to move them: the weights first, as the model needs them."""
    size = sum(len(tensor.raw_data) for tensor in proto.graph.initializer)
    if size < MAX_PROTOBUF_BYTES:
        onnx.save_model(proto, path)
        return [path]
    weights_path = path.with_name(f"{path.name}.data")
    onnx.save_model(proto, path, save_as_external_data=True, location=weights_path.name)
    weights_path.chmod(path.stat().st_mode)  # onnx creates it readable by its owner only
    return [weights_path, path]


def _metadata(network: Network) -> dict[str, str]:
    """Return the file's metadata properties: the spec's source, and how to preprocess images."""
    metadata = {"source": network.source} if network.source else {}
    if network.preprocess is not None:
        fields = {name: getattr(network.preprocess, name) for name in network.preprocess.__dataclass_fields__}
        metadata["preprocess"] = json.dumps(fields)
    return metadata
