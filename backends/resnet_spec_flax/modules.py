"""The modules that hold others: a network, a residual block. What they hold is registered under its path's own names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias, assert_never

import jax.numpy as jnp
from flax import nnx
from jax import Array

from resnet_spec.network import Network
from resnet_spec.spec import Role

Tap: TypeAlias = Callable[[str, Array], Array]
"""Takes a part's path and its output, and gives what goes on in its place."""


class ResNet(nnx.Module):
    """A network: its parts run one after another. (batch, height, width, channels) -> what the spec's head gives."""

    resnet_spec_backend: ClassVar[str] = "flax"

    def __init__(self, network: Network, parts: Iterable[str]) -> None:
        self._network = network  # printing a model leaves out what begins with _
        self._parts = tuple(parts)

    @property
    def network(self) -> Network:
        return self._network

    def __call__(self, images: Array, tap: Tap | None = None) -> Array:
        return through(self, "", self._parts, images, tap)


class Chain(nnx.Module):
    """Parts run one after another, found as ``model.layer1[0]`` too. (nnx.Sequential has them one name deeper, and by number.)"""

    def __init__(self, path: str, parts: Iterable[str]) -> None:
        self._path = path
        self._parts = tuple(parts)

    def __call__(self, x: Array, tap: Tap | None = None) -> Array:
        return through(self, self._path, self._parts, x, tap)

    def __getitem__(self, name: int | str) -> Any:
        return getattr(self, str(name))

    def __setitem__(self, name: int | str, part: Any) -> None:
        setattr(self, str(name), part)


class Residual(nnx.Module):
    """``after(combine(branch(y), shortcut))`` with y = before(x); the shortcut is x itself, or reads y."""

    def __init__(self, path: str, sections: Mapping[Role, Iterable[str]], combine: Literal["add", "multiply"]) -> None:
        self._path = path
        self._before = tuple(sections.get("before", ()))
        self._branch = tuple(sections.get("branch", ()))
        self._shortcut = tuple(sections.get("shortcut", ()))
        self._after = tuple(sections.get("after", ()))
        self._combine: Literal["add", "multiply"] = combine

    def __call__(self, x: Array, tap: Tap | None = None) -> Array:
        y = through(self, self._path, self._before, x, tap)
        branch = through(self, self._path, self._branch, y, tap)
        shortcut = through(self, self._path, self._shortcut, y, tap) if self._shortcut else x
        match self._combine:
            case "add":
                both = branch + shortcut
            case "multiply":  # (batch, channels) -> (batch, 1, 1, channels)
                both = shortcut * jnp.expand_dims(branch, range(1, 1 + shortcut.ndim - branch.ndim))
            case _:
                assert_never(self._combine)
        return through(self, self._path, self._after, both, tap)


def through(module: nnx.Module, path: str, parts: Iterable[str], x: Array, tap: Tap | None) -> Array:
    """Run parts of a module one after another. They are looked up each time, so that a user may replace one."""
    for name in parts:
        x = called(below(module, name), x, tap)
        if tap is not None:
            x = tap(f"{path}.{name}" if path else name, x)
    return x


def called(part: Any, x: Array, tap: Tap | None) -> Array:
    """Run a part; one of ours with what taps the parts below it."""
    return part(x, tap) if isinstance(part, (ResNet, Chain, Residual)) else part(x)


def below(module: nnx.Module, path: str) -> Any:
    """What a path leads to from a module; the module itself, if it is empty."""
    part: Any = module
    for name in path.split(".") if path else ():
        part = getattr(part, name)
    return part
