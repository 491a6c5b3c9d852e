"""Batch normalisation with statistics over all processes, and the running variance that the spec asks for.

``torch.nn.SyncBatchNorm`` runs on GPUs only and keeps only the unbiased variance. These layers run wherever
``torch.distributed`` does.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, distributed, nn

from resnet_spec_torch.custom_layers import BiasedBatchNorm2d
from resnet_spec_torch.modules import ResNet


def synchronize_norms(model: ResNet) -> ResNet:
    """Replace each batch norm by a synchronised one with the same weights, in place; return the model.

    Call it before the model is wrapped for data parallelism.
    """
    for path, module in list(model.named_modules()):
        synchronized = _SYNCHRONIZED.get(type(module))
        if synchronized:
            parent, _, name = path.rpartition(".")
            model.get_submodule(parent)._modules[name] = _replace(module, synchronized)
    return model


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d over the images of all processes of the default group, of which each may have a different number.

    Statistics are computed in float32 at least, since counts and sums exceed the range of float16.
    """

    _keeps_biased_variance: ClassVar[bool] = False

    def forward(self, input: Tensor) -> Tensor:
        is_distributed = distributed.is_initialized() and distributed.get_world_size() > 1
        if not (self.training and is_distributed):
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        count = torch.tensor(input.numel() // input.shape[1], device=input.device)
        distributed.all_reduce(count)
        count = count.to(x.dtype)
        mean = _sum_over_processes(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        var = _sum_over_processes((centred**2).sum((0, 2, 3))) / count
        self._update_running_statistics(mean, var if self._keeps_biased_variance else var * (count / (count - 1)))
        y = centred * torch.rsqrt(var + self.eps)[:, None, None]
        if self.affine:
            y = y * self.weight[:, None, None] + self.bias[:, None, None]
        return y.to(input.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, var: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        new = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        for running, value in ((self.running_mean, mean), (self.running_var, var)):
            running.copy_(running * (1 - new) + value * new)


class SyncBiasedBatchNorm2d(SyncBatchNorm2d, BiasedBatchNorm2d):
    """A SyncBatchNorm2d whose running variance is biased."""

    _keeps_biased_variance: ClassVar[bool] = True


_SYNCHRONIZED: dict[type[nn.Module], type[SyncBatchNorm2d]] = {
    nn.BatchNorm2d: SyncBatchNorm2d,
    BiasedBatchNorm2d: SyncBiasedBatchNorm2d,
}


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


def _replace(norm: nn.Module, kind: type[SyncBatchNorm2d]) -> SyncBatchNorm2d:
    """Return a norm of another kind that takes over the attributes and the tensors of a norm."""
    twin = object.__new__(kind)
    twin.__dict__ |= norm.__dict__
    return twin
