"""Run a folded network on a CPU with operator fusion: a convolution, a sum and an activation are one call of oneDNN.

These are the operators that torch's own compiler generates for such a model. No compiler is needed to choose them: the
network's tree shows which operations follow a convolution, and which tensors nothing else reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias, assert_never, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from resnet_spec import ops
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual
from resnet_spec_torch import modules
from resnet_spec_torch.modules import ResNet

TensorFunction: TypeAlias = Callable[[Tensor], Tensor]

_ONEDNN: Any = torch.ops.mkldnn


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation as the arguments of a oneDNN operator."""

    name: str
    scalars: tuple[float, ...] = ()
    algorithm: str = ""


NO_ACTIVATION = Activation("none")


@dataclass(slots=True)
class FusedConvolution:
    """A convolution, optionally the sum with another map, then an activation.

    The weight is packed in oneDNN's layout at the first call.
    """

    module: nn.Conv2d
    activation: Activation = NO_ACTIVATION
    _packed: Tensor | None = field(default=None, init=False)

    def __call__(self, x: Tensor, other: Tensor | None = None, *, overwrite_other: bool = False) -> Tensor:
        """Return activation(conv(x) + other). With ``overwrite_other`` the result takes the memory of ``other``."""
        window, bias = self._window, self.module.bias
        packed = self._packed
        if packed is None:
            packed = self._packed = _ONEDNN._reorder_convolution_weight(self.module.weight, *window, x.shape)
        activation = self.activation
        if other is None:
            arguments = activation.name, activation.scalars, activation.algorithm
            return _ONEDNN._convolution_pointwise(x, packed, bias, *window, *arguments)
        name = None if activation is NO_ACTIVATION else activation.name
        if overwrite_other:
            return _ONEDNN._convolution_pointwise_.binary(other, x, packed, bias, *window, "add", 1.0, name, [], "")
        return _ONEDNN._convolution_pointwise.binary(x, other, packed, bias, *window, "add", 1.0, name, [], "")

    @property
    def _window(self) -> tuple[Any, ...]:
        return self.module.padding, self.module.stride, self.module.dilation, self.module.groups


@dataclass(frozen=True, slots=True)
class FusedChain:
    """Functions called one after another."""

    steps: tuple[TensorFunction, ...]

    def __call__(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


@dataclass(frozen=True, slots=True)
class FusedResidual:
    """A residual block. ``combine`` takes the output of ``branch`` and that of ``shortcut``."""

    before: FusedChain
    branch: FusedChain
    shortcut: FusedChain
    reads: Literal["input", "before"]
    combine: Callable[[Tensor, Tensor], Tensor]
    after: FusedChain

    def __call__(self, x: Tensor) -> Tensor:
        y = self.before(x)
        branch = self.branch(y)
        return self.after(self.combine(branch, self.shortcut(y if self.reads == "before" else x)))


def fuse(model: ResNet, parts: Iterable[Part], *, may_overwrite: bool) -> tuple[FusedChain, bool]:
    """Return a function that runs a row of parts, and whether its output may be overwritten.

    A tensor may be overwritten if nothing else reads it. ``may_overwrite`` says whether that holds for the row's input.
    """
    steps: list[TensorFunction] = []
    for part in _flatten_chains(parts):
        match part:
            case Leaf():
                may_overwrite = _append_leaf(steps, model, part, may_overwrite=may_overwrite)
            case Residual():
                steps.append(_fuse_residual(model, part, may_overwrite=may_overwrite))
                may_overwrite = True
            case Parallel():
                steps.append(_fuse_parallel(model, part))
                may_overwrite = True
            case Chain():
                raise AssertionError("_flatten_chains leaves no chain")
            case _:
                assert_never(part)
    return FusedChain(tuple(steps)), may_overwrite


def _append_leaf(steps: list[TensorFunction], model: ResNet, leaf: Leaf, *, may_overwrite: bool) -> bool:
    """Add an operation to steps: fused into the last convolution, in place, or as the model's module.

    Return whether its output may be overwritten.
    """
    module = model.get_submodule(leaf.path)
    if isinstance(leaf.op, ops.Conv):
        assert isinstance(module, nn.Conv2d)
        steps.append(FusedConvolution(module))
        return True
    activation, last = _fusible_activation(leaf.op), steps[-1] if steps else None
    if activation is not None and isinstance(last, FusedConvolution) and last.activation is NO_ACTIVATION:
        last.activation = activation
        return True
    in_place = _in_place_activation(leaf.op)
    step = partial(_run_contiguous, module) if isinstance(leaf.op, ops.GroupNorm) else module
    steps.append(in_place if may_overwrite and in_place is not None else step)
    return may_overwrite or in_place is not None or isinstance(leaf.op, _ALLOCATING_OPS)


def _run_contiguous(norm: TensorFunction, x: Tensor) -> Tensor:
    """Run a group norm on a map with channels first.

    With channels last, torch computes variances on a CPU as the mean of squares less the square of the mean: where the
    mean is 20 standard deviations, values in float32 are wrong by up to 3e-3.
    """
    return norm(x.contiguous())


def _fuse_residual(model: ResNet, block: Residual, *, may_overwrite: bool) -> FusedResidual:
    """Return a function that runs a residual block.

    Its branch and its shortcut may read the same tensor, so neither overwrites its input. Their sum may overwrite the
    output of the shortcut.
    """
    shortcut_reads_before = block.reads == "before"
    before, y_overwritable = fuse(model, block.before, may_overwrite=may_overwrite and shortcut_reads_before)
    shortcut, other_overwritable = fuse(model, block.shortcut, may_overwrite=False)
    if not block.shortcut:  # the identity: the sum would overwrite the tensor that the shortcut reads
        other_overwritable = y_overwritable if shortcut_reads_before else may_overwrite
    branch, after = _flatten_chains(block.branch), _flatten_chains(block.after)
    last = branch[-1] if branch and block.combine == "add" else None
    combine: Callable[[Tensor, Tensor], Tensor]
    if isinstance(last, Leaf) and isinstance(last.op, ops.Conv):
        rest, has_own_output = fuse(model, branch[:-1], may_overwrite=False)
        convolution = FusedConvolution(cast("nn.Conv2d", model.get_submodule(last.path)))
        if after and isinstance(after[0], Leaf) and isinstance(after[0].op, ops.Relu):
            convolution.activation = Activation("relu")
            after = after[1:]
        # If the branch is this convolution alone, it reads the tensor that the sum would overwrite.
        combine = partial(convolution, overwrite_other=other_overwritable and has_own_output)
    else:
        rest, _ = fuse(model, branch, may_overwrite=False)
        combine = partial(_combine, combine=block.combine, overwrite_other=other_overwritable)
    return FusedResidual(before, rest, shortcut, block.reads, combine, fuse(model, after, may_overwrite=True)[0])


def _combine(branch: Tensor, other: Tensor, *, combine: Literal["add", "multiply"], overwrite_other: bool) -> Tensor:
    match combine:
        case "add":
            return other.add_(branch) if overwrite_other else other + branch
        case "multiply":  # (batch, channels) -> (batch, channels, 1, 1)
            gate = branch.reshape(*branch.shape, *[1] * (other.ndim - branch.ndim))
            return other.mul_(gate) if overwrite_other else other * gate
        case _:
            assert_never(combine)


def _fuse_parallel(model: ResNet, part: Parallel) -> TensorFunction:
    module = cast("modules.Parallel", model.get_submodule(part.path))
    branches = [fuse(model, branch, may_overwrite=False)[0] if branch else None for branch in part.branches]
    return lambda x: module(x, branches)


_ALLOCATING_OPS = (
    ops.AvgPool
    | ops.BatchNorm
    | ops.Gelu
    | ops.GlobalAvgPool
    | ops.GlobalMaxPool
    | ops.GroupNorm
    | ops.Linear
    | ops.MaxPool
)
"""Operations whose output is always a new tensor, never the input or a view of it."""


def _fusible_activation(op: ops.Op) -> Activation | None:
    """Return an activation as oneDNN fuses it into a convolution; None if it cannot."""
    match op:
        case ops.Relu():
            return Activation("relu")
        case ops.Relu6():
            return Activation("hardtanh", (0.0, 6.0))
        case ops.LeakyRelu(slope):
            return Activation("leaky_relu", (slope,))
        case ops.Gelu(approximate):
            return Activation("gelu", (), "tanh" if approximate else "none")
        case ops.Silu():
            return Activation("swish")
        case ops.Sigmoid():
            return Activation("sigmoid")
        case ops.Tanh():
            return Activation("tanh")
        case ops.HardSwish():
            return Activation("hardswish")
        case _:
            return None


def _in_place_activation(op: ops.Op) -> TensorFunction | None:
    """Return an activation that overwrites its input; None if torch has none."""
    match op:
        case ops.Relu():
            return torch.relu_
        case ops.Relu6():
            return partial(functional.relu6, inplace=True)
        case ops.LeakyRelu(slope):
            return partial(functional.leaky_relu_, negative_slope=slope)
        case ops.Elu():
            return functional.elu_
        case ops.Silu():
            return partial(functional.silu, inplace=True)
        case ops.Sigmoid():
            return torch.sigmoid_
        case ops.Tanh():
            return torch.tanh_
        case ops.HardSwish():
            return partial(functional.hardswish, inplace=True)
        case _:
            return None


def _flatten_chains(parts: Iterable[Part]) -> list[Part]:
    """Return parts in the order in which they run, with the contents of chains in place of the chains."""
    flat: list[Part] = []
    for part in parts:
        flat += _flatten_chains(part.parts) if isinstance(part, Chain) else [part]
    return flat
