"""A folded network on a CPU: each convolution runs with the sum and the activation after it as one call of oneDNN.

These are the operators that torch's own compiler makes of such a model. To know what may be joined, and what may be overwritten, takes
no compiler here: the tree says it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias, assert_never, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual
from resnet_spec.ops import (
    AvgPool,
    BatchNorm,
    Conv,
    Elu,
    Gelu,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    HardSwish,
    LeakyRelu,
    Linear,
    MaxPool,
    Op,
    Relu,
    Relu6,
    Sigmoid,
    Silu,
    Tanh,
)
from resnet_spec_torch import modules
from resnet_spec_torch.modules import ResNet

Run: TypeAlias = Callable[[Tensor], Tensor]

_ONEDNN: Any = torch.ops.mkldnn


@dataclass(frozen=True, slots=True)
class Unary:
    """An activation in oneDNN's words."""

    name: str
    numbers: tuple[float, ...] = ()
    algorithm: str = ""


NONE = Unary("none")


@dataclass(slots=True)
class Convolution:
    """A convolution with its activation, and before that the sum with another map. Its weight is packed at the first call.

    It is packed again after the module's own has changed.
    """

    module: nn.Conv2d
    unary: Unary = NONE
    _packed: Any = field(default=None, init=False)
    _source: tuple[Any, int] = field(default=(None, 0), init=False)

    def __call__(self, x: Tensor, other: Tensor | None = None, *, overwrites: bool = False) -> Tensor:
        module = self.module
        window = (module.padding, module.stride, module.dilation, module.groups)
        packed, bias = self._weight(x), module._parameters["bias"]
        unary = self.unary.name, self.unary.numbers, self.unary.algorithm
        if other is None:
            return _ONEDNN._convolution_pointwise(x, packed, bias, *window, *unary)
        name = None if self.unary is NONE else self.unary.name
        if overwrites:
            return _ONEDNN._convolution_pointwise_.binary(other, x, packed, bias, *window, "add", 1.0, name, [], "")
        return _ONEDNN._convolution_pointwise.binary(x, other, packed, bias, *window, "add", 1.0, name, [], "")

    def _weight(self, x: Tensor) -> Tensor:
        weight = self.module._parameters["weight"]
        assert weight is not None
        packed = self._packed
        if packed is None or self._source[0] is not weight or self._source[1] != weight._version:
            module = self.module
            window = (module.padding, module.stride, module.dilation, module.groups)
            packed = self._packed = _ONEDNN._reorder_convolution_weight(weight.detach(), *window, x.shape)
            self._source = weight, weight._version
        return packed


@dataclass(frozen=True, slots=True)
class Steps:
    """One after another."""

    steps: tuple[Run, ...]

    def __call__(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


@dataclass(frozen=True, slots=True)
class Block:
    """A residual block. ``meet`` puts together what the branch and the shortcut give."""

    before: Steps
    branch: Steps
    shortcut: Steps
    reads: Literal["input", "before"]
    meet: Callable[[Tensor, Tensor], Tensor]
    after: Steps

    def __call__(self, x: Tensor) -> Tensor:
        y = self.before(x)
        branch = self.branch(y)
        return self.after(self.meet(branch, self.shortcut(y if self.reads == "before" else x)))


def fused(model: ResNet, parts: Iterable[Part], *, free: bool) -> tuple[Steps, bool]:
    """How to run parts of a model one after another, and whether what they give is free: no other holds it, so it may be written over.

    What they are given is so if ``free``.
    """
    steps: list[Run] = []
    for part in _flat(parts):
        match part:
            case Leaf():
                free = _append(steps, model, part, free=free)
            case Residual():
                steps.append(_block(model, part, free=free))
                free = True
            case Parallel():
                steps.append(_parallel(model, part))
                free = True
            case Chain():
                raise AssertionError("rows are taken apart")
            case _:
                assert_never(part)
    return Steps(tuple(steps)), free


def _append(steps: list[Run], model: ResNet, leaf: Leaf, *, free: bool) -> bool:
    """Add an operation to steps: as part of the last one, in place, or as its module. Gives whether what it gives is free."""
    module = model.get_submodule(leaf.path)
    if isinstance(leaf.op, Conv):
        assert isinstance(module, nn.Conv2d)
        steps.append(Convolution(module))
        return True
    unary, last = _unary(leaf.op), steps[-1] if steps else None
    if unary is not None and isinstance(last, Convolution) and last.unary is NONE:
        last.unary = unary
        return True
    in_place = _in_place(leaf.op)
    steps.append(in_place if free and in_place is not None else module)
    return free or in_place is not None or isinstance(leaf.op, _NEW)


def _block(model: ResNet, block: Residual, *, free: bool) -> Block:
    """A block's sides read the same, so that neither may write over it; where they meet, the shortcut's may be written over."""
    alone = block.reads == "before"
    before, y_free = fused(model, block.before, free=free and alone)
    shortcut, shortcut_free = fused(model, block.shortcut, free=False)
    other_free = shortcut_free if block.shortcut else (y_free if alone else free)
    branch, after = _flat(block.branch), _flat(block.after)
    last = branch[-1] if branch and block.combine == "add" else None
    meet: Callable[[Tensor, Tensor], Tensor]
    if isinstance(last, Leaf) and isinstance(last.op, Conv):
        rest, apart = fused(model, branch[:-1], free=False)
        convolution = Convolution(cast("nn.Conv2d", model.get_submodule(last.path)))
        if after and isinstance(after[0], Leaf) and isinstance(after[0].op, Relu):
            convolution.unary = Unary("relu")
            after = after[1:]
        # A convolution alone would write over what it reads.
        meet = partial(convolution, overwrites=other_free and apart)
    else:
        rest, _ = fused(model, branch, free=False)
        meet = partial(_met, combine=block.combine, overwrites=other_free)
    return Block(before, rest, shortcut, block.reads, meet, fused(model, after, free=True)[0])


def _met(branch: Tensor, other: Tensor, *, combine: Literal["add", "multiply"], overwrites: bool) -> Tensor:
    match combine:
        case "add":
            return other.add_(branch) if overwrites else other + branch
        case "multiply":
            gate = branch.reshape(*branch.shape, *[1] * (other.ndim - branch.ndim))
            return other.mul_(gate) if overwrites else other * gate
        case _:
            assert_never(combine)


def _parallel(model: ResNet, part: Parallel) -> Run:
    join = cast("modules.Parallel", model.get_submodule(part.path))
    branches = [fused(model, branch, free=False)[0] if branch else None for branch in part.branches]
    return lambda x: join(x, branches)


_NEW = AvgPool | BatchNorm | Gelu | GlobalAvgPool | GlobalMaxPool | GroupNorm | Linear | MaxPool
"""Operations that give memory of their own, whatever they are given."""


def _unary(op: Op) -> Unary | None:
    """An activation as oneDNN joins it to a convolution."""
    match op:
        case Relu():
            return Unary("relu")
        case Relu6():
            return Unary("hardtanh", (0.0, 6.0))
        case LeakyRelu(slope):
            return Unary("leaky_relu", (slope,))
        case Gelu(approximate):
            return Unary("gelu", (), "tanh" if approximate else "none")
        case Silu():
            return Unary("swish")
        case Sigmoid():
            return Unary("sigmoid")
        case Tanh():
            return Unary("tanh")
        case HardSwish():
            return Unary("hardswish")
        case _:
            return None


def _in_place(op: Op) -> Run | None:
    """An activation that writes over what it is given."""
    match op:
        case Relu():
            return torch.relu_
        case Relu6():
            return partial(functional.relu6, inplace=True)
        case LeakyRelu(slope):
            return partial(functional.leaky_relu_, negative_slope=slope)
        case Elu():
            return functional.elu_
        case Silu():
            return partial(functional.silu, inplace=True)
        case Sigmoid():
            return torch.sigmoid_
        case Tanh():
            return torch.tanh_
        case HardSwish():
            return partial(functional.hardswish, inplace=True)
        case _:
            return None


def _flat(parts: Iterable[Part]) -> list[Part]:
    """Operations and blocks in the order that they run."""
    flat: list[Part] = []
    for part in parts:
        flat += _flat(part.parts) if isinstance(part, Chain) else [part]
    return flat
