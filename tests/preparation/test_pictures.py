"""Files as pictures: sizes and offsets are torchvision's, and every kind of file shows what a viewer shows."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_spec import load
from resnet_spec.network.network import Network
from resnet_spec.preparation.pictures import ImageError, Mode, read_picture
from resnet_spec.preparation.preparation import preparation_of_network

MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def network() -> Network:
    return load("resnet18")


def prepare(path: Path, network: Network) -> np.ndarray:
    """Return a prepared image (1, channels, height, width)."""
    return preparation_of_network(network)(path)


def gradient(height: int, width: int) -> Image.Image:
    """Return an image without symmetry, whose grey levels rise along its rows and wrap around along its columns."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(((rows * 7 + columns * 3) % 256).astype(np.uint8))


def grey_levels(path: Path, network: Network) -> np.ndarray:
    """Return the first channel of the prepared image, as numbers from 0 to 255."""
    return (prepare(path, network)[0, 0] * STD[0] + MEAN[0]) * 255


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        # Sums of the normalised image, and of its rows weighted by their numbers, from torchvision 0.28's Resize(256)
        # and CenterCrop(224). The longer sides are 383.7, 383.7, 256.85 and 995.1 before torchvision truncates them.
        ((427, 640), (34209.964453852735, 572081801.2083396)),
        ((640, 427), (33804.98230296094, 568380361.6873424)),
        ((299, 300), (34220.116180956364, 577592143.1519115)),
        ((257, 999), (33568.260997014586, 562676894.5546994)),
    ],
)
def test_sizes_and_offsets_are_those_of_torchvision(
    size: tuple[int, int], expected: tuple[float, float], network: Network, tmp_path: Path
) -> None:
    gradient(*size).save(tmp_path / "a.png")
    image = prepare(tmp_path / "a.png", network).astype(np.float64)
    weighted = (image * np.arange(224)[:, None]).sum() + (image * np.arange(224) ** 2).sum()
    assert (image.sum(), weighted) == pytest.approx(expected, rel=1e-6)


def test_what_lies_outside_of_a_smaller_image_is_black(tmp_path: Path) -> None:
    """The value is that of torchvision's CenterCrop((299, 300)), which pads 256 x 383 pixels by 21 above, 22 below."""
    gradient(427, 640).save(tmp_path / "a.png")
    image = prepare(tmp_path / "a.png", load("resnet18", input=(3, 299, 300))).astype(np.float64)
    assert (image * np.arange(299)[:, None]).sum() == pytest.approx(-3894955.631412362, rel=1e-6)


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.pgm"])
def test_grey_images_of_16_bits_are_scaled(name: str, network: Network, tmp_path: Path) -> None:
    """White is 65535 in 16 bits. Pillow's own conversion makes every level from 255 on white."""
    picture = gradient(224, 256)
    picture.save(tmp_path / "8_bits.png")
    Image.fromarray(np.asarray(picture, np.uint16) * 257).save(tmp_path / name)
    assert (prepare(tmp_path / name, network) == prepare(tmp_path / "8_bits.png", network)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_followed(orientation: int, network: Network, tmp_path: Path) -> None:
    """EXIF says how a camera was held; its orientations are those of a square's eight symmetries."""
    upright = np.asarray(gradient(256, 256))
    as_stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(as_stored[orientation].copy()).save(tmp_path / "a.png", exif=exif)
    middle = slice(16, 240)
    assert grey_levels(tmp_path / "a.png", network) == pytest.approx(upright[middle, middle], abs=1e-3)


def test_pixels_without_a_known_range_are_refused(network: Network, tmp_path: Path) -> None:
    rows = np.linspace(0, 1, 300 * 300, dtype=np.float32).reshape(300, 300)
    for pixels in (rows, rows * 1000, np.where(rows > 0.5, np.nan, rows * 9), (rows * 1e6).astype(np.int32)):
        Image.fromarray(pixels).save(tmp_path / "a.tiff")
        with pytest.raises(ImageError, match="does not say what white is; save it with 8 or 16 bits"):
            prepare(tmp_path / "a.tiff", network)
    Image.fromarray(rows * 255).save(tmp_path / "a.tiff")
    assert grey_levels(tmp_path / "a.tiff", network).std() > 20


def test_an_image_too_long_to_resize_is_refused(network: Network, tmp_path: Path) -> None:
    Image.new("L", (500_000, 1)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="500000 x 1: too long to resize its shorter side to 256"):
        prepare(tmp_path / "a.png", network)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_damaged_orientation_is_no_traceback(network: Network, tmp_path: Path) -> None:
    """Whatever EXIF holds, the image is prepared, or an ImageError says why not."""
    junk = np.random.default_rng(0)
    for _ in range(60):
        head = b"II*\0" + struct.pack("<IHHHII", 8, int(junk.integers(3)), 0x0112, *junk.integers(0, 99, 3).tolist())
        file = io.BytesIO()
        gradient(256, 256).save(file, "jpeg", exif=b"Exif\0\0" + head + junk.bytes(int(junk.integers(20))))
        (tmp_path / "a.jpg").write_bytes(file.getvalue())
        try:
            prepare(tmp_path / "a.jpg", network)
        except ImageError as error:
            assert "cannot be decoded" in str(error)


def test_what_was_changed_is_said(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    gradient(30, 40).save(tmp_path / "turned.jpg", exif=exif)
    image, notes = read_picture(tmp_path / "turned.jpg", "RGB")
    assert (image.size, notes) == ((30, 40), ("turned as its EXIF orientation 6 says", "converted from L to RGB"))
    Image.fromarray(np.full((9, 9), 65535, np.uint16)).save(tmp_path / "wide.png")
    assert read_picture(tmp_path / "wide.png", "L")[1] == ("its 16 bits scaled to 8",)
    assert read_picture(gradient(30, 40).convert("RGB"), "RGB")[1] == ()


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "PA", "1", "CMYK", "YCbCr", "HSV"])
@pytest.mark.parametrize("wanted", ["RGB", "L"])
def test_every_mode_shows_the_same_picture(mode: str, wanted: Mode) -> None:
    """Colours behind transparency are kept, as the libraries' own loaders keep them."""
    grey = gradient(64, 64).point(lambda level: 255 * (level > 127))
    picture = grey.convert("RGBA" if mode == "PA" else mode)
    if mode == "PA":
        picture = picture.quantize(2).convert("PA")
    if mode in ("LA", "RGBA"):
        picture.putalpha(gradient(64, 64))
    image, _ = read_picture(picture, wanted)
    assert np.abs(np.asarray(image.convert("L"), int) - np.asarray(grey, int)).max() <= 1


def test_a_palette_with_transparent_entries_keeps_its_colours(tmp_path: Path) -> None:
    colours = Image.new("RGB", (8, 8), (200, 30, 60))
    colours.paste((10, 220, 90), (0, 0, 4, 8))
    palette = colours.quantize(2)
    palette.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    image, notes = read_picture(tmp_path / "a.png", "RGB")
    assert (np.asarray(image) == np.asarray(palette.convert("RGB"))).all()
    assert notes == ("its transparency ignored",)
