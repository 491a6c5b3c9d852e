"""Build a Paddle model for inference only: Paddle's inference predictor runs it with oneDNN.

The predictor computes some operations otherwise than Paddle itself, or crashes on them: ``custom_layers`` avoids these.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import paddle
from paddle import Tensor, inference, nn
from paddle.base.framework import EagerParamBase
from paddle.static import InputSpec

from resnet_spec.backend import BackendError
from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array
from resnet_spec_paddle.build import populate
from resnet_spec_paddle.locking import LOCK
from resnet_spec_paddle.modules import ResNet


def build_inference(network: Network, weights: Mapping[str, Array], dtype: str, *, compile: bool) -> Inference:
    """Return a folded network as a paddle.nn.Layer for inference only, with a copy of ``weights``.

    ``compile`` makes no difference: the predictor is a compiler itself, and quick enough to be used always. For
    bfloat16 the parameters stay in float32, and the predictor rounds them. Raises BackendError if the processor cannot.
    """
    if dtype == "bfloat16" and not paddle.base.core.supports_bfloat16():
        raise BackendError(
            "Paddle computes in bfloat16 on processors with AVX-512 only, and this one has none: it would compute in "
            "float32 all the same; use dtype float32"
        )
    model = Inference(network, dtype)
    populate(model, weights, "float32" if dtype == "bfloat16" else dtype)
    for parameter in model.parameters():
        parameter.stop_gradient = True
    for layer in model.sublayers():
        if hasattr(layer, "for_predictor"):
            layer.for_predictor = dtype != "float64"
    model.original_layers = tuple((layer, dict(layer._sub_layers)) for layer in model.sublayers(include_self=True))
    return model


class Inference(ResNet):
    """A network that the predictor runs, in float32 or bfloat16.

    In float64, or if a layer was added or replaced, has hooks, is being traced or trained, the layers run instead. The
    predictor copies the weights at the first call, and again at the next call after they were set.
    """

    def __init__(self, network: Network, dtype: str) -> None:
        super().__init__(network)
        self.dtype = dtype
        self.original_layers: tuple[tuple[nn.Layer, dict[str, nn.Layer]], ...] = ()
        self._predictor: Any = None
        self._weight_versions: tuple[Any, ...] = ()

    def forward(self, images: Tensor) -> Any:
        if not self.can_predict():
            self.changed()  # an optimizer sets weights in a way that is not counted
            return super().forward(images)
        with LOCK:
            versions = self._read_versions()
            if self._predictor is None or versions != self._weight_versions:
                self._predictor = _create_predictor(self)
                self._weight_versions = self._read_versions()
            outputs = self._predictor.run([images.astype("float32")])
            maps = tuple(output.astype(images.dtype) for output in outputs)
        return maps if self.network.outputs else maps[0]

    def changed(self) -> None:
        """Discard the predictor; the next call creates one with the weights of that moment."""
        self._predictor = None

    def can_predict(self) -> bool:
        """Return whether a call runs the predictor, and not the layers."""
        return (
            paddle.in_dynamic_mode()
            and self.dtype != "float64"
            and not self.training
            and self._is_unmodified()
            # An unpickled parameter is a plain tensor, which cannot be watched.
            and all(isinstance(x, EagerParamBase) and x.stop_gradient for x in self._iter_parameters())
        )

    def _read_versions(self) -> tuple[Any, ...]:
        """Return what differs, for some weight, from the last time if a weight was set in between."""
        return tuple(
            (getattr(weight, "writes", -1), weight.inplace_version, weight.data_ptr())
            for weight in self._iter_parameters()
        )

    def _iter_parameters(self) -> Iterator[Tensor]:
        """Yield the parameters of all layers that were built. Paddle's own ``parameters`` takes twice as long."""
        return (x for layer, _ in self.original_layers for x in layer._parameters.values() if x is not None)

    def _is_unmodified(self) -> bool:
        """Return whether all layers are those that were built, without hooks."""
        return all(
            layer._sub_layers == children
            and (layer is self or not (layer._forward_post_hooks or layer._forward_pre_hooks))
            for layer, children in self.original_layers
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_predictor": None}  # a predictor cannot be pickled


class WatchedParameter(EagerParamBase):
    """A parameter that counts how often it may have been written to by ``set_value``.

    Paddle counts only operations in place. ``set_value``, which a layer's ``set_state_dict`` calls too, writes by one
    of these two methods.
    """

    writes: int = 0

    def get_tensor(self, *arguments: Any) -> Any:
        self.writes += 1
        return super().get_tensor(*arguments)

    def set_tensor(self, *arguments: Any) -> Any:
        self.writes += 1
        return super().set_tensor(*arguments)  # type: ignore[no-untyped-call]


def _create_predictor(model: Inference) -> Any:
    """Return Paddle's predictor for a model, for images of any size. From now on, its parameters are watched."""
    for parameter in model.parameters():
        parameter.__class__ = WatchedParameter
    plain = ResNet(model.network)  # an Inference would call the predictor while it is traced
    plain._sub_layers, plain._parameters = model._sub_layers, model._parameters
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
