"""A model to evaluate alone: Paddle's inference predictor runs it, by oneDNN."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import paddle
from paddle import Tensor, inference, nn
from paddle.static import InputSpec

from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array
from resnet_spec_paddle import own
from resnet_spec_paddle.build import filled
from resnet_spec_paddle.modules import ResNet


def optimized(network: Network, weights: Mapping[str, Array], dtype: str, *, compile: bool) -> Inference:
    """A folded network as a paddle.nn.Layer that evaluates alone. ``weights`` become its own.

    The predictor is a compiler in all but name, and quick: it runs the model whether ``compile`` asks for it or not. For bfloat16 the
    weights stay in float32, and it rounds them.
    """
    model = Inference(network, dtype)
    filled(model, weights, "float32" if dtype == "bfloat16" else dtype)
    for parameter in model.parameters():
        parameter.stop_gradient = True
    for layer in model.sublayers():
        if isinstance(layer, own.GlobalAvgPool2D):
            layer.by_pooling = dtype != "float64"
    model.built = tuple(_held(model))
    return model


Held = tuple[dict[str, nn.Layer], str, nn.Layer]
"""A layer in its holder's dictionary, by its name there."""


class Inference(ResNet):
    """A network that the predictor runs, in float32 or bfloat16. If a layer was replaced, is hooked or is being traced, layers run as they are.

    The predictor has weights of its own, made at the first call. ``load_weights`` and ``set_state_dict`` have them made again; who changes
    a parameter in another way calls ``changed``.
    """

    def __init__(self, network: Network, dtype: str) -> None:
        super().__init__(network)
        self.dtype = dtype
        self.built: tuple[Held, ...] = ()
        self._predictor: Any = None

    def forward(self, images: Tensor) -> Any:
        if not self._predicts():
            return super().forward(images)
        if self._predictor is None:
            self._predictor = _predictor(self)
        given = self._predictor.run([images.astype("float32")])
        maps = tuple(map.astype(images.dtype) for map in given)
        return maps if self.network.outputs else maps[0]

    def changed(self) -> None:
        """Have the predictor made again, from the weights as they are now."""
        self._predictor = None

    def set_state_dict(self, *arguments: Any, **named: Any) -> Any:
        self.changed()
        return super().set_state_dict(*arguments, **named)

    def _predicts(self) -> bool:
        return paddle.in_dynamic_mode() and self.dtype != "float64" and not self.training and self._as_built()

    def _as_built(self) -> bool:
        return all(
            held.get(name) is layer and not (layer._forward_post_hooks or layer._forward_pre_hooks)
            for held, name, layer in self.built
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_predictor": None}


def _held(layer: nn.Layer) -> Iterator[Held]:
    for name, child in layer._sub_layers.items():
        yield layer._sub_layers, name, child
        yield from _held(child)


def _predictor(model: Inference) -> Any:
    """Paddle's predictor of a model, for images of any size."""
    plain = ResNet(model.network)
    plain._sub_layers = model._sub_layers
    plain.eval()
    given = InputSpec([None, model.network.input[0], None, None], "float32", "images")
    with TemporaryDirectory() as folder, paddle.no_grad():
        path = Path(folder) / "model"
        paddle.jit.save(plain, str(path), input_spec=[given])
        config = inference.Config(f"{path}.json", f"{path}.pdiparams")
        config.disable_gpu()
        config.disable_glog_info()
        config.enable_new_ir(True)
        config.enable_new_executor(True)
        config.enable_memory_optim(True)
        config.set_cpu_math_library_num_threads(_threads())
        config.enable_mkldnn()
        if model.dtype == "bfloat16":
            config.enable_mkldnn_bfloat16()
        return inference.create_predictor(config)


def _threads() -> int:
    """As many as the rest of Paddle uses."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() else len(os.sched_getaffinity(0))
