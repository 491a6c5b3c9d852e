"""The layers that hold others: the network, a chain, a residual block, parallel branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, assert_never

import paddle
from paddle import Tensor, nn

from resnet_spec.language.spec import Join
from resnet_spec.network.execution import ResidualSteps, Steps, plan_part, plan_steps
from resnet_spec.network.network import Network


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

    def changed(self) -> None:
        """Discard what was derived from the weights, after they were set. This class derives nothing."""


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

    def forward(self, x: Tensor) -> Tensor:
        y = run_steps(self, self._before, x)
        branch = run_steps(self, self._branch, y)
        shortcut = run_steps(self, self._shortcut, y if self._reads == "before" else x)
        match self._combine:
            case "add":
                combined = branch + shortcut
            case "multiply":  # (batch, channels) -> (batch, channels, 1, 1)
                combined = shortcut * branch.reshape([*branch.shape, *[1] * (shortcut.ndim - branch.ndim)])
            case _:
                assert_never(self._combine)
        return run_steps(self, self._after, combined)

    def extra_repr(self) -> str:
        return "" if self._combine == "add" else f"combine={self._combine}"


class Parallel(nn.Layer):
    """Runs branches on the same input, or on equal pieces of its channels, and joins their outputs.

    The branches are arguments of ``forward``, since their layers are registered beside this one.
    """

    def __init__(self, split: bool, cascade: bool, combine: Join) -> None:
        super().__init__()
        self._split = split
        self._cascade = cascade
        self._combine: Join = combine

    def forward(self, x: Tensor, branches: Sequence[Callable[[Tensor], Tensor] | None]) -> Tensor:
        inputs = x.chunk(len(branches), axis=1) if self._split else [x] * len(branches)
        outputs: list[Tensor] = []
        for index, branch in enumerate(branches):  # Paddle's compiler does not support zip with strict=True
            if branch is None:
                outputs.append(inputs[index])
            else:
                outputs.append(branch(inputs[index] + outputs[-1] if self._cascade and outputs else inputs[index]))
        match self._combine:
            case "concat":
                return paddle.concat(outputs, axis=1)
            case "add":
                return paddle.stack(outputs).sum(axis=0)
            case "mean":
                return paddle.stack(outputs).mean(axis=0)
            case _:
                assert_never(self._combine)

    def extra_repr(self) -> str:
        return f"split={self._split}, cascade={self._cascade}, combine={self._combine}"


def run_part(model: ResNet, path: str) -> Callable[[Tensor], Any]:
    """Return one part of a model as a function of its input, or the model itself for an empty path."""
    module: nn.Layer = model
    for name in path.split(".") if path else ():
        module = module._sub_layers[name]
    branches = [_bind_branch(model, branch) for branch in plan_part(model.network.part(path))] if path else []
    return (lambda x: module(x, branches)) if branches else module


def run_steps(module: nn.Layer, steps: Steps, x: Tensor) -> Tensor:
    """Run parts of a layer one after another. They are looked up by name at each call, so a user may replace one."""
    for names, branches in steps:
        part: Any = module
        for name in names:
            part = part._sub_layers[name]
        x = part(x, [_bind_branch(module, branch) for branch in branches]) if branches else part(x)
    return x


def _bind_branch(module: nn.Layer, steps: Steps) -> Callable[[Tensor], Tensor] | None:
    """Return a parallel branch as a function; None for an empty one, which is the identity."""

    # Not functools.partial: Paddle does not compile into one, so sizes unknown until run time would read as -1 in it.
    def run(x: Tensor) -> Tensor:
        return run_steps(module, steps, x)

    return run if steps else None
