"""Run a folded network with operator fusion: a convolution, a sum and an activation are one call where that exists.

oneDNN on CPUs and cuDNN on GPUs have such calls. No compiler is needed to choose them: the network's tree shows which
operations follow a convolution, and which tensors nothing else reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from threading import Lock
from typing import Any, ClassVar, Literal, TypeAlias, assert_never, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from resnet_spec import ops
from resnet_spec.network.execution import module_path, own_weight
from resnet_spec.network.parts import Chain, Leaf, Parallel, Part, Residual
from resnet_spec_torch import modules
from resnet_spec_torch.modules import ResNet
from resnet_spec_torch.weights import named_tensors

TensorFunction: TypeAlias = Callable[[Tensor], Tensor]

_ONEDNN: Any = torch.ops.mkldnn

_PACKING = Lock()
"""Held while a kernel is replaced, so that what runs and the buffer are the same tensor."""


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation as the arguments of a oneDNN operator."""

    name: str
    scalars: tuple[float, ...] = ()
    algorithm: str = ""


NO_ACTIVATION = Activation("none")
RELU = Activation("relu")


class FusedConvolution:
    """A convolution, optionally the sum with another map, and the activations that its library fuses: here none.

    Attributes:
        weight: The kernel, in the layout of the library.
        activation: The activation that a call ends with.
        store: Called with the kernel, and again with what replaces it.
    """

    fusible: ClassVar[frozenset[str] | None] = frozenset()
    """The names of the activations that a call can end with; None for all."""

    def __init__(self, module: nn.Conv2d, input_shape: ops.Shape, store: Callable[[Tensor], None]) -> None:
        self.weight: Tensor = module.weight.detach()
        self.bias = None if module.bias is None else module.bias.detach()
        self.window: tuple[Any, ...] = (module.padding, module.stride, module.dilation, module.groups)
        self.activation = NO_ACTIVATION
        self.store = store
        store(self.weight)

    def fuse_activation(self, activation: Activation | None) -> bool:
        """Let calls end with an activation; return whether they do."""
        if activation is None or self.activation is not NO_ACTIVATION:
            return False
        if self.fusible is not None and activation.name not in self.fusible:
            return False
        self.activation = activation
        return True

    def __call__(self, x: Tensor, other: Tensor | None = None, *, overwrite_other: bool = False) -> Tensor:
        """Return activation(conv(x) + other). With ``overwrite_other`` the result takes the memory of ``other``."""
        padding, stride, dilation, groups = self.window
        y = functional.conv2d(x, self.weight, self.bias, stride, padding, dilation, groups)
        return y if other is None else y.add_(other)


class OneDnnConvolution(FusedConvolution):
    """A convolution of oneDNN, for CPUs. The kernel is packed in oneDNN's own layout.

    Which layout oneDNN reads depends on the number of images, on their size and on the number of threads; it reorders
    a kernel in another layout at each call. So the kernel is packed anew at the second of two calls in a row with a
    size; images whose size changes all the time cost nothing more.
    """

    fusible = None

    def __init__(self, module: nn.Conv2d, input_shape: ops.Shape, store: Callable[[Tensor], None]) -> None:
        super().__init__(module, input_shape, store)
        self.weight = self._pack(self.weight, (1, *input_shape))
        store(self.weight)
        self._size = self._last_size = (torch.get_num_threads(), 1, *input_shape)

    def __call__(self, x: Tensor, other: Tensor | None = None, *, overwrite_other: bool = False) -> Tensor:
        is_compiling = torch.compiler.is_compiling()
        if not is_compiling and type(x) is Tensor and not torch._C._len_torch_dispatch_stack():  # not a tracer's
            self._update_layout(x)
        operands, activation = (self.weight, self.bias, *self.window), self.activation
        if other is None:
            arguments = activation.name, activation.scalars, activation.algorithm
            return _ONEDNN._convolution_pointwise(x, *operands, *arguments)
        if is_compiling:  # a user compiles or exports the model, and torch knows no other call then
            y = _ONEDNN._convolution_pointwise(x, *operands, "none", [], "").add_(other)
            return y if activation is NO_ACTIVATION else y.relu_()
        name = None if activation is NO_ACTIVATION else activation.name
        if overwrite_other:
            return _ONEDNN._convolution_pointwise_.binary(other, x, *operands, "add", 1.0, name, [], "")
        return _ONEDNN._convolution_pointwise.binary(x, other, *operands, "add", 1.0, name, [], "")

    def _update_layout(self, x: Tensor) -> None:
        """Pack the kernel for maps of this size, if the call before had the same size."""
        size = (torch.get_num_threads(), *x.shape)
        if size == self._size:
            return
        if size != self._last_size:
            self._last_size = size
            return
        with _PACKING, torch.inference_mode(False), torch.no_grad():
            try:
                packed = self._pack(self.weight.to_dense(), x.shape)
            except RuntimeError:  # the size is wrong for this convolution, which says so itself
                return
            if describe_layout(packed) != describe_layout(self.weight):
                # A new tensor, not the same one changed: other threads may be computing with it.
                self.weight = packed
                self.store(packed)
            self._size = size

    def _pack(self, weight: Tensor, size: Sequence[int]) -> Tensor:
        return cast("Tensor", _ONEDNN._reorder_convolution_weight(weight, *self.window, list(size)))


def describe_layout(packed: Tensor) -> bytes:
    """Return oneDNN's description of the layout of a packed tensor."""
    return cast("bytes", _ONEDNN._get_mkldnn_serialized_md(packed).numpy().tobytes())


class CudnnConvolution(FusedConvolution):
    """A convolution of cuDNN, for GPUs, which fuses the bias, the sum and a rectifier."""

    fusible = frozenset({"relu"})

    def __call__(self, x: Tensor, other: Tensor | None = None, *, overwrite_other: bool = False) -> Tensor:
        if self.activation is NO_ACTIVATION:
            return super().__call__(x, other, overwrite_other=overwrite_other)
        padding, stride, dilation, groups = self.window
        window = stride, padding, dilation, groups
        if other is None:
            return torch.cudnn_convolution_relu(x, self.weight, self.bias, *window)
        return torch.cudnn_convolution_add_relu(x, self.weight, other, 1.0, self.bias, *window)


def choose_convolution(device: torch.device, dtype: torch.dtype, compile: bool) -> type[FusedConvolution]:
    """Return the kind of convolution that a device runs fastest in a type; a GPU's compiler fuses for itself."""
    if device.type == "cuda":
        if compile:
            return FusedConvolution
        return CudnnConvolution if _cudnn_fuses(device, dtype) else FusedConvolution
    enabled = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    supports_bfloat16 = dtype == torch.bfloat16 and enabled and _ONEDNN._is_mkldnn_bf16_supported()
    is_fusible = device.type == "cpu" and enabled and (dtype == torch.float32 or supports_bfloat16)
    return OneDnnConvolution if is_fusible else FusedConvolution


@lru_cache
def _cudnn_fuses(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether cuDNN has its fused calls for a type. Which it has depends on its version and on the device."""
    x, kernel = (torch.ones(8, 8, 1, 1, device=device, dtype=dtype) for _ in range(2))
    bias, window = torch.ones(8, device=device, dtype=dtype), ((1, 1), (0, 0), (1, 1), 1)
    try:
        torch.cudnn_convolution_relu(x, kernel, bias, *window)
        torch.cudnn_convolution_add_relu(x, kernel, x, 1.0, bias, *window)
    except RuntimeError:
        return False
    return True


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


def buffer_name(path: str) -> str:
    """Return the name of the buffer of a weight. A dot in it would make exporters look for modules."""
    return path.replace(".", "/")


class Fuser:
    """Makes functions of the parts of a network, and collects the tensors that they compute with.

    Attributes:
        layers: The network as modules; what is not fused runs as one of them.
        tensors: The weights by the names of their buffers, always as the functions hold them.
    """

    def __init__(self, layers: ResNet, convolution: type[FusedConvolution]) -> None:
        self.layers = layers
        self.tensors = {buffer_name(path): tensor.detach() for path, tensor in named_tensors(layers).items()}
        self._convolution = convolution

    def fuse(self, parts: Iterable[Part], *, may_overwrite: bool) -> tuple[FusedChain, bool]:
        """Return a function that runs a row of parts, and whether its output may be overwritten.

        A tensor may be overwritten if nothing else reads it. ``may_overwrite`` says whether that holds for the row's
        input.
        """
        steps: list[TensorFunction] = []
        for part in _flatten_chains(parts):
            match part:
                case Leaf():
                    may_overwrite = self._append_leaf(steps, part, may_overwrite=may_overwrite)
                case Residual():
                    steps.append(self._fuse_residual(part, may_overwrite=may_overwrite))
                    may_overwrite = True
                case Parallel():
                    steps.append(self._fuse_parallel(part))
                    may_overwrite = True
                case Chain():
                    raise AssertionError("_flatten_chains leaves no chain")
                case _:
                    assert_never(part)
        return FusedChain(tuple(steps)), may_overwrite

    def _append_leaf(self, steps: list[TensorFunction], leaf: Leaf, *, may_overwrite: bool) -> bool:
        """Add an operation to steps: fused into the last convolution, in place, or as a module.

        Return whether its output may be overwritten.
        """
        if _is_fusible_convolution(leaf):
            steps.append(self._make_convolution(leaf))
            return True
        last = steps[-1] if steps else None
        if isinstance(last, FusedConvolution) and last.fuse_activation(_fusible_activation(leaf.op)):
            return True
        in_place = _in_place_activation(leaf.op)
        steps.append(in_place if may_overwrite and in_place is not None else self._make_step(leaf))
        return may_overwrite or in_place is not None or isinstance(leaf.op, _ALLOCATING_OPS)

    def _make_convolution(self, leaf: Leaf) -> FusedConvolution:
        module = cast("nn.Conv2d", self.layers.get_submodule(leaf.path))
        store = partial(self.tensors.__setitem__, buffer_name(leaf.weight_path("weight")))
        return self._convolution(module, leaf.input_shape, store)

    def _make_step(self, leaf: Leaf) -> TensorFunction:
        """Return the module of an operation, with the weight that its holder keeps for it."""
        module = self.layers.get_submodule(module_path(leaf))
        if isinstance(leaf.op, ops.GroupNorm):
            return partial(_run_contiguous, module)
        return partial(_run_with_weight, module, self.tensors[buffer_name(leaf.path)]) if own_weight(leaf) else module

    def _fuse_residual(self, block: Residual, *, may_overwrite: bool) -> FusedResidual:
        """Return a function that runs a residual block.

        Its branch and its shortcut may read the same tensor, so neither overwrites its input. Their sum may overwrite
        the output of the shortcut.
        """
        shortcut_reads_before = block.reads == "before"
        before, y_overwritable = self.fuse(block.before, may_overwrite=may_overwrite and shortcut_reads_before)
        shortcut, other_overwritable = self.fuse(block.shortcut, may_overwrite=False)
        if not block.shortcut:  # the identity: the sum would overwrite the tensor that the shortcut reads
            other_overwritable = y_overwritable if shortcut_reads_before else may_overwrite
        branch, after = _flatten_chains(block.branch), _flatten_chains(block.after)
        last = branch[-1] if branch and block.combine == "add" else None
        combine: Callable[[Tensor, Tensor], Tensor]
        if isinstance(last, Leaf) and _is_fusible_convolution(last):
            rest, has_own_output = self.fuse(branch[:-1], may_overwrite=False)
            convolution = self._make_convolution(last)
            is_relu = bool(after) and isinstance(after[0], Leaf) and isinstance(after[0].op, ops.Relu)
            if is_relu and convolution.fuse_activation(RELU):
                after = after[1:]
            # If the branch is this convolution alone, it reads the tensor that the sum would overwrite.
            combine = partial(convolution, overwrite_other=other_overwritable and has_own_output)
        else:
            rest, _ = self.fuse(branch, may_overwrite=False)
            combine = partial(_combine, combine=block.combine, overwrite_other=other_overwritable)
        return FusedResidual(before, rest, shortcut, block.reads, combine, self.fuse(after, may_overwrite=True)[0])

    def _fuse_parallel(self, part: Parallel) -> TensorFunction:
        module = cast("modules.Parallel", self.layers.get_submodule(part.path))
        branches = [self.fuse(branch, may_overwrite=False)[0] if branch else None for branch in part.branches]
        return partial(_run_branches, module, branches)


def _run_contiguous(norm: TensorFunction, x: Tensor) -> Tensor:
    """Run a group norm on a map with channels first.

    With channels last, torch computes variances on a CPU as the mean of squares less the square of the mean: where the
    mean is 20 standard deviations, values in float32 are wrong by up to 3e-3.
    """
    return norm(x.contiguous())


def _run_with_weight(module: nn.Module, weight: Tensor, x: Tensor) -> Tensor:
    return module(x, weight)


def _run_branches(module: modules.Parallel, branches: list[FusedChain | None], x: Tensor) -> Tensor:
    return module(x, branches)


def _is_fusible_convolution(leaf: Leaf) -> bool:
    """Return whether a library computes a convolution: its padding must not depend on the size of the map."""
    return isinstance(leaf.op, ops.Conv) and leaf.op.padding != "same"


def _combine(
    branch: Tensor, other: Tensor, *, combine: Literal["add", "multiply", "concat"], overwrite_other: bool
) -> Tensor:
    match combine:
        case "add":
            return other.add_(branch) if overwrite_other else other + branch
        case "multiply":  # (batch, channels) -> (batch, channels, 1, 1)
            gate = branch.reshape(*branch.shape, *[1] * (other.ndim - branch.ndim))
            return other.mul_(gate) if overwrite_other else other * gate
        case "concat":
            return torch.cat((other, branch), dim=1)
        case _:
            assert_never(combine)


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
