"""Fingerprint, weights and costs of every bundled network are as recorded.

``tests/data/recorded_networks.json`` has, for each network, its fingerprint, a hash of its weights' names and shapes in
order, and its parameters, statistics and multiply-accumulate operations.
"""

from __future__ import annotations

import hashlib
import json

import pytest

from resnet_spec import Network
from shared.bundled_networks import bundled_network
from shared.paths import DATA
from shared.sampling import one_in

RECORD = json.loads((DATA / "recorded_networks.json").read_text(encoding="utf-8"))


def summarize(network: Network) -> list[str | int]:
    names = json.dumps([[name, list(shape)] for name, shape in network.weights().items()], separators=(",", ":"))
    digest = hashlib.sha256(names.encode()).hexdigest()[:16]
    return [network.fingerprint, digest, network.parameters, network.statistics, network.macs]


@pytest.mark.parametrize("name", one_in(10, RECORD))
def test_a_bundled_network_is_as_recorded(name: str) -> None:
    assert summarize(bundled_network(name)) == RECORD[name]
