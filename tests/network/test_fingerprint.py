"""A network's fingerprint: the same wherever the network computes the same under the same names, and only there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from resnet_spec import load, loads
from resnet_spec.library import bundled
from resnet_spec.network.to_yaml import to_yaml
from shared.bundled_networks import bundled_network

SMALL = "{name: s, input: [3, 8, 8], stem: {a: {op: conv, out: 4, kernel: 3}, b: norm}}"


@pytest.mark.parametrize(
    ("name", "fingerprint"),
    [
        ("resnet18", "0ee462efef21c3174c2a0cfe148e334a"),
        ("resnext50_32x4d", "25ef926f02abc07b53579b1d691fc38e"),
    ],
)
def test_fingerprints_stay_what_they_are(name: str, fingerprint: str) -> None:
    """Files out in the world hold them: a change here is a change of the format."""
    assert load(name).fingerprint == fingerprint


def test_python_hashes_have_no_part_in_it() -> None:
    code = "import resnet_spec; print(resnet_spec.load('resnet18').fingerprint)"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == load("resnet18").fingerprint


@pytest.mark.parametrize(
    "other",
    [
        SMALL.replace("name: s", "name: other"),
        SMALL.replace("[3, 8, 8]", "[3, 16, 12]"),
        SMALL.replace("b: norm", "b: {op: batch_norm, epsilon: 1.0e-5}"),
        to_yaml(loads(SMALL)),
    ],
)
def test_the_same_network_has_the_same(other: str) -> None:
    assert loads(other).fingerprint == loads(SMALL).fingerprint


@pytest.mark.parametrize(
    "other",
    [
        SMALL.replace("[3, 8, 8]", "[1, 8, 8]"),
        SMALL.replace("out: 4", "out: 5"),
        SMALL.replace("kernel: 3", "kernel: 3, padding: 1"),
        SMALL.replace("b: norm", "c: norm"),
        SMALL.replace("b: norm", "b: {op: batch_norm, epsilon: 1.0e-3}"),
    ],
)
def test_another_network_has_another(other: str) -> None:
    assert loads(other).fingerprint != loads(SMALL).fingerprint


def test_bundled_networks_that_share_one_are_the_same() -> None:
    by_print: dict[str, set[tuple[tuple[str, object], ...]]] = {}
    for name in bundled.names():
        network = bundled_network(name)
        by_print.setdefault(network.fingerprint, set()).add(tuple((leaf.path, leaf.op) for leaf in network.leaves()))
    assert all(len(same) == 1 for same in by_print.values())


def test_a_network_knows_the_numbers_that_it_was_told() -> None:
    assert load("resnet18", classes=10).takes == (("classes", 10),)
