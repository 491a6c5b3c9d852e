"""Bundled networks, built in PyTorch or exported to ONNX, come back."""

from __future__ import annotations

import pytest

from resnet_spec import loads
from resnet_spec.library import bundled
from shared.frameworks import required
from shared.import_sweep import IMPORTERS, count_lines, first_difference, small_network, sweep, try_round_trip

SHARE = [
    *(("torch", name) for name in ("resnet18", "timm/resnetv2_18", "timm/regnety_002", "timm/efficientnet_b0")),
    *(("torch", name) for name in ("keras/MobileNet", "torchvision/squeezenet1_1")),
    *(("onnx", name) for name in ("timm/resnet26d", "timm/skresnet18", "flax/ResNet18", "timm/convnextv2_atto")),
    *(("onnx", name) for name in ("timm/resnetv2_50d_evos", "timm/nfnet_f0")),
]
"""The round trips that run always; all others run with --sweep."""

MIN_EQUAL = 0.95
"""The share of networks that must come back equal; the others compute the same numbers."""


@pytest.mark.parametrize(("kind", "name"), SHARE)
@pytest.mark.share(2)
def test_a_bundled_network_comes_back(kind: str, name: str) -> None:
    required(kind)
    assert try_round_trip(kind, small_network(name)) == ("equal", "")


@pytest.mark.sweep
@pytest.mark.parametrize("kind", IMPORTERS)
def test_bundled_networks_come_back(kind: str) -> None:
    required(kind)
    found = {name: (verdict, reason) for name, verdict, reason in sweep(kind, [])}
    lost = {name: why for name, why in found.items() if why[0] not in ("equal", "same numbers")}
    assert lost == {}
    assert sum(verdict == "equal" for verdict, _ in found.values()) >= MIN_EQUAL * len(bundled.names())


def test_the_first_difference_is_named() -> None:
    text = "{{name: n, input: [3, 8, 8], stem: {{c: {{op: conv, out: 4, kernel: {}}}, a: relu}}}}"
    one, three = (loads(text.format(kernel)) for kernel in (1, 3))
    assert first_difference(one, three).startswith("c: Conv(out=4, kernel=1")
    assert first_difference(one, one) == "the same layers, otherwise connected"


def test_texts_are_short() -> None:
    assert count_lines("resnet152") <= 40
    assert count_lines("timm/convnext_tiny") <= 40
