"""The modules that hold others: a network, a residual block. What they hold is registered under its path's own names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias, assert_never

import torch
from torch import Tensor, nn

from resnet_spec.language.spec import Join, Role
from resnet_spec.network import network
from resnet_spec.network.network import Network, Part


@dataclass(frozen=True, slots=True)
class Step:
    """A module to run, by the names that lead to it from its holder: ``("downsample",)`` or ``("stages", "0")``.

    ``branches`` are what a Parallel joins: each a row of steps from the same holder, since that is where their names are.
    """

    names: tuple[str, ...]
    branches: tuple[Steps, ...] = ()


Steps: TypeAlias = tuple[Step, ...]


class ResNet(nn.Module):
    """A network: its parts run one after another. (batch, channels, height, width) -> what the spec's head gives.

    Where the network has ``outputs``, it gives those maps, as a tuple in the order that they were asked for.
    """

    resnet_spec_backend: ClassVar[str] = "torch"

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
            x = maps[".".join(step.names)] = through(self, (step,), x)
        return tuple(maps[path] for path in self.network.outputs)


class Chain(nn.Module):
    """Parts run one after another, where they are no plain row of children as nn.Sequential holds."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return through(self, self._steps, x)


class Residual(nn.Module):
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
        # No name is kept for what the sections give: it would be kept in memory as well, while what follows runs.
        both = _combined(
            self._combine,
            through(self, self._branch, y),
            through(self, self._shortcut, y if self._reads == "before" else x),
        )
        del y
        return through(self, self._after, both)

    def extra_repr(self) -> str:
        return "" if self._combine == "add" else f"combine={self._combine}"


def _combined(combine: Literal["add", "multiply"], branch: Tensor, shortcut: Tensor) -> Tensor:
    match combine:
        case "add":
            return branch + shortcut
        case "multiply":
            return shortcut * branch.reshape(*branch.shape, *[1] * (shortcut.ndim - branch.ndim))
        case _:
            assert_never(combine)


class Parallel(nn.Module):
    """Joins branches that read the same input, or each its own piece of the channels. It owns none: they stand beside it."""

    def __init__(self, split: bool, cascade: bool, combine: Join) -> None:
        super().__init__()
        self._split = split
        self._cascade = cascade
        self._combine: Join = combine

    def forward(self, x: Tensor, branches: Sequence[Callable[[Tensor], Tensor] | None]) -> Tensor:
        given = x.chunk(len(branches), dim=1) if self._split else [x] * len(branches)
        gives: list[Tensor] = []
        for branch, piece in zip(branches, given, strict=True):
            if branch is None:
                gives.append(piece)
            else:
                gives.append(branch(piece + gives[-1] if self._cascade and gives else piece))
        match self._combine:
            case "concat":
                return torch.cat(gives, dim=1)
            case "add":
                return torch.stack(gives).sum(dim=0)
            case "mean":
                return torch.stack(gives).mean(dim=0)
            case _:
                assert_never(self._combine)

    def extra_repr(self) -> str:
        return f"split={self._split}, cascade={self._cascade}, combine={self._combine}"


def steps(holder: str, parts: Iterable[Part]) -> Steps:
    """How a holder runs parts, whose names are below its path."""
    return tuple(
        Step(
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
    module = model.get_submodule(path)
    part = model.network.part(path) if path else None
    if not isinstance(part, network.Parallel):
        return module
    branches = [partial(through, model, steps("", branch)) if branch else None for branch in part.branches]
    return lambda x: module(x, branches)


def through(module: nn.Module, steps: Steps, x: Tensor) -> Tensor:
    """Run parts of a module one after another. They are looked up each time, so that a user may replace one."""
    for step in steps:
        part: Any = module
        for name in step.names:
            part = part._modules[name]
        if step.branches:
            x = part(x, [partial(through, module, branch) if branch else None for branch in step.branches])
        else:
            x = part(x)
    return x
