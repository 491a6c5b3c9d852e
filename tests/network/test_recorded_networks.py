"""Fingerprint, weights and costs of every bundled network are as recorded.

``tests/data/recorded_networks.json`` has, for each network, its fingerprint, a hash of its weights' names and shapes in
order, and its parameters, statistics and multiply-accumulate operations.
"""

from __future__ import annotations

import hashlib
import json

from resnet_spec import Network
from shared.bundled_networks import bundled_networks
from shared.paths import DATA

RECORD = json.loads((DATA / "recorded_networks.json").read_text(encoding="utf-8"))


def summarize(network: Network) -> list[str | int]:
    names = json.dumps([[name, list(shape)] for name, shape in network.weights().items()], separators=(",", ":"))
    digest = hashlib.sha256(names.encode()).hexdigest()[:16]
    return [network.fingerprint, digest, network.parameters, network.statistics, network.macs]


def test_every_bundled_network_is_as_recorded() -> None:
    networks = bundled_networks()
    assert {name: summarize(networks[name]) for name in RECORD} == RECORD
