"""Mistakes in the operations beyond residual networks, to inject into the torch backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from shared.parity_mutants import Mutant, change_module, replace_forward

SPEC = """
name: modern_target
input: [3, 23, 20]
blocks:
  dense:
    takes: {growth: required}
    combine: concat
    branch: {norm: norm, act: act, conv: {op: conv, out: growth, kernel: 3, padding: half}}
  scaled:
    branch:
      conv: {op: conv, out: in, kernel: [1, 3], padding: half}
      gamma: {op: scale, factor: 0.5}
      norm: norm
  inverted:
    takes: {out: required, stride: 1}
    project: drop
    branch:
      dw: {op: conv, out: in, kernel: 3, stride: stride, padding: same, groups: in}
      pw: {op: conv, out: out, kernel: 1}
      norm: norm
stem:
  conv1: {op: conv, out: 8, kernel: 3, stride: 2, padding: same}
  bn1: norm
  act1: {op: prelu, per: channel}
  maxpool: {op: max_pool, kernel: 3, stride: 2, padding: same}
stages:
  dense: {block: dense, depth: 2, growth: 4}
  scaled: {block: scaled, depth: 2}
  inverted: {block: inverted, depth: 2, out: 16}
head:
  conv2: {op: standardized_conv, out: 16, kernel: 3, padding: half, scaled: true, factor: 1.7}
  bn2: norm
  act2: squared_relu
  pieces:
    split: [6, 10]
    combine: concat
    branches: [{left: {op: conv, out: 6, kernel: [3, 1], padding: half}}, none]
  shuffle: {op: channel_shuffle, groups: 2}
  ln: layer_norm
  up: {op: upsample, mode: bilinear}
  tiles: {op: space_to_depth, order: row_column_channel}
  grn: {op: global_response_norm, gamma: 0.4}
  mix: {op: linear, out: 12}
  product: {combine: multiply, branches: [{one: {op: conv, out: 12, kernel: 1}}, {two: {op: conv, out: 12, kernel: 1}}]}
  bn3: norm
  less: {combine: subtract, branches: [{mean: {op: avg_pool, kernel: 3, padding: same}}, none]}
  rms: rms_norm
  pool: {op: adaptive_avg_pool, size: [3, 2]}
  bias: {op: shift, start: 0.1, keepdims: true}
  flat: flatten
  fc: {op: linear, out: 7}
"""


def _pad(*sides: int) -> Callable[[Any, Tensor], Tensor]:
    """Return a convolution with zeros at the left, right, top and bottom instead of its own padding."""

    def forward(module: Any, x: Tensor) -> Tensor:
        return functional.conv2d(functional.pad(x, sides), module.weight, module.bias, module.stride)

    return forward


def _join(path: str, change: Callable[[list[Tensor]], Tensor]) -> Callable[[Any], None]:
    """Return a function that makes the branches at a path join their outputs otherwise."""

    def forward(module: Any, x: Tensor, branches: Any) -> Tensor:
        return change([x if branch is None else branch(x) for branch in branches])

    return change_module(path, lambda module: setattr(module, "forward", MethodType(forward, module)))


def _split_from_behind(module: Any, x: Tensor, branches: Any) -> Tensor:
    last, first = x.split(module._plan.pieces[::-1], dim=1)
    return torch.cat([branches[0](first), last], dim=1)


def _dense_in_front(block: Any, x: Tensor) -> Tensor:
    from resnet_spec_torch.modules import run_steps

    return torch.cat([run_steps(block, block._branch, x), x], dim=1)


def _scale_behind_the_norm(model: Any) -> None:
    block = model.get_submodule("scaled.1")
    conv, scale, norm = block._branch
    block._branch = (conv, norm, scale)


def _keep_shortcut(model: Any) -> None:
    chain = model.get_submodule("inverted.1")
    forward = chain.forward
    chain.forward = lambda x: forward(x) - x


def _tiles_in_channel_order(module: Any, x: Tensor) -> Tensor:
    return functional.pixel_unshuffle(x, module.size)


def _norm_over_channels(module: Any, x: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
    ratio = norm / (norm.sum(dim=1, keepdim=True) + module.epsilon)
    return x + (x * ratio * module.weight[:, None, None] + module.bias[:, None, None])


def _rms_with_mean(module: Any, x: Tensor) -> Tensor:
    return type(module).forward(module, x - x.mean(dim=1, keepdim=True))


def _add_twice(module: Any, x: Tensor, weight: Tensor) -> Tensor:
    return type(module).forward(module, type(module).forward(module, x, weight), weight)


_MUTANTS = [
    Mutant("SAME padding all behind", ("conv1",), replace_forward("conv1", _pad(0, 1, 0, 2))),
    Mutant("SAME padding with the odd pixel in front", ("conv1",), replace_forward("conv1", _pad(1, 0, 1, 1))),
    Mutant(
        "SAME pooling padded with zeros",
        ("maxpool",),
        replace_forward("maxpool", lambda module, x: functional.max_pool2d(functional.pad(x, (0, 1, 0, 1)), 3, 2)),
    ),
    Mutant("one slope for all channels", ("act1",), change_module("act1", lambda m: m.weight.fill_(m.weight.mean()))),
    Mutant("dense block concatenates in front", ("dense.1",), replace_forward("dense.1", _dense_in_front)),
    Mutant("scale behind the norm", ("scaled.1",), _scale_behind_the_norm),
    Mutant("shortcut subtracted", ("inverted.1",), _keep_shortcut),
    Mutant(
        "gain without its constant", ("conv2",), change_module("conv2", lambda m: setattr(m, "scale", m.scale / 1.7))
    ),
    Mutant("gain without the fan-in", ("conv2",), change_module("conv2", lambda m: setattr(m, "scale", 1.7))),
    Mutant("ReLU not squared", ("act2",), replace_forward("act2", lambda module, x: functional.relu(x))),
    Mutant(
        "pieces in another order",
        ("pieces",),
        change_module("pieces", lambda m: setattr(m, "forward", MethodType(_split_from_behind, m))),
    ),
    Mutant(
        "shuffle transposed",
        ("shuffle",),
        replace_forward("shuffle", lambda module, x: functional.channel_shuffle(x, x.shape[1] // module.groups)),
    ),
    Mutant(
        "layer norm over the whole map",
        ("ln",),
        replace_forward("ln", lambda m, x: functional.group_norm(x, 1, m.weight, m.bias, m.eps)),
    ),
    Mutant(
        "corners aligned in bilinear upsampling",
        ("up",),
        replace_forward(
            "up",
            lambda module, x: functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
        ),
    ),
    Mutant("space to depth in channel order", ("tiles",), replace_forward("tiles", _tiles_in_channel_order)),
    Mutant("response over the sum of norms", ("grn",), replace_forward("grn", _norm_over_channels)),
    Mutant("product summed", ("product",), _join("product", lambda outputs: outputs[0] + outputs[1])),
    Mutant("difference reversed", ("less",), _join("less", lambda outputs: outputs[1] - outputs[0])),
    Mutant("RMS norm subtracts the mean", ("rms",), replace_forward("rms", _rms_with_mean)),
    Mutant(
        "adaptive pooling with windows that don't overlap",
        ("pool",),
        replace_forward("pool", lambda module, x: functional.avg_pool2d(x, 2)),
    ),
    Mutant(
        "shift added twice",
        ("bias",),
        change_module("apply_bias", lambda module: setattr(module, "forward", MethodType(_add_twice, module))),
    ),
]

MODERN_MUTANTS = [replace(mutant, spec=SPEC) for mutant in _MUTANTS]
