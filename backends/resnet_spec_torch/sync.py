"""Batch norms whose statistics in training are of all processes' images together, with the spec's rule for the running variance.

``torch.nn.SyncBatchNorm`` runs on GPUs alone and knows only the unbiased rule; these run anywhere that ``torch.distributed`` does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from resnet_spec_torch.modules import ResNet
from resnet_spec_torch.own import BatchNorm2d


def synchronized(model: ResNet) -> ResNet:
    """The model, each of its batch norms replaced by one that is synchronised and has the same weights. Wrap it after this."""
    norms = [(path, module) for path, module in model.named_modules() if type(module) is BatchNorm2d]
    for path, norm in norms:
        parent, _, name = path.rpartition(".")
        model.get_submodule(parent)._modules[name] = _of(norm)
    return model


class SyncBatchNorm2d(BatchNorm2d):
    """As BatchNorm2d, over the images of every process in the default group; processes may hold different numbers of them."""

    def forward(self, input: Tensor) -> Tensor:
        together = distributed.is_initialized() and distributed.get_world_size() > 1
        if not (self.training and together):
            return super().forward(input)
        count = _summed(torch.tensor(input.numel() / input.shape[1], dtype=input.dtype, device=input.device))
        mean = _summed(input.sum((0, 2, 3))) / count
        centred = input - mean[:, None, None]
        var = _summed((centred**2).sum((0, 2, 3))) / count
        self._keep(mean, var * (count / (count - 1)) if self.variance == "unbiased" else var)
        y = centred * torch.rsqrt(var + self.eps)[:, None, None]
        return y * self.weight[:, None, None] + self.bias[:, None, None] if self.affine else y

    @torch.no_grad()
    def _keep(self, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        self.running_mean.mul_(self.decay).add_(mean * (1 - self.decay))
        self.running_var.mul_(self.decay).add_(var * (1 - self.decay))


class _Summed(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of all processes' gradients. (torch's own is deprecated.)"""

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


def _of(norm: BatchNorm2d) -> SyncBatchNorm2d:
    dtype = torch.float32 if norm.running_mean is None else norm.running_mean.dtype
    twin = SyncBatchNorm2d(norm.path, norm.num_features, norm.eps, norm.decay, norm.variance, norm.affine, dtype)
    twin._parameters, twin._buffers, twin.training = norm._parameters, norm._buffers, norm.training
    return twin
