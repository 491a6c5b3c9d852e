"""The bundled networks, each loaded once for all tests of a process."""

from __future__ import annotations

from functools import cache

from resnet_spec import Network, load
from resnet_spec.library import bundled


@cache
def bundled_network(name: str) -> Network:
    """Return a bundled network as its spec says, without settings."""
    return load(name)


def bundled_networks() -> dict[str, Network]:
    """Return every bundled network by name."""
    return {name: bundled_network(name) for name in bundled.names()}
