"""Bundled networks against other libraries: parameters, names and shapes of weights, inputs, recorded outputs."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from resnet_spec import Network, build, dump, load, run
from resnet_spec.library.index import read_index
from resnet_spec.transforms.width_reduction import reduce_width
from resnet_spec.weights.canonical import comparison_weights
from shared.frameworks import required
from shared.peer_recordings import goldens, make_images, peer_models, peer_state_dicts, relative_difference, zoo_goldens
from shared.zoo_specs import CASES, Family, equivalent_network, recorded_models, recorded_parameters

IDS = [f"{family.title}: {name}" for family, name in CASES]
LARGE = 31_000_000
"""Networks of more parameters are deeper or wider than others of the same blocks, and run with ``pytest --sweep``.

So do two in three of the others.
"""

FAST = {
    "test_resnet": ("numpy", "paddle", "flax"),
    **dict.fromkeys(("regnetz_005", "skresnet18", "resnetv2_50d_frn"), ("numpy", "paddle")),
}
"""The frameworks in which a network of each kind runs each time, those that compile it in seconds.

With ``pytest --sweep`` all networks run in all frameworks.
"""
PARAMETERS = {entry.name: entry.parameters for entry in read_index()}


def in_torch(number: int, row: dict[str, Any], id: str, parameters: int) -> Any:
    return pytest.param(row, id=id, marks=pytest.mark.sweep if parameters > LARGE or number % 3 else ())


def in_others(rows: list[Any]) -> list[Any]:
    return [
        pytest.param(
            backend,
            *param.values,
            id=f"{backend}-{param.id}",
            marks=() if backend in FAST.get(param.values[0]["name"], ()) else pytest.mark.sweep,
        )
        for backend in ("numpy", "paddle", "flax")
        for param in rows
    ]


ROWS = [
    in_torch(number, goldens()[key], "-".join(key), recorded_parameters(*key))
    for number, key in enumerate(recorded_models())
]
MORE = [
    in_torch(number, row, f"{row['name']}-{row['settings']}", PARAMETERS[f"{row['registry']}/{row['name']}"])
    for number, row in enumerate(zoo_goldens())
]


IN_FLOAT32 = {"resnetv2_50d_evos", "resnetv2_50d_frn"}
"""timm computes the statistics of these norms in float32 for every type. goldens_zoo.json has float64."""


DIFFERENT_NAMES = {("kuangliu/pytorch-cifar", "SENet18")}
"""Models whose weights have other names: in our SENet18, a gate's layers are in se and precede the shortcut."""


@pytest.mark.parametrize(("family", "name"), CASES, ids=IDS)
@pytest.mark.share(4)
def test_parameters_and_input_are_those_of_the_library(family: Family, name: str) -> None:
    network, row = family.load(name), peer_models()[family.registry, name]
    assert (network.parameters, list(network.input)) == (row["params"], row["input_size"])


@pytest.mark.parametrize(("family", "name"), CASES, ids=IDS)
@pytest.mark.share(4)
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
@pytest.mark.share(3)
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


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.share(4)
def test_logits_are_as_recorded(row: dict[str, Any]) -> None:
    required("torch")
    assert logits_difference("torch", row) < (1e-6 if row["name"] in IN_FLOAT32 else 1e-10)


@pytest.mark.parametrize("row", MORE)
@pytest.mark.share(4)
def test_logits_of_other_families_and_options_are_as_recorded(row: dict[str, Any]) -> None:
    required("torch")
    assert logits_difference("torch", row) < 1e-10


@pytest.mark.parametrize(("backend", "row"), in_others([*ROWS, *MORE]))
@pytest.mark.share(2)
def test_logits_in_other_frameworks_are_as_recorded(backend: str, row: dict[str, Any]) -> None:
    required(backend)
    assert logits_difference(backend, row) < (1e-6 if row["name"] in IN_FLOAT32 and "settings" not in row else 1e-10)


def logits_difference(backend: str, row: dict[str, Any]) -> float:
    if "settings" in row:
        network = load(f"{row['registry']}/{row['name']}", **row["settings"])
    else:
        network = equivalent_network(row["registry"], row["name"])
    model = build(network, backend=backend, weights=comparison_weights(network), dtype="float64")
    return relative_difference(run(model, make_images(row)), row)


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
@pytest.mark.share(4)
def test_every_framework_supports_the_names_of_other_libraries(backend_name: str, name: str) -> None:
    network = reduce_width(load(name))
    assert list(dump(build(network, backend=backend_name))) == list(network.weights())
