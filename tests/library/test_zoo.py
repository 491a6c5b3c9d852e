"""The zoo against its peers: parameters, names with shapes in order, inputs, and logits of those that were recorded."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import pytest

from resnet_spec import Network, build, dump, load, run
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.frameworks import required
from shared.peer_recordings import difference, goldens, images, models, state_dicts, zoo_goldens
from shared.zoo_specs import CASES, Family, recorded, stands_for

IDS = [f"{family.title}: {name}" for family, name in CASES]
ROWS = [pytest.param(goldens()[key], stands_for(*key), id="-".join(key)) for key in recorded()]
MORE = [
    pytest.param(
        row, load(f"{row['registry']}/{row['name']}", **row["settings"]), id=f"{row['name']}-{row['settings']}"
    )
    for row in zoo_goldens()
]

QUICK = {
    *("test_resnet", "resnet14t", "resnet18d", "regnetz_005", "skresnet18", "resnest14d", "resnetv2_50d_frn"),
    *("res2net50_48w_2s", "WRN-40-2"),
}
"""Of each kind one that compiles in seconds: these run in all frameworks each time, and all others with ``pytest --sweep``."""


def quick(backend: str, param: Any) -> Any:
    row, network = param.values
    marks = () if row["name"] in QUICK else (pytest.mark.sweep,)
    return pytest.param(backend, row, network, id=f"{backend}-{param.id}", marks=marks)


IN_FLOAT32 = {"resnetv2_50d_evos", "resnetv2_50d_frn"}
"""timm takes these norms' statistics in float32 whatever the model's type; goldens_zoo.json has them in float64."""


NAMED_OTHERWISE = {("kuangliu/pytorch-cifar", "SENet18")}
"""Whose names are not ours: here the gate's layers stand beneath se, and before the shortcut's."""


@pytest.mark.parametrize(("family", "name"), CASES, ids=IDS)
def test_parameters_and_input_are_the_peers(family: Family, name: str) -> None:
    network, row = family.load(name), models()[family.registry, name]
    assert (network.parameters, list(network.input)) == (row["params"], row["input_size"])


@pytest.mark.parametrize(("family", "name"), CASES, ids=IDS)
def test_names_and_shapes_in_order_are_the_peers(family: Family, name: str) -> None:
    network, row = family.load(name), models()[family.registry, name]
    published = state_dicts().get(f"{family.registry}/{name}")
    if published is None:
        assert (
            "state_dict_sig" not in row
            or (family.registry, name) in NAMED_OTHERWISE
            or signature(network) == row[SIGNED]
        )
    elif family.registry == "PaddleClas":
        assert [kept(*item) for item in network.weights().items()] == [kept(*item) for item in published]
    elif family.registry == "paddle.vision":
        assert [(name, kept(name, shape)) for name, shape in network.weights().items()] == [
            (canonical(name), kept(name, shape)) for name, shape in published
        ]
    else:
        assert list(network.weights().items()) == published


TAPPED = [(family, name) for family, name in CASES if models()[family.registry, name].get("feature_info")]


@pytest.mark.parametrize(("family", "name"), TAPPED, ids=[f"{family.title}: {name}" for family, name in TAPPED])
def test_features_have_timms_channels_and_strides(family: Family, name: str) -> None:
    features = {feature.path: feature for feature in family.load(name).features()}
    for timms in models()[family.registry, name]["feature_info"]:
        ours = features["relu" if timms["module"] == "act1" else timms["module"]]
        assert (ours.channels, ours.stride) == (timms["num_chs"], timms["reduction"])


SIGNED = "state_dict_sig"
PADDLE = {"_mean": "running_mean", "_variance": "running_var"}


def signature(network: Network) -> str:
    """What peer_models.json keeps of a PyTorch state_dict: a hash of names, shapes and types in order."""
    lines = []
    for name, shape in network.weights().items():
        lines.append(f"{name} {shape} torch.float32")
        if name.endswith("running_var"):
            lines.append(f"{name.removesuffix('running_var')}num_batches_tracked () torch.int64")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def canonical(name: str) -> str:
    path, _, last = name.rpartition(".")
    return f"{path}.{PADDLE.get(last, last)}"


def kept(name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """What a weight is and its shape, whether a matrix product is kept as (out, in), (in, out) or (out, in, 1, 1)."""
    last = canonical(name).rpartition(".")[2]
    matrix = len(shape) == 2 or shape[2:] == (1, 1)
    return last, tuple(sorted(shape[:2])) if matrix else shape


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize(("row", "network"), ROWS)
def test_logits_are_the_peers(backend: str, row: dict[str, Any], network: Network) -> None:
    """Rows outside, backends inside: both then have one network's weights to draw."""
    required(backend)
    assert off(backend, row, network) < (1e-6 if row["name"] in IN_FLOAT32 else 1e-10)


@pytest.mark.parametrize(("row", "network"), MORE)
def test_logits_of_other_families_and_options_are_the_peers(row: dict[str, Any], network: Network) -> None:
    required("torch")
    assert off("torch", row, network) < 1e-10


@pytest.mark.parametrize(
    ("backend", "row", "network"),
    [
        *(quick(backend, param) for backend in ("paddle", "flax") for param in (*ROWS, *MORE)),
        *(quick("numpy", param) for param in MORE),
    ],
)
def test_logits_are_the_peers_in_other_frameworks(backend: str, row: dict[str, Any], network: Network) -> None:
    required(backend)
    assert off(backend, row, network) < (1e-6 if row["name"] in IN_FLOAT32 and "settings" not in row else 1e-10)


def off(backend: str, row: dict[str, Any], network: Network) -> float:
    model = build(network, backend=backend, weights=drawn(network), dtype="float64")
    return difference(run(model, images(row)), row)


@lru_cache(maxsize=1)
def drawn(network: Network) -> dict[str, Array]:
    return comparison_weights(network)


@pytest.mark.parametrize(
    "name", ["resnetblur18", "ecaresnet26t", "skresnet18", "res2net50_48w_2s", "resnetv2_50x1_bit"]
)
def test_macs_are_torchs(name: str) -> None:
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
def test_names_that_peers_chose_are_possible_in_every_framework(backend_name: str, name: str) -> None:
    network = load(name)
    assert list(dump(build(network, backend=backend_name))) == list(network.weights())
