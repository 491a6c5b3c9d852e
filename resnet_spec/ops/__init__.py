"""The operations: their arguments, output shapes, weights and costs.

An operation is a frozen dataclass whose fields are its arguments in specs. Given an input shape, ``output_shape``
infers the shape of the output, ``weights`` lists the weights, and ``macs`` counts multiply-accumulates for one image.
Shapes are (channels, height, width), or (features,) after pooling or flattening; the batch axis is left out. Names and
layouts of weights are PyTorch's: (out, in / groups, height, width) for a convolution.

The decoder, the JSON Schema, the documentation, the generator of random networks and the backends follow these
declarations.
"""

from __future__ import annotations

from typing import TypeAlias, get_args

from resnet_spec.ops.activations import Elu as Elu
from resnet_spec.ops.activations import Gelu as Gelu
from resnet_spec.ops.activations import HardSigmoid as HardSigmoid
from resnet_spec.ops.activations import HardSwish as HardSwish
from resnet_spec.ops.activations import Identity as Identity
from resnet_spec.ops.activations import LeakyRelu as LeakyRelu
from resnet_spec.ops.activations import Prelu as Prelu
from resnet_spec.ops.activations import Relu as Relu
from resnet_spec.ops.activations import Relu6 as Relu6
from resnet_spec.ops.activations import Sigmoid as Sigmoid
from resnet_spec.ops.activations import Silu as Silu
from resnet_spec.ops.activations import SquaredRelu as SquaredRelu
from resnet_spec.ops.activations import Tanh as Tanh
from resnet_spec.ops.argument_types import AtLeast as AtLeast
from resnet_spec.ops.argument_types import Below as Below
from resnet_spec.ops.argument_types import Fraction as Fraction
from resnet_spec.ops.argument_types import Initialization as Initialization
from resnet_spec.ops.argument_types import NonNegative as NonNegative
from resnet_spec.ops.argument_types import Padding as Padding
from resnet_spec.ops.argument_types import PerAxis as PerAxis
from resnet_spec.ops.argument_types import Positive as Positive
from resnet_spec.ops.argument_types import PositiveInt as PositiveInt
from resnet_spec.ops.argument_types import Size as Size
from resnet_spec.ops.argument_types import round_to_float32 as round_to_float32
from resnet_spec.ops.argument_types import shortest_decimal as shortest_decimal
from resnet_spec.ops.convolutions import ChannelConv as ChannelConv
from resnet_spec.ops.convolutions import Conv as Conv
from resnet_spec.ops.convolutions import Linear as Linear
from resnet_spec.ops.convolutions import StandardizedConv as StandardizedConv
from resnet_spec.ops.norms import BatchNorm as BatchNorm
from resnet_spec.ops.norms import EvoNormS0 as EvoNormS0
from resnet_spec.ops.norms import FilterResponseNorm as FilterResponseNorm
from resnet_spec.ops.norms import GlobalResponseNorm as GlobalResponseNorm
from resnet_spec.ops.norms import GroupNorm as GroupNorm
from resnet_spec.ops.norms import LayerNorm as LayerNorm
from resnet_spec.ops.norms import RmsNorm as RmsNorm
from resnet_spec.ops.pooling import AdaptiveAvgPool as AdaptiveAvgPool
from resnet_spec.ops.pooling import AvgPool as AvgPool
from resnet_spec.ops.pooling import BlurPool as BlurPool
from resnet_spec.ops.pooling import ChannelAvgPool as ChannelAvgPool
from resnet_spec.ops.pooling import ChannelMaxPool as ChannelMaxPool
from resnet_spec.ops.pooling import GlobalAvgPool as GlobalAvgPool
from resnet_spec.ops.pooling import GlobalMaxPool as GlobalMaxPool
from resnet_spec.ops.pooling import MaxPool as MaxPool
from resnet_spec.ops.reshaping import ChannelShuffle as ChannelShuffle
from resnet_spec.ops.reshaping import Flatten as Flatten
from resnet_spec.ops.reshaping import PadChannels as PadChannels
from resnet_spec.ops.reshaping import SpaceToDepth as SpaceToDepth
from resnet_spec.ops.reshaping import SplitSoftmax as SplitSoftmax
from resnet_spec.ops.reshaping import SplitSum as SplitSum
from resnet_spec.ops.reshaping import Upsample as Upsample
from resnet_spec.ops.reshaping import ZeroPad as ZeroPad
from resnet_spec.ops.scaling import Scale as Scale
from resnet_spec.ops.scaling import Shift as Shift
from resnet_spec.ops.shapes import Shape as Shape
from resnet_spec.ops.shapes import ShapeError as ShapeError
from resnet_spec.ops.shapes import op_name as op_name
from resnet_spec.ops.stochastic import DropBlock as DropBlock
from resnet_spec.ops.stochastic import Dropout as Dropout
from resnet_spec.ops.stochastic import DropPath as DropPath
from resnet_spec.ops.stochastic import Stochastic as Stochastic
from resnet_spec.ops.stochastic import drop_block_squares as drop_block_squares
from resnet_spec.ops.weights import Constant as Constant
from resnet_spec.ops.weights import Distribution as Distribution
from resnet_spec.ops.weights import Normal as Normal
from resnet_spec.ops.weights import Uniform as Uniform
from resnet_spec.ops.weights import Weight as Weight
from resnet_spec.ops.windows import Margins as Margins
from resnet_spec.ops.windows import Pair as Pair
from resnet_spec.ops.windows import Window as Window
from resnet_spec.ops.windows import fixed_padding as fixed_padding
from resnet_spec.ops.windows import map_stride as map_stride
from resnet_spec.ops.windows import per_axis as per_axis
from resnet_spec.ops.windows import window_of as window_of

Op: TypeAlias = (
    Conv
    | StandardizedConv
    | ChannelConv
    | Linear
    | BatchNorm
    | GroupNorm
    | LayerNorm
    | RmsNorm
    | GlobalResponseNorm
    | EvoNormS0
    | FilterResponseNorm
    | Relu
    | Relu6
    | SquaredRelu
    | Prelu
    | LeakyRelu
    | Elu
    | Gelu
    | Silu
    | Sigmoid
    | Tanh
    | HardSigmoid
    | HardSwish
    | MaxPool
    | AvgPool
    | BlurPool
    | GlobalAvgPool
    | GlobalMaxPool
    | AdaptiveAvgPool
    | ChannelAvgPool
    | ChannelMaxPool
    | ZeroPad
    | PadChannels
    | SplitSum
    | SplitSoftmax
    | SpaceToDepth
    | ChannelShuffle
    | Upsample
    | Flatten
    | Scale
    | Shift
    | Dropout
    | DropPath
    | DropBlock
    | Identity
)

OPS: dict[str, type[Op]] = {op_name(kind): kind for kind in get_args(Op)}
"""The operations by their name in specs."""
