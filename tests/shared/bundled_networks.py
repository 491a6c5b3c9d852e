"""The bundled networks, each loaded once for all tests of a process, and smaller copies of them."""

from __future__ import annotations

from functools import cache

from resnet_spec import Network, load, loads
from resnet_spec.library import bundled
from resnet_spec.transforms.width_reduction import reduce_width


@cache
def bundled_network(name: str) -> Network:
    """Return a bundled network as its spec says, without settings."""
    return load(name)


def bundled_networks() -> dict[str, Network]:
    """Return every bundled network by name."""
    return {name: bundled_network(name) for name in bundled.names()}


@cache
def small_copy(name: str, input: tuple[int, int, int] = (3, 72, 56), classes: int = 7) -> Network:
    """Return a copy of a bundled network with one block in each stage, and fewer channels.

    How long a network compiles depends on its number of parts, and how long it runs on its width.
    """
    return reduce_width(shallow_copy(name, input, classes))


@cache
def shallow_copy(name: str, input: tuple[int, int, int] = (3, 72, 56), classes: int = 7) -> Network:
    """Return a copy of a bundled network with one block in each stage."""
    stages = ", ".join(f"{stage.path}: {{depth: 1}}" for stage in bundled_network(name).stages)
    text = f"{{name: shallow, extends: {name}, input: {[*input]}, stages: {{{stages}}}}}"
    return loads(text, classes=classes)
