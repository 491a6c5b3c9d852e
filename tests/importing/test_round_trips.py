"""Bundled networks, built in PyTorch or exported to ONNX, come back; so do the models of torchvision and timm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec import ImportRefused, Network, build, from_onnx, from_torch, load
from resnet_spec.backend import load_backend
from resnet_spec.importing.dataflow import dataflow_fingerprint
from resnet_spec.library import bundled
from resnet_spec.library.index import read_index
from shared.frameworks import required
from shared.torchvision_operators import declare_torchvision_operators

MAX_PARAMETERS = 70_000_000
"""The largest networks are not imported: they differ from smaller ones of their family in width or depth only."""

SHARE = ["resnet18", "timm/resnet26d", "timm/skresnet18", "timm/resnetv2_18", "timm/regnety_002", "flax/ResNet18"]
"""The networks whose round trips run always; all others run with --sweep."""

PEERS = [
    *(f"torchvision/{name}" for name in ("resnet18", "resnet34", "resnet50", "resnext50_32x4d", "regnet_x_400mf")),
    *(f"torchvision/{name}" for name in ("regnet_y_400mf", "mobilenet_v2", "densenet121", "shufflenet_v2_x0_5")),
    *(f"torchvision/{name}" for name in ("mobilenet_v3_small", "mnasnet0_5", "squeezenet1_1", "convnext_tiny")),
    *(f"timm/{name}" for name in ("resnet10t", "resnet14t", "resnet18", "resnet18d", "resnet26", "resnet26t")),
    *(f"timm/{name}" for name in ("resnet50_gn", "resnetaa34d", "resnetblur18", "resnetv2_18", "resnetv2_50d_gn")),
    *(f"timm/{name}" for name in ("resnetv2_50x1_bit", "seresnet18", "ecaresnet26t", "skresnet18", "resnest14d")),
    *(f"timm/{name}" for name in ("res2net50_26w_4s", "regnetx_002", "regnety_002", "regnetz_005", "regnetv_040")),
    *(f"timm/{name}" for name in ("legacy_seresnet18", "mobilenetv3_small_050", "convnext_atto", "repvgg_a0")),
    *(f"timm/{name}" for name in ("cspresnet50", "ghostnet_050", "ese_vovnet19b_dw", "tf_efficientnet_b0")),
]
"""The models of torchvision and timm that are imported: 45, of all families that are bundled and of others."""


def _all() -> list[Any]:
    small = {entry.name for entry in read_index() if entry.parameters <= MAX_PARAMETERS}
    return [
        name if name in SHARE else pytest.param(name, marks=pytest.mark.sweep)
        for name in bundled.names()
        if name in small
    ]


def _load_small(name: str) -> Network:
    network = load(name)
    side = min(64, network.input[1])
    return load(name, input=(network.input[0], side, side))


@pytest.mark.parametrize("name", _all())
def test_a_bundled_network_comes_back_from_torch(name: str) -> None:
    required("torch")
    network = _load_small(name)
    imported = from_torch(build(network, backend="torch"), network.input, extends=False)
    assert imported.is_proven
    assert imported.network.weights().keys() == network.weights().keys()
    assert dataflow_fingerprint(imported.network) == dataflow_fingerprint(network)


UNSAID = ("evos", "frn")
"""What the names of networks hold whose norms no file's operators say."""


@pytest.mark.parametrize("name", _all())
def test_a_bundled_network_comes_back_from_onnx(name: str, tmp_path: Path) -> None:
    required("onnx")
    network = _load_small(name)
    backend: Any = load_backend("onnx")
    backend.export(build(network, backend="onnx"), tmp_path / "n.onnx")
    if name.endswith(UNSAID):
        with pytest.raises(ImportRefused):
            from_onnx(tmp_path / "n.onnx")
        return
    imported = from_onnx(tmp_path / "n.onnx", extends=False)
    assert imported.is_proven
    kept = {key for key in network.weights() if not key.endswith(".gain")}  # a file holds the kernel with its gain
    assert imported.network.weights().keys() >= {key for key in kept if key.endswith("weight")}


@pytest.mark.parametrize("name", PEERS)
def test_a_peers_model_is_proven(name: str) -> None:
    library, _, model_name = name.partition("/")
    declare_torchvision_operators()
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    module: Any = pytest.importorskip(library, reason=f"{library} is not installed")
    model = module.models.get_model(model_name) if library == "torchvision" else module.create_model(model_name)
    _draw_statistics(model)
    imported = from_torch(model, (3, 64, 64))
    own = {key for key in model.state_dict() if not key.endswith("num_batches_tracked")}
    assert imported.network.weights().keys() == own
    assert max(line.worst for line in imported.proof if line.what == "outputs") < 1e-12
    assert len(imported.spec.splitlines()) <= 110


def _draw_statistics(model: Any) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif key.endswith("running_mean"):
                tensor.copy_(0.2 * torch.randn(tensor.shape, generator=generator))


def test_the_share_is_bundled() -> None:
    assert set(SHARE) <= set(bundled.names())
    assert np.unique(PEERS).size == len(PEERS) >= 40
