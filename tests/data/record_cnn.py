"""Record the weights of the convolutional networks of timm and torchvision beyond residual ones.

python tests/data/record_cnn.py tests/data/cnn_models.json, with torch, timm 1.0.31 and torchvision 0.28.0: each model
that the file names is recorded anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

library = torch.library.Library("torchvision", "DEF")  # its models can be imported without its compiled operators
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
from torchvision import models  # noqa: E402

from shared.peer_recordings import sign_weights  # noqa: E402

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Classifiers that only training runs: a spec has the network that evaluation runs."""


def record(model: str) -> dict[str, Any]:
    """Return the number of parameters of a model, and the signature of its weights' names and shapes in order."""
    registry, name = model.split("/")
    with torch.device("meta"):
        module = timm.create_model(name) if registry == "timm" else models.get_model(name, weights=None)
    shapes = {
        key: tuple(tensor.shape)
        for key, tensor in module.state_dict().items()
        if not key.endswith("num_batches_tracked") and not key.startswith(AUXILIARY)
    }
    parameters = [value for key, value in module.named_parameters() if not key.startswith(AUXILIARY)]
    return {
        "parameters": sum(parameter.numel() for parameter in parameters),
        "signature": sign_weights(shapes.items()),
    }


if __name__ == "__main__":
    path = Path(sys.argv[1])
    rows = json.loads(path.read_text(encoding="utf-8"))
    lines = [f" {json.dumps(model)}: {json.dumps(row | record(model))}" for model, row in rows.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
