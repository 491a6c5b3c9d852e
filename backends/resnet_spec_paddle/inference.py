"""Build a Paddle model for inference only: frozen, and run by Paddle's inference predictor with oneDNN.

The predictor computes some operations otherwise than Paddle itself, or crashes on them: ``custom_layers`` avoids these.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import paddle
from paddle import Tensor, inference, nn
from paddle.static import InputSpec

from resnet_spec.backend import BackendError
from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array
from resnet_spec_paddle.build import build
from resnet_spec_paddle.locking import LOCK
from resnet_spec_paddle.modules import FrozenModel, ResNet

Program: TypeAlias = Callable[[Tensor], "list[Tensor]"]
"""A function of the images that returns the network's outputs."""

_STORAGE_DTYPES = {"float32": "float32", "float64": "float64", "bfloat16": "float32"}
"""The types in which a model can compute, each with that of its weights."""


def build_inference(network: Network, weights: Mapping[str, Array], dtype: str, *, compile: bool) -> Inference:
    """Return a folded network as a paddle.nn.Layer for inference only.

    ``compile`` makes no difference: the predictor is a compiler itself, and quick enough to be used always. For
    bfloat16 the weights stay in float32, and the predictor rounds them. Raises BackendError if the processor cannot.
    """
    return Inference(network, weights, dtype)


class Inference(FrozenModel):
    """A frozen network, in float32 or bfloat16 run by the predictor, in float64 by Paddle itself.

    The predictor has packed copies of the weights; beside them there are only arrays that nobody else holds, and no
    layers or parameters. What runs is made once, from all weights together, when these are set: at first, by
    ``load_weights``, and by ``to``, which converts the model. So nothing can become out of date.

    The state dict has copies of the weights, under Paddle's own names.
    """

    def __init__(self, network: Network, weights: Mapping[str, Array], dtype: str) -> None:
        super().__init__()
        _check_dtype(dtype)
        self.__dict__ |= {"network": network, "training": False, "dtype": dtype}
        self.pack_weights(weights)

    def forward(self, images: Tensor) -> Any:
        if not paddle.in_dynamic_mode():
            raise _is_frozen("its layers cannot be traced")
        with LOCK, paddle.no_grad():
            maps = tuple(output.astype(images.dtype) for output in self._program(images))
        return maps if self.network.outputs else maps[0]

    def pack_weights(self, weights: Mapping[str, Array]) -> None:
        dtype = self.dtype
        own = {name: array.astype(_STORAGE_DTYPES[dtype]) for name, array in weights.items()}
        with LOCK:
            program = _run_layers(self.network, own) if dtype == "float64" else _predict(self.network, own, dtype)
            self.__dict__ |= {"_weights": own, "_program": program}

    def unpack_weights(self) -> dict[str, Array]:
        return {name: array.copy() for name, array in self._weights.items()}

    def make_layers(self) -> ResNet:
        layers = build(self.network, self._weights, _STORAGE_DTYPES[self.dtype])
        for parameter in layers.parameters():
            parameter.stop_gradient = True
        return layers

    # -- what changes the model is refused, or goes through the model itself ------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        starts_training = name == "training" and value and "network" in self.__dict__  # a new layer is in training
        # Paddle's compiler would replace the method by one that traces it.
        is_fixed = name in ("network", "dtype", "forward")
        if isinstance(value, nn.Layer | Tensor) or is_fixed or starts_training:
            raise _is_frozen(f"its {name} cannot be set")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        raise _is_frozen(f"its {name} cannot be deleted")

    def __getattr__(self, name: str) -> Any:
        network: Network | None = self.__dict__.get("network")
        if network is not None and any(part.path.split(".")[0] == name for part in network.parts):
            raise AttributeError(f"it has no layer {name!r} to change: {_FROZEN}")
        return super().__getattr__(name)

    def add_sublayer(self, name: str, sublayer: nn.Layer) -> nn.Layer:
        raise _is_frozen(f"no layer {name!r} can be added")

    def add_module(self, name: str, module: nn.Layer | None) -> None:
        raise _is_frozen(f"no layer {name!r} can be added")

    def add_parameter(self, name: str, parameter: Tensor) -> Tensor:
        raise _is_frozen(f"no parameter {name!r} can be added")

    def register_parameter(self, name: str, param: Any) -> None:
        raise _is_frozen(f"no parameter {name!r} can be added")

    def register_buffer(self, name: str, tensor: Tensor, persistable: bool = True) -> None:
        raise _is_frozen(f"no buffer {name!r} can be added")

    def train(self, mode: bool = True) -> Inference:
        if mode:
            raise _is_frozen("it cannot be trained")
        return self

    def eval(self) -> Inference:
        return self

    def set_state_dict(self, state_dict: Any, use_structured_name: bool = True) -> Any:
        raise _is_frozen("set its weights by resnet_spec.load_weights(model, weights)")

    set_dict = load_dict = set_state_dict

    def load_state_dict(self, *arguments: Any, **named: Any) -> Any:
        return self.set_state_dict({})

    def astype(self, dtype: Any = None) -> Inference:
        return self.to(dtype=dtype)

    def _apply(self, func: Any, device: Any, dtype: Any, blocking: Any, include_sublayers: bool = True) -> None:
        """Convert the weights: ``to``, ``float``, ``bfloat16`` and the like end here."""
        wanted = self.dtype if dtype is None else _name_dtype(dtype)
        if device is not None and "cpu" not in str(device).lower():
            raise BackendError(f"Paddle models built for inference run on CPUs, not on {device}")
        if wanted != self.dtype:
            _check_dtype(wanted)
            self.__dict__["dtype"] = wanted
            self.pack_weights(self._weights)

    def _state_dict_impl(self, *arguments: Any, **named: Any) -> Any:
        return self.make_layers()._state_dict_impl(*arguments, **named)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_program"}  # predictors cannot be pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self.pack_weights(self._weights)

    def __repr__(self) -> str:
        return repr(self.make_layers()).replace("ResNet(", "Inference(", 1)


_FROZEN = 'a model built with mode="inference" is frozen; build it again, or with mode="training" to change or train it'


def _is_frozen(what: str) -> TypeError:
    return TypeError(f"{what}: {_FROZEN}")


def _name_dtype(dtype: Any) -> str:
    return str(np.dtype(dtype)) if isinstance(dtype, type) else str(dtype).rpartition(".")[2]


def _check_dtype(dtype: str) -> None:
    """Raise BackendError if a model cannot compute in a type here."""
    if dtype not in _STORAGE_DTYPES:
        raise BackendError(
            f"a Paddle model for inference cannot be {dtype}; it can be {', '.join(sorted(_STORAGE_DTYPES))}"
        )
    if dtype == "bfloat16" and not paddle.base.core.supports_bfloat16():
        raise BackendError(
            "Paddle computes in bfloat16 on processors with AVX-512 only, and this one has none: it would compute in "
            "float32 all the same; use dtype float32"
        )


def _run_layers(network: Network, weights: Mapping[str, Array]) -> Program:
    """Return a program that runs Paddle's own layers, in float64, which the predictor's operators lack."""
    layers = build(network, weights, "float64")

    def run(images: Tensor) -> list[Tensor]:
        result = layers(images.astype("float64"))
        return [*result] if network.outputs else [result]

    return run


def _predict(network: Network, weights: Mapping[str, Array], dtype: str) -> Program:
    """Return a program that runs the predictor."""
    predictor = _create_predictor(network, weights, dtype)
    return lambda images: predictor.run([images.astype("float32")])


def _create_predictor(network: Network, weights: Mapping[str, Array], dtype: str) -> Any:
    """Return Paddle's predictor for a network, for images of any size."""
    layers = build(network, weights, "float32")
    for layer in layers.sublayers():
        if hasattr(layer, "for_predictor"):
            layer.for_predictor = True
    images = InputSpec([None, network.input[0], None, None], "float32", "images")
    with TemporaryDirectory() as folder, paddle.no_grad():
        path = Path(folder) / "model"
        paddle.jit.save(layers, str(path), input_spec=[images])
        config = inference.Config(f"{path}.json", f"{path}.pdiparams")
        config.disable_gpu()
        config.disable_glog_info()
        config.enable_new_ir(True)
        config.enable_new_executor(True)
        config.enable_memory_optim(True)
        config.set_cpu_math_library_num_threads(_count_threads())
        config.enable_mkldnn()
        if dtype == "bfloat16":
            config.enable_mkldnn_bfloat16()
        return inference.create_predictor(config)


def _count_threads() -> int:
    """Return the number of threads that the rest of Paddle uses."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    return int(setting) if setting.isdigit() else len(os.sched_getaffinity(0))
