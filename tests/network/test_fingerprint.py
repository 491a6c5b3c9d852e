"""Fingerprints are equal exactly if networks compute the same with the same names of weights."""

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
def test_fingerprints_do_not_change(name: str, fingerprint: str) -> None:
    """Converted checkpoints contain fingerprints, so a change would break them."""
    assert load(name).fingerprint == fingerprint


def test_fingerprint_does_not_depend_on_python_hashes() -> None:
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
def test_equal_networks_have_equal_fingerprints(other: str) -> None:
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
def test_different_networks_have_different_fingerprints(other: str) -> None:
    assert loads(other).fingerprint != loads(SMALL).fingerprint


@pytest.mark.sweep  # it loads all of them
def test_bundled_networks_with_equal_fingerprints_are_equal() -> None:
    by_fingerprint: dict[str, set[tuple[tuple[str, object], ...]]] = {}
    for name in bundled.names():
        network = bundled_network(name)
        by_fingerprint.setdefault(network.fingerprint, set()).add(
            tuple((leaf.path, leaf.op) for leaf in network.leaves())
        )
    assert all(len(networks) == 1 for networks in by_fingerprint.values())


def test_network_knows_its_integer_arguments() -> None:
    assert load("resnet18", classes=10).takes == (("classes", 10),)
