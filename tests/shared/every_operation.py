"""A network that has every operation, with the arguments for which frameworks differ."""

from __future__ import annotations

# Feature maps have an odd size in one axis or both. Dropout has rate 0, so that training is deterministic.
EVERY_OPERATION = """
name: every_operation
input: [3, 39, 33]
blocks:
  gated:                                # one number per channel multiplies an image
    combine: multiply
    branch:
      squeeze: global_max_pool
      fc: {op: linear, out: in, bias: false}
      gate: hard_sigmoid
  peaked:
    combine: multiply
    branch:
      peak: {op: global_max_pool, keepdims: true}
      squash: tanh
  mixed:                                # multiplied by a function of neighbouring channels and a softmax of parts
    combine: multiply
    branch:
      squeeze: global_avg_pool
      conv: {op: channel_conv, kernel: 3}
      weigh: {op: split_softmax, parts: 3, groups: 2}
  wide:
    takes: {out: required, stride: 1}
    before:
      norm.deep: {op: batch_norm, variance: biased, decay: 0.75}
      act1: hard_swish
    branch:
      conv1: {op: conv, out: out, kernel: 3, stride: stride, padding: 2, dilation: 2, groups: 4, bias: true}
      norm2: {op: group_norm, groups: 4, epsilon: 0.001}
      act2: silu
      drop: {op: dropout, rate: 0}
      gate: gated
      se: {block: squeeze_excite, reduced: 5}
    shortcut:
      pool: {op: avg_pool, kernel: 2, stride: stride, ceil: true}
      conv2: {op: conv, out: out, kernel: 1}
    after:
      norm3: {op: batch_norm, affine: false}
      act3: elu
  preactivated:
    takes: {out: required}
    before: {norm.deep: {op: batch_norm, variance: biased, decay: 0.3}, relu: relu6}
    branch:
      - {op: conv, out: out, kernel: 1}
      - {op: group_norm, groups: 3, epsilon: 1e-3}
      - hard_swish
    shortcut:
      downsample: {op: conv, out: out, kernel: 1, bias: true}
    after:
      leaky: {op: leaky_relu, slope: 0.2}
stem:
  pad: {op: zero_pad, top: 1, bottom: 2, left: 3}
  conv: {op: conv, out: 8, kernel: 5, stride: 2, padding: 1, bias: true}
  plain: {op: batch_norm, affine: false, epsilon: 1e-3, decay: 0.75}
  rows: layer_norm
  elu: elu
  dilated: {op: conv, out: 12, kernel: 3, padding: 2, dilation: 2, groups: 4}
  gelu: gelu
  maxpool: {op: max_pool, kernel: 2, stride: 2, padding: 1, ceil: true}
  depthwise: {op: conv, out: 12, kernel: 3, padding: 1, groups: 12}
  tanh: tanh
  avgpool: {op: avg_pool, kernel: 3, stride: 1, padding: 1}
  layer: {op: layer_norm, epsilon: 1e-3}
  tanh_gelu: {op: gelu, approximate: true}
  standard: {op: standardized_conv, out: 12, kernel: 3, padding: 1, groups: 2, bias: true, epsilon: 1e-4}
  evo: {op: evo_norm_s0, groups: 4}
  blur: {op: blur_pool, stride: 1}
  response: {op: filter_response_norm, epsilon: 1e-3}
  mix: mixed
  wider: {op: pad_channels, before: 2, after: 1}
  side:
    split: true
    cascade: true
    combine: concat
    branches:
      - {sides.0: {op: conv, out: 5, kernel: 3, padding: 1}}
      - {sides.1: {op: conv, out: 5, kernel: 1}, norms.1: norm}
      - none
  parts: {op: split_sum, parts: 5}
  three: {op: conv, out: 12, kernel: 1}
stages:
  body.stages: {block: wide, depth: 2, out: 12, stride: 2, as: "{index}"}
  stage: {block: preactivated, depth: 2, out: 9, as: "blocks.{index}"}
head:
  acts: [relu, relu6, sigmoid, identity]
  peak: peaked
  overlapping: {op: max_pool, kernel: 3, stride: 2, padding: 1, ceil: true}
  counted: {op: avg_pool, kernel: 3, stride: 2, padding: 1, ceil: true, count_padding: true}
  squares: {op: drop_block, rate: 0}
  dropped: {op: avg_pool, kernel: 2, stride: 3, padding: 1, ceil: true}
  silu: silu
  pixel: {op: global_avg_pool, keepdims: true}
  flat: flatten
  fc1: {op: linear, out: 7}
  rows2: layer_norm
  sigmoid: sigmoid
  path: {op: drop_path, rate: 0}
  fc2: {op: linear, out: 5}
"""

OPERATIONS = [
    "{op: conv, out: 6, kernel: 3, stride: 2, padding: 2, dilation: 2, groups: 2, bias: true}",
    "{a: flatten, b: {op: linear, out: 5}}",
    "{a: flatten, b: {op: linear, out: 5, bias: false}}",
    "{op: batch_norm, epsilon: 0.01}",
    "{op: batch_norm, affine: false}",
    "{op: group_norm, groups: 2, epsilon: 0.01}",
    "layer_norm",
    "{a: flatten, b: layer_norm}",
    "relu",
    "relu6",
    "{op: leaky_relu, slope: 0.2}",
    "elu",
    "gelu",
    "{op: gelu, approximate: true}",
    "silu",
    "sigmoid",
    "tanh",
    "hard_sigmoid",
    "hard_swish",
    "{op: max_pool, kernel: 3, stride: 2, padding: 1}",
    "{op: max_pool, kernel: 2, stride: 2, padding: 1, ceil: true}",
    "{op: avg_pool, kernel: 2, stride: 2, ceil: true}",
    "{op: avg_pool, kernel: 3, stride: 2, padding: 1, ceil: true}",
    "{op: avg_pool, kernel: 3, stride: 2, padding: 1, ceil: true, count_padding: true}",
    "global_avg_pool",
    "{op: global_avg_pool, keepdims: true}",
    "global_max_pool",
    "{op: global_max_pool, keepdims: true}",
    "{op: standardized_conv, out: 6, kernel: 3, padding: 1, groups: 2}",
    "{a: flatten, b: {op: channel_conv, kernel: 5}}",
    "{op: group_norm, size: 2}",
    "{op: evo_norm_s0, groups: 2}",
    "{op: filter_response_norm, epsilon: 0.01}",
    "blur_pool",
    "{op: pad_channels, before: 1, after: 2}",
    "{op: split_sum, parts: 2}",
    "{a: flatten, b: {op: split_sum, parts: 4}}",
    "{op: split_softmax, parts: 2, groups: 2}",
    "{a: flatten, b: {op: split_softmax, parts: 2, groups: 2}}",
    "{op: drop_path, rate: 0.5}",
    "{op: drop_block, rate: 0.5}",
    "{op: zero_pad, top: 1, bottom: 2, left: 3, right: 0}",
    "{op: dropout, rate: 0.5}",
    "identity",
]
"""Every operation on its own, as it is written in a spec, with arguments for which frameworks differ.

They take a map of 4 channels, or begin with a layer that flattens it.
"""

MORE_OPERATIONS = [
    "{op: conv, out: 6, kernel: [3, 5], stride: [2, 1], padding: [1, 2]}",
    "{op: conv, out: 6, kernel: 3, stride: 2, padding: same}",
    "{a: {op: linear, out: 6}, b: norm}",
    "flatten",
    "{op: standardized_conv, out: 6, kernel: 3, padding: same, stride: 2, scaled: true, factor: 1.7, bias: true}",
    "{op: batch_norm, decay: 0.75, variance: biased}",
    "{op: group_norm, groups: 2, affine: false}",
    "{op: group_norm, groups: 2, bias: false}",
    "{op: layer_norm, affine: false}",
    "{op: layer_norm, bias: false}",
    "{op: rms_norm, epsilon: 0.001}",
    "{op: rms_norm, variance: true}",
    "global_response_norm",
    "{op: evo_norm_s0, groups: 2, act: false}",
    "squared_relu",
    "prelu",
    "{op: prelu, per: channel}",
    "{op: avg_pool, kernel: 3, stride: 2, padding: same}",
    "{op: blur_pool, stride: 1}",
    "{op: adaptive_avg_pool, size: [3, 2]}",
    "channel_avg_pool",
    "channel_max_pool",
    "space_to_depth",
    "{op: space_to_depth, order: row_column_channel}",
    "{op: space_to_depth, order: column_row_channel}",
    "{op: channel_shuffle, groups: 2}",
    "upsample",
    "{op: upsample, factor: 3, mode: bilinear}",
    "{op: scale, factor: 0.5}",
    "{op: scale, factor: 0.5, keepdims: true}",
    "{op: scale, factor: 0.5, per: all}",
    "{op: scale, factor: 0.5, per: all, learned: false}",
    "{op: shift, start: 0.1}",
    "{op: shift, per: all}",
]
"""Newer operations and arguments, as ``OPERATIONS``."""

MODERN_OPERATIONS = """
name: modern_operations
input: [3, 26, 34]
blocks:
  inverted:                             # without a shortcut where the shape changes
    takes: {out: required, wide: required, kernel: 3, stride: 1}
    project: drop
    branch:
      expand: {op: linear, out: wide, bias: false}
      norm: norm
      dw: {op: conv, out: wide, kernel: kernel, stride: stride, padding: same, groups: wide}
      prelu: {op: prelu, per: channel}
      pw: {op: conv, out: out, kernel: 1}
      gamma: {op: scale, factor: 0.5}
  dense:
    takes: {growth: required}
    combine: concat
    branch: {norm: norm, act: squared_relu, conv: {op: conv, out: growth, kernel: [3, 1], padding: half}}
  spatial:                              # one number per pixel multiplies an image
    combine: multiply
    branch:
      pools: {combine: concat, branches: [{mean: channel_avg_pool}, {max: channel_max_pool}]}
      conv: {op: conv, out: 1, kernel: 7, padding: half}
      gate: sigmoid
  response:
    branch:
      fc1: {op: linear, out: 16}
      act: gelu
      grn: {op: global_response_norm, gamma: 0.3}
      fc2: {op: linear, out: in}
stem:
  tiles: {op: space_to_depth, order: row_column_channel}
  conv: {op: standardized_conv, out: 12, kernel: 3, padding: same, stride: 2, scaled: true, factor: 1.7, bias: true}
  rms: rms_norm
  simple: {op: rms_norm, variance: true}
  evo: {op: evo_norm_s0, groups: 4, act: false}
  alpha: {op: scale, factor: 0.9, learned: false}
stages:
  body:
    - {block: inverted, depth: 2, out: 12, wide: [24, 36], kernel: [[3, 5], [5, 3]], stride: 2}
    - spatial
    - {block: dense, depth: 2, growth: 6}
  wide: {up: {op: upsample, mode: bilinear}, blocks: {block: response, depth: 2, as: "b{number}"}}
head:
  pieces:
    split: [6, 10, 8]
    combine: concat
    branches:
      - {a: {op: layer_norm, bias: false}}
      - none
      - {b: {op: group_norm, size: 1, affine: false}, star: {scale: {op: scale, per: all, keepdims: true, factor: 1.2}}}
  shuffle: {op: channel_shuffle, groups: 3}
  all: {collect: {steps: {block: inverted, depth: 2, out: 8, wide: 16}, last: {op: conv, out: 4, kernel: 1}}}
  gated:
    combine: multiply
    resize: nearest
    branches:
      - {left: {op: conv, out: 8, kernel: 1}}
      - {small: {op: avg_pool, kernel: 3, stride: 3, padding: same}, right: {op: conv, out: 8, kernel: 1}}
  less: {combine: subtract, branches: [{mean: {op: avg_pool, kernel: 3, padding: same}}, none]}
  peak: {op: max_pool, kernel: 3, stride: 2, padding: same}
  counted: {op: avg_pool, kernel: [2, 3], padding: same, count_padding: true}
  focus: {op: upsample, factor: 2}
  pool: {op: adaptive_avg_pool, size: [3, 2]}
  bias: {op: shift, start: 0.1, keepdims: true}
  flat: flatten
  fc: {op: linear, out: 5}
  rms2: rms_norm
  skipinit: {op: scale, per: all, factor: 0.7}
"""
