"""Record what timm's, torchvision's and PaddleClas's own preparations make of twelve pictures, as digests.

    PYTHONPATH=peers:tests python tests/data/record_preparation.py tests/data/preparations.json

It needs timm, torchvision and opencv-python-headless 4.11. PaddleClas's steps are written out below as its
ppcls/data/preprocess/ops/operators.py has them, on cv2.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

library = torch.library.Library("torchvision", "DEF")  # its transforms can be imported without its compiled operators
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402
from timm.data import create_transform, resolve_data_config  # noqa: E402

from resnet_spec.library.published import PublishedWeights, read_published  # noqa: E402
from resnet_spec.preparation.preparation import preparation_of_weights  # noqa: E402
from shared.pictures import SIZES, digest, make_picture  # noqa: E402

Prepare = Callable[[Image.Image], Any]


def timms(weights: PublishedWeights, test_size: bool = False, **changes: Any) -> Prepare:
    config = timm.models.get_pretrained_cfg(f"{weights.model}.{weights.tag}").to_dict()
    return create_transform(**{**resolve_data_config({}, config, use_test_size=test_size), **changes})


def torchvisions(weights: PublishedWeights) -> Prepare:
    transforms = torchvision.models.get_model_weights(weights.model)[weights.tag].transforms()
    if weights.model in ("googlenet", "inception_v3"):  # their transform_input undoes ImageNet's numbers for these
        transforms.mean = transforms.std = [0.5, 0.5, 0.5]
    return transforms


def paddleclas(weights: PublishedWeights) -> Prepare:
    def prepare(picture: Image.Image) -> Any:
        pixels = np.asarray(picture)
        height, width = pixels.shape[:2]
        percent = float(weights.resize or 0) / min(width, height)
        size = round(width * percent), round(height * percent)
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
        wanted = weights.input[1]
        left, top = (size[0] - wanted) // 2, (size[1] - wanted) // 2
        pixels = pixels[top : top + wanted, left : left + wanted]
        mean, std = np.array(weights.mean, np.float32), np.array(weights.std, np.float32)
        return ((pixels.astype(np.float32) * np.float32(1 / 255) - mean) / std).transpose(2, 0, 1)

    return prepare


def find_peer(weights: PublishedWeights) -> Prepare | None:
    match weights.registry:
        case "timm":
            return timms(weights)
        case "torchvision":
            return torchvisions(weights)
        case "paddleclas":
            return paddleclas(weights)
        case _:
            return None


def record(prepare: Prepare, sizes: tuple[tuple[int, int], ...] = SIZES) -> list[str]:
    return [digest(np.asarray(prepare(make_picture(*size)))) for size in sizes]


def main(path: str) -> None:
    """Record one picture for each published file, and all for each different preparation."""
    files: dict[str, str] = {}
    kinds: dict[str, dict[str, Any]] = {}
    for weights in read_published():
        peer = find_peer(weights)
        if peer is None:
            continue
        (files[weights.key],) = record(peer, SIZES[:1])
        peers = {False: peer, **({True: timms(weights, test_size=True)} if weights.test_input else {})}
        for test_size, prepare in peers.items():
            kind = str(preparation_of_weights(weights, test_size=test_size))
            if kind not in kinds:
                kinds[kind] = {"weights": weights.key, "test_size": test_size, "pictures": record(prepare)}
    sample = next(weights for weights in read_published() if weights.key == "timm/resnet50 a1_in1k")
    others = {
        "squash": timms(sample, crop_mode="squash"),
        "border": timms(sample, crop_mode="border", crop_pct=1.0),
        "wide": timms(sample, input_size=(3, 192, 256)),
    }
    recorded = {
        "libraries": {"timm": timm.__version__, "torchvision": torchvision.__version__, "cv2": cv2.__version__},
        "files": files,
        "kinds": list(kinds.values()),
        "others": {name: record(prepare) for name, prepare in others.items()},
    }
    Path(path).write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
