"""The modules that hold others: a network, a residual block. What they hold is registered under its path's own names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, assert_never

import jax.numpy as jnp
from flax import nnx
from jax import Array

from resnet_spec.language.spec import Join
from resnet_spec.network.execution import ResidualSteps, Steps, plan_part, plan_steps
from resnet_spec.network.network import Network

Tap: TypeAlias = Callable[[str, Array], Array]
"""Takes a part's path and its output, and gives what goes on in its place."""


class ResNet(nnx.Module):
    """A network: its parts run one after another. (batch, height, width, channels) -> what the spec's head gives.

    Where the network has ``outputs``, it gives those maps, as a tuple in the order that they were asked for.
    """

    resnet_spec_backend: ClassVar[str] = "flax"

    def __init__(self, network: Network) -> None:
        self._network = network  # printing a model leaves out what begins with _
        self._steps = plan_steps("", network.parts)

    @property
    def network(self) -> Network:
        return self._network

    def __call__(self, images: Array, tap: Tap | None = None) -> Any:
        if not self._network.outputs:
            return run_steps(self, "", self._steps, images, tap)
        maps: dict[str, Array] = {}
        x = images
        for step in self._steps:
            x = maps[".".join(step[0])] = run_steps(self, "", (step,), x, tap)
        return tuple(maps[path] for path in self._network.outputs)


class Chain(nnx.Module):
    """Parts run one after another, found as ``model.layer1[0]`` too. (nnx.Sequential has them one name deeper, and by number.)"""

    def __init__(self, path: str, steps: Steps) -> None:
        self._path = path
        self._steps = steps

    def __call__(self, x: Array, tap: Tap | None = None) -> Array:
        return run_steps(self, self._path, self._steps, x, tap)

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
    """A residual block: ``after(combine(branch(y), shortcut(z)))`` with y = before(x), and z = y or x."""

    def __init__(self, path: str, steps: ResidualSteps) -> None:
        self._path = path
        self._plan = steps

    def __call__(self, x: Array, tap: Tap | None = None) -> Array:
        plan = self._plan
        y = run_steps(self, self._path, plan.before, x, tap)
        branch = run_steps(self, self._path, plan.branch, y, tap)
        shortcut = run_steps(self, self._path, plan.shortcut, y if plan.shortcut_reads == "before" else x, tap)
        match plan.combine:
            case "add":
                both = branch + shortcut
            case "multiply":  # (batch, channels) -> (batch, 1, 1, channels)
                both = shortcut * jnp.expand_dims(branch, range(1, 1 + shortcut.ndim - branch.ndim))
            case _:
                assert_never(plan.combine)
        return run_steps(self, self._path, plan.after, both, tap)


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


def is_numbered(steps: Steps) -> bool:
    """Return whether all that steps name in their holder is called 0, 1, 2, as the elements of a list are."""
    return all(
        len(names) == 1 and names[0].isdecimal() and names[0] == str(int(names[0])) and all(map(is_numbered, branches))
        for names, branches in steps
    )


def run_steps(module: nnx.Module, path: str, steps: Steps, x: Array, tap: Tap | None) -> Array:
    """Run parts of a module one after another. They are looked up by name at each call, so a user may replace one."""
    for names, branches in steps:
        part: Any = module
        for name in names:
            part = getattr(part, name)
        x = part(x, _branches(module, path, branches, tap)) if branches else called(part, x, tap)
        if tap is not None:
            x = tap(".".join([path, *names] if path else names), x)
    return x


def _branches(
    module: nnx.Module, path: str, branches: Iterable[Steps], tap: Tap | None
) -> list[Callable[[Array], Array] | None]:
    def run(branch: Steps) -> Callable[[Array], Array]:
        return lambda x: run_steps(module, path, branch, x, tap)

    return [run(branch) if branch else None for branch in branches]


def run_part(model: ResNet, path: str, x: Array, tap: Tap | None) -> Any:
    """Run one part of a model, or the model itself for an empty path."""
    part = below(model, path)
    branches = plan_part(model.network.part(path)) if path else ()
    return part(x, _branches(model, "", branches, tap)) if branches else called(part, x, tap)


def called(part: Any, x: Array, tap: Tap | None) -> Array:
    """Run a part; one of ours with what taps the parts below it."""
    return part(x, tap) if isinstance(part, (ResNet, Chain, Residual)) else part(x)


def below(module: nnx.Module, path: str) -> Any:
    """What a path leads to from a module; the module itself, if it is empty."""
    part: Any = module
    for name in path.split(".") if path else ():
        part = getattr(part, name)
    return part
