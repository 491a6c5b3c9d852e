"""The tables of published weights."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from resnet_spec import load
from resnet_spec.checkpoints.formats.tensors import Checkpoint, Tensor
from resnet_spec.checkpoints.naming.mapping import list_layers, map_weights
from resnet_spec.checkpoints.naming.tables import load_dialects, load_layouts
from resnet_spec.checkpoints.transfer.matching import interpret_checkpoint
from resnet_spec.library import bundled
from resnet_spec.library.published import (
    PublishedWeights,
    UnknownTagError,
    choose_published,
    find_published,
    list_licenses,
    read_published,
)
from resnet_spec.transforms.adaptation import without_classifier
from shared.paths import SHARED
from shared.peer_recordings import peer_state_dicts


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


OTHER_REGISTRIES = {"paddleclas": "PaddleClas"}
"""Registries that the recordings of other libraries call otherwise."""

LAYOUTS = {"keras": "keras", "paddle.vision": "paddle", "paddleclas": "paddle"}
"""The layouts of the registries' files; the others have PyTorch's."""

Rows: TypeAlias = list[tuple[str, tuple[int, ...]]]
"""The names and shapes of arrays."""

SAMPLE = 24
"""One in so many rows is resolved without ``--sweep``."""


def find_problems(weights: PublishedWeights) -> list[str]:
    """Return what does not fit between published weights and their network: classes, paths, names or shapes."""
    settings = {"classes": weights.classes} if weights.classes else {}
    network = load(weights.spec, input=None, outputs=None, **settings)
    leaves = {leaf.path: leaf for leaf in network.leaves()}
    problems = [f"no {path}" for path in (*weights.first_conv, *weights.classifier) if path not in leaves]
    if not problems:
        problems += [
            f"{path} gives {leaves[path].output_shape}"
            for path in weights.classifier
            if weights.classes and leaves[path].output_shape[0] != weights.classes
        ]
    layout = load_layouts()[LAYOUTS.get(weights.registry, "torch")]
    dialect = load_dialects()[weights.names] if weights.names else None
    mappings = map_weights(list_layers(network), dialect, layout)
    if mappings is None:
        return [*problems, f"{weights.names} has no names for it"]
    recorded = peer_state_dicts().get(f"{OTHER_REGISTRIES.get(weights.registry, weights.registry)}/{weights.model}")
    if recorded is not None:
        tensors = {name: make_tensor(shape) for name, shape in with_classes(weights, recorded)}
        checkpoint = Checkpoint("recorded", "recorded", layout.name, tensors)
        wanted = network if weights.classes else without_classifier(network)
        interpretation = interpret_checkpoint(wanted, checkpoint, None, layout.name)
        problems += interpretation.find_problems(suggestions=False)
        problems += [] if dialect in (None, interpretation.dialect) else [f"is in {interpretation.dialect}"]
    return problems


def with_classes(weights: PublishedWeights, recorded: Rows) -> Rows:
    """Return what is recorded of a library's model, which has 1,000 classes, with those of published weights."""
    heads = tuple(f"{path}." for path in weights.classifier)
    if weights.classes == 1000:
        return recorded
    if not weights.classes:
        return [(name, shape) for name, shape in recorded if not name.startswith(heads)]
    return [(name, (weights.classes, *shape[1:]) if name.startswith(heads) else shape) for name, shape in recorded]


def make_tensor(shape: tuple[int, ...]) -> Tensor:
    return Tensor(shape, np.dtype(np.float32), lambda: np.zeros(shape, np.float32))


def check_sample(rows: Sequence[PublishedWeights]) -> None:
    problems = {weights.key: found for weights in rows if (found := find_problems(weights))}
    assert problems == {}


def test_a_sample_of_the_rows_resolves_to_networks_names_and_shapes() -> None:
    check_sample(read_published()[::SAMPLE])


@pytest.mark.sweep
@pytest.mark.parametrize("part", range(8))
def test_every_row_resolves_to_a_network_its_names_and_shapes(part: int) -> None:
    check_sample(read_published()[part::8])


def test_there_are_as_many_rows_as_are_documented() -> None:
    rows = read_published()
    assert (len(rows), len({name for w in rows for name in (w.spec, *w.same_network)})) == (1116, 773)
    assert sum(w.registry in ("timm", "torchvision") for w in rows) == 883


def test_every_usable_file_of_the_first_collection_is_there() -> None:
    """By network, tag and place; six of Keras's are called otherwise."""
    collected = SHARED / "data" / "pretrained.json"
    if not collected.exists():
        pytest.skip(f"{collected}, the files that were collected of residual networks, is not here")
    rows = [row for row in json.loads(collected.read_text(encoding="utf-8"))["rows"] if row["usable"]]
    missing = []
    for row in rows:
        tag = row["tag"].replace(", no top", "_notop")
        known = [weights for weights in find_published(row["spec"]) if weights.tag == tag]
        places = {place for weights in known for file in weights.files for place in (file.url, file.hub) if place}
        if not {row["url"], row["hub"]} & places:
            missing.append((row["spec"], tag))
    names = {name for row in rows for name in (row["spec"], *row["same_network"])}
    assert (len(rows), len(names), missing) == (424, 264, [])


def test_lists_of_classes_and_licenses_are_known() -> None:
    assert {w.labels for w in read_published() if w.classes not in (0, 640, 768, 1024)} == {
        "cifar-10",
        "cifar-100",
        *(f"imagenet-{size}" for size in ("1k", "12k", "21k-goog", "21k-miil", "22k")),
    }
    assert all(re.fullmatch("[a-z0-9.-]+", license) for license in list_licenses(read_published()))


def test_every_preparation_is_complete() -> None:
    for weights in read_published():
        assert len(weights.mean) == len(weights.std) == weights.input[0]
        assert weights.interpolation in ("bilinear", "bicubic", "nearest", None)
        assert weights.crop_mode in ("center", "squash", "border")
        assert weights.channel_order in ("rgb", "bgr")
        assert weights.range in ((0, 1), (0, 255))
        assert weights.crop_pct is not None or weights.registry in ("keras", "akamaster", "chenyaofo")


def test_the_tables_are_small_and_readable() -> None:
    folder = Path(str(bundled.directory())) / "weights"
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.json")}
    assert sum(sizes.values()) < 450_000
    assert all(len(line) < 1200 for path in folder.glob("*.json") for line in path.read_text().splitlines())
