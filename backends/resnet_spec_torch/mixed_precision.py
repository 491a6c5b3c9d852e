"""Mixed precision: products in a 16-bit type by torch's autocast, weights, norms and outputs in float32."""

# Annotations are not postponed in this file, as in ``modules``.

from typing import Any

import torch
from torch import Tensor, nn

from resnet_spec.network.execution import Steps
from resnet_spec.network.network import Network
from resnet_spec_torch import custom_layers, emitted_layers
from resnet_spec_torch.modules import ResNet, run_steps

SEVERAL_ROUNDINGS = (
    custom_layers.Hardsigmoid,
    emitted_layers.SquaredReLU,
    custom_layers.SimpleNorm,
    custom_layers.GlobalResponseNorm2d,
    custom_layers.EvoNorm2dS0,
    custom_layers.FilterResponseNorm2d,
    custom_layers.SplitSoftmax2d,
    custom_layers.SameAvgPool2d,
    custom_layers.Scale,
    custom_layers.OwnScale,
    custom_layers.OwnShift,
    nn.RMSNorm,
    nn.PReLU,
)
"""Layers made of several operations, each of which would round, or that take no weights in float32 beside 16 bits."""


class MixedResNet(ResNet):
    """A network that computes convolutions and linear layers in a 16-bit type, under torch.autocast.

    Its weights, and its outputs, are in float32.
    """

    def __init__(self, network: Network, compute: str) -> None:
        super().__init__(network)
        self._compute = compute

    def forward(self, images: Tensor) -> Any:
        if isinstance(images, torch.fx.Proxy):
            raise RuntimeError(_NO_GRAPH)
        with self._autocast(images):
            outputs = super().forward(images)
        return tuple(map(_widen, outputs)) if self.network.outputs else _widen(outputs)

    def _run_alone(self, steps: Steps, x: Tensor) -> Tensor:
        with self._autocast(x):
            return run_steps(self, steps, x.to(getattr(torch, self._compute)))

    def _autocast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, getattr(torch, self._compute))

    def __prepare_scriptable__(self) -> torch.fx.GraphModule:
        raise RuntimeError(_NO_GRAPH)

    def extra_repr(self) -> str:
        return f"compute={self._compute}"


_NO_GRAPH = (
    "torch.fx and torch.jit.script leave autocast out, so they would compute in float32; use torch.compile or "
    "torch.export, or build the model without compute and run what they return under torch.autocast"
)


def mix_precision(model: MixedResNet) -> MixedResNet:
    """Have layers that round several times compute in float32, and round their results once; return the model."""
    for module in model.modules():
        if isinstance(module, SEVERAL_ROUNDINGS):
            module.register_forward_pre_hook(_widen_input)
            module.register_forward_hook(_Narrow(getattr(torch, model._compute)))
    return model


def _widen(x: Tensor) -> Tensor:
    return x.float()


def _widen_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (_widen(inputs[0]), *inputs[1:])


class _Narrow:
    """A forward hook that rounds a module's output. It is a class, so that a model can be pickled and copied."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return output.to(self.dtype)
