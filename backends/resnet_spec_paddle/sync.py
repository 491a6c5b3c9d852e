"""Batch normalisation with statistics over all processes, and the running variance that the spec asks for.

``paddle.nn.SyncBatchNorm`` runs on GPUs only and keeps only the biased variance. These layers run wherever
``paddle.distributed`` does.
"""

from __future__ import annotations

from typing import Any

import paddle
from paddle import Tensor, distributed
from paddle.autograd import PyLayer

from resnet_spec_paddle.custom_layers import BatchNorm2D
from resnet_spec_paddle.modules import ResNet
from resnet_spec_paddle.weights import get_sublayer


def synchronize_norms(model: ResNet) -> ResNet:
    """Replace each batch norm by a synchronised one with the same weights, in place; return the model.

    Call it before the model is wrapped for data parallelism.
    """
    norms = [(path, layer) for path, layer in model.named_sublayers() if type(layer) is BatchNorm2D]
    for path, norm in norms:
        parent, _, name = path.rpartition(".")
        get_sublayer(model, parent)._sub_layers[name] = _to_sync_norm(norm)
    return model


class SyncBatchNorm2D(BatchNorm2D):
    """BatchNorm2D over the images of all processes, of which each may have a different number.

    Statistics are computed in float32 at least, since counts and sums exceed the range of float16.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or distributed.get_world_size() == 1:
            return super().forward(input)
        x = input if input.dtype == paddle.float64 else input.astype("float32")
        count = paddle.to_tensor(input.shape[0] * input.shape[2] * input.shape[3])  # in int64
        distributed.all_reduce(count)
        count = count.astype(x.dtype)
        mean = _sum_over_processes(x.sum([0, 2, 3])) / count
        centred = x - mean.reshape([-1, 1, 1])
        var = _sum_over_processes((centred**2).sum([0, 2, 3])) / count
        self._update_running_statistics(mean, var * (count / (count - 1)) if self.variance == "unbiased" else var)
        y = centred / paddle.sqrt(var + self._epsilon).reshape([-1, 1, 1])
        if self.weight is not None and self.bias is not None:
            weight, bias = (tensor.astype(x.dtype).reshape([-1, 1, 1]) for tensor in (self.weight, self.bias))
            y = y * weight + bias
        return y.astype(input.dtype)

    @paddle.no_grad()
    def _update_running_statistics(self, mean: Tensor, var: Tensor) -> None:
        decay = self._momentum
        for running, new in ((self._mean, mean), (self._variance, var)):
            paddle.assign((running.astype(new.dtype) * decay + new * (1 - decay)).astype(running.dtype), running)


class _SumOverProcesses(PyLayer):
    """The sum over all processes; its gradient is the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


def _sum_over_processes(x: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(x)  # type: ignore[no-untyped-call]
    return total


def _to_sync_norm(norm: BatchNorm2D) -> SyncBatchNorm2D:
    is_affine = norm.weight is not None
    with paddle.LazyGuard():  # allocates no weights, since those of the norm replace them
        twin = SyncBatchNorm2D(norm.path, norm._num_features, norm._epsilon, norm._momentum, norm.variance, is_affine)
    twin._parameters, twin._buffers, twin.training = norm._parameters, norm._buffers, norm.training
    return twin
