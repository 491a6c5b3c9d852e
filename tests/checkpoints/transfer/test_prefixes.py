"""Find where the weights of a network stand in a file, and what else in it is left out, joined or asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import process_time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from resnet_spec import build, convert, identify, load_weights
from resnet_spec.checkpoints.transfer.difference import compare_checkpoints
from resnet_spec.weights.canonical import Array, WeightsError
from shared.command_line import run_cli
from shared.machine_speed import scaled
from shared.small_network import save_zeros


def save_under(prefixes: Mapping[str, str], small: Mapping[str, Array], path: str = "w.safetensors") -> None:
    """Save weights with each name's prefix by the name's first part; "" stands for all others."""
    save_file(
        {f"{prefixes.get(name.partition('.')[0], prefixes[''])}{name}": array for name, array in small.items()}, path
    )


def read_back(under: str | None = None) -> dict[str, bytes]:
    convert("w.safetensors", "back.safetensors", "small.yaml", under=under)
    return {name: array.tobytes() for name, array in load_file("back.safetensors").items()}


@pytest.mark.parametrize("prefix", ["any.name.", "a.b.c.d.e.f.", "layer1.", "fc."])
def test_any_prefix_is_found(prefix: str, small: dict[str, Array]) -> None:
    save_under({"": prefix}, small)
    assert read_back() == {name: array.tobytes() for name, array in small.items()}


def test_auxiliary_classifiers_are_left_out_and_noted(small: dict[str, Array]) -> None:
    auxiliary = {"AuxLogits.fc.weight": np.ones((3, 4), np.float32), "aux1.fc.bias": np.ones(3, np.float32)}
    save_file({**small, **auxiliary}, "w.safetensors")
    assert read_back() == {name: array.tobytes() for name, array in small.items()}
    assert "ignored: 'AuxLogits' (1 array), 'aux1' (1 array)" in convert("w.safetensors", "w.npz", "small.yaml").notes
    save_file({**small, "auxiliary.fc.weight": auxiliary["AuxLogits.fc.weight"]}, "w.safetensors")
    with pytest.raises(WeightsError, match=r"unexpected auxiliary\.fc\.weight"):
        read_back()


def test_head_of_another_network_is_not_joined(small: dict[str, Array]) -> None:
    """Two modules offer a head for the backbone, so neither is taken."""
    arrays = {(f"head.{name}" if name.startswith("fc") else f"backbone.{name}"): a for name, a in small.items()}
    save_file({**arrays, "other.fc.weight": small["fc.weight"], "other.fc.bias": small["fc.bias"]}, "w.safetensors")
    with pytest.raises(
        WeightsError, match=r"all 40 arrays before the head fit; the file has no head; to load the rest"
    ):
        read_back()
    save_file(arrays, "w.safetensors")
    assert read_back() == {name: array.tobytes() for name, array in small.items()}


def test_head_after_dropout_is_read(small: dict[str, Array]) -> None:
    save_file({name.replace("fc.", "fc.1."): array for name, array in small.items()}, "w.safetensors")
    assert read_back() == {name: array.tobytes() for name, array in small.items()}


@pytest.mark.parametrize(
    "wrapped",
    ["layer1._orig_mod.", "_fsdp_wrapped_module.layer1._fsdp_wrapped_module.", "layer1._checkpoint_wrapped_module."],
)
def test_wrappers_of_modules_within_the_network_are_left_out(wrapped: str, small: dict[str, Array]) -> None:
    save_file({name.replace("layer1.", wrapped): array for name, array in small.items()}, "w.safetensors")
    assert read_back() == {name: array.tobytes() for name, array in small.items()}


@pytest.mark.parametrize(
    ("body", "head"), [("", "last_linear."), ("", "classifier.1."), ("backbone.", "head."), ("a.", "a.linear.")]
)
def test_head_of_another_name_is_read_and_noted(body: str, head: str, small: dict[str, Array]) -> None:
    arrays = {f"{body}{n}": a for n, a in small.items() if not n.startswith("fc")}
    arrays |= {n.replace("fc.", head): a for n, a in small.items() if n.startswith("fc")}
    save_file(arrays, "w.safetensors")
    assert read_back() == {name: array.tobytes() for name, array in small.items()}
    notes = convert("w.safetensors", "w.npz", "small.yaml").notes
    assert f"the head is read from {head.removesuffix('.')}" in notes
    several = {n.replace(head, "heads."): a for n, a in arrays.items() if n.startswith(head)}
    save_file({**arrays, **several}, "w.safetensors")
    with pytest.raises(WeightsError, match="all 40 arrays before the head fit"):
        read_back()


def test_head_of_another_name_and_size_is_explained(small: dict[str, Array]) -> None:
    arrays = {n: a for n, a in small.items() if not n.startswith("fc")}
    head = {"last_linear.weight": np.ones((7, 16), np.float32), "last_linear.bias": np.ones(7, np.float32)}
    save_file({**arrays, **head}, "w.safetensors")
    with pytest.raises(WeightsError, match="the head has 7 classes, and the spec says 10"):
        read_back()


def test_what_a_file_holds_instead_of_the_weights_is_said(small: dict[str, Array]) -> None:
    flat = np.concatenate([array.ravel() for array in small.values()])
    save_file({"_fsdp_wrapped_module._flat_param": flat}, "w.safetensors")
    with pytest.raises(WeightsError, match=r"parameters are flattened \(FSDP\)"):
        read_back()
    save_file({}, "w.safetensors")
    with pytest.raises(WeightsError, match="the file holds no arrays of weights"):
        read_back()
    save_file(dict(list(small.items())[:9]), "model-00001-of-00003.safetensors")
    with pytest.raises(WeightsError, match=r"number 1 of 3 that hold the weights together; name their \.index\.json"):
        convert("model-00001-of-00003.safetensors", "back.safetensors", "small.yaml")


def test_sums_behind_haikus_averages_are_left_out(small: dict[str, Array]) -> None:
    """Haiku keeps an array of the same shape beside each running mean and variance."""
    convert("w.safetensors", "haiku.npz", "small.yaml", names="haiku")
    with np.load("haiku.npz") as file:
        arrays = dict(file)
    hidden = {name.replace("average", "hidden"): array for name, array in arrays.items() if name.endswith("average")}
    assert hidden
    np.savez("w.npz", **arrays, **hidden)
    convert("w.npz", "back.safetensors", "small.yaml")
    back = load_file("back.safetensors")
    assert {name: array.tobytes() for name, array in back.items()} == {n: a.tobytes() for n, a in small.items()}


def test_unknown_array_among_the_weights_is_refused(small: dict[str, Array]) -> None:
    save_under({"": "model."}, {**small, "layer1.0.se.fc1.weight": np.zeros((4, 8), np.float32)})
    with pytest.raises(WeightsError, match=r"unexpected model.layer1.0.se.fc1.weight \(4, 8\)"):
        read_back()


def test_one_of_several_places_is_taken_only_if_it_is_named(small: dict[str, Array]) -> None:
    other = {f"teacher.{name}": array + 1 for name, array in small.items()}
    save_file({**{f"student.{name}": array for name, array in small.items()}, **other}, "w.safetensors")
    for read in (
        lambda: read_back(),
        lambda: build("small.yaml", backend="numpy", weights="w.safetensors"),
        lambda: compare_checkpoints("w.safetensors", "w.safetensors", "small.yaml"),
    ):
        with pytest.raises(WeightsError, match="in 2 places") as error:
            read()
        assert error.value.problems == ("student: 42 of 42 weights fit", "teacher: 42 of 42 weights fit")
    assert read_back(under="teacher") == {name: (array + 1).tobytes() for name, array in small.items()}
    load_weights(build("small.yaml", backend="numpy"), "w.safetensors", under="student")
    with pytest.raises(ValueError, match=r"no mapping 'studnet'; there are 'student', 'teacher'$"):
        read_back(under="studnet")


def test_a_network_that_fits_better_is_no_question(small: dict[str, Array]) -> None:
    other = {f"teacher.{name}": array for name, array in small.items() if not name.startswith("fc")}
    save_file({**{f"student.{name}": array for name, array in small.items()}, **other}, "w.safetensors")
    assert read_back() == {name: array.tobytes() for name, array in small.items()}


def test_long_errors_are_cut_and_shown_with_all(small: dict[str, Array]) -> None:
    save_file({name.replace("layer", "stage"): array for name, array in small.items()}, "w.safetensors")
    arguments = ("convert", "w.safetensors", "t.npz", "--spec", "small.yaml")
    lines = run_cli(*arguments).stderr.splitlines()
    assert len(lines) == 22
    assert lines[-1].endswith("more (--all)")
    assert len(run_cli(*arguments, "--all").stderr.splitlines()) > 22
    assert not Path("t.npz").exists()


def test_network_is_identified_quickly(tmp_path: Path) -> None:
    path = save_zeros(tmp_path / "w.safetensors", "resnet50")
    start = process_time()
    assert identify(path)[0].how == "exact"
    assert process_time() - start < scaled(2)
