"""A model to evaluate alone: frozen, channels last, its convolutions joined with what follows them, compiled if asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Part
from resnet_spec.weights.canonical import Array
from resnet_spec_torch.build import filled
from resnet_spec_torch.fused import Steps, fused
from resnet_spec_torch.modules import ResNet


def optimized(network: Network, weights: Mapping[str, Array], dtype: str, *, compile: bool) -> Inference:
    """A folded network as a torch.nn.Module that evaluates alone. ``weights`` become its own."""
    model = filled(Inference(network), weights, "float32" if dtype == "bfloat16" else dtype)
    model.requires_grad_(False)
    model.to(dtype=getattr(torch, dtype), memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.built = tuple(_held(model))
    if compile:
        model.compile()
    return model


Held: TypeAlias = tuple[dict[str, nn.Module | None], str, nn.Module]
"""A module in its holder's dictionary, by its name there."""


class Inference(ResNet):
    """A network that takes images of any type and layout, and gives its outputs in the images' type, without gradients.

    On a CPU it runs by oneDNN's joint operators. If a module was replaced, is hooked or is being traced, modules run as they are.
    """

    built: tuple[Held, ...] = ()
    _rows: tuple[tuple[Steps, str], ...] = ()
    _weights: tuple[tuple[int, int], ...] = ()
    _generation: int = 0

    def __call__(self, images: Tensor) -> Any:
        with torch.no_grad():
            if self._compiled_call_impl is None:
                return super().__call__(images)
            if not self._as_built():
                return self._call_impl(images)  # type: ignore[no-untyped-call]
            self._notice()
            with _freezing():
                return super().__call__(images)

    def _notice(self) -> None:
        """Have the compiler bake in the weights anew if they have changed."""
        weights = tuple((weight.data_ptr(), weight._version) for weight in self.parameters())
        if weights != self._weights:
            self._weights = weights
            self._generation += 1

    def forward(self, images: Tensor) -> Any:
        assert self._generation >= 0  # the compiler looks again at what it has read
        x = images.to(dtype=next(self.parameters(), images).dtype, memory_format=torch.channels_last)
        with torch.no_grad():
            given = self._joint(x) if _joins(x) and self._as_built() else super().forward(x)
        return tuple(x.to(images.dtype) for x in given) if isinstance(given, tuple) else given.to(images.dtype)

    def _as_built(self) -> bool:
        return all(
            held.get(name) is module and not (module._forward_hooks or module._forward_pre_hooks)
            for held, name, module in self.built
        )

    def _joint(self, x: Tensor) -> Any:
        self._rows = self._rows or tuple(_rows(self))
        maps: dict[str, Tensor] = {}
        for row, path in self._rows:
            x = maps[path] = row(x)
        return tuple(maps[path] for path in self.network.outputs) if self.network.outputs else x

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_rows": ()}  # type: ignore[no-untyped-call]


def _freezing() -> AbstractContextManager[None]:
    """Within it the compiler bakes weights in, and packs them. As an option of the compiler alone it would be heard too late."""
    from torch._inductor import config  # half a second, which who does not compile need not wait

    return config.patch(freezing=True)


def _rows(model: Inference) -> Iterator[tuple[Steps, str]]:
    """The network in rows, each up to a part that is asked for, or the last; with the path of that part."""
    row: list[Part] = []
    for part in model.network.parts:
        row.append(part)
        if part.path in model.network.outputs or part is model.network.parts[-1]:
            yield fused(model, row, free=False)[0], part.path
            row = []


def _held(module: nn.Module) -> Iterator[Held]:
    for name, child in module._modules.items():
        if child is not None:
            yield module._modules, name, child
            yield from _held(child)


def _joins(x: Tensor) -> bool:
    """Whether oneDNN has joint operators for a tensor."""
    if type(x) is not Tensor or torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    half = x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    there = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    return there and x.device.type == "cpu" and x.numel() > 0 and (half or x.dtype == torch.float32)
