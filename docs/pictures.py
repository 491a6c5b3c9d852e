"""Draw the networks in ``docs/images``: ``python docs/pictures.py``."""

from __future__ import annotations

from pathlib import Path

from resnet_spec import load
from resnet_spec.views.drawing.render import draw

PICTURES: dict[str, int | None] = {
    "resnet18": None,
    "resnet50": 2,
    "resnet152": None,
    "resnext50_32x4d": None,
    "seresnet50": None,
}
"""Each network, and the depth that it is drawn to: None for every layer."""


def main() -> None:
    """Write every picture anew."""
    for name, depth in PICTURES.items():
        (Path(__file__).parent / "images" / f"{name}.svg").write_bytes(draw(load(name), "svg", depth=depth))


if __name__ == "__main__":
    main()
