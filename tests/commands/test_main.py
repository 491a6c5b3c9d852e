"""The command line in a separate process: its output and exit status, and that errors print no traceback."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from shared.command_line import run_cli, run_here, run_several
from shared.third_party_package import install


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    from PIL import Image
    from sklearn.datasets import load_sample_image

    path = tmp_path / "photo.jpg"
    Image.fromarray(load_sample_image("china.jpg")).save(path)
    return path


@pytest.fixture(scope="module")
def listing() -> str:
    """Return what ``resnet-spec list`` prints."""
    return run_cli("list").stdout


def test_list_prints_networks_with_their_costs(listing: str) -> None:
    line = next(line for line in listing.splitlines() if line.split()[:1] == ["resnet50"])
    assert line.split()[1:3] == ["25,557,032", "4,089,184,256"]


def test_show_prints_every_layer_and_the_totals() -> None:
    lines = [line.split() for line in run_cli("show", "resnet18").stdout.splitlines()]
    assert [
        "layer1.0.conv1",
        "conv",
        *["64x56x56", "64x56x56"],
        *["36,864", "115,605,504", "231,211,008"],
    ] in lines
    assert ["total", "1000", "11,689,512", "1,814,073,344", "3,628,146,688"] in lines
    assert ["running", "statistics", "9,600"] in lines


def test_show_prints_json() -> None:
    data = json.loads(run_cli("show", "resnet18", "--set", "classes=10", "--json").stdout)
    assert (data["parameters"], data["statistics"], data["output"]) == (11_181_642, 9_600, [10])
    assert data["layers"][0]["parameters"] == 9_408


def test_check_accepts_correct_specs() -> None:
    done = run_cli("check", "resnet18", "resnet50d")
    assert (done.returncode, done.stdout) == (0, "resnet18: no problems\nresnet50d: no problems\n")


def test_check_prints_every_problem(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("name: my\ninput: [3, 8, 8]\nstem: {a: {op: conv, out: 8}, b: reul}\n")
    done = run_cli("check", "my.yaml", folder=tmp_path)
    assert (done.returncode, done.stderr, done.stdout.count("error[")) == (2, "", 2)
    assert "did you mean 'relu'?" in done.stdout


def test_check_prints_json(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("name: my\ninput: [3, 8, 8]\nstem: {a: reul}\n")
    (problem,) = json.loads(run_cli("check", "my.yaml", "--json", folder=tmp_path).stdout)
    assert (problem["code"], problem["file"], problem["line"], problem["column"]) == ("RS204", "my.yaml", 3, 11)


def test_run_prints_the_classes_of_an_image(photo: Path) -> None:
    done = run_cli("run", "resnet18", "--backend", "numpy", "--image", photo, "--json", "--top", "3")
    (prediction,) = json.loads(done.stdout)
    assert (prediction["image"], prediction["notes"]) == (str(photo), [])
    first, second, third = prediction["backends"]["numpy"]
    assert first["probability"] >= second["probability"] >= third["probability"]


def test_parity_compares_a_backend_with_the_reference() -> None:
    command = [
        "parity",
        "resnet18",
        "--backend",
        "torch",
        "--dtype",
        "float64",
        "--size",
        "40x40",
        "--level",
        "forward",
        "--json",
    ]
    first, second = json.loads(run_cli(*command).stdout)
    assert (first["group"], first["verdict"], first["count"]) == ("evaluation", "same", 76)
    assert (second["group"], second["verdict"], second["count"]) == ("training forward", "same", 76)


def test_parity_prints_the_first_part_that_differs(tmp_path: Path) -> None:
    """The backend in tests/backends/third_party negates its outputs, so its first part differs. No file is written."""
    install(tmp_path)
    options = ("--dtype", "float64", "--size", "40x40", "--level", "forward", "--shrink", "0", "--json")
    done = run_cli("parity", "resnet18", "--backend", "shouting", *options, folder=tmp_path)
    result, _ = json.loads(done.stdout)
    assert (done.returncode, result["verdict"], result["where"]) == (1, "differs", "conv1")
    assert not (tmp_path / "parity-failures").exists()


ERRORS: list[tuple[list[str], str]] = [
    (["shwo", "resnet18"], "error: no such command 'shwo': did you mean 'show'?"),
    (["show", "resnt18"], "error: no file or bundled network named 'resnt18'; did you mean 'resnet18'?"),
    (["show", "resnet18", "--set", "clases=3"], "= help: did you mean 'classes'?"),
    (["show", "resnet18", "--set", "classes=many"], "error[RS301]: expected an integer, got 'many'"),
    (["show", "resnet18", "--set", "classes"], "--set takes NAME=VALUE, as in classes=10, not 'classes'"),
    (["show", "resnet18", "--size", "3x224x224"], "expected HxW, as in 224x224, not '3x224x224'"),
    (["show", "resnet18", "--size", "9x9", "--input", "3x9x9"], "--input includes height and width"),
    (["show", "resnet18", "--columns", "path,mac"], "error: no column named 'mac'; did you mean 'macs'?"),
    (["show", "resnet18", "--depth", "0"], "--depth takes an integer of at least 1, or all, not '0'"),
    (["draw", "resnet18", "-o", "a.gif"], "--output must end in one of .svg, .png, .pdf, .mmd, .dot, not 'a.gif'"),
    (["draw", "resnt18", "-o", "a.svg"], "error: no file or bundled network named 'resnt18'"),
    (["draw", "resnet18", "-o", "no/a.svg"], "error: no such file or directory: no/a.svg"),
    (["show", "resnet18", "--input", "3x224"], "expected CxHxW, as in 3x224x224, not '3x224'"),
    (["parity", "resnet18", "--backend", "torhc"], "error: no backend named 'torhc'; did you mean 'torch'?"),
    (["run", "resnet18", "--image", "no.jpg"], "error: no image file named 'no.jpg'"),
    (["run", "resnet18", "--image", "junk.jpg"], "error: junk.jpg is not an image in a format that Pillow reads"),
    (["run", "resnet18", "--image", "junk.jpg", "--weights", "no.pth"], "error: junk.jpg is not an image"),
    (["list", "--registry", "tim"], "no registry named 'tim'; choose from cifar, flax, keras"),
    (["list", "--max-parameters", "many"], "expected a number such as 30M or 4.1G, not 'many'"),
    (
        ["show", "ResNet50"],
        "several match: cifar/kuangliu/ResNet50, flax/ResNet50, keras/ResNet50, paddleclas/ResNet50",
    ),
    (["show", "resnet18", "--set", "outputs=a"], "outputs is neither"),
    (["show", "junk.jpg"], "error[RS"),
]


def test_errors_are_printed_as_sentences(tmp_path: Path) -> None:
    (tmp_path / "junk.jpg").write_text("junk: [")
    runs = run_several([arguments for arguments, _ in ERRORS], tmp_path)
    failing = {
        " ".join(run.args): (run.returncode, run.stdout, run.stderr)
        for run, (_, message) in zip(runs, ERRORS, strict=True)
        if (run.returncode, run.stdout) != (2, "") or message not in run.stderr or "Traceback" in run.stderr
    }
    assert failing == {}
    assert [path.name for path in tmp_path.iterdir()] == ["junk.jpg"]


@pytest.mark.parametrize("arguments", [[], ["weights"]])
def test_without_a_command_the_help_is_printed(arguments: list[str], tmp_path: Path) -> None:
    (result,) = run_several([arguments], tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: ")
    assert "error:" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "listed", "omitted"),
    [
        (["--registry", "timm", "--max-parameters", "30M"], "timm/resnet50d", "timm/resnet101d"),
        (["--registry", "timm"], "timm/resnet101d", "cifar/resnet20"),
        (["--registry", "cifar/kuangliu"], "cifar/kuangliu/ResNet18", "cifar/resnet20"),
        (["--min-parameters", "0.5G"], "timm/regnety_1280", "timm/regnety_640"),
        (["--max-macs", "50M"], "cifar/resnet20", "resnet18 "),
        (["seresnext"], "timm/seresnext50_32x4d", "timm/seresnet50"),
    ],
)
def test_list_filters_networks(arguments: list[str], listed: str, omitted: str) -> None:
    out = run_here("list", *arguments).stdout
    assert listed in out
    assert omitted not in out


def test_list_groups_networks_by_registry(listing: str) -> None:
    names = [line.split()[0] for line in listing.splitlines() if "," in line]
    folders = [name.rpartition("/")[0] for name in names if not name.isdecimal()]
    assert [folder for folder, _ in itertools.groupby(folders)] == list(dict.fromkeys(folders))


def test_list_prints_filtered_json() -> None:
    rows = json.loads(run_here("list", "ResNet50", "--registry", "keras", "--max-parameters", "26M", "--json").stdout)
    assert [(row["name"], row["parameters"]) for row in rows] == [
        ("keras/ResNet50", 25_583_592),
        ("keras/ResNet50V2", 25_568_360),
    ]
