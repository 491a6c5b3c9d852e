"""The tables of published weights against the libraries' own: every preparation, and every default, where they install.

See CONTRIBUTING.md for how to install them.
"""

from __future__ import annotations

from typing import Any

import pytest

from resnet_spec.library.published import PublishedWeights, read_published
from shared.torchvision_operators import declare_torchvision_operators

HALF = (0.5, 0.5, 0.5)
CONVERTS_INPUT = ("googlenet", "inception_v3")
"""Networks of torchvision that convert images to a mean and a deviation of a half by themselves; a spec does not."""


def published_by(registry: str) -> list[PublishedWeights]:
    return [weights for weights in read_published() if weights.registry == registry]


def test_rows_of_timm_are_as_it_states_them() -> None:
    declare_torchvision_operators()
    timm = pytest.importorskip("timm", exc_type=ImportError)
    for weights in published_by("timm"):
        known = timm.models._registry._model_default_cfgs[weights.model]
        cfg = known.cfgs[weights.tag]
        tags = [tag for tag, cfg in known.cfgs.items() if cfg.hf_hub_id or cfg.url]
        names = ("mean", "std", "crop_pct", "test_crop_pct", "crop_mode", "interpolation")
        ours = [getattr(weights, name) for name in (*names, "input", "test_input", "classes", "default", "license")]
        theirs = [getattr(cfg, name) for name in names]
        theirs += [cfg.input_size, cfg.test_input_size, cfg.num_classes]
        assert ours == [*theirs, weights.tag == tags[0], cfg.license or "unknown"], weights.key
        hub = f"timm/{weights.model}.{weights.tag}" if cfg.hf_hub_id == "timm/" else cfg.hf_hub_id or ""
        assert hub in {"", *(file.hub for file in weights.files)}, weights.key


def test_rows_of_torchvision_are_as_it_states_them() -> None:
    declare_torchvision_operators()
    models: Any = pytest.importorskip("torchvision.models", exc_type=ImportError)
    for weights in published_by("torchvision"):
        known = models.get_model_weights(weights.model)
        stated = known[weights.tag]
        transforms, metrics = stated.transforms(), stated.meta["_metrics"]["ImageNet-1K"]
        converts = weights.model in CONVERTS_INPUT
        assert weights.files[0].url == stated.url
        assert weights.default == (stated is known.DEFAULT)
        assert [weights.input[1]] == [weights.input[2]] == transforms.crop_size
        assert [weights.resize] == transforms.resize_size
        assert weights.interpolation == transforms.interpolation.value
        assert (weights.mean, weights.std) == (
            (HALF, HALF) if converts else (tuple(transforms.mean), tuple(transforms.std))
        )
        assert (weights.acc1, weights.acc5) == (metrics["acc@1"], metrics["acc@5"])
