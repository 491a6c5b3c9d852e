"""Preparations of published weights give the pixels that the libraries' own give, by their recordings."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image

import resnet_spec
from resnet_spec.library.published import PublishedWeights, UnknownTagError, read_published
from resnet_spec.preparation.pictures import ImageError
from resnet_spec.preparation.preparation import Preparation, preparation_of_network, preparation_of_weights
from shared.paths import DATA
from shared.pictures import SIZES, digest, make_picture
from shared.sampling import in_sweep, one_in

RECORDED: dict[str, Any] = json.loads((DATA / "preparations.json").read_text(encoding="utf-8"))
"""What timm, torchvision and PaddleClas make of pictures; ``record_preparation.py`` wrote it."""

SAMPLE = "timm/resnet50 a1_in1k"


def find_weights(key: str) -> PublishedWeights:
    return next(weights for weights in read_published() if weights.key == key)


@cache
def digest_first_picture(preparation: Preparation) -> str:
    return digest(preparation.prepare(make_picture(*SIZES[0]))[0])


@pytest.mark.parametrize(
    "kind", one_in(15, RECORDED["kinds"]), ids=lambda kind: f"{kind['weights']} {kind['test_size']}"
)
def test_pixels_are_those_of_the_library(kind: dict[str, Any]) -> None:
    """Each different preparation of the published weights, on twelve pictures, to the last bit."""
    prepare = preparation_of_weights(find_weights(kind["weights"]), test_size=kind["test_size"])
    assert [digest(prepare(make_picture(*size))[0]) for size in SIZES] == kind["pictures"]


@pytest.mark.parametrize("every", [10, *in_sweep(1)])
def test_each_published_file_is_prepared_as_its_library_does(every: int) -> None:
    own = {weights.key: weights for weights in read_published() if weights.key in RECORDED["files"]}
    assert len(own) == len(RECORDED["files"]) > 1000
    wrong = [
        key
        for key, weights in [*own.items()][::every]
        if digest_first_picture(preparation_of_weights(weights)) != RECORDED["files"][key]
    ]
    assert wrong == []


def test_every_published_file_has_a_preparation() -> None:
    for weights in read_published():
        for test_size in (False, True):
            prepare = preparation_of_weights(weights, test_size=test_size)
            assert prepare.size == ((test_size and weights.test_input) or weights.input)[1:]


@pytest.mark.parametrize(
    ("name", "changes", "input"),
    [
        ("squash", {"crop_mode": "squash"}, None),
        ("border", {"crop_mode": "border", "crop_pct": 1.0}, None),
        ("wide", {}, (3, 192, 256)),
    ],
)
def test_other_crops_are_timms(name: str, changes: dict[str, Any], input: tuple[int, int, int] | None) -> None:
    prepare = preparation_of_weights(replace(find_weights(SAMPLE), **changes), input)
    assert [digest(prepare(make_picture(*size))[0]) for size in SIZES] == RECORDED["others"][name]


def test_keras_squashes_to_the_nearest_pixels_and_subtracts_a_mean_in_bgr() -> None:
    """The steps of keras.utils.load_img and keras.applications' preprocess_input, modes caffe and tf."""
    picture = make_picture(*SIZES[0])
    pixels = np.asarray(picture.resize((224, 224), Image.Resampling.NEAREST), np.float32)
    caffe = pixels[:, :, ::-1] - np.array((103.939, 116.779, 123.68), np.float32)
    old = resnet_spec.preprocessing("keras/ResNet50", weights="imagenet")
    assert (old(picture)[0] == caffe.transpose(2, 0, 1)).all()
    new = resnet_spec.preprocessing("keras/ResNet50V2", weights="imagenet")
    assert new(picture)[0] == pytest.approx((pixels / np.float32(127.5) - 1).transpose(2, 0, 1), abs=2e-7)


def test_numpy_arrays_and_several_pictures_are_the_same(tmp_path: Any) -> None:
    prepare = resnet_spec.preprocessing("timm/resnet50", weights="a1_in1k")
    picture = make_picture(300, 200)
    picture.save(tmp_path / "a.png")
    array = np.asarray(picture)
    several = prepare([picture, array, tmp_path / "a.png", array.astype(np.uint16) * 257])
    assert several.shape == (4, 3, 224, 224)
    assert several.dtype == np.float32
    assert (several == several[0]).all()
    assert (prepare(np.stack([array, array])) == several[:2]).all()


def test_the_text_says_the_numbers() -> None:
    assert str(resnet_spec.preprocessing("timm/resnet50", weights="a1_in1k", test_size=True)) == (
        "RGB, turned as EXIF says; shorter side 288 (bicubic, antialiased); centre of 288 x 288; pixels from 0 to 1; "
        "less (0.485, 0.456, 0.406); divided by (0.229, 0.224, 0.225)"
    )
    assert "shorter side 256 (bilinear by OpenCV)" in str(
        resnet_spec.preprocessing("paddleclas/ResNet50_vd", weights="default")
    )


def test_grey_input_takes_the_mean_of_the_numbers() -> None:
    prepare = resnet_spec.preprocessing("timm/resnet50", weights="a1_in1k", input=(1, 224, 224))
    assert prepare(make_picture(300, 200)).shape == (1, 1, 224, 224)
    assert prepare.mean == pytest.approx((0.449,))


def test_without_a_tag_the_spec_says_how() -> None:
    network = resnet_spec.load("resnet18")
    assert resnet_spec.preprocessing(network) == preparation_of_network(network)
    assert resnet_spec.preprocessing("resnet18").resize == 256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "a1_in1"}, "timm/resnet50 has no published weights with the tag 'a1_in1'; did you mean 'a1_in1k'"),
        ({"weights": "a1_in1k", "input": (4, 224, 224)}, "the network has 4 input channels; a picture needs 1 or 3"),
        ({"weights": "a1_in1k", "input": (3, 224)}, "input must be (channels, height, width)"),
        ({"test_size": True}, "test_size is one of published weights; name them by their tag"),
    ],
)
def test_what_is_wrong_is_said(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        resnet_spec.preprocessing("timm/resnet50", **arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((8, 8, 3)), "an array of float64 does not say what white is; pictures are uint8 or uint16"),
        (np.zeros((3, 8, 9), np.uint8), "not (3, 8, 9); transpose(1, 2, 0) moves the channels last"),
        ([], "there is no picture to prepare"),
    ],
)
def test_arrays_without_a_known_meaning_are_refused(picture: Any, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        resnet_spec.preprocessing("timm/resnet50", weights="a1_in1k")(picture)
    assert message in str(caught.value)


def test_bicubic_without_antialiasing_is_refused() -> None:
    with pytest.raises(ImageError, match="by bilinear interpolation alone, not bicubic"):
        preparation_of_weights(replace(find_weights(SAMPLE), antialias=False))


def test_labels_are_those_of_the_weights() -> None:
    assert resnet_spec.labels("timm/resnet50", weights="a1_in1k")[281:284] == ("tabby", "tiger cat", "Persian cat")
    assert resnet_spec.labels("cifar/resnet20")[-1] == "truck"
    lists = {weights.labels: weights for weights in read_published() if weights.classes}
    for name in ("imagenet-1k", "cifar-10", "cifar-100"):
        weights = lists[name]
        assert len(set(resnet_spec.labels(weights.spec, weights=weights.tag))) == weights.classes
    with pytest.raises(ValueError, match="the names of imagenet-12k are not bundled; those of cifar-10"):
        resnet_spec.labels(lists["imagenet-12k"].spec, weights=lists["imagenet-12k"].tag)
    with pytest.raises(UnknownTagError):
        resnet_spec.labels("timm/resnet50", weights="a1")


def test_weights_without_a_classifier_have_no_labels() -> None:
    weights = next(weights for weights in read_published() if not weights.classes)
    with pytest.raises(ValueError, match="have no classifier, so no classes"):
        resnet_spec.labels(weights.spec, weights=weights.tag)
