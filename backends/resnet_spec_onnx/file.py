"""Write an ONNX file: it is checked first, and appears complete or not at all."""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, helper

from resnet_spec.backend import BackendError, ExportOptions
from resnet_spec.checkpoints.formats.atomic import move_file
from resnet_spec.network.network import Network
from resnet_spec.network.shape_inference import infer_shapes
from resnet_spec_onnx.graph import INPUT
from resnet_spec_onnx.modules import OPSET, ResNet
from resnet_spec_onnx.quantization import quantize
from resnet_spec_onnx.run import make_evaluator

OPSETS = range(13, onnx.defs.onnx_opset_version() + 1)
"""The supported versions of ONNX's operators. Before 13 the axes of some operators were attributes."""

MAX_PROTOBUF_BYTES = 2**31 - 2**20
"""Protobuf's limit for a file, less room for everything but the weights. Larger weights go to a separate file."""


def export(model: ResNet, path: Path, options: ExportOptions) -> list[Path]:
    """Write a model to an ONNX file, and large weights to a second file beside it; return the files.

    The file passes ``onnx.checker`` with strict shape inference, so ONNX agrees with the shapes that the core inferred,
    and it is evaluated once, or at two sizes if they are free. Raises ValueError if the opset is not supported or a
    part does not allow a free size, and BackendError, before anything is written, if the file cannot be evaluated.
    """
    opset = OPSET if options.opset is None else options.opset
    if opset not in OPSETS:
        raise ValueError(f"opset is {opset}; it can be {OPSETS[0]} to {OPSETS[-1]}")
    proto = model.to_proto(opset=opset, batch=options.batch or "batch", free_size=options.free_size)
    proto.producer_version = version("resnet-spec")
    helper.set_model_props(proto, _metadata(model.network))
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".onnx-") as folder:
        temporary = Path(folder) / path.name
        files = _save(proto, temporary)
        if options.calibration and len(files) > 1:
            raise BackendError(f"{model.network.name} has more than 2 GB of weights, too many to be quantised")
        if options.calibration:
            quantize(temporary, options.calibration)
        onnx.checker.check_model(str(temporary), full_check=True)
        for factor in (1, 2) if options.free_size else (1,):
            _evaluate(temporary, model, options.batch or 2, factor)
        return [move_file(file, path.parent / file.name) for file in files]


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


def _evaluate(path: Path, model: ResNet, batch: int, factor: int) -> None:
    """Evaluate a file on images of zeros, whose height and width are the network's times a factor.

    Raises BackendError if that fails, or if an output has another shape.
    """
    channels, height, width = model.network.input
    network = infer_shapes(model.network, (channels, factor * height, factor * width))
    images = np.zeros((batch, *network.input), model.dtype)
    outputs = network.outputs or (network.parts[-1].path,)
    expected = {path: (len(images), *network.part(path).output_shape) for path in outputs}
    try:
        arrays = make_evaluator(path, model.dtype).run([*outputs], {INPUT: images})
    except Exception as error:  # each runtime has classes of its own
        raise BackendError(f"the ONNX file cannot be evaluated, so it is not written: {error}") from error
    actual = {path: array.shape for path, array in zip(outputs, arrays, strict=True)}
    if actual != expected:
        raise BackendError(f"the ONNX file has outputs of shapes {actual} and not {expected}, so it is not written")


def _metadata(network: Network) -> dict[str, str]:
    """Return the file's metadata properties: the spec's source, and how to preprocess images."""
    metadata = {"source": network.source} if network.source else {}
    if network.preprocess is not None:
        fields = {name: getattr(network.preprocess, name) for name in network.preprocess.__dataclass_fields__}
        metadata["preprocess"] = json.dumps(fields)
    return metadata
