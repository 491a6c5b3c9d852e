"""Declare what torchvision needs at import where its compiled part does not load."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest


@cache
def declare_torchvision_operators() -> Any:
    """Declare the two operators that torchvision needs at import, since its compiled part may not load with this torch.

    Returns the library that holds them, which must stay alive.
    """
    torch = pytest.importorskip("torch")
    library = torch.library.Library("torchvision", "FRAGMENT")
    if not hasattr(torch.ops.torchvision, "nms"):
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
