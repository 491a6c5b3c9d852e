"""The ``run`` command: pictures, folders of them, names of classes, and what is said of how they were read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnet_spec import build, save_weights
from resnet_spec.preparation.labels import read_labels
from shared.command_line import run_here
from shared.paths import SHARED
from shared.pictures import make_picture

CHECKPOINT = SHARED / "data" / "checkpoints" / "resnet20-12fca82f.th"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a folder of two pictures, one of them turned, and a file that is none."""
    monkeypatch.chdir(tmp_path)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 3
    make_picture(40, 60).save(pictures / "b.jpg", exif=exif)
    make_picture(50, 30).save(pictures / "a.png")
    (pictures / "notes.txt").write_text("no picture")
    save_weights(build("cifar/resnet20", backend="numpy", dtype="float32"), tmp_path / "w.safetensors")
    return tmp_path


def run_json(*arguments: str | Path) -> list[dict[str, Any]]:
    done = run_here("run", "cifar/resnet20", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    result: list[dict[str, Any]] = json.loads(done.stdout)
    return result


def test_a_folder_in_several_backends(folder: Path) -> None:
    options = ("--backend", "numpy,torch", "--weights", "w.safetensors", "--labels", "cifar-10", "--top", "2")
    first, second, again = run_json("--image", "pictures", "--image", "pictures/b.jpg", *options)
    assert [Path(first["image"]).name, Path(second["image"]).name] == ["a.png", "b.jpg"]
    assert (first["notes"], second["notes"]) == ([], ["turned as its EXIF orientation 3 says"])
    assert second == {**again, "image": second["image"]}
    ours, torchs = first["backends"]["numpy"], first["backends"]["torch"]
    assert [row["name"] for row in ours] == [row["name"] for row in torchs]
    assert ours[0]["probability"] == pytest.approx(torchs[0]["probability"], abs=1e-5)
    assert ours[0]["name"] in read_labels("cifar-10")


def test_a_table_names_the_picture_and_how_it_was_prepared(folder: Path) -> None:
    options = ("--backend", "numpy", "--weights", "w.safetensors", "--top", "1")
    done = run_here("run", "cifar/resnet20", "--image", "pictures/b.jpg", *options)
    assert "pictures/b.jpg; turned as its EXIF orientation 3 says" in done.stdout
    assert "class " in done.stdout  # nothing says what the classes of a checkpoint of the user's own are
    assert "RGB, turned as EXIF says; shorter side 32 (bilinear, antialiased); centre of 32 x 32" in done.stderr


def test_published_weights_bring_preparation_and_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag takes the file from torch.hub's cache; a file that is a published one by its hash is known too."""
    if not CHECKPOINT.exists():
        pytest.skip("the checkpoints in ../shared are not here")
    cache = folder / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    shutil.copy(CHECKPOINT, cache)
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    monkeypatch.setenv("RESNET_SPEC_CACHE", str(folder / "cache"))
    options = ("--image", "pictures/a.png", "--backend", "numpy,torch")
    (by_tag,) = run_json(*options, "--weights", "cifar10")
    (by_file,) = run_json(*options, "--weights", str(cache / CHECKPOINT.name))
    assert by_tag == by_file
    rows = by_tag["backends"]
    assert rows["numpy"][0]["name"] == rows["torch"][0]["name"]
    assert np.array([row["probability"] for row in rows["numpy"]]) == pytest.approx(
        [row["probability"] for row in rows["torch"]], abs=1e-5
    )
    done = run_here("run", "cifar/resnet20", *options, "--weights", "cifar10")
    assert "less (0.485, 0.456, 0.406)" in done.stderr  # as they were trained; the spec states CIFAR's


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "empty"], "error: the folder empty has no file whose suffix is one of a picture's"),
        (["--image", "pictures/a.png", "--labels", "imagenet"], "the names of imagenet are not bundled; those of"),
        (
            ["--image", "pictures/a.png", "--labels", "imagenet-1k"],
            "imagenet-1k has 1,000 names, and resnet20 outputs (10,)",
        ),
        (["--image", "pictures/a.png", "--test-size"], "--test-size is one of published weights"),
        (["--image", "pictures/a.png", "--weights", "cifar11"], "tag 'cifar11'; did you mean 'cifar10'?"),
        (["--image", "pictures/notes.txt"], "notes.txt is not an image in a format that Pillow reads"),
    ],
)
def test_mistakes_are_sentences(arguments: list[str], message: str, folder: Path) -> None:
    (folder / "empty").mkdir()
    done = run_here("run", "cifar/resnet20", "--backend", "numpy", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_weights_without_a_classifier_predict_nothing(folder: Path) -> None:
    done = run_here("run", "timm/resnet50", "--backend", "numpy", "--image", "pictures/a.png", "--weights", "bamboo")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: the weights timm/resnet50 bamboo have no classifier, so they predict no classes" in done.stderr
