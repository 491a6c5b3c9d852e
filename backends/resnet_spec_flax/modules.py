"""The modules that hold others: a network, a residual block. What they hold is registered under its path's own names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, assert_never

import jax.numpy as jnp
from flax import nnx
from jax import Array

from resnet_spec.language.spec import Join, Role
from resnet_spec.network import network
from resnet_spec.network.network import Network, Part

Tap: TypeAlias = Callable[[str, Array], Array]
"""Takes a part's path and its output, and gives what goes on in its place."""


@dataclass(frozen=True, slots=True)
class Step:
    """A part to run, by its name below its holder: ``downsample`` or ``stages.0``.

    ``branches`` are what a Parallel joins: each a row of steps from the same holder, since that is where their names are.
    """

    name: str
    branches: tuple[Steps, ...] = ()


Steps: TypeAlias = tuple[Step, ...]


class ResNet(nnx.Module):
    """A network: its parts run one after another. (batch, height, width, channels) -> what the spec's head gives.

    Where the network has ``outputs``, it gives those maps, as a tuple in the order that they were asked for.
    """

    resnet_spec_backend: ClassVar[str] = "flax"

    def __init__(self, network: Network) -> None:
        self._network = network  # printing a model leaves out what begins with _
        self._steps = steps("", network.parts)

    @property
    def network(self) -> Network:
        return self._network

    def __call__(self, images: Array, tap: Tap | None = None) -> Any:
        if not self._network.outputs:
            return through(self, "", self._steps, images, tap)
        maps: dict[str, Array] = {}
        x = images
        for step in self._steps:
            x = maps[step.name] = through(self, "", (step,), x, tap)
        return tuple(maps[path] for path in self._network.outputs)


class Chain(nnx.Module):
    """Parts run one after another, found as ``model.layer1[0]`` too. (nnx.Sequential has them one name deeper, and by number.)"""

    def __init__(self, path: str, steps: Steps) -> None:
        self._path = path
        self._steps = steps

    def __call__(self, x: Array, tap: Tap | None = None) -> Array:
        return through(self, self._path, self._steps, x, tap)

    def __getitem__(self, name: int | str) -> Any:
        return getattr(self, str(name))

    def __setitem__(self, name: int | str, part: Any) -> None:
        setattr(self, str(name), part)


class Numbered(Chain):
    """A chain of parts called 0, 1, 2, as an nnx.List has them: sorted by number, by NNX too.

    Sorted as words, 10 comes before 2, and XLA orders what a training step computes by its weights: a resnet152's took a tenth longer.
    """

    _pytree__has_int_keys = True


class Residual(nnx.Module):
    """``after(combine(branch(y), shortcut(z)))`` with y = before(x); z is x or y, as ``reads`` says."""

    def __init__(
        self,
        path: str,
        sections: Mapping[Role, Steps],
        combine: Literal["add", "multiply"],
        reads: Literal["input", "before"],
    ) -> None:
        self._path = path
        self._before = sections.get("before", ())
        self._branch = sections.get("branch", ())
        self._shortcut = sections.get("shortcut", ())
        self._after = sections.get("after", ())
        self._combine: Literal["add", "multiply"] = combine
        self._reads: Literal["input", "before"] = reads

    def __call__(self, x: Array, tap: Tap | None = None) -> Array:
        y = through(self, self._path, self._before, x, tap)
        branch = through(self, self._path, self._branch, y, tap)
        shortcut = through(self, self._path, self._shortcut, y if self._reads == "before" else x, tap)
        match self._combine:
            case "add":
                both = branch + shortcut
            case "multiply":  # (batch, channels) -> (batch, 1, 1, channels)
                both = shortcut * jnp.expand_dims(branch, range(1, 1 + shortcut.ndim - branch.ndim))
            case _:
                assert_never(self._combine)
        return through(self, self._path, self._after, both, tap)


@dataclass(frozen=True)
class Parallel:
    """Joins branches that read the same input, or each its own piece of the channels. It owns none: they stand beside it."""

    split: bool
    cascade: bool
    combine: Join

    def __call__(self, x: Array, branches: Sequence[Callable[[Array], Array] | None]) -> Array:
        given = jnp.split(x, len(branches), axis=-1) if self.split else [x] * len(branches)
        gives: list[Array] = []
        for branch, piece in zip(branches, given, strict=True):
            if branch is None:
                gives.append(piece)
            else:
                gives.append(branch(piece + gives[-1] if self.cascade and gives else piece))
        match self.combine:
            case "concat":
                return jnp.concatenate(gives, axis=-1)
            case "add":
                return jnp.stack(gives).sum(axis=0)
            case "mean":
                return jnp.stack(gives).mean(axis=0)
            case _:
                assert_never(self.combine)


def numbered(steps: Steps) -> bool:
    """Whether all that they name in their holder is called 0, 1, 2."""
    return all(
        step.name.isdecimal() and step.name == str(int(step.name)) and all(map(numbered, step.branches))
        for step in steps
    )


def steps(holder: str, parts: Iterable[Part]) -> Steps:
    """How a holder runs parts, whose names are below its path."""
    return tuple(
        Step(
            name(holder, part),
            tuple(steps(holder, branch) for branch in part.branches) if isinstance(part, network.Parallel) else (),
        )
        for part in parts
    )


def name(holder: str, part: Part) -> str:
    """A part's name below its holder's path."""
    return part.path.removeprefix(f"{holder}.") if holder else part.path


def through(module: nnx.Module, path: str, steps: Steps, x: Array, tap: Tap | None) -> Array:
    """Run parts of a module one after another. They are looked up each time, so that a user may replace one."""
    for step in steps:
        part = below(module, step.name)
        x = part(x, _branches(module, path, step.branches, tap)) if step.branches else called(part, x, tap)
        if tap is not None:
            x = tap(f"{path}.{step.name}" if path else step.name, x)
    return x


def _branches(
    module: nnx.Module, path: str, branches: Iterable[Steps], tap: Tap | None
) -> list[Callable[[Array], Array] | None]:
    def run(branch: Steps) -> Callable[[Array], Array]:
        return lambda x: through(module, path, branch, x, tap)

    return [run(branch) if branch else None for branch in branches]


def alone(model: ResNet, path: str, x: Array, tap: Tap | None) -> Any:
    """Run one part, or the model itself: a Parallel comes with the branches that it joins."""
    part = model.network.part(path) if path else None
    if not isinstance(part, network.Parallel):
        return called(below(model, path), x, tap)
    branches = [steps("", branch) for branch in part.branches]
    return below(model, path)(x, _branches(model, "", branches, tap))


def called(part: Any, x: Array, tap: Tap | None) -> Array:
    """Run a part; one of ours with what taps the parts below it."""
    return part(x, tap) if isinstance(part, (ResNet, Chain, Residual)) else part(x)


def below(module: nnx.Module, path: str) -> Any:
    """What a path leads to from a module; the module itself, if it is empty."""
    part: Any = module
    for name in path.split(".") if path else ():
        part = getattr(part, name)
    return part
