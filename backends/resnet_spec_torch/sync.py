"""Batch normalisation with statistics over all processes, and the running variance that the spec asks for.

``torch.nn.SyncBatchNorm`` runs on GPUs only and keeps only the unbiased variance. These layers run wherever
``torch.distributed`` does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from resnet_spec_torch.custom_layers import BatchNorm2d
from resnet_spec_torch.modules import ResNet


def synchronize_norms(model: ResNet) -> ResNet:
    """Replace each batch norm by a synchronised one with the same weights, in place; return the model.

    Call it before the model is wrapped for data parallelism.
    """
    norms = [(path, module) for path, module in model.named_modules() if type(module) is BatchNorm2d]
    for path, norm in norms:
        parent, _, name = path.rpartition(".")
        model.get_submodule(parent)._modules[name] = _to_sync_norm(norm)
    return model


class SyncBatchNorm2d(BatchNorm2d):
    """BatchNorm2d over the images of all processes of the default group, of which each may have a different number."""

    def forward(self, input: Tensor) -> Tensor:
        is_distributed = distributed.is_initialized() and distributed.get_world_size() > 1
        if not (self.training and is_distributed):
            return super().forward(input)
        count = _sum_over_processes(
            torch.tensor(input.numel() / input.shape[1], dtype=input.dtype, device=input.device)
        )
        mean = _sum_over_processes(input.sum((0, 2, 3))) / count
        centred = input - mean[:, None, None]
        var = _sum_over_processes((centred**2).sum((0, 2, 3))) / count
        self._update_running_statistics(mean, var * (count / (count - 1)) if self.variance == "unbiased" else var)
        y = centred * torch.rsqrt(var + self.eps)[:, None, None]
        return y * self.weight[:, None, None] + self.bias[:, None, None] if self.affine else y

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        self.running_mean.mul_(self.decay).add_(mean * (1 - self.decay))
        self.running_var.mul_(self.decay).add_(var * (1 - self.decay))


class _SumOverProcesses(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of all processes' gradients.

    Replaces ``torch.distributed.nn.functional.all_reduce``, which is deprecated.
    """

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


def _to_sync_norm(norm: BatchNorm2d) -> SyncBatchNorm2d:
    dtype = torch.float32 if norm.running_mean is None else norm.running_mean.dtype
    twin = SyncBatchNorm2d(norm.path, norm.num_features, norm.eps, norm.decay, norm.variance, norm.affine, dtype)
    twin._parameters, twin._buffers, twin.training = norm._parameters, norm._buffers, norm.training
    return twin
