"""Build a Paddle model for inference only: Paddle's inference predictor runs it with oneDNN."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import paddle
from paddle import Tensor, inference, nn
from paddle.static import InputSpec

from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array
from resnet_spec_paddle.build import populate
from resnet_spec_paddle.custom_layers import AvgPool2D, GlobalAvgPool2D
from resnet_spec_paddle.modules import ResNet


def build_inference(network: Network, weights: Mapping[str, Array], dtype: str, *, compile: bool) -> Inference:
    """Return a folded network as a paddle.nn.Layer for inference only, with a copy of ``weights``.

    ``compile`` makes no difference: the predictor is a compiler itself, and quick enough to be used always. For
    bfloat16 the parameters stay in float32, and the predictor rounds them.
    """
    model = Inference(network, dtype)
    populate(model, weights, "float32" if dtype == "bfloat16" else dtype)
    for parameter in model.parameters():
        parameter.stop_gradient = True
    for layer in model.sublayers():
        if isinstance(layer, GlobalAvgPool2D):
            layer.by_pooling = dtype != "float64"
        elif isinstance(layer, AvgPool2D):
            layer.by_sums = layer.op.ceil
    model.original_layers = tuple(_iter_registrations(model))
    return model


Registration: TypeAlias = tuple[dict[str, nn.Layer], str, nn.Layer]
"""The dict of children in which a layer is registered, its name there, and the layer."""


class Inference(ResNet):
    """A network that the predictor runs, in float32 or bfloat16.

    In float64, or if a layer was replaced, has hooks or is being traced, the layers run instead. The predictor copies
    the weights at the first call, and again after ``load_weights`` or ``set_state_dict``. If you change a parameter in
    another way, call ``changed``.
    """

    def __init__(self, network: Network, dtype: str) -> None:
        super().__init__(network)
        self.dtype = dtype
        self.original_layers: tuple[Registration, ...] = ()
        self._predictor: Any = None

    def forward(self, images: Tensor) -> Any:
        if not self._can_predict():
            return super().forward(images)
        if self._predictor is None:
            self._predictor = _create_predictor(self)
        outputs = self._predictor.run([images.astype("float32")])
        maps = tuple(output.astype(images.dtype) for output in outputs)
        return maps if self.network.outputs else maps[0]

    def changed(self) -> None:
        """Discard the predictor; the next call creates one with the weights of that moment."""
        self._predictor = None

    def set_state_dict(self, *arguments: Any, **options: Any) -> Any:
        self.changed()
        return super().set_state_dict(*arguments, **options)

    def _can_predict(self) -> bool:
        return paddle.in_dynamic_mode() and self.dtype != "float64" and not self.training and self._is_unmodified()

    def _is_unmodified(self) -> bool:
        """Return whether all layers are those that were built, without hooks."""
        return all(
            children.get(name) is layer and not (layer._forward_post_hooks or layer._forward_pre_hooks)
            for children, name, layer in self.original_layers
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_predictor": None}  # a predictor cannot be pickled


def _iter_registrations(layer: nn.Layer) -> Iterator[Registration]:
    for name, child in layer._sub_layers.items():
        yield layer._sub_layers, name, child
        yield from _iter_registrations(child)


def _create_predictor(model: Inference) -> Any:
    """Return Paddle's predictor for a model, for images of any size."""
    plain = ResNet(model.network)  # an Inference would call the predictor while it is traced
    plain._sub_layers = model._sub_layers
    plain.eval()
    images = InputSpec([None, model.network.input[0], None, None], "float32", "images")
    with TemporaryDirectory() as folder, paddle.no_grad():
        path = Path(folder) / "model"
        paddle.jit.save(plain, str(path), input_spec=[images])
        config = inference.Config(f"{path}.json", f"{path}.pdiparams")
        config.disable_gpu()
        config.disable_glog_info()
        config.enable_new_ir(True)
        config.enable_new_executor(True)
        config.enable_memory_optim(True)
        config.set_cpu_math_library_num_threads(_count_threads())
        config.enable_mkldnn()
        if model.dtype == "bfloat16":
            config.enable_mkldnn_bfloat16()
        return inference.create_predictor(config)


def _count_threads() -> int:
    """Return the number of threads that the rest of Paddle uses."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    return int(setting) if setting.isdigit() else len(os.sched_getaffinity(0))
