"""torchvision and timm beside a CPU build of torch: where torchvision's compiled part does not load, its models still do."""

from __future__ import annotations

import torch

library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm as timm  # noqa: E402
import torchvision as torchvision  # noqa: E402
