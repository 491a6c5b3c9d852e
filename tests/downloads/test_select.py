"""Published weights by network and tag, in every backend; and files that are recognized as published ones."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from resnet_spec import (
    DownloadError,
    WeightsError,
    build,
    convert,
    dump,
    fetch_weights,
    identify,
    load,
    load_weights,
    run,
)
from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.transfer.tables import describe_checkpoint
from resnet_spec.commands.main import main
from resnet_spec.commands.weights import get, list_
from resnet_spec.downloads.select import find_names, is_tag, recognize_file, select_published
from resnet_spec.library.published import PublishedWeights, UnknownTagError, choose_published
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.frameworks import required
from shared.paths import SHARED

CHECKPOINTS = SHARED / "data" / "checkpoints"
needs_checkpoints = pytest.mark.skipif(not CHECKPOINTS.is_dir(), reason=f"no checkpoints are in {CHECKPOINTS}")

SMALL, TAG = "timm/test_resnet", "r160_in1k"
SNAPSHOT = f"huggingface/hub/models--timm--test_resnet.{TAG}/snapshots/0123/model.safetensors"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test caches of its own, and no network."""
    for name in ("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "RESNET_SPEC_LOCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("RESNET_SPEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RESNET_SPEC_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small_weights(home: Path) -> Iterator[dict[str, Array]]:
    """Put weights of a small network where Hugging Face's tools keep those of a tag, which has no published hash."""
    arrays = {name: array.astype(np.float32) for name, array in comparison_weights(load(SMALL)).items()}
    (home / SNAPSHOT).parent.mkdir(parents=True)
    save_file(arrays, home / SNAPSHOT)
    yield arrays


def make_images(size: int) -> Array:
    """Return pictures of a disc before a background, in random colours and places and with noise."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] / size
    left, top, width = random.uniform(0.25, 0.75, (3, 8, 1, 1, 1))
    inside, outside = random.uniform(-2, 2, (2, 8, 3, 1, 1))
    is_inside = (columns - left) ** 2 + (rows - top) ** 2 < (width / 2) ** 2
    noise = random.normal(size=(8, 3, size, size)) / 8
    return (np.where(is_inside, inside, outside) + noise).astype(np.float32)


def test_a_tag_builds_the_network_with_its_weights(backend_name: str, small_weights: dict[str, Array]) -> None:
    model = build(SMALL, backend=backend_name, weights="default", dtype="float32")
    dumped = dump(model)
    assert all(np.array_equal(dumped[name], small_weights[name]) for name in small_weights)


def test_a_tag_sets_the_weights_of_a_model(small_weights: dict[str, Array]) -> None:
    model = build(SMALL, backend="numpy", dtype="float32")
    load_weights(model, TAG)
    assert np.array_equal(dump(model)["fc.weight"], small_weights["fc.weight"])
    assert fetch_weights(SMALL, TAG).name == "model.safetensors"


def test_the_first_hash_is_logged(small_weights: dict[str, Array], caplog: pytest.LogCaptureFixture) -> None:
    build(SMALL, backend="numpy", weights=TAG)
    assert "is published without a hash" in caplog.text


def test_a_network_has_the_classes_of_its_weights(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = replace(choose_published(SMALL, TAG), classes=7)
    monkeypatch.setattr("resnet_spec.downloads.select.choose_published", lambda name, tag: record)
    (home / SNAPSHOT).parent.mkdir(parents=True)
    save_file(comparison_weights(load(SMALL, classes=7)), home / SNAPSHOT)
    assert build(SMALL, backend="numpy", weights=TAG).network.output_shape == (7,)
    with pytest.raises(WeightsError, match="classes"):
        build(SMALL, backend="numpy", weights=TAG, classes=5)


def test_a_file_takes_precedence_over_a_tag_and_a_folder_does_not(home: Path) -> None:
    assert is_tag(SMALL, TAG)
    assert is_tag(SMALL, "misspelt")
    assert not is_tag(SMALL, f"{TAG}.pth")
    assert not is_tag(SMALL, f"./{TAG}")
    assert not is_tag(SMALL, Path(TAG))
    assert not is_tag("resnet18_biased_shortcut", "weights")  # of which nothing is published
    (home / TAG).mkdir()
    (home / "folder").mkdir()
    assert is_tag(SMALL, TAG)
    assert not is_tag(SMALL, "folder")
    (home / TAG).rmdir()
    (home / TAG).touch()
    assert not is_tag(SMALL, TAG)


def test_wrong_tags_and_names_are_sentences() -> None:
    with pytest.raises(UnknownTagError, match=rf"{SMALL} has no published weights with the tag 'r160'; did you mean"):
        build(SMALL, backend="numpy", weights="r160")
    with pytest.raises(FileNotFoundError, match="no file or bundled network named 'nothing'"):
        build("nothing", backend="numpy", weights="default")
    with pytest.raises(UnknownTagError, match="no weights are published for resnet18_biased_shortcut"):
        build("resnet18_biased_shortcut", backend="numpy", weights="default")
    with pytest.raises(FileNotFoundError, match="no weights file named 'weights'"):
        build("resnet18_biased_shortcut", backend="numpy", weights="weights")
    with pytest.raises(DownloadError, match=r"is in no cache, and RESNET_SPEC_OFFLINE forbids downloads"):
        build("timm/resnet18", backend="numpy", weights="default")


def test_a_loaded_network_is_found_by_what_it_computes() -> None:
    network = load("torchvision/resnet18")
    assert "torchvision/resnet18" in find_names(network)
    assert select_published(network, "IMAGENET1K_V1").spec == "torchvision/resnet18"
    assert select_published(network, "default").spec == "torchvision/resnet18"
    with pytest.raises(
        UnknownTagError, match="'imagenet' is several of the published weights: keras/ResNet50 imagenet,"
    ):
        select_published("ResNet50", "imagenet")
    assert find_names(load("resnet18_biased_shortcut")) == []


def test_a_spec_that_needs_settings_has_no_tags(home: Path) -> None:
    layer = "{conv1: {op: conv, out: width, kernel: 3}}"
    Path("wide.yaml").write_text(f"{{name: wide, input: [3, 8, 8], takes: {{width: 0}}, stem: {layer}}}")
    assert find_names("wide.yaml") == []
    with pytest.raises(FileNotFoundError, match="no weights file named 'weights'"):
        build("wide.yaml", backend="numpy", weights="weights", width=4)


def test_files_are_recognized_by_their_hashes(home: Path, small_weights: dict[str, Array]) -> None:
    assert recognize_file(home / SNAPSHOT) == []
    fetch_weights(SMALL, TAG)  # its hash is now in the lock
    renamed = home / "renamed.safetensors"
    renamed.write_bytes((home / SNAPSHOT).read_bytes())
    assert [weights.key for weights in recognize_file(renamed)] == [f"{SMALL} {TAG}"]
    assert recognize_file(renamed, is_thorough=False) == []
    assert {match.network: match.published for match in identify(renamed)}[SMALL] == TAG


@pytest.mark.parametrize("target", ["w.safetensors", "w.pth", "w.npz", "w.pdparams", "w"])
def test_a_conversion_keeps_tag_license_and_origin(home: Path, small_weights: dict[str, Array], target: str) -> None:
    if target == "w":
        required("flax")  # to read it again
    fetch_weights(SMALL, TAG)
    convert(home / SNAPSHOT, target, SMALL)
    convert(target, "again.safetensors")
    origin = f"https://huggingface.co/timm/test_resnet.{TAG}/resolve/main/model.safetensors"
    said = f"  its weights are {SMALL} {TAG}, license apache-2.0, from {origin}"
    assert said in describe_checkpoint(registry.read("again.safetensors"), [])


def test_weights_of_another_file_have_no_provenance(home: Path, small_weights: dict[str, Array]) -> None:
    convert(home / SNAPSHOT, "w.safetensors", SMALL)
    assert "weights" not in registry.read("w.safetensors").metadata


REAL = {
    "resnet20": "resnet20-12fca82f.th",
    "resnet32": "resnet32-d509ac18.th",
    "resnet44": "resnet44-014dd654.th",
    "resnet56": "resnet56-4bfd9763.th",
}


def put_in_cache(home: Path, name: str) -> Path:
    path = home / "torch" / "hub" / "checkpoints" / REAL[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((CHECKPOINTS / REAL[name]).read_bytes())
    return path


@needs_checkpoints
@pytest.mark.parametrize(
    "name", ["resnet20", *(pytest.param(name, marks=pytest.mark.sweep) for name in list(REAL)[1:])]
)
def test_real_checkpoints_predict_the_same_in_all_backends(home: Path, name: str) -> None:
    """From a cache or a folder, verified and identified, built in all backends, and converted to each format."""
    spec, images = f"cifar/{name}", make_images(32)
    fetched = fetch_weights(spec, "cifar10", from_=CHECKPOINTS)
    assert hashlib.sha256(fetched.read_bytes()).hexdigest() == fetched.parent.name
    assert fetched.name == REAL[name]
    match = identify(fetched)[0]
    assert (match.network, match.how, match.published) == (spec, "exact", "cifar10")
    expected = run(build(spec, backend="numpy", weights="cifar10", dtype="float32"), images)
    assert len(set(expected.argmax(axis=1))) > 1
    for backend in ("torch", "paddle", "flax", "onnx"):
        required(backend)
        logits = run(build(spec, backend=backend, weights="default", dtype="float32"), images)
        np.testing.assert_allclose(logits, expected, atol=2e-4)
        assert (logits.argmax(axis=1) == expected.argmax(axis=1)).all()
    for target in ("w.safetensors", "w.pth", "w.pdparams", "w.npz", "w.orbax"):
        convert(fetched, target, spec)
        again = run(build(spec, backend="numpy", weights=target, dtype="float32"), images)
        assert np.array_equal(again, expected)


@needs_checkpoints
def test_a_damaged_file_of_a_cache_is_not_used(home: Path) -> None:
    path = put_in_cache(home, "resnet20")
    assert fetch_weights("cifar/resnet20", "cifar10") == path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DownloadError, match="is in no cache"):
        fetch_weights("cifar/resnet20", "cifar10")


def test_list_and_get(home: Path, small_weights: dict[str, Array]) -> None:
    done = CliRunner().invoke(list_, ["test_resnet"])
    assert (done.exit_code, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [SMALL, TAG, "*", "41.60", "%", "160x160", "1000", "apache-2.0", "yes"] in rows
    got = json.loads(CliRunner().invoke(get, [SMALL, TAG, "--json"]).stdout)
    assert (got["tag"], got["place"], Path(got["path"])) == (TAG, "the cache of Hugging Face", home / SNAPSHOT)
    done = CliRunner().invoke(get, [SMALL])
    assert done.stdout.splitlines()[-1] == str(home / SNAPSHOT)
    assert "published without a hash, and the same as at its first use" in done.stdout


def list_published(*arguments: str) -> list[dict[str, object]]:
    done = CliRunner().invoke(list_, [*arguments, "--json"])
    assert done.exit_code == 0
    records: list[dict[str, object]] = json.loads(done.stdout)
    return records


def test_list_filters_by_license_and_name() -> None:
    records = list_published("resnet50", "--license", "cc-by-nc-4.0")
    assert {(record["license"], record["spec"]) for record in records} == {("cc-by-nc-4.0", "timm/resnet50")}
    similar = list_published("wide_res")
    assert {str(record["spec"]).partition("/")[0] for record in similar} == {"paddle", "timm", "torchvision"}
    assert [record["tag"] for record in list_published("resnet18")[:1]] == ["imagenet"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["get", SMALL, "r160"], f"error: {SMALL} has no published weights with the tag 'r160'; did you mean '{TAG}'?"),
        (["get", "resnet50x", "a1"], "error: no file or bundled network named 'resnet50x'; did you mean 'resnet50'?"),
        (["get", "timm/resnet18"], "error: timm/resnet18 a1_in1k is in no cache, and RESNET_SPEC_OFFLINE forbids"),
        (["get", "timm/resnet18", "--from", "nowhere"], "error: no folder named 'nowhere'"),
        (["get", "timm/resnet18", "fb_ssl_yfcc100m_ft_in1k", "--license", "mit"], "which forbids commercial use"),
        (["list", "resnet5o"], "error: no file or bundled network named 'resnet5o'; did you mean 'resnet50'?"),
        (["list", "--license", "gpl"], "error: no weights have the license 'gpl'; choose from apache-2.0, "),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    home: Path,
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["resnet-spec", "weights", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    printed = capsys.readouterr()
    assert (stop.value.code, printed.out) == (2, "")
    assert said in printed.err
    assert len(printed.err.splitlines()) <= 2
    assert not (home / "cache").exists()


def test_licenses_that_restrict_are_known() -> None:
    def describe(license: str) -> tuple[bool, bool]:
        record: PublishedWeights = replace(choose_published(SMALL, TAG), license=license)
        return record.is_restricted, record.is_non_commercial

    assert describe("apache-2.0") == (False, False)
    assert describe("cc-by-nc-4.0") == (True, True)
    assert describe("unknown") == (True, False)
