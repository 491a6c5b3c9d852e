"""The primitive operations: what each is told, the shape it gives, the weights it owns, what it costs.

Shapes are (channels, height, width), or (features,) once the image axes are gone; the batch axis is left out.
Weights are named and laid out as PyTorch does: (out, in / groups, height, width) for a convolution.
Each declaration here drives the reader, the schema, the documentation, the random generator and every backend.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, get_args

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AtLeast:
    """The least value an argument may have."""

    least: float


@dataclass(frozen=True, slots=True)
class Below:
    """What an argument must stay below."""

    bound: float


Count = Annotated[int, AtLeast(1)]
Extent = Annotated[int, AtLeast(0)]
Fraction = Annotated[float, AtLeast(0.0), Below(1.0)]
Positive = Annotated[float, AtLeast(2.0**-126), Below(2.0**127)]  # what a normal float32 can hold

Start = Literal["he_normal_fan_out", "he_normal_fan_in", "lecun_normal", "glorot_uniform", "uniform_fan_in", "zeros"]


# -- weights ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Normal:
    """Initial values from a normal distribution around zero."""

    std: float


@dataclass(frozen=True, slots=True)
class Uniform:
    """Initial values evenly from -bound to bound."""

    bound: float


@dataclass(frozen=True, slots=True)
class Constant:
    """The same initial value everywhere."""

    value: float


Init: TypeAlias = Normal | Uniform | Constant


@dataclass(frozen=True, slots=True)
class Weight:
    """An array that an operation owns. A statistic is kept by running means, not learnt."""

    name: str
    shape: Shape
    init: Init
    statistic: bool = False


def _init(start: Start, fan_in: int, fan_out: int) -> Init:
    match start:
        case "he_normal_fan_out":
            return Normal(math.sqrt(2 / fan_out))
        case "he_normal_fan_in":
            return Normal(math.sqrt(2 / fan_in))
        case "lecun_normal":
            return Normal(math.sqrt(1 / fan_in))
        case "glorot_uniform":
            return Uniform(math.sqrt(6 / (fan_in + fan_out)))
        case "uniform_fan_in":
            return Uniform(1 / math.sqrt(fan_in))
        case "zeros":
            return Constant(0.0)


def _kernel(shape: Shape, start: Start, bias: bool) -> tuple[Weight, ...]:
    """A weight (out, in, ...) and its bias; the bias starts as PyTorch's does, evenly within 1/sqrt(fan in)."""
    area = math.prod(shape[2:])
    kernel = Weight("weight", shape, _init(start, fan_in=shape[1] * area, fan_out=shape[0] * area))
    return (kernel, Weight("bias", shape[:1], Uniform(1 / math.sqrt(shape[1] * area)))) if bias else (kernel,)


def _affine(channels: int, gamma: float) -> tuple[Weight, ...]:
    return Weight("weight", (channels,), Constant(gamma)), Weight("bias", (channels,), Constant(0.0))


# -- shape rules --------------------------------------------------------------------------------------------------


class Misfit(ValueError):
    """An operation that can't take what it is given.

    ``argument`` names the culprit, if one argument is to blame; ``gives`` is the shape to go on with, if there is one.
    """

    def __init__(self, message: str, *, argument: str = "", help: str = "", gives: Shape | None = None) -> None:
        super().__init__(message)
        self.argument = argument
        self.help = help
        self.gives = gives


def _same(op: object, given: Shape) -> Shape:
    return given


def _no_weights(op: object, given: Shape) -> tuple[Weight, ...]:
    return ()


def _free(op: object, given: Shape) -> int:
    return 0


def _image(op: object, given: Shape) -> Shape:
    if len(given) != 3:
        raise Misfit(f"{name(op)} works on (channels, height, width), but is given {given}")
    return given


def _divided(what: str, value: int, channels: int, of: str, gives: Shape | None = None) -> None:
    if channels % value:
        fits = [str(number) for number in range(1, channels + 1) if channels % number == 0]
        raise Misfit(
            f"{what} is {value}, which does not divide the {channels} {of}",
            argument=what,
            help=f"it can be {', '.join(fits[:-1])} or {fits[-1]}" if fits[1:] else "it can be 1",
            gives=gives,
        )


def _slid(size: int, kernel: int, stride: int, padding: int, dilation: int = 1, *, ceil: bool = False) -> int:
    reach = dilation * (kernel - 1) + 1
    free = size + 2 * padding - reach
    if free < 0:
        raise Misfit(
            f"the window reaches over {reach} pixels, but the map has {size}"
            + (f" and {2 * padding} of padding" if padding else ""),
            argument="kernel",
            gives=(1,),
        )
    if not ceil:
        return free // stride + 1
    steps = -(-free // stride) + 1
    # PyTorch's rule: a last window that would start in the padding on the far side is dropped.
    return steps - 1 if (steps - 1) * stride >= size + padding else steps


def _windows(channels: int, given: Shape, *window: int, ceil: bool = False) -> Shape:
    try:
        return channels, _slid(given[1], *window, ceil=ceil), _slid(given[2], *window, ceil=ceil)
    except Misfit as error:
        error.gives = (channels, 1, 1)
        raise


def _less_than_half(padding: int, kernel: int) -> None:
    if padding * 2 > kernel:
        raise Misfit(
            f"padding is {padding}, more than half of the kernel of {kernel}, so a window could lie in it wholly",
            argument="padding",
            help=f"it can be at most {kernel // 2}",
        )


# -- convolution and linear ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Conv:
    """A two-dimensional convolution with a square kernel and zeros for padding.

    Attributes:
        out: Channels that come out.
        kernel: Height and width of the kernel, in pixels.
        stride: Pixels from one window to the next.
        padding: Zeros added on each of the four sides.
        dilation: Pixels from one element of the kernel to the next.
        groups: Groups of channels that do not see each other.
        bias: Whether a learnt number is added to each channel.
        init: How the kernel's initial values are drawn.
    """

    out: Count
    kernel: Count
    stride: Count = 1
    padding: Extent = 0
    dilation: Count = 1
    groups: Count = 1
    bias: bool = False
    init: Start = "he_normal_fan_out"

    def gives(self, given: Shape) -> Shape:
        _image(self, given)
        gives = _windows(self.out, given, self.kernel, self.stride, self.padding, self.dilation)
        _divided("groups", self.groups, given[0], "input channels", gives)
        _divided("groups", self.groups, self.out, "output channels", gives)
        return gives

    def weights(self, given: Shape) -> tuple[Weight, ...]:
        return _kernel((self.out, given[0] // self.groups, self.kernel, self.kernel), self.init, self.bias)

    def macs(self, given: Shape) -> int:
        return math.prod(self.gives(given)) * (given[0] // self.groups) * self.kernel**2


@dataclass(frozen=True, slots=True)
class StandardizedConv:
    """A convolution whose kernels are first standardised, each to mean 0 and variance 1 (Qiao et al. 2019).

    Attributes:
        out: Channels that come out.
        kernel: Height and width of the kernel, in pixels.
        stride: Pixels from one window to the next.
        padding: Zeros added on each of the four sides.
        dilation: Pixels from one element of the kernel to the next.
        groups: Groups of channels that do not see each other.
        bias: Whether a learnt number is added to each channel.
        epsilon: Added to the variance of a kernel; the nearest float32 is used in every backend.
        init: How the kernel's initial values are drawn.
    """

    out: Count
    kernel: Count
    stride: Count = 1
    padding: Extent = 0
    dilation: Count = 1
    groups: Count = 1
    bias: bool = False
    epsilon: Positive = 1e-6
    init: Start = "he_normal_fan_out"

    def __post_init__(self) -> None:
        nearest_float32(self, "epsilon")

    def plain(self) -> Conv:
        """The convolution that the standardised kernels are for."""
        return Conv(self.out, self.kernel, self.stride, self.padding, self.dilation, self.groups, self.bias, self.init)

    def gives(self, given: Shape) -> Shape:
        return self.plain().gives(given)

    def weights(self, given: Shape) -> tuple[Weight, ...]:
        return self.plain().weights(given)

    def macs(self, given: Shape) -> int:
        return self.plain().macs(given)


@dataclass(frozen=True, slots=True)
class ChannelConv:
    """A one-dimensional convolution along the channels, one kernel for all of them (Wang et al. 2019, ECA-Net).

    Attributes:
        kernel: Channels that the kernel spans, an odd number; as many zeros stand at each end as keep their count.
        init: How the kernel's initial values are drawn.
    """

    kernel: Count
    init: Start = "uniform_fan_in"

    def gives(self, given: Shape) -> Shape:
        if len(given) != 1:
            raise Misfit(f"channel_conv works on (features,), but is given {given}", gives=given)
        if self.kernel % 2 == 0:
            raise Misfit(f"kernel is {self.kernel}, an even number", argument="kernel", gives=given)
        return given

    def weights(self, given: Shape) -> tuple[Weight, ...]:
        return _kernel((1, 1, self.kernel), self.init, bias=False)

    def macs(self, given: Shape) -> int:
        return given[0] * self.kernel


@dataclass(frozen=True, slots=True)
class Linear:
    """A matrix product of the features with a weight of shape (out, in), and a bias.

    Attributes:
        out: Features that come out.
        bias: Whether a learnt number is added to each feature.
        init: How the weight's initial values are drawn.
    """

    out: Count
    bias: bool = True
    init: Start = "uniform_fan_in"

    def gives(self, given: Shape) -> Shape:
        if len(given) != 1:
            raise Misfit(
                f"linear works on (features,), but is given {given}",
                help="global_avg_pool or flatten, put before it, gives features",
                gives=(self.out,),
            )
        return (self.out,)

    def weights(self, given: Shape) -> tuple[Weight, ...]:
        return _kernel((self.out, *given), self.init, self.bias)

    def macs(self, given: Shape) -> int:
        return self.out * given[0]


# -- norms --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """Normalisation over batch, height and width, then a scale and a shift for each channel (Ioffe and Szegedy 2015).

    In evaluation the running statistics take the place of the batch's own.

    Attributes:
        epsilon: Added to the variance; the nearest float32 is used in every backend.
        decay: The weight of the old running statistics when new ones arrive (PyTorch's momentum is one minus this).
        variance: Which variance the running statistics keep: sums of squares over n - 1 (unbiased) or over n (biased).
        affine: Whether a scale and a shift are learnt.
        gamma: The scale's initial value; zero in a block's last norm starts the block as the identity.
    """

    epsilon: Positive = 1e-5
    decay: Fraction = 0.9
    variance: Literal["unbiased", "biased"] = "unbiased"
    affine: bool = True
    gamma: float = 1.0

    gives = _image
    macs = _free

    def __post_init__(self) -> None:
        nearest_float32(self, "epsilon", "decay")

    def weights(self, given: Shape) -> tuple[Weight, ...]:
        mean = Weight("running_mean", given[:1], Constant(0.0), statistic=True)
        var = Weight("running_var", given[:1], Constant(1.0), statistic=True)
        return (*(_affine(given[0], self.gamma) if self.affine else ()), mean, var)


@dataclass(frozen=True, slots=True)
class GroupNorm:
    """Normalisation of each image over height, width and a group of channels, then a scale and a shift for each channel.

    Attributes:
        groups: How many groups the channels are divided into, in order.
        epsilon: Added to the variance; the nearest float32 is used in every backend.
        gamma: The scale's initial value.
        size: Channels of one group: where it is not 0, it says how many groups there are, in place of ``groups``.
    """

    groups: Count = 32
    epsilon: Positive = 1e-5
    gamma: float = 1.0
    size: Extent = 0

    macs = _free

    def __post_init__(self) -> None:
        nearest_float32(self, "epsilon")

    def count(self, channels: int) -> int:
        """How many groups so many channels are divided into."""
        return channels // self.size if self.size else self.groups

    def gives(self, given: Shape) -> Shape:
        _image(self, given)
        argument = "size" if self.size else "groups"
        _divided(argument, getattr(self, argument), given[0], "channels", given)
        return given

    def weights(self, given: Shape) -> tuple[Weight, ...]:
        return _affine(given[0], self.gamma)


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Normalisation over the channels, at each pixel of each image alone, then a scale and a shift for each channel.

    Attributes:
        epsilon: Added to the variance; the nearest float32 is used in every backend.
        gamma: The scale's initial value.
    """

    epsilon: Positive = 1e-5
    gamma: float = 1.0

    gives = _same
    macs = _free

    def __post_init__(self) -> None:
        nearest_float32(self, "epsilon")

    def weights(self, given: Shape) -> tuple[Weight, ...]:
        return _affine(given[0], self.gamma)


@dataclass(frozen=True, slots=True)
class EvoNormS0:
    """x * sigmoid(v * x) over the standard deviation of a group of channels, then a scale and a shift for each channel.

    It is norm and activation in one, and looks at each image alone (Liu et al. 2020, table 2).

    Attributes:
        groups: How many groups the channels are divided into, in order.
        epsilon: Added to the variance; the nearest float32 is used in every backend.
        gamma: The scale's initial value.
    """

    groups: Count = 32
    epsilon: Positive = 1e-5
    gamma: float = 1.0

    macs = _free

    def __post_init__(self) -> None:
        nearest_float32(self, "epsilon")

    def gives(self, given: Shape) -> Shape:
        _image(self, given)
        _divided("groups", self.groups, given[0], "channels", given)
        return given

    def weights(self, given: Shape) -> tuple[Weight, ...]:
        return *_affine(given[0], self.gamma), Weight("v", given[:1], Constant(1.0))


@dataclass(frozen=True, slots=True)
class FilterResponseNorm:
    """x over the root of its mean square in height and width, a scale and a shift, and then max(x, tau).

    It is norm and activation in one, with a learnt threshold for each channel (Singh and Krishnan 2019).

    Attributes:
        epsilon: Added to the mean square; the nearest float32 is used in every backend.
        gamma: The scale's initial value.
    """

    epsilon: Positive = 1e-5
    gamma: float = 1.0

    gives = _image
    macs = _free

    def __post_init__(self) -> None:
        nearest_float32(self, "epsilon")

    def weights(self, given: Shape) -> tuple[Weight, ...]:
        return *_affine(given[0], self.gamma), Weight("tau", given[:1], Constant(0.0))


# -- activations --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Relu:
    """max(x, 0)."""

    gives = _same
    weights = _no_weights
    macs = _free


@dataclass(frozen=True, slots=True)
class Relu6:
    """min(max(x, 0), 6)."""

    gives = _same
    weights = _no_weights
    macs = _free


@dataclass(frozen=True, slots=True)
class LeakyRelu:
    """x where it is positive, slope * x elsewhere.

    Attributes:
        slope: The factor below zero; the nearest float32 is used in every backend.
    """

    slope: Fraction = 0.01

    gives = _same
    weights = _no_weights
    macs = _free

    def __post_init__(self) -> None:
        nearest_float32(self, "slope")


@dataclass(frozen=True, slots=True)
class Elu:
    """x where it is positive, exp(x) - 1 elsewhere."""

    gives = _same
    weights = _no_weights
    macs = _free


@dataclass(frozen=True, slots=True)
class Gelu:
    """x times the normal distribution function of x (Hendrycks and Gimpel 2016).

    Attributes:
        approximate: Whether the formula with tanh is used in its place.
    """

    approximate: bool = False

    gives = _same
    weights = _no_weights
    macs = _free


@dataclass(frozen=True, slots=True)
class Silu:
    """x * sigmoid(x), also called swish."""

    gives = _same
    weights = _no_weights
    macs = _free


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """1 / (1 + exp(-x))."""

    gives = _same
    weights = _no_weights
    macs = _free


@dataclass(frozen=True, slots=True)
class Tanh:
    """The hyperbolic tangent of x."""

    gives = _same
    weights = _no_weights
    macs = _free


@dataclass(frozen=True, slots=True)
class HardSigmoid:
    """relu6(x + 3) / 6."""

    gives = _same
    weights = _no_weights
    macs = _free


@dataclass(frozen=True, slots=True)
class HardSwish:
    """x * relu6(x + 3) / 6."""

    gives = _same
    weights = _no_weights
    macs = _free


# -- pooling ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MaxPool:
    """The maximum over a square window; padding counts as minus infinity.

    Attributes:
        kernel: Height and width of the window, in pixels.
        stride: Pixels from one window to the next.
        padding: Rows and columns added on each of the four sides.
        ceil: Whether a last window that is only partly filled is kept; one that starts in the padding never is.
    """

    kernel: Count
    stride: Count = 1
    padding: Extent = 0
    ceil: bool = False

    weights = _no_weights
    macs = _free

    def gives(self, given: Shape) -> Shape:
        _image(self, given)
        _less_than_half(self.padding, self.kernel)
        return _windows(given[0], given, self.kernel, self.stride, self.padding, ceil=self.ceil)


@dataclass(frozen=True, slots=True)
class AvgPool:
    """The mean over a square window.

    Attributes:
        kernel: Height and width of the window, in pixels.
        stride: Pixels from one window to the next.
        padding: Zeros added on each of the four sides.
        ceil: Whether a last window that is only partly filled is kept; one that starts in the padding never is.
        count_padding: Whether the padding's zeros count among the elements of the mean.
    """

    kernel: Count
    stride: Count = 1
    padding: Extent = 0
    ceil: bool = False
    count_padding: bool = False

    weights = _no_weights
    macs = _free

    def gives(self, given: Shape) -> Shape:
        _image(self, given)
        _less_than_half(self.padding, self.kernel)
        return _windows(given[0], given, self.kernel, self.stride, self.padding, ceil=self.ceil)


@dataclass(frozen=True, slots=True)
class BlurPool:
    """A fixed 3x3 blur, [1, 2, 1] in both directions over 16, whose stride then takes no frequency wrongly (Zhang 2019).

    One row and column is mirrored around the image, so that its edge is not darkened. It owns no weights.

    Attributes:
        stride: Pixels from one window to the next.
    """

    stride: Count = 2

    weights = _no_weights

    def gives(self, given: Shape) -> Shape:
        channels, height, width = _image(self, given)
        if min(height, width) < 2:
            raise Misfit(f"there is no second row or column to mirror in {height} x {width} pixels", gives=given)
        return _windows(channels, given, 3, self.stride, 1)

    def macs(self, given: Shape) -> int:
        return math.prod(self.gives(given)) * 9


@dataclass(frozen=True, slots=True)
class GlobalAvgPool:
    """The mean over height and width.

    Attributes:
        keepdims: Whether what is left is (channels, 1, 1), not (channels,).
    """

    keepdims: bool = False

    weights = _no_weights
    macs = _free

    def gives(self, given: Shape) -> Shape:
        return _pooled(self, given, self.keepdims)


@dataclass(frozen=True, slots=True)
class GlobalMaxPool:
    """The maximum over height and width; its gradient goes to the first of several equal ones.

    Attributes:
        keepdims: Whether what is left is (channels, 1, 1), not (channels,).
    """

    keepdims: bool = False

    weights = _no_weights
    macs = _free

    def gives(self, given: Shape) -> Shape:
        return _pooled(self, given, self.keepdims)


def _pooled(op: object, given: Shape, keepdims: bool) -> Shape:
    return (_image(op, given)[0], 1, 1) if keepdims else _image(op, given)[:1]


# -- the rest -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ZeroPad:
    """Zeros around the image.

    Attributes:
        top: Rows added above.
        bottom: Rows added below.
        left: Columns added on the left.
        right: Columns added on the right.
    """

    top: Extent = 0
    bottom: Extent = 0
    left: Extent = 0
    right: Extent = 0

    weights = _no_weights
    macs = _free

    def gives(self, given: Shape) -> Shape:
        channels, height, width = _image(self, given)
        return channels, height + self.top + self.bottom, width + self.left + self.right


@dataclass(frozen=True, slots=True)
class PadChannels:
    """Channels of zeros before and after the image's own: a shortcut to more channels without weights (option A).

    Attributes:
        before: Channels added before the first.
        after: Channels added after the last.
    """

    before: Extent = 0
    after: Extent = 0

    weights = _no_weights
    macs = _free

    def gives(self, given: Shape) -> Shape:
        channels, height, width = _image(self, given)
        return channels + self.before + self.after, height, width


@dataclass(frozen=True, slots=True)
class SplitSum:
    """The channels in so many equal parts, one after another, added up: parts of c channels become c channels.

    Attributes:
        parts: How many parts the channels are divided into, in order.
    """

    parts: Count

    weights = _no_weights
    macs = _free

    def gives(self, given: Shape) -> Shape:
        _divided("parts", self.parts, given[0], "channels", given)
        return (given[0] // self.parts, *given[1:])


@dataclass(frozen=True, slots=True)
class SplitSoftmax:
    """For each channel, the softmax over the parts that it comes in: what split attention weighs its parts by.

    The channels come as (groups, parts, channels of one part and group), and leave as (parts, groups, ...), the order of what
    they weigh (Zhang et al. 2020, ResNeSt).

    Attributes:
        parts: How many parts compete.
        groups: How many groups the channels of each part are divided into.
    """

    parts: Count
    groups: Count = 1

    weights = _no_weights
    macs = _free

    def gives(self, given: Shape) -> Shape:
        _divided("parts", self.parts, given[0], "channels", given)
        _divided("groups", self.groups, given[0] // self.parts, "channels of a part", given)
        return given


@dataclass(frozen=True, slots=True)
class Flatten:
    """Everything in one row, channels first: (channels, height, width) becomes (channels * height * width,)."""

    weights = _no_weights
    macs = _free

    def gives(self, given: Shape) -> Shape:
        return (math.prod(given),)


@dataclass(frozen=True, slots=True)
class Dropout:
    """In training each element becomes zero with probability rate, and what stays is divided by 1 - rate.

    In evaluation it is the identity.

    Attributes:
        rate: The probability of becoming zero; the nearest float32 is used in every backend.
    """

    rate: Fraction

    gives = _same
    weights = _no_weights
    macs = _free

    def __post_init__(self) -> None:
        nearest_float32(self, "rate")


@dataclass(frozen=True, slots=True)
class DropPath:
    """In training an image's whole map becomes zero with probability rate, and one that stays is divided by 1 - rate.

    At the end of a branch this is stochastic depth (Huang et al. 2016). In evaluation it is the identity.

    Attributes:
        rate: The probability of becoming zero; the nearest float32 is used in every backend.
    """

    rate: Fraction

    gives = _same
    weights = _no_weights
    macs = _free

    def __post_init__(self) -> None:
        nearest_float32(self, "rate")


@dataclass(frozen=True, slots=True)
class DropBlock:
    """In training squares of the map become zero, in all channels alike, and what stays is scaled to keep the mean.

    Each pixel is the middle of such a square with probability scale * rate * height * width / (size^2 * (height - size + 1) *
    (width - size + 1)); a map smaller than a square bounds it (Ghiasi et al. 2018; timm). In evaluation it is the identity.

    Attributes:
        rate: About the share of the pixels that become zero, where scale is 1; the nearest float32 is used in every backend.
        size: Height and width of a square, in pixels.
        scale: A factor of the probability.
    """

    rate: Fraction
    size: Count = 7
    scale: Positive = 1.0

    gives = _image
    weights = _no_weights
    macs = _free

    def __post_init__(self) -> None:
        nearest_float32(self, "rate", "scale")

    def seeds(self, height: int, width: int) -> tuple[int, int, float]:
        """The square that fits a map, its height and width, and the probability that one has its middle at a pixel."""
        tall, wide = min(self.size, height), min(self.size, width)
        places = (height - tall + 1) * (width - wide + 1)
        return tall, wide, min(1.0, self.scale * self.rate * height * width / (tall * wide) / places)


@dataclass(frozen=True, slots=True)
class Identity:
    """x itself."""

    gives = _same
    weights = _no_weights
    macs = _free


Op: TypeAlias = (
    Conv
    | StandardizedConv
    | ChannelConv
    | Linear
    | BatchNorm
    | GroupNorm
    | LayerNorm
    | EvoNormS0
    | FilterResponseNorm
    | Relu
    | Relu6
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
    | ZeroPad
    | PadChannels
    | SplitSum
    | SplitSoftmax
    | Flatten
    | Dropout
    | DropPath
    | DropBlock
    | Identity
)


def name(op: object) -> str:
    """What a spec calls an operation: ``GlobalAvgPool`` is ``global_avg_pool``."""
    kind = op if isinstance(op, type) else type(op)
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


Chance: TypeAlias = Dropout | DropPath | DropBlock
"""What is left to chance in training, at a ``rate``; in evaluation each of these is the identity."""

OPS: dict[str, type[Op]] = {name(kind): kind for kind in get_args(Op)}
"""The operations by the name that a spec gives them."""


def nearest_float32(op: object, *names: str) -> None:
    """Round attributes to float32: Paddle keeps an operator's so, and all backends are to use one value."""
    for argument in names:
        (value,) = struct.unpack("f", struct.pack("f", getattr(op, argument)))
        object.__setattr__(op, argument, value)
