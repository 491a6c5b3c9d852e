"""The layers that hold others: a network, a residual block. What they hold is registered under its path's own names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, assert_never

import paddle
from paddle import Tensor, nn

from resnet_spec.language.spec import Join, Role
from resnet_spec.network import network
from resnet_spec.network.network import Network, Part

Step: TypeAlias = "tuple[tuple[str, ...], tuple[Steps, ...]]"
"""A layer to run, by the names that lead to it from its holder: ``("downsample",)`` or ``("stages", "0")``. Then the branches that a
Parallel joins: each a row of steps from the same holder, since that is where their names are. (Bare tuples: Paddle's compiler takes no
dataclasses apart.)"""

Steps: TypeAlias = tuple[Step, ...]


class ResNet(nn.Layer):
    """A network: its parts run one after another. (batch, channels, height, width) -> what the spec's head gives.

    Where the network has ``outputs``, it gives those maps, as a tuple in the order that they were asked for.
    """

    resnet_spec_backend: ClassVar[str] = "paddle"

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self._steps = steps("", network.parts)

    def forward(self, images: Tensor) -> Any:
        if not self.network.outputs:
            return through(self, self._steps, images)
        maps: dict[str, Tensor] = {}
        x = images
        for step in self._steps:
            x = maps[".".join(step[0])] = through(self, (step,), x)
        return tuple(maps[path] for path in self.network.outputs)

    def changed(self) -> None:
        """Its weights were set: what was made from them before is to be made again."""


class Chain(nn.Layer):
    """Parts run one after another, where they are no plain row of children as nn.Sequential holds."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return through(self, self._steps, x)


class Residual(nn.Layer):
    """``after(combine(branch(y), shortcut(z)))`` with y = before(x); z is x or y, as ``reads`` says."""

    def __init__(
        self, sections: Mapping[Role, Steps], combine: Literal["add", "multiply"], reads: Literal["input", "before"]
    ) -> None:
        super().__init__()
        self._before = sections.get("before", ())
        self._branch = sections.get("branch", ())
        self._shortcut = sections.get("shortcut", ())
        self._after = sections.get("after", ())
        self._combine: Literal["add", "multiply"] = combine
        self._reads: Literal["input", "before"] = reads

    def forward(self, x: Tensor) -> Tensor:
        y = through(self, self._before, x)
        branch = through(self, self._branch, y)
        shortcut = through(self, self._shortcut, y if self._reads == "before" else x)
        match self._combine:
            case "add":
                both = branch + shortcut
            case "multiply":
                both = shortcut * branch.reshape([*branch.shape, *[1] * (shortcut.ndim - branch.ndim)])
            case _:
                assert_never(self._combine)
        return through(self, self._after, both)

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


def steps(holder: str, parts: Iterable[Part]) -> Steps:
    """How a holder runs parts, whose names are below its path."""
    return tuple(
        (
            tuple(name(holder, part).split(".")),
            tuple(steps(holder, branch) for branch in part.branches) if isinstance(part, network.Parallel) else (),
        )
        for part in parts
    )


def name(holder: str, part: Part) -> str:
    """A part's name below its holder's path."""
    return part.path.removeprefix(f"{holder}.") if holder else part.path


def alone(model: ResNet, path: str) -> Callable[[Tensor], Any]:
    """A part as a function of its input, or the model itself: a Parallel comes with the branches that it joins."""
    module: nn.Layer = model
    for name in path.split(".") if path else ():
        module = module._sub_layers[name]
    part = model.network.part(path) if path else None
    if not isinstance(part, network.Parallel):
        return module
    branches = [_branch(model, steps("", branch)) for branch in part.branches]
    return lambda x: module(x, branches)


def through(module: nn.Layer, steps: Steps, x: Tensor) -> Tensor:
    """Run parts of a layer one after another. They are looked up each time, so that a user may replace one."""
    for names, branches in steps:
        part: Any = module
        for name in names:
            part = part._sub_layers[name]
        x = part(x, [_branch(module, branch) for branch in branches]) if branches else part(x)
    return x


def _branch(module: nn.Layer, steps: Steps) -> Callable[[Tensor], Tensor] | None:
    """A branch as a function; a partial one would not be compiled, and would see unknown sizes as -1."""

    def run(x: Tensor) -> Tensor:
        return through(module, steps, x)

    return run if steps else None
