"""What a user passes as images becomes one kind of array, or an error that says what it is."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from resnet_spec import build, capture, loads, run
from resnet_spec.images import convert_images
from resnet_spec.weights.canonical import Array

NETWORK = loads("{name: small, input: [1, 1, 2], stem: {relu: act}}")


def convert(images: object) -> Array:
    return convert_images(images, NETWORK)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        *((dtype, "float32") for dtype in ("?", "u1", "i1", "u2", ">i2", "f2", ">f4", ml_dtypes.bfloat16)),
        *((dtype, "float64") for dtype in ("i4", ">u4", "i8", "u8", ">f8", "g", "O")),
    ],
)
def test_a_type_becomes_the_smaller_of_two_that_holds_it(dtype: Any, expected: str) -> None:
    converted = convert(np.array([[[[0, 1]]]]).astype(dtype))
    assert converted.dtype == np.dtype(expected)
    assert converted.dtype.isnative
    assert converted.tolist() == [[[[0, 1]]]]


def test_an_array_that_needs_no_change_is_not_copied() -> None:
    images = np.zeros((1, 1, 1, 2), np.float32)
    assert convert(images) is images


def test_lists_hold_numbers_of_any_kind() -> None:
    assert convert([[[[Fraction(1, 2), True]]]]).tolist() == [[[[0.5, 1]]]]


class Tensor:
    """A tensor that refuses to become an array, as those of PyTorch with gradients do."""

    def __array__(self, *arguments: Any, **options: Any) -> Array:
        raise RuntimeError("can't call numpy() on a tensor that requires grad")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([[[["1", "2"]]]], "images must be real numbers, not <U1"),
        ([[[[1j, 2]]]], "images must be real numbers, not complex128"),
        ([[[[None, 2]]]], "images must be real numbers, not object"),
        ([[[[Decimal(1), 2]]]], "images must be real numbers, not object"),
        (np.zeros((1, 1, 1, 2), "M8[s]"), "images must be real numbers, not datetime64[s]"),
        (np.zeros((1, 1, 1, 2), "f4, f4"), "images must be real numbers, not [('f0', '<f4'), ('f1', '<f4')]"),
        ([[[[1, 2]]], [[[1]]]], "images must be an array or nested lists: setting an array element with a sequence."),
        (Tensor(), "images must be an array or nested lists: can't call numpy() on a tensor that requires grad"),
        (None, "images must be (batch, 1, height, width) for small, not ()"),
        (np.ma.masked_less(np.zeros((1, 1, 1, 2)), 1), "images are a masked array"),
    ],
)
def test_what_is_no_image_is_an_error(images: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        convert(images)


SIZES = loads(
    """
    name: sizes
    input: [1, 8, 8]
    stem: {blur: blur_pool, pool: {op: max_pool, kernel: 3}}
    head: {flat: flatten, fc: {op: linear, out: 2}}
    """
)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((0, 1, 8, 8)), "images must be at least one, but the batch is empty: (0, 1, 8, 8)"),
        (np.full((1, 1, 8, 8), np.nan), "images must be finite numbers, but there is nan at (0, 0, 0, 0)"),
        (
            np.where(np.arange(64) == 63, -np.inf, 0).astype("f2").reshape(1, 1, 8, 8),
            "images must be finite numbers, but there is -inf at (0, 0, 7, 7)",
        ),
        (np.zeros((1, 1, 8, 0)), "images of 8 x 0 do not fit sizes: "),
        (
            np.zeros((1, 1, 1, 1)),
            "images of 1 x 1 do not fit sizes: reflection padding needs at least 2 x 2 pixels, but the input has ",
        ),
        (np.zeros((2, 1, 3, 8)), "images of 3 x 8 do not fit sizes: "),
        (
            np.zeros((1, 1, 9, 9)),
            "images of 9 x 9 do not fit sizes: fc.weight has the shape (2, 4), but would need (2, 9)",
        ),
    ],
    ids=["empty", "nan", "infinite", "no width", "blur", "window", "linear"],
)
def test_images_on_which_frameworks_disagree_are_an_error(images: Array, message: str) -> None:
    model = build(SIZES, backend="numpy")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        run(model, images)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        capture(model, images, ["pool"])


def test_images_of_another_size_that_fits_run() -> None:
    assert run(build(SIZES, backend="numpy"), np.zeros((1, 1, 7, 7))).shape == (1, 2)
