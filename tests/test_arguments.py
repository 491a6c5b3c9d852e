"""Arguments that are of another kind: an error in our words, in the words of the interface that was called."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import resnet_spec
from resnet_spec import BackendError, SpecError, WeightsError, build, capture, convert, dump, load, load_weights, run
from resnet_spec.commands.main import main

IMAGES = np.zeros((1, 3, 32, 32), np.float32)
TINY = "{name: tiny, input: [3, 8, 8], takes: {classes: 4}, stem: {f: flatten, fc: {op: linear, out: classes}}}"


@pytest.fixture(scope="module")
def model() -> Any:
    return build("cifar/resnet20", backend="numpy")


@pytest.mark.parametrize("outputs", ["layer3", [1, 2], 5, [None], ["layer1", 2], b"layer1"])
def test_outputs_that_are_no_list_of_paths(outputs: Any) -> None:
    with pytest.raises(ValueError, match=r'^outputs must be a list of paths, as in \["layer3"\], not '):
        load("resnet18", outputs=outputs)


@pytest.mark.parametrize("paths", ["layer1", [1], 5])
def test_paths_to_capture_that_are_no_list_of_paths(paths: Any, model: Any) -> None:
    with pytest.raises(ValueError, match=r"^paths must be a list of paths, as in"):
        capture(model, IMAGES, paths)


@pytest.mark.parametrize("input", [224, "3x224x224", [3, "a", 2], [3, 224.0, 224], [3, 224], [3, 0, 224], object])
def test_input_that_is_no_shape(input: Any) -> None:
    with pytest.raises(ValueError, match=r"^input must be \(channels, height, width\), such as \(3, 224, 224\), not"):
        load("resnet18", input=input)


def test_input_may_be_numpys_integers() -> None:
    network = load("resnet18", input=np.array([3, 64, 48]))  # type: ignore[arg-type]
    assert network.input == (3, 64, 48)
    assert all(type(size) is int for size in network.input)


@pytest.mark.parametrize("seed", ["a", 1.5, None])
def test_seed_that_is_no_integer(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"^seed must be an integer, not "):
        build("cifar/resnet20", backend="numpy", seed=seed)


@pytest.mark.parametrize("call", [run, lambda model, images: capture(model, images, ["a"])])
def test_a_users_own_module_is_refused(call: Any) -> None:
    with pytest.raises(BackendError, match=r"^Own was not made by resnet_spec\.build$"):
        call(type("Own", (), {})(), IMAGES)


def test_weights_are_not_read_for_a_users_own_module(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"^Own was not made by resnet_spec\.build$"):
        load_weights(type("Own", (), {})(), tmp_path / "no.pth")


@pytest.mark.parametrize("wrong", [5, [1], None])
def test_a_spec_that_is_neither_name_nor_path(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^a spec is the name of a bundled network or the path of a file, not "):
        load(wrong)


def test_a_network_is_not_loaded_twice() -> None:
    with pytest.raises(TypeError, match=r"which is loaded already$"):
        load(load("cifar/resnet20"))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [5, [1]])
def test_weights_that_are_neither_mapping_nor_path(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^weights are a mapping of arrays by name or the path of a checkpoint, not "):
        build("cifar/resnet20", backend="numpy", weights=wrong)


def test_a_backend_that_is_no_name() -> None:
    with pytest.raises(BackendError, match=r"^no backend named <module 'numpy'"):
        build("cifar/resnet20", backend=np)  # type: ignore[arg-type]


def test_convert_takes_the_size_of_the_image_and_feature_outputs(tmp_path: Path, monkeypatch: Any) -> None:
    """A linear layer behind a flattened map has as many weights as the map has values."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    save_file(dump(build("tiny.yaml", backend="numpy", input=(3, 4, 6))), "w.safetensors")
    with pytest.raises(WeightsError, match=r"fc\.weight is \(4, 72\), but the network's is \(4, 192\)"):
        convert("w.safetensors", "to.npz", "tiny.yaml")
    assert convert("w.safetensors", "to.npz", "tiny.yaml", input=(3, 4, 6)).arrays == 2
    network = load("cifar/resnet20", outputs=["layer1"])
    save_file(dump(build(network, backend="numpy")), "headless.safetensors")
    converted = convert("headless.safetensors", "to.npz", "cifar/resnet20", outputs=["layer1"])
    assert converted.arrays == len(network.weights())
    with pytest.raises(TypeError, match="a loaded network's input and settings are fixed"):
        convert("w.safetensors", "to.npz", network, classes=7)
    with pytest.raises(ValueError, match="input and outputs need a spec"):
        convert("w.safetensors", "to.npz", input=(3, 4, 6))


def test_each_interface_names_its_own_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors in Python name keyword arguments and those of the command line options, also after a command has run."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    Path("open.yaml").write_text(TINY.replace("classes: 4", "classes: required"))
    save_file(dump(build("tiny.yaml", backend="numpy", classes=7)), "w.safetensors")
    cases: list[tuple[list[str], Callable[[], object], str, str]] = [
        (["show", "tiny.yaml", "--set", "clases=5"], lambda: load("tiny.yaml", clases=5), "--set clases=5", "clases=5"),
        (["show", "open.yaml"], lambda: load("open.yaml"), "--set classes=...", "classes=..."),
        (
            ["convert", "w.safetensors", "to.npz", "--spec", "tiny.yaml"],
            lambda: convert("w.safetensors", "to.npz", "tiny.yaml"),
            "the spec says 4 classes: --set classes=7",
            "the spec says 4 classes: classes=7",
        ),
        (
            ["convert", "w.safetensors", "to.npz"],
            lambda: convert("w.safetensors", "to.npz"),
            "pass its spec, as in --spec resnet50",
            'pass its spec, as in spec="resnet50"',
        ),
    ]
    for arguments, call, on_command_line, in_python in cases:
        printed = io.StringIO()
        monkeypatch.setattr(sys, "argv", ["resnet-spec", *arguments])
        with contextlib.redirect_stderr(printed), pytest.raises(SystemExit):
            main()
        assert on_command_line in printed.getvalue()
        with pytest.raises((SpecError, ValueError)) as error:
            call()
        assert in_python in str(error.value)
        assert "--" not in str(error.value).replace(" --> ", "")


def test_what_the_public_functions_raise_is_public() -> None:
    for name in ("BackendError", "CheckpointError", "SpecError", "WeightsError"):
        assert issubclass(getattr(resnet_spec, name), Exception)
    assert set(resnet_spec.__all__) <= set(dir(resnet_spec))
