"""Build a PyTorch model for inference only: frozen, channels last, with fused operators or compiled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Part
from resnet_spec.weights.canonical import Array
from resnet_spec_torch.build import populate
from resnet_spec_torch.fusion import FusedChain, fuse
from resnet_spec_torch.modules import ResNet


def build_inference(network: Network, weights: Mapping[str, Array], dtype: str, *, compile: bool) -> Inference:
    """Return a folded network as a torch.nn.Module for inference only. It takes over the memory of ``weights``."""
    model = populate(Inference(network), weights, "float32" if dtype == "bfloat16" else dtype)
    model.requires_grad_(False)
    model.to(dtype=getattr(torch, dtype), memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.original_modules = tuple(_iter_registrations(model))
    if compile:
        model.compile()
    return model


Registration: TypeAlias = tuple[dict[str, nn.Module | None], str, nn.Module]
"""The dict of children in which a module is registered, its name there, and the module."""


class Inference(ResNet):
    """A network that takes images of any dtype and memory format, and returns outputs of the images' dtype.

    On a CPU it runs oneDNN's fused operators, and no gradients are recorded. If a module was replaced, has hooks or is
    being traced, the modules run instead.
    """

    original_modules: tuple[Registration, ...] = ()
    _fused_rows: tuple[tuple[FusedChain, str], ...] = ()
    _weight_versions: tuple[tuple[int, int], ...] = ()
    _generation: int = 0

    def __call__(self, images: Tensor) -> Any:
        with torch.no_grad():
            if self._compiled_call_impl is None:
                return super().__call__(images)
            if not self._is_unmodified():
                return self._call_impl(images)  # type: ignore[no-untyped-call]
            self._check_for_new_weights()
            with _freeze_weights():
                return super().__call__(images)

    def _check_for_new_weights(self) -> None:
        """Make the compiler specialise on the weights again if they have changed since the last call."""
        versions = tuple((weight.data_ptr(), weight._version) for weight in self.parameters())
        if versions != self._weight_versions:
            self._weight_versions = versions
            self._generation += 1

    def forward(self, images: Tensor) -> Any:
        assert (
            self._generation >= 0
        )  # reading the number makes the compiler guard on it, and compile again when it changes
        x = images.to(dtype=next(self.parameters(), images).dtype, memory_format=torch.channels_last)
        with torch.no_grad():
            result = self._run_fused(x) if _is_fusible(x) and self._is_unmodified() else super().forward(x)
        return tuple(y.to(images.dtype) for y in result) if isinstance(result, tuple) else result.to(images.dtype)

    def _is_unmodified(self) -> bool:
        """Return whether all modules are those that were built, without hooks."""
        return all(
            children.get(name) is module and not (module._forward_hooks or module._forward_pre_hooks)
            for children, name, module in self.original_modules
        )

    def _run_fused(self, x: Tensor) -> Any:
        self._fused_rows = self._fused_rows or tuple(_fuse_rows(self))
        maps: dict[str, Tensor] = {}
        for row, path in self._fused_rows:
            x = maps[path] = row(x)
        return tuple(maps[path] for path in self.network.outputs) if self.network.outputs else x

    def __getstate__(self) -> dict[str, Any]:
        # Packed weights cannot be pickled, and a copy must fuse its own modules.
        return {**super().__getstate__(), "_fused_rows": ()}  # type: ignore[no-untyped-call]


def _freeze_weights() -> AbstractContextManager[None]:
    """Have the compiler treat weights as constants, and pack them, inside the context.

    As an option of torch.compile the setting would take effect too late.
    """
    from torch._inductor import config  # imported here since it takes half a second, and only compiled models need it

    return config.patch(freezing=True)


def _fuse_rows(model: Inference) -> Iterator[tuple[FusedChain, str]]:
    """Yield the network in rows, each of which ends at an output of the network or at its last part, with that path."""
    row: list[Part] = []
    for part in model.network.parts:
        row.append(part)
        if part.path in model.network.outputs or part is model.network.parts[-1]:
            yield fuse(model, row, may_overwrite=False)[0], part.path
            row = []


def _iter_registrations(module: nn.Module) -> Iterator[Registration]:
    for name, child in module._modules.items():
        if child is not None:
            yield module._modules, name, child
            yield from _iter_registrations(child)


def _is_fusible(x: Tensor) -> bool:
    """Return whether oneDNN's fused operators can run on a tensor."""
    if type(x) is not Tensor or torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    supported_bfloat16 = x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    enabled = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    is_on_cpu = x.device.type == "cpu" and x.numel() > 0
    return enabled and is_on_cpu and (supported_bfloat16 or x.dtype == torch.float32)
