"""Record the outputs of torchvision's models, as rows like those of goldens.json. Needs torch and torchvision 0.28.0.

python tests/data/record_torchvision.py > tests/data/goldens_torchvision.json
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch

library = torch.library.Library("torchvision", "DEF")  # its models can be imported without its compiled operators
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torchvision import models  # noqa: E402

from resnet_spec import load  # noqa: E402
from resnet_spec.weights.canonical import comparison_weights  # noqa: E402

SIZE = (1, 3, 72, 56)


def record_row(name: str) -> dict[str, object]:
    """Return the row of a model."""
    model = getattr(models, name)().double().eval()
    weights = {key: torch.from_numpy(array) for key, array in comparison_weights(load(name)).items()}
    expected = {key for key in model.state_dict() if not key.endswith("num_batches_tracked")}
    assert weights.keys() == expected
    model.load_state_dict(weights, strict=False)
    with torch.no_grad():
        logits = model(torch.from_numpy(np.random.default_rng(0).standard_normal(SIZE))).numpy()
    total, length = float(logits.sum()), float(np.sqrt((logits**2).sum()))
    first = logits[0, :8].tolist()
    return {"registry": "torchvision", "name": name, "input": SIZE, "logits8": first, "sum": total, "l2": length}


if __name__ == "__main__":
    names = ["resnet34", "resnet101", "resnext101_32x8d", "wide_resnet101_2"]
    json.dump({"models": [record_row(name) for name in ["resnet18", *names]]}, sys.stdout, indent=1)
