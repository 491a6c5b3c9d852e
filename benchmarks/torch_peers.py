"""Import torchvision and timm, also if torchvision's compiled operators do not load, as with a CPU build of PyTorch."""

from __future__ import annotations

import torch

library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm as timm  # noqa: E402
import torchvision as torchvision  # noqa: E402
