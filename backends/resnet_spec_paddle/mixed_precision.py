"""Mixed precision: products in a 16-bit type, by Paddle's auto_cast on a GPU; weights, norms and outputs in float32.

Paddle's auto_cast has no effect on a CPU, and its convolutions there take no 16-bit types. Operands and results of
products are therefore rounded there, and multiplied in float32, which gives what a GPU gives.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import paddle
from paddle import Tensor, nn

from resnet_spec.network.execution import Steps
from resnet_spec.network.network import Network
from resnet_spec_paddle import custom_layers, emitted_layers
from resnet_spec_paddle.modules import ResNet, run_steps


class MixedResNet(ResNet):
    """A network that computes convolutions and linear layers in a 16-bit type. Its weights and outputs are float32."""

    def __init__(self, network: Network, compute: str) -> None:
        super().__init__(network)
        self._compute = compute

    def forward(self, images: Tensor) -> Any:
        with _auto_cast(images, self._compute):
            outputs = super().forward(images)
        if self.network.outputs:
            return tuple(output.astype("float32") for output in outputs)
        return outputs.astype("float32")

    def _run_alone(self, steps: Steps, x: Tensor) -> Tensor:
        with _auto_cast(x, self._compute):
            return run_steps(self, steps, x)


def _auto_cast(x: Tensor, compute: str) -> AbstractContextManager[Any]:
    if x.place.is_cpu_place():
        return nullcontext()
    context: AbstractContextManager[Any] = paddle.amp.auto_cast(dtype=cast("Any", compute))
    return context


class _Product(nn.Layer):
    """A convolution or a linear layer that rounds its operands and its result where auto_cast does not."""

    compute: str

    def forward(self, x: Tensor) -> Tensor:
        if not x.place.is_cpu_place():
            y: Tensor = super().forward(x)
            return y
        twin = self._twin()
        return _round(super(_Product, twin).forward(_round(x, self.compute)), self.compute)

    def _twin(self) -> _Product:
        """Return a layer with this one's attributes and with rounded weights, through which gradients reach its own."""
        twin: _Product = type(self).__new__(type(self))
        vars(twin).update(vars(self))
        weights = self._parameters.items()
        vars(twin)["_parameters"] = {name: x if x is None else _round(x, self.compute) for name, x in weights}
        return twin


def _round(x: Tensor, dtype: str) -> Tensor:
    """Round a tensor to a 16-bit type, kept in float32; its gradient is rounded too."""
    return x.astype(getattr(paddle, dtype)).astype("float32")


class _Conv2D(_Product, nn.Conv2D):
    pass


class _SameConv2D(_Product, custom_layers.SameConv2D):
    pass


class _StandardizedConv2D(custom_layers.StandardizedConv2D):
    """A standardised convolution: its kernel is rounded after it was standardised."""

    compute: str

    def forward(self, x: Tensor) -> Tensor:
        if not x.place.is_cpu_place():
            return super().forward(x)
        return _round(super().forward(_round(x, self.compute)), self.compute)

    def operand(self, weight: Tensor) -> Tensor:
        return _round(weight, self.compute) if weight.place.is_cpu_place() else weight


class _ChannelConv1D(_Product, custom_layers.ChannelConv1D):
    pass


class _Linear(_Product, nn.Linear):
    pass


class _Linear2D(_Product, emitted_layers.Linear2D):
    pass


_MIXED: dict[type[nn.Layer], type[nn.Layer]] = {
    nn.Conv2D: _Conv2D,
    custom_layers.SameConv2D: _SameConv2D,
    custom_layers.StandardizedConv2D: _StandardizedConv2D,
    custom_layers.ChannelConv1D: _ChannelConv1D,
    nn.Linear: _Linear,
    emitted_layers.Linear2D: _Linear2D,
}


def mix_precision(model: MixedResNet) -> MixedResNet:
    """Have convolutions and linear layers round their operands where auto_cast does not; return the model."""
    for layer in model.sublayers():
        mixed = _MIXED.get(type(layer))
        if mixed:
            layer.__class__ = mixed
            layer.compute = model._compute
    return model
