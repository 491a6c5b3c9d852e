"""The layers that hold others: the network, a chain, a residual block, parallel branches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, assert_never

import paddle
from paddle import Tensor, nn
from paddle.distributed.fleet.utils import recompute

from resnet_spec.network.execution import ParallelPlan, ResidualSteps, Steps, plan_steps
from resnet_spec.network.network import Network
from resnet_spec.weights.canonical import Array
from resnet_spec_paddle.custom_layers import map_size


class ResNet(nn.Layer):
    """A network as a layer: (batch, channels, height, width) -> the output of its last part.

    If the network has ``outputs``, the result is a tuple of those feature maps, in that order.
    """

    resnet_spec_backend: ClassVar[str] = "paddle"

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self._steps = plan_steps("", network.parts)

    def forward(self, images: Tensor) -> Any:
        if not self.network.outputs:
            return run_steps(self, self._steps, images)
        maps: dict[str, Tensor] = {}
        x = images
        for step in self._steps:
            x = maps[".".join(step[0])] = run_steps(self, (step,), x)
        return tuple(maps[path] for path in self.network.outputs)

    def _run_alone(self, steps: Steps, x: Tensor) -> Tensor:
        """Run some parts of the model on an input of their own."""
        return run_steps(self, steps, x)


class FrozenModel(nn.Layer):
    """A model that runs packed weights, and has no layers or parameters that a user could change."""

    resnet_spec_backend: ClassVar[str] = "paddle"

    network: Network
    dtype: str

    def pack_weights(self, weights: Mapping[str, Array]) -> None:
        """Set all weights, by canonical name, and make anew what runs them."""
        raise NotImplementedError

    def unpack_weights(self) -> dict[str, Array]:
        """Return the weights by canonical name, in canonical layouts, as copies."""
        raise NotImplementedError

    def make_layers(self) -> ResNet:
        """Return the network as layers, with copies of the weights."""
        raise NotImplementedError


class Chain(nn.Layer):
    """A chain that nn.Sequential cannot hold, since a part has a dotted name or parallel branches."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return run_steps(self, self._steps, x)


class Residual(nn.Layer):
    """A residual block: ``after(combine(branch(y), shortcut(z)))`` with y = before(x), and z = y or x."""

    def __init__(self, steps: ResidualSteps) -> None:
        super().__init__()
        self._before = steps.before
        self._branch = steps.branch
        self._shortcut = steps.shortcut
        self._after = steps.after
        self._combine = steps.combine
        self._reads = steps.shortcut_reads
        self._missing_axes = steps.missing_axes
        self._recomputes = False

    def forward(self, x: Tensor) -> Tensor:
        if self._recomputes and paddle.is_grad_enabled() and paddle.in_dynamic_mode():
            return recompute(_KeepingStatistics(self), x, use_reentrant=False)
        return self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        """Run the block's sections, and keep what the backward pass needs."""
        y = run_steps(self, self._before, x)
        branch = run_steps(self, self._branch, y)
        shortcut = run_steps(self, self._shortcut, y if self._reads == "before" else x)
        match self._combine:
            case "add":
                combined = branch + shortcut
            case "multiply":
                combined = shortcut * _add_axes(branch, self._missing_axes)
            case "concat":
                combined = paddle.concat([shortcut, branch], axis=1)
            case _:
                assert_never(self._combine)
        return run_steps(self, self._after, combined)

    def extra_repr(self) -> str:
        return "" if self._combine == "add" else f"combine={self._combine}"


class _KeepingStatistics:
    """A residual block as a function that updates the statistics in the first call, and not when it runs again."""

    def __init__(self, block: Residual) -> None:
        self._block = block
        self._has_run = False

    def __call__(self, x: Tensor) -> Tensor:
        held = [*self._block.parameters(), *self._block.buffers()] if self._has_run else []
        before = [(tensor, tensor.clone()) for tensor in held if tensor.stop_gradient]
        self._has_run = True
        y = self._block._run(x)
        for tensor, old in before:
            paddle.assign(old, tensor)
        return y


def checkpoint_blocks(model: nn.Layer, paths: Collection[str]) -> None:
    """Have residual blocks keep no activations for the backward pass, which computes them again."""
    for path in paths:
        block: Any = model
        for name in path.split("."):
            block = block._sub_layers[name]
        block._recomputes = True


def _add_axes(x: Tensor, count: int) -> Tensor:
    """Return a tensor with trailing axes of size 1: (batch, channels) -> (batch, channels, 1, 1)."""
    return x.reshape([*x.shape, *[1] * count]) if count else x


class Parallel(nn.Layer):
    """Runs branches on the same input, on pieces of its channels, or one after another, and joins their outputs.

    The branches are arguments of ``forward``, since their layers are registered beside this one.
    """

    def __init__(self, plan: ParallelPlan) -> None:
        super().__init__()
        self._plan = plan

    def forward(self, x: Tensor, branches: Sequence[Callable[[Tensor], Tensor] | None]) -> Tensor:
        plan = self._plan
        inputs = x.split(list(plan.pieces), axis=1) if plan.pieces else [x] * len(branches)
        outputs: list[Tensor] = []
        for index, branch in enumerate(branches):  # Paddle's compiler does not support zip with strict=True
            piece = outputs[-1] if plan.collect and outputs else inputs[index]
            if branch is not None:
                piece = branch(piece + outputs[-1] if plan.cascade and outputs else piece)
            outputs.append(piece)
        if plan.resize:
            outputs = [outputs[0], *[_resize_like(output, outputs[0]) for output in outputs[1:]]]
        return _join(plan, outputs)

    def extra_repr(self) -> str:
        plan = self._plan
        names = ("pieces", "cascade", "collect", "resize")
        settings = [f"{name}={getattr(plan, name)}" for name in names if getattr(plan, name)]
        return ", ".join([f"combine={plan.combine}", *settings])


def _join(plan: ParallelPlan, outputs: list[Tensor]) -> Tensor:
    match plan.combine:
        case "concat":
            return paddle.concat(outputs, axis=1)
        case "add":
            return paddle.stack(outputs).sum(axis=0)
        case "mean":
            return paddle.stack(outputs).mean(axis=0)
        case "multiply":
            y = _add_axes(outputs[0], plan.missing_axes[0])
            for index in range(1, len(outputs)):
                y = y * _add_axes(outputs[index], plan.missing_axes[index])
            return y
        case "subtract":
            y = outputs[0]
            for output in outputs[1:]:
                y = y - output
            return y
        case _:
            assert_never(plan.combine)


def _resize_like(x: Tensor, first: Tensor) -> Tensor:
    """Return a map with the height and width of another, of the nearest pixels.

    Replaces functional.interpolate, which finds the nearest pixel in float32.
    """
    height, width = map_size(first)
    old_height, old_width = map_size(x)
    rows, columns = paddle.arange(height) * old_height // height, paddle.arange(width) * old_width // width
    return x.index_select(rows, 2).index_select(columns, 3)


def run_part(model: ResNet, path: str) -> Callable[[Tensor], Any]:
    """Return one part of a model as a function of its input, or the model itself for an empty path."""
    if not path:
        return model
    steps = plan_steps("", [model.network.part(path)])
    return lambda x: model._run_alone(steps, x)


def run_steps(module: nn.Layer, steps: Steps, x: Tensor) -> Tensor:
    """Run parts of a layer one after another. They are looked up by name at each call, so a user may replace one."""
    for names, branches, weight in steps:
        holder: Any = module
        for name in names[:-1]:
            holder = holder._sub_layers[name]
        part = holder._sub_layers[names[-1]]
        if weight:
            x = part(x, holder._parameters[weight])
        else:
            x = part(x, [_bind_branch(module, branch) for branch in branches]) if branches else part(x)
    return x


def _bind_branch(module: nn.Layer, steps: Steps) -> Callable[[Tensor], Tensor] | None:
    """Return a parallel branch as a function; None for an empty one, which is the identity."""

    # Not functools.partial: Paddle does not compile into one, so sizes unknown until run time would read as -1 in it.
    def run(x: Tensor) -> Tensor:
        return run_steps(module, steps, x)

    return run if steps else None
