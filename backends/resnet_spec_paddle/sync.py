"""Batch norms whose statistics in training are of all processes' images together, with the spec's rule for the running variance.

``paddle.nn.SyncBatchNorm`` runs on GPUs alone and knows only the biased rule; these run anywhere that ``paddle.distributed`` does.
"""

from __future__ import annotations

from typing import Any

import paddle
from paddle import Tensor, distributed
from paddle.autograd import PyLayer

from resnet_spec_paddle.modules import ResNet
from resnet_spec_paddle.own import BatchNorm2D
from resnet_spec_paddle.weights import sublayer


def synchronized(model: ResNet) -> ResNet:
    """The model, each of its batch norms replaced by one that is synchronised and has the same weights. Wrap it after this."""
    norms = [(path, layer) for path, layer in model.named_sublayers() if type(layer) is BatchNorm2D]
    for path, norm in norms:
        parent, _, name = path.rpartition(".")
        sublayer(model, parent)._sub_layers[name] = _of(norm)
    return model


class SyncBatchNorm2D(BatchNorm2D):
    """As BatchNorm2D, over the images of every process; processes may hold different numbers of them."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or distributed.get_world_size() == 1:
            return super().forward(input)
        own = input.shape[0] * input.shape[2] * input.shape[3]
        count = _summed(paddle.full([], own, input.dtype))
        mean = _summed(input.sum([0, 2, 3])) / count
        centred = input - mean.reshape([-1, 1, 1])
        var = _summed((centred**2).sum([0, 2, 3])) / count
        self._keep(mean, var * (count / (count - 1)) if self.variance == "unbiased" else var)
        y = centred / paddle.sqrt(var + self._epsilon).reshape([-1, 1, 1])
        if self.weight is None or self.bias is None:
            return y
        return y * self.weight.reshape([-1, 1, 1]) + self.bias.reshape([-1, 1, 1])

    @paddle.no_grad()
    def _keep(self, mean: Tensor, var: Tensor) -> None:
        decay = self._momentum
        paddle.assign(self._mean * decay + mean * (1 - decay), self._mean)
        paddle.assign(self._variance * decay + var * (1 - decay), self._variance)


class _Summed(PyLayer):
    """The sum over all processes, whose gradient is the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        total = slopes[0].clone()
        distributed.all_reduce(total)
        return total


def _summed(x: Tensor) -> Tensor:
    total: Tensor = _Summed.apply(x)  # type: ignore[no-untyped-call]
    return total


def _of(norm: BatchNorm2D) -> SyncBatchNorm2D:
    affine = norm.weight is not None
    with paddle.LazyGuard():  # the weights become the norm's own
        twin = SyncBatchNorm2D(norm.path, norm._num_features, norm._epsilon, norm._momentum, norm.variance, affine)
    twin._parameters, twin._buffers, twin.training = norm._parameters, norm._buffers, norm.training
    return twin
