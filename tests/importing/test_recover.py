"""What is recovered from a tree reads well, and loads as the same network, whatever the tree."""

from __future__ import annotations

import pytest

from resnet_spec import load, loads
from resnet_spec.importing.dataflow import dataflow_fingerprint
from resnet_spec.importing.importer import recover_spec
from resnet_spec.importing.recover.document import recover_document
from resnet_spec.importing.recover.layout import WIDTH, lay_out
from resnet_spec.network.network import Network
from resnet_spec.parity.random_networks import generate_network
from shared.every_operation import EVERY_OPERATION, MODERN_OPERATIONS
from shared.sampling import one_in

LINES = {
    "resnet152": 16,
    "timm/skresnet50": 16,
    "timm/resnetv2_50": 25,
    "timm/regnety_002": 36,
    "timm/res2net50_26w_4s": 62,
    "timm/convnext_tiny": 39,
    "timm/mobilenetv3_large_100": 30,  # in calls of bundled blocks that leave a padding to the defaults
    "timm/efficientnet_b0": 25,
    "cifar/wrn_40_2": 22,
    "keras/ResNet50": 24,
}
"""The most lines of the text that is recovered from some networks, which have 90 to 500 layers."""


def recover(network: Network) -> str:
    return lay_out(recover_document("again", network.input, network.parts, {}))


@pytest.mark.parametrize("name", LINES)
def test_a_bundled_network_reads_well(name: str) -> None:
    network = load(name)
    text = recover(network)
    again = loads(text)
    assert again.weights() == network.weights()
    assert dataflow_fingerprint(again) == dataflow_fingerprint(network)
    assert len(text.splitlines()) <= LINES[name]
    assert max(map(len, text.splitlines())) <= WIDTH


@pytest.mark.parametrize("spec", [EVERY_OPERATION, MODERN_OPERATIONS], ids=["every operation", "modern operations"])
def test_every_operation_is_written(spec: str) -> None:
    network = loads(spec)
    assert dataflow_fingerprint(loads(recover(network))) == dataflow_fingerprint(network)


def test_arguments_are_found_where_blocks_differ() -> None:
    text = """
name: n
input: [3, 32, 32]
blocks:
  mine:
    takes: {out: required, wide: required, kernel: 3, stride: 1}
    project: drop
    branch:
      a: {op: conv, out: wide, kernel: 1}
      norm: norm
      b: {op: conv, out: wide, kernel: kernel, stride: stride, padding: half, groups: wide}
      c: {op: conv, out: out, kernel: 1}
stages:
  body: {block: mine, depth: 4, out: [8, 8, 16, 16], wide: [12, 24, 24, 48], kernel: [3, 5, 5, 3], stride: [1, 1, 2, 1]}
"""
    network = loads(text)
    written = recover(network)
    assert loads(written).parts == network.parts
    assert "project: drop" in written
    assert "groups: width" in written
    assert "padding: half" in written
    assert len(written.splitlines()) <= 16


@pytest.mark.parametrize("seed", one_in(3, range(15)))
def test_a_random_network_is_said(seed: int) -> None:
    network = generate_network(seed)
    text, again = recover_spec(network, {}, extends=False, is_ordered=True)
    assert loads(text).parts == again.parts
    assert dataflow_fingerprint(again) == dataflow_fingerprint(network)
    assert again.weights().keys() == network.weights().keys()
