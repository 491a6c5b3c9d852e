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
def small_copy(name: str, depth: int = 1, input: tuple[int, int, int] = (3, 72, 56), classes: int = 7) -> Network:
    """Return a copy of a bundled network with fewer channels, and with ``depth`` blocks in each stage.

    It has every kind of part that the network has, and its shortcuts with and without a projection if ``depth`` is 2.
    A network compiles in a time that its number of parts decides, and runs in one that its width decides.
    """
    stages = ", ".join(f"{stage.path}: {{depth: {depth}}}" for stage in bundled_network(name).stages)
    text = f"{{name: small, extends: {name}, input: {[*input]}, stages: {{{stages}}}}}"
    return reduce_width(loads(text, classes=classes))
