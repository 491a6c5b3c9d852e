"""Draw the networks shown in the documentation, into ``docs/images``: ``python docs/pictures.py``."""

from __future__ import annotations

from pathlib import Path

from resnet_spec import load
from resnet_spec.views.drawing.render import draw

DEPTHS: dict[str, int | None] = {
    "resnet18": None,
    "resnet50": 2,
    "resnet152": None,
    "resnext50_32x4d": None,
    "timm/seresnet50": None,
    "torchvision/densenet121": None,
    "torchvision/mobilenet_v2": None,
}
"""The depth to which each network is drawn: None draws every layer."""


def main() -> None:
    """Draw every picture again."""
    for name, depth in DEPTHS.items():
        (Path(__file__).parent / "images" / f"{Path(name).name}.svg").write_bytes(draw(load(name), "svg", depth=depth))


if __name__ == "__main__":
    main()
