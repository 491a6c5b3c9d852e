"""The layers that hold others: a network, a residual block. What they hold is registered under its path's own names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, assert_never

import paddle
from paddle import Tensor, nn

from resnet_spec.language.spec import Join
from resnet_spec.network.execution import ResidualSteps, Steps, plan_part, plan_steps
from resnet_spec.network.network import Network


class ResNet(nn.Layer):
    """A network: its parts run one after another. (batch, channels, height, width) -> what the spec's head gives.

    Where the network has ``outputs``, it gives those maps, as a tuple in the order that they were asked for.
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
        """Its weights were set: what was made from them before is to be made again."""


class Chain(nn.Layer):
    """Parts run one after another, where they are no plain row of children as nn.Sequential holds."""

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
        self._shortcut_reads = steps.shortcut_reads

    def forward(self, x: Tensor) -> Tensor:
        y = run_steps(self, self._before, x)
        branch = run_steps(self, self._branch, y)
        shortcut = run_steps(self, self._shortcut, y if self._shortcut_reads == "before" else x)
        match self._combine:
            case "add":
                both = branch + shortcut
            case "multiply":  # (batch, channels) -> (batch, channels, 1, 1)
                both = shortcut * branch.reshape([*branch.shape, *[1] * (shortcut.ndim - branch.ndim)])
            case _:
                assert_never(self._combine)
        return run_steps(self, self._after, both)

    def extra_repr(self) -> str:
        return "" if self._combine == "add" else f"combine={self._combine}"


class Parallel(nn.Layer):
    """Joins branches that read the same input, or each its own piece of the channels. It owns none: they stand beside it."""

    def __init__(self, split: bool, cascade: bool, combine: Join) -> None:
        super().__init__()
        self._split = split
        self._cascade = cascade
        self._combine: Join = combine

    def forward(self, x: Tensor, branches: Sequence[Callable[[Tensor], Tensor] | None]) -> Tensor:
        given = x.chunk(len(branches), axis=1) if self._split else [x] * len(branches)
        gives: list[Tensor] = []
        for index, branch in enumerate(branches):  # no zip: Paddle's compiler takes none that is strict
            if branch is None:
                gives.append(given[index])
            else:
                gives.append(branch(given[index] + gives[-1] if self._cascade and gives else given[index]))
        match self._combine:
            case "concat":
                return paddle.concat(gives, axis=1)
            case "add":
                return paddle.stack(gives).sum(axis=0)
            case "mean":
                return paddle.stack(gives).mean(axis=0)
            case _:
                assert_never(self._combine)

    def extra_repr(self) -> str:
        return f"split={self._split}, cascade={self._cascade}, combine={self._combine}"


def run_part(model: ResNet, path: str) -> Callable[[Tensor], Any]:
    """Return one part of a model as a function of its input, or the model itself for an empty path."""
    module: nn.Layer = model
    for name in path.split(".") if path else ():
        module = module._sub_layers[name]
    branches = [_branch(model, branch) for branch in plan_part(model.network.part(path))] if path else []
    return (lambda x: module(x, branches)) if branches else module


def run_steps(module: nn.Layer, steps: Steps, x: Tensor) -> Tensor:
    """Run parts of a layer one after another. They are looked up by name at each call, so a user may replace one."""
    for names, branches in steps:
        part: Any = module
        for name in names:
            part = part._sub_layers[name]
        x = part(x, [_branch(module, branch) for branch in branches]) if branches else part(x)
    return x


def _branch(module: nn.Layer, steps: Steps) -> Callable[[Tensor], Tensor] | None:
    """Return a branch as a function. Paddle compiles no functools.partial, and in one unknown sizes would read as -1."""

    def run(x: Tensor) -> Tensor:
        return run_steps(module, steps, x)

    return run if steps else None
