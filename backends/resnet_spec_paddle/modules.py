"""The layers that hold others: a network, a residual block. What they hold is registered under its path's own names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal, TypeAlias, assert_never

from paddle import Tensor, nn

from resnet_spec.network import Network
from resnet_spec.spec import Role

Names: TypeAlias = tuple[tuple[str, ...], ...]
"""Layers below one, each by the names that lead to it: ``("downsample",)`` or ``("stages", "0")``."""


class ResNet(nn.Layer):
    """A network: its parts run one after another. (batch, channels, height, width) -> what the spec's head gives."""

    resnet_spec_backend: ClassVar[str] = "paddle"

    def __init__(self, network: Network, parts: Iterable[str]) -> None:
        super().__init__()
        self.network = network
        self._parts = _names(parts)

    def forward(self, images: Tensor) -> Tensor:
        return through(self, self._parts, images)


class Chain(nn.Layer):
    """Parts run one after another, where their names are too deep for nn.Sequential."""

    def __init__(self, parts: Iterable[str]) -> None:
        super().__init__()
        self._parts = _names(parts)

    def forward(self, x: Tensor) -> Tensor:
        return through(self, self._parts, x)


class Residual(nn.Layer):
    """``after(combine(branch(y), shortcut))`` with y = before(x); the shortcut is x itself, or reads y."""

    def __init__(self, sections: Mapping[Role, Iterable[str]], combine: Literal["add", "multiply"]) -> None:
        super().__init__()
        self._before = _names(sections.get("before", ()))
        self._branch = _names(sections.get("branch", ()))
        self._shortcut = _names(sections.get("shortcut", ()))
        self._after = _names(sections.get("after", ()))
        self._combine: Literal["add", "multiply"] = combine

    def forward(self, x: Tensor) -> Tensor:
        y = through(self, self._before, x)
        branch = through(self, self._branch, y)
        shortcut = through(self, self._shortcut, y) if self._shortcut else x
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


def through(module: nn.Layer, parts: Names, x: Tensor) -> Tensor:
    """Run parts of a layer one after another. They are looked up each time, so that a user may replace one."""
    for names in parts:
        part = module
        for name in names:
            part = part._sub_layers[name]
        x = part(x)
    return x


def _names(parts: Iterable[str]) -> Names:
    return tuple(tuple(part.split(".")) for part in parts)
