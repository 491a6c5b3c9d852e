"""Bundled networks against other libraries: parameters, names and shapes of weights, inputs, recorded outputs."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import pytest

from resnet_spec import Network, build, dump, load, run
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.frameworks import required
from shared.peer_recordings import goldens, make_images, peer_models, peer_state_dicts, relative_difference, zoo_goldens
from shared.zoo_specs import CASES, Family, equivalent_network, recorded_models

IDS = [f"{family.title}: {name}" for family, name in CASES]
ROWS = [pytest.param(goldens()[key], equivalent_network(*key), id="-".join(key)) for key in recorded_models()]
MORE = [
    pytest.param(
        row, load(f"{row['registry']}/{row['name']}", **row["settings"]), id=f"{row['name']}-{row['settings']}"
    )
    for row in zoo_goldens()
]

FAST = {
    *("test_resnet", "resnet14t", "resnet18d", "regnetz_005", "skresnet18", "resnest14d", "resnetv2_50d_frn"),
    *("res2net50_48w_2s", "WRN-40-2"),
}
"""Networks that compile in seconds, one of each kind. The others run in all frameworks only with ``pytest --sweep``."""


def sweep_unless_fast(backend: str, param: Any) -> Any:
    row, network = param.values
    marks = () if row["name"] in FAST else (pytest.mark.sweep,)
    return pytest.param(backend, row, network, id=f"{backend}-{param.id}", marks=marks)


IN_FLOAT32 = {"resnetv2_50d_evos", "resnetv2_50d_frn"}
"""timm computes the statistics of these norms in float32 for every type. goldens_zoo.json has float64."""


DIFFERENT_NAMES = {("kuangliu/pytorch-cifar", "SENet18")}
"""Models whose weights have other names: in our SENet18, a gate's layers are in se and precede the shortcut."""


@pytest.mark.parametrize(("family", "name"), CASES, ids=IDS)
def test_parameters_and_input_are_those_of_the_library(family: Family, name: str) -> None:
    network, row = family.load(name), peer_models()[family.registry, name]
    assert (network.parameters, list(network.input)) == (row["params"], row["input_size"])


@pytest.mark.parametrize(("family", "name"), CASES, ids=IDS)
def test_names_and_shapes_are_those_of_the_library(family: Family, name: str) -> None:
    network, row = family.load(name), peer_models()[family.registry, name]
    published = peer_state_dicts().get(f"{family.registry}/{name}")
    if published is None:
        assert (
            "state_dict_sig" not in row
            or (family.registry, name) in DIFFERENT_NAMES
            or signature(network) == row[SIGNATURE]
        )
    elif family.registry == "PaddleClas":
        assert [layout_independent(*item) for item in network.weights().items()] == [
            layout_independent(*item) for item in published
        ]
    elif family.registry == "paddle.vision":
        assert [(name, layout_independent(name, shape)) for name, shape in network.weights().items()] == [
            (canonical_name(name), layout_independent(name, shape)) for name, shape in published
        ]
    else:
        assert list(network.weights().items()) == published


WITH_FEATURES = [(family, name) for family, name in CASES if peer_models()[family.registry, name].get("feature_info")]


@pytest.mark.parametrize(
    ("family", "name"), WITH_FEATURES, ids=[f"{family.title}: {name}" for family, name in WITH_FEATURES]
)
def test_features_are_those_of_timm(family: Family, name: str) -> None:
    features = {feature.path: feature for feature in family.load(name).features()}
    for expected in peer_models()[family.registry, name]["feature_info"]:
        feature = features["relu" if expected["module"] == "act1" else expected["module"]]
        assert (feature.channels, feature.stride) == (expected["num_chs"], expected["reduction"])


SIGNATURE = "state_dict_sig"
PADDLE_NAMES = {"_mean": "running_mean", "_variance": "running_var"}


def signature(network: Network) -> str:
    """Return the hash in peer_models.json of a PyTorch state_dict, over names, shapes and types in order."""
    lines = []
    for name, shape in network.weights().items():
        lines.append(f"{name} {shape} torch.float32")
        if name.endswith("running_var"):
            lines.append(f"{name.removesuffix('running_var')}num_batches_tracked () torch.int64")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def canonical_name(name: str) -> str:
    path, _, last = name.rpartition(".")
    return f"{path}.{PADDLE_NAMES.get(last, last)}"


def layout_independent(name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Return the kind and shape of a weight, equal for matrices as (out, in), (in, out) and (out, in, 1, 1)."""
    last = canonical_name(name).rpartition(".")[2]
    matrix = len(shape) == 2 or shape[2:] == (1, 1)
    return last, tuple(sorted(shape[:2])) if matrix else shape


@pytest.mark.parametrize(("row", "network"), ROWS)
def test_logits_are_as_recorded(row: dict[str, Any], network: Network) -> None:
    required("torch")
    assert logits_difference("torch", row, network) < (1e-6 if row["name"] in IN_FLOAT32 else 1e-10)


@pytest.mark.parametrize(("row", "network"), MORE)
def test_logits_of_other_families_and_options_are_as_recorded(row: dict[str, Any], network: Network) -> None:
    required("torch")
    assert logits_difference("torch", row, network) < 1e-10


@pytest.mark.parametrize(
    ("backend", "row", "network"),
    [
        *(sweep_unless_fast(backend, param) for backend in ("numpy", "paddle", "flax") for param in (*ROWS, *MORE)),
    ],
)
def test_logits_in_other_frameworks_are_as_recorded(backend: str, row: dict[str, Any], network: Network) -> None:
    required(backend)
    assert logits_difference(backend, row, network) < (
        1e-6 if row["name"] in IN_FLOAT32 and "settings" not in row else 1e-10
    )


def logits_difference(backend: str, row: dict[str, Any], network: Network) -> float:
    model = build(network, backend=backend, weights=cached_weights(network), dtype="float64")
    return relative_difference(run(model, make_images(row)), row)


@lru_cache(maxsize=1)
def cached_weights(network: Network) -> dict[str, Array]:
    return comparison_weights(network)


@pytest.mark.parametrize(
    "name", ["resnetblur18", "ecaresnet26t", "skresnet18", "res2net50_48w_2s", "resnetv2_50x1_bit"]
)
def test_macs_are_those_that_pytorch_counts(name: str) -> None:
    required("torch")
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network = load(name, input=(3, 64, 64))
    model = build(network, backend="torch")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *network.input))
    assert counter.get_total_flops() == 2 * network.macs


@pytest.mark.parametrize(
    "name", ["keras/ResNet50V2", "flax/ResNet18", "regnet_y_400mf", "SENet18", "regnetv_064", "resnest14d"]
)
def test_every_framework_supports_the_names_of_other_libraries(backend_name: str, name: str) -> None:
    network = load(name)
    assert list(dump(build(network, backend=backend_name))) == list(network.weights())
