"""The tables of published weights."""

from __future__ import annotations

from collections import Counter

import pytest

from resnet_spec.library import bundled
from resnet_spec.library.published import (
    PublishedWeights,
    UnknownTagError,
    choose_published,
    find_published,
    read_published,
)


def test_every_row_is_of_a_bundled_network_and_has_a_file() -> None:
    names = set(bundled.names())
    assert [w.key for w in read_published() if {w.spec, *w.same_network} - names or not w.files] == []


def test_tags_are_unique_and_each_network_has_one_default() -> None:
    tags = Counter((w.spec, w.tag) for w in read_published())
    assert [key for key, count in tags.items() if count > 1] == []
    defaults = Counter(w.spec for w in read_published() if w.default)
    assert defaults == dict.fromkeys({w.spec for w in read_published()}, 1)


def test_a_row_says_what_its_table_says_for_all() -> None:
    weights = choose_published("timm/resnet50", "a1_in1k")
    assert isinstance(weights, PublishedWeights)
    assert (weights.interpolation, weights.crop_pct, weights.test_input) == ("bicubic", 0.95, (3, 288, 288))
    assert [file.name for file in weights.files] == ["resnet50_a1_0-14fe96d1.pth", "model.safetensors"]
    assert weights.files[1].url == "https://huggingface.co/timm/resnet50.a1_in1k/resolve/main/model.safetensors"


def test_default_is_the_tag_that_the_library_takes() -> None:
    assert choose_published("torchvision/resnet50", "default").tag == "IMAGENET1K_V2"
    assert choose_published("resnet50", "default").spec == "torchvision/resnet50"


def test_an_unknown_tag_names_the_nearest() -> None:
    with pytest.raises(UnknownTagError, match="no published weights with the tag 'a1_in1'; did you mean 'a1_in1k'"):
        choose_published("timm/resnet50", "a1_in1")
    with pytest.raises(UnknownTagError, match="no weights are published for resnet18_biased_shortcut"):
        choose_published("resnet18_biased_shortcut", "default")


def test_bare_names_without_weights_have_none() -> None:
    assert find_published("resnet18_biased_shortcut") == ()
