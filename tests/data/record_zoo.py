"""Record outputs of models of timm and torchvision, with and without options, as rows like those of goldens.json.

python tests/data/record_zoo.py > tests/data/goldens_zoo.json, with torch, timm 1.0.31 and torchvision 0.28.0
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch

library = torch.library.Library("torchvision", "DEF")  # its models can be imported without its compiled operators
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
from torchvision import models  # noqa: E402

from resnet_spec import load  # noqa: E402
from resnet_spec.weights.canonical import comparison_weights  # noqa: E402

# timm computes two norms in float32 for every type of model. Here they are recorded in the model's own type.
torch.Tensor.float = lambda self: self  # type: ignore[method-assign]

TORCHVISION = ["regnet_x_400mf", "regnet_y_400mf"]
TIMM = [
    *("regnetx_002", "regnety_004", "regnety_040_sgn", "regnetv_040", "regnetv_064", "regnetz_005", "regnetz_040_h"),
    *("legacy_seresnet18", "legacy_seresnet50", "legacy_seresnext26_32x4d", "legacy_senet154"),
    *("res2net50_26w_4s", "res2net50_48w_2s", "res2net50_14w_8s", "res2next50", "res2net50d"),
    *("resnest14d", "resnest50d_4s2x40d", "resnest50d_1s4x24d", "skresnet18", "skresnet50d", "skresnext50_32x4d"),
    *("resnetv2_34d", "resnetv2_50x1_bit", "resnetv2_50d_evos", "resnetv2_50d_frn", "test_resnet", "ecaresnetlight"),
]
OPTIONS: list[tuple[str, dict[str, int | str]]] = [
    *((name, {"output_stride": 8}) for name in ("resnet18", "resnet26d", "resnetblur18", "test_resnet", "res2net50d")),
    *((name, {"output_stride": 8}) for name in ("skresnet18", "resnetv2_50d", "regnety_004", "resnetrs50")),
    *((name, {"output_stride": 16}) for name in ("resnetaa34d", "resnest14d", "skresnext50_32x4d", "regnetz_005")),
    *(("resnet18", {"pool": pool}) for pool in ("max", "avg_max", "avg_max_concat")),
]
POOLS = {"max": "max", "avg_max": "avgmax", "avg_max_concat": "catavgmax"}


def record_row(registry: str, name: str, settings: dict[str, int | str]) -> dict[str, object]:
    """Return the row of a model with settings."""
    if registry == "timm":
        options = {
            "output_stride": settings.get("output_stride", 32),
            "global_pool": POOLS.get(str(settings.get("pool")), "avg"),
        }
        model = timm.create_model(name, **{key: value for key, value in options.items() if value not in (32, "avg")})
    else:
        model = getattr(models, name)()
    network = load(f"{registry}/{name}", **settings)
    weights = {key: torch.from_numpy(array) for key, array in comparison_weights(network).items()}
    assert list(weights) == [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    model.double().eval().load_state_dict(weights, strict=False)
    size = (1, 3, 64, 96) if "aa" in name else (1, 3, 72, 56)
    with torch.no_grad():
        logits = model(torch.from_numpy(np.random.default_rng(0).standard_normal(size))).numpy()
    total, length = float(logits.sum()), float(np.sqrt((logits**2).sum()))
    facts = {"registry": registry, "name": name, "settings": settings, "input": size}
    return {**facts, "logits8": logits[0, :8].tolist(), "sum": total, "l2": length}


if __name__ == "__main__":
    cases = [
        *(("timm", name, {}) for name in TIMM),
        *(("torchvision", name, {}) for name in TORCHVISION),
        *(("timm", name, settings) for name, settings in OPTIONS),
    ]
    json.dump({"models": [record_row(*case) for case in cases]}, sys.stdout, indent=1)
