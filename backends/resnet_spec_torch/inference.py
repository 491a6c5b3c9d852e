"""Build a PyTorch model for inference only: frozen, channels last, with fused operators or compiled."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Part
from resnet_spec.weights.canonical import Array
from resnet_spec_torch.build import populate
from resnet_spec_torch.fusion import FusedChain, fuse
from resnet_spec_torch.modules import FrozenModel, ResNet


def build_inference(network: Network, weights: Mapping[str, Array], dtype: str, *, compile: bool) -> Inference:
    """Return a folded network as a torch.nn.Module for inference only. It takes over the memory of ``weights``."""
    layers = populate(ResNet(network), weights, "float32" if dtype == "bfloat16" else dtype)
    layers.requires_grad_(False)
    layers.to(dtype=getattr(torch, dtype), memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Inference(layers, compile)


class Inference(FrozenModel):
    """A frozen network: it takes images of any dtype and memory format, and returns outputs of the images' dtype.

    On a CPU it runs oneDNN's fused operators on packed copies of the weights, and no gradients are recorded. A copy
    cannot follow what a user changes elsewhere, so a change is refused: there are no modules or parameters inside, and
    the state dict holds copies. ``load_weights`` sets other weights; ``to`` moves and converts the model.
    """

    def __init__(self, layers: ResNet, compile: bool) -> None:
        super().__init__()
        own = {"network": layers.network, "training": False, "_layers": layers, "_compile": compile, "_fused_rows": ()}
        self.__dict__ |= own  # not by __setattr__, which would register the layers
        if compile:
            layers.compile()

    def forward(self, images: Tensor) -> Any:
        if isinstance(images, torch.fx.Proxy):
            raise _is_frozen("its layers cannot be traced")
        x = images.to(dtype=next(self._layers.parameters(), images).dtype, memory_format=torch.channels_last)
        with torch.no_grad():
            if self._compile:
                with _freeze_weights(x.dtype):
                    result = self._layers(x)
            else:
                result = self._run_fused(x) if _is_fusible(x) else self._layers(x)
        return tuple(y.to(images.dtype) for y in result) if isinstance(result, tuple) else result.to(images.dtype)

    def _run_fused(self, x: Tensor) -> Any:
        rows = self._fused_rows or tuple(_fuse_rows(self._layers))
        self.__dict__["_fused_rows"] = rows
        maps: dict[str, Tensor] = {}
        for row, path in rows:
            x = maps[path] = row(x)
        return tuple(maps[path] for path in self.network.outputs) if self.network.outputs else x

    def renew(self) -> None:
        self.__dict__["_fused_rows"] = ()
        if self._compile:
            self.__dict__["_layers"] = copy.deepcopy(
                self._layers
            )  # the compiler keeps what it made for the same modules
            self._layers.compile()

    # -- what changes the model is refused, or goes through the model itself ------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module | Tensor) or name == "network" or (name == "training" and value):
            raise _is_frozen(f"its {name} cannot be set")
        super().__setattr__(name, value)

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
        self._layers._apply(fn)  # type: ignore[no-untyped-call]
        self.renew()
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, tensor in self._layers.state_dict().items():
            destination[prefix + name] = tensor.clone()

    def _load_from_state_dict(self, *arguments: Any) -> None:
        raise _is_frozen("set its weights by resnet_spec.load_weights(model, weights)")

    def __prepare_scriptable__(self) -> nn.Module:
        raise _is_frozen("its layers cannot be scripted")

    def __getstate__(self) -> dict[str, Any]:
        # Packed weights cannot be pickled, and a copy must fuse its own modules.
        return {**super().__getstate__(), "_fused_rows": ()}  # type: ignore[no-untyped-call]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self.renew()

    def __repr__(self) -> str:
        return repr(self._layers).replace("ResNet(", "Inference(", 1)


_FROZEN = 'a model built with mode="inference" is frozen; to change or train one, build it with mode="training"'


def _is_frozen(what: str) -> TypeError:
    return TypeError(f"{what}: {_FROZEN}")


def _freeze_weights(dtype: torch.dtype) -> AbstractContextManager[None]:
    """Have the compiler treat weights as constants, and pack them, inside the context.

    As an option of torch.compile the setting would take effect too late. In float64 the compiler would fail: it packs
    weights for oneDNN, which has no float64.
    """
    from torch._inductor import config  # imported here since it takes half a second, and only compiled models need it

    return config.patch(freezing=dtype != torch.float64)


def _fuse_rows(model: ResNet) -> Iterator[tuple[FusedChain, str]]:
    """Yield the network in rows, each of which ends at an output of the network or at its last part, with that path."""
    row: list[Part] = []
    for part in model.network.parts:
        row.append(part)
        if part.path in model.network.outputs or part is model.network.parts[-1]:
            yield fuse(model, row, may_overwrite=False)[0], part.path
            row = []


def _is_fusible(x: Tensor) -> bool:
    """Return whether oneDNN's fused operators can run on a tensor."""
    if type(x) is not Tensor or torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    supported_bfloat16 = x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    enabled = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    is_on_cpu = x.device.type == "cpu" and x.numel() > 0
    return enabled and is_on_cpu and (supported_bfloat16 or x.dtype == torch.float32)
