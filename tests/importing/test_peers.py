"""The models of torchvision and timm are imported with their own names of weights and the same outputs.

Both must be installed; CONTRIBUTING.md says how.
"""

from __future__ import annotations

from typing import Any

import pytest

from resnet_spec.backend import load_backend
from resnet_spec.importing.named_models import load_named_model
from resnet_spec.importing.sources import import_model
from resnet_spec.library import bundled
from shared.frameworks import required
from shared.import_sweep import small_network, sweep, try_peer
from shared.paths import ROOT
from shared.sampling import one_in
from shared.torchvision_operators import declare_torchvision_operators

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
"""The models that are imported always, of all families; all others are with --sweep."""


@pytest.fixture(autouse=True)
def libraries() -> Any:
    required("torch")
    declare_torchvision_operators()
    return [pytest.importorskip(name, reason=f"{name} is not installed") for name in ("torchvision", "timm")]


@pytest.mark.parametrize("name", PEERS)
def test_a_peers_model_comes_back(name: str) -> None:
    assert try_peer(name, small_network(name).input) == ("equal", "")


@pytest.mark.sweep
def test_peers_models_come_back() -> None:
    found = {name: (verdict, reason) for name, verdict, reason in sweep("peers", [])}
    equal = sum(verdict == "equal" for verdict, _ in found.values())
    assert equal >= 0.95 * len(found), {name: why for name, why in found.items() if why[0] != "equal"}


SHOWN = ["timm:resnet26t", *(f"torchvision:{name}" for name in ("mobilenet_v2", "densenet121", "convnext_tiny"))]


@pytest.mark.parametrize("name", one_in(4, SHOWN))
def test_the_page_shows_what_is_imported(name: str) -> None:
    backend: Any = load_backend("torch")
    model = backend.wrap_model(load_named_model(name))
    settings: Any = {"name": name.partition(":")[2], "backends": (), "check": False}
    texts = [import_model(model, (3, 224, 224), extends=extends, **settings).spec for extends in (True, False)]
    page = (ROOT / "docs" / "how-to" / "import-a-model.md").read_text(encoding="utf-8")
    assert any(f"```yaml\n{text.strip()}\n```" in page for text in texts)


def test_the_share_is_of_bundled_networks() -> None:
    assert set(PEERS) <= set(bundled.names())
    assert len(set(PEERS)) == len(PEERS) >= 40
