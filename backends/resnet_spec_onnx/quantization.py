"""Models whose weights and maps are 8-bit integers, by ONNX Runtime's own quantiser, in the QDQ format."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from resnet_spec.backend import BackendError
from resnet_spec.weights.canonical import Array
from resnet_spec_onnx.graph import INPUT
from resnet_spec_onnx.run import make_evaluator

DEQUANTIZED = "_DequantizeLinear_Output"
"""What the quantiser appends to the name of a value for the one that has passed through 8-bit integers."""


RECTIFIERS = {"Relu", "Clip"}


def quantize(path: Path, calibration: Sequence[Array]) -> None:
    """Replace a model's file by one in 8-bit integers, with the ranges that maps have on images.

    Weights have a scale for each channel. Activations stay nodes of their own, so that each part still has a value.
    Raises BackendError.
    """
    model = onnx.load(path)
    # The quantiser warns otherwise, and advises to fold norms, which is done before.
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    onnx.save_model(model, path)
    try:
        quantize_static(
            path,
            path,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options={"QDQKeepRemovableActivations": True},
        )
    except Exception as error:  # ONNX Runtime's own classes have no other base
        raise BackendError(f"ONNX Runtime cannot quantise this network: {error}") from error


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Gives the quantiser one image after another."""

    def __init__(self, images: Sequence[Array]) -> None:
        self._images: Iterator[Array] = iter(images)

    def get_next(self) -> dict[str, Array] | None:
        image = next(self._images, None)
        return None if image is None else {INPUT: image.astype(np.float32, copy=False)}


def _find_value(part: str, readers: Mapping[str, Collection[str]]) -> str:
    """Return the name of the value of a part that tells its loss, by the types of the nodes that read each value.

    That is the one that has passed through integers, unless only a rectifier reads it: then the quantiser gives it the
    range of the rectifier's output, and what is cut off is lost in the rectifier anyway.
    """
    quantized = f"{part}{DEQUANTIZED}"
    return quantized if set(readers.get(quantized, ())) - RECTIFIERS else part


def run_file(path: Path, images: Array, capture: Collection[str]) -> dict[str, Array]:
    """Run a model's file; return the outputs of parts by path, as the parts behind them read them."""
    model = onnx.load(path)
    readers: dict[str, set[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    values = {part: _find_value(part, readers) for part in capture}
    present = {output.name for output in model.graph.output}
    added = [name for name in dict.fromkeys(values.values()) if name not in present]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in added)
    arrays = make_evaluator(model, "float32").run([*values.values()], {INPUT: images.astype(np.float32, copy=False)})
    return dict(zip(values, arrays, strict=True))
