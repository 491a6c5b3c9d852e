"""Build a PyTorch model for inference only: frozen, channels last, with fused operators or compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Part
from resnet_spec.weights.canonical import Array
from resnet_spec_torch.build import build_layers
from resnet_spec_torch.fusion import FusedChain, FusedConvolution, Fuser, choose_convolution
from resnet_spec_torch.graphs import run_by_graphs
from resnet_spec_torch.modules import FrozenModel, ResNet


def build_inference(network: Network, weights: Mapping[str, Array], dtype: str, *, compile: bool) -> Inference:
    """Return a folded network as a torch.nn.Module for inference only."""
    tensors = {name: torch.from_numpy(array).to(getattr(torch, dtype)) for name, array in weights.items()}
    return Inference(network, tensors, getattr(torch, dtype), compile)


class Inference(FrozenModel):
    """A frozen network: it takes images of any dtype and memory format, and returns outputs of the images' dtype.

    Its weights are buffers in the layout in which they are computed with; there are no modules or parameters inside,
    and no gradients are recorded. What runs is made once, from all weights together, when these are set: at first, by
    ``load_weights``, and by ``to``, which moves and converts the model. So nothing can become out of date. If images of
    another size or number need another layout of a kernel, its buffer is replaced; the tensor before has no effect any
    more.

    The state dict has copies of the weights, in torch's own layout and under their canonical names.
    """

    def __init__(self, network: Network, weights: Mapping[str, Tensor], dtype: torch.dtype, compile: bool) -> None:
        super().__init__()
        own = {
            "network": network,
            "training": False,
            "dtype": dtype,
            "device": torch.device("cpu"),
            "_compile": compile,
        }
        self.__dict__ |= own
        self.pack_weights(weights)

    def forward(self, images: Tensor) -> Any:
        if isinstance(images, torch.fx.Proxy) or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            raise _is_frozen("its layers cannot be traced")
        x = images.to(dtype=self.dtype, memory_format=torch.channels_last)
        with torch.no_grad():
            result = self._program.run(x)
        return tuple(y.to(images.dtype) for y in result) if isinstance(result, tuple) else result.to(images.dtype)

    def pack_weights(self, weights: Mapping[str, Tensor]) -> None:
        like: Tensor | Inference = next(iter(weights.values()), self)
        layers = _make_layers(self.network, weights, like.dtype, like.device)
        program = _make_program(layers, choose_convolution(like.device, like.dtype, self._compile))
        if self._compile:
            program = replace(program, run=_compile(program.run))
        if like.device.type == "cuda":
            program = replace(program, run=run_by_graphs(program.run))
        own = {"dtype": like.dtype, "device": like.device, "_program": program, "_buffers": program.buffers}
        self.__dict__ |= own

    def unpack_weights(self) -> dict[str, Tensor]:
        return {name.replace("/", "."): _unpack(tensor) for name, tensor in self._program.buffers.items()}

    def make_layers(self) -> ResNet:
        return _make_layers(self.network, self.unpack_weights(), self.dtype, self.device)

    # -- what changes the model is refused, or goes through the model itself ------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        is_fixed = name in ("network", "dtype", "device") or (name == "training" and value)
        if isinstance(value, nn.Module | Tensor) or is_fixed:
            raise _is_frozen(f"its {name} cannot be set")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        raise _is_frozen(f"its {name} cannot be deleted")

    def __getattr__(self, name: str) -> Any:
        network: Network | None = self.__dict__.get("network")
        if network is not None and any(part.path.split(".")[0] == name for part in network.parts):
            raise AttributeError(f"it has no module {name!r} to change: {_FROZEN}")
        return super().__getattr__(name)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        raise _is_frozen(f"no module {name!r} can be added")

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        raise _is_frozen(f"no parameter {name!r} can be added")

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        raise _is_frozen(f"no buffer {name!r} can be added")

    def train(self, mode: bool = True) -> Inference:
        if mode:
            raise _is_frozen("it cannot be trained")
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Inference:
        if requires_grad:
            raise _is_frozen("it has no gradients")
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Inference:
        """Move or convert the weights: ``to``, ``cuda``, ``half`` and the like end here."""
        self.pack_weights({name: fn(tensor) for name, tensor in self.unpack_weights().items()})
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination |= {prefix + name: tensor for name, tensor in self.unpack_weights().items()}

    def _load_from_state_dict(self, *arguments: Any) -> None:
        raise _is_frozen("set its weights by resnet_spec.load_weights(model, weights)")

    def __prepare_scriptable__(self) -> nn.Module:
        raise _is_frozen("its layers cannot be scripted")

    def __getstate__(self) -> dict[str, Any]:
        # Packed weights cannot be pickled, and a copy packs its own.
        own = {key: value for key, value in self.__dict__.items() if key not in ("_program", "_buffers")}
        return {**own, "_weights": self.unpack_weights()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        weights = state.pop("_weights")
        self.__dict__ |= state
        self.pack_weights(weights)

    def __repr__(self) -> str:
        return repr(self.make_layers()).replace("ResNet(", "Inference(", 1)


_FROZEN = 'a model built with mode="inference" is frozen; build it again, or with mode="training" to change or train it'


def _is_frozen(what: str) -> TypeError:
    return TypeError(f"{what}: {_FROZEN}")


def _unpack(tensor: Tensor) -> Tensor:
    return tensor.to_dense() if tensor.is_mkldnn else tensor.clone()


@dataclass(frozen=True, slots=True)
class Program:
    """A function of the images, and the weights that it computes with. It puts in what it has packed anew."""

    run: Callable[[Tensor], Any]
    buffers: Mapping[str, Tensor]


def _compile(run: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """Return a compiled program. Its first call packs the kernels for the size of its images."""
    compiled = torch.compile(run)
    is_first = True

    def run_compiled(x: Tensor) -> Any:
        nonlocal is_first
        if is_first and x.device.type == "cpu" and not torch.compiler.is_compiling():
            for _ in range(2):  # kernels are packed anew at the second call
                run(x)
        is_first = False
        return compiled(x)

    return run_compiled


def _make_layers(network: Network, weights: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> ResNet:
    layers = build_layers(ResNet(network), weights, dtype).requires_grad_(False)
    return layers.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _make_program(layers: ResNet, convolution: type[FusedConvolution]) -> Program:
    """Return a program of fused operators, with the weights of modules that it does not need afterwards."""
    fuser = Fuser(layers, convolution)
    rows = tuple(_fuse_rows(fuser))
    outputs = layers.network.outputs

    def run(x: Tensor) -> Any:
        maps: dict[str, Tensor] = {}
        for row, path in rows:
            x = maps[path] = row(x)
        return tuple(maps[path] for path in outputs) if outputs else x

    return Program(run, fuser.tensors)


def _fuse_rows(fuser: Fuser) -> Iterator[tuple[FusedChain, str]]:
    """Yield the network in rows, each of which ends at an output of the network or at its last part, with that path."""
    row: list[Part] = []
    network = fuser.layers.network
    for part in network.parts:
        row.append(part)
        if part.path in network.outputs or part is network.parts[-1]:
            yield fuser.fuse(row, may_overwrite=False)[0], part.path
            row = []
