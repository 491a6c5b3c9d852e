"""The strides of feature maps, which follow from their shapes."""

from __future__ import annotations

import pytest

from resnet_spec import load, loads

HEAD = "name: s\n"


def strides(text: str) -> dict[str, int]:
    return {feature.path: feature.stride for feature in loads(f"{HEAD}{text}").features()}


@pytest.mark.parametrize("size", [224, 97, 33])
def test_strides_do_not_depend_on_the_size_of_the_image(size: int) -> None:
    network = load("resnet18", input=(3, size, size))
    stages = {stage.path for stage in network.stages}
    found = {feature.path: feature.stride for feature in network.features() if feature.path in stages}
    assert found == {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}


def test_a_map_pooled_over_the_image_has_the_stride_of_the_image() -> None:
    layers = "{c: {op: conv, out: 8, kernel: 3, stride: 2}, p: {op: global_avg_pool, keepdims: true}}"
    assert strides(f"input: [3, 96, 96]\nstem: {layers}") == {"c": 2, "p": 96}


def test_unpadded_windows_do_not_change_the_stride() -> None:
    assert strides("input: [3, 32, 32]\nstem: {c: {op: conv, out: 8, kernel: 7}}") == {"c": 1}


def test_the_stride_of_branches_is_that_of_their_joined_map() -> None:
    text = """input: [3, 32, 32]
stem:
  f:
    combine: concat
    branches:
      - {a: {op: global_avg_pool, keepdims: true}, z: {op: zero_pad, right: 31, bottom: 31}}
      - none
"""
    assert strides(text)["f"] == 1
