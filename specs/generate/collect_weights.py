"""Collect records of published weights of bundled networks from the libraries that publish them, for ``weights.py``.

    python specs/generate/collect_weights.py ROWS.json collected.json [PADDLECLAS]

with timm, torchvision and Paddle installed; PADDLECLAS is the folder ``ppcls`` of its unpacked wheel. What ROWS.json
has already is left out. Nothing is downloaded.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from resnet_spec import load
from resnet_spec.library import bundled

library = torch.library.Library("torchvision", "FRAGMENT")  # it can be imported without its compiled operators
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm.models  # noqa: E402
from torchvision import models  # noqa: E402

Row = dict[str, Any]

HASH = re.compile(r"-([0-9a-f]{8,})\.[a-z.]+$")
"""The end of a file's name by the convention of torch.hub."""

LABELS = {
    0: "none: no head",
    1000: "imagenet-1k",
    11221: "imagenet-21k-miil",
    11821: "imagenet-12k",
    21841: "imagenet-22k",
    21843: "imagenet-21k-goog",
}
EMBEDDINGS = (640, 768, 1024)
"""Outputs of networks whose head projects images to where texts are projected to, as in CLIP."""

HALF = [0.5, 0.5, 0.5]
CONVERTS_INPUT = ("googlenet", "inception_v3")
"""Networks of torchvision that convert images to a mean and a deviation of a half by themselves; a spec does not."""

FEATURES_ALONE = ("IMAGENET1K_FEATURES",)
"""Weights of torchvision whose classifier is not a number."""

PADDLE_NAMES = {
    "mobilenetv1_1.0": "mobilenet_v1",
    "mobilenetv2_1.0": "mobilenet_v2",
    "mobilenet_v3_large_x1.0": "mobilenet_v3_large",
    "mobilenet_v3_small_x1.0": "mobilenet_v3_small",
}
OTHER_NAMES = re.compile("EfficientNetB|GoogLeNet|googlenet|PPLCNetV2|EfficientNetV2")
"""Networks of Paddle whose files have other names than the spec, or weights that evaluation does not use."""


def make_row(spec: str, registry: str, tag: str, **known: Any) -> Row:
    """Return a record with what is known; the rest is not stated."""
    stated: Row = {
        "hub": None,
        "hub_file": "model.safetensors",
        "url": None,
        "md5": None,
        "names": "own",
        "classes": 1000,
        "test_input": None,
        "resize": None,
        "test_crop_pct": None,
        "crop_mode": "center",
        "antialias": True,
        "origin": None,
        "acc1": None,
        "acc5": None,
        "acc1_at": None,
        "first_conv": None,
        "classifier": None,
        "usable": True,
        "notes": [],
    }
    row = {**stated, "spec": spec, "registry": registry, "model": spec.partition("/")[2], "tag": tag, **known}
    found = HASH.search(row["url"] or "")
    return {**row, "labels": LABELS.get(row["classes"], ""), "sha256_prefix": found[1] if found else None}


def collect_timm(name: str) -> Iterator[Row]:
    """Yield the weights of a network of timm, as its configurations state them."""
    model = name.partition("/")[2]
    known = timm.models._registry._model_default_cfgs[model]
    weights = {tag: cfg for tag, cfg in known.cfgs.items() if cfg.hf_hub_id or cfg.url}
    for tag, cfg in weights.items():
        stated = dataclasses.asdict(cfg)
        is_own = urlparse(cfg.url or "").path.startswith(("/rwightman/", "/huggingface/"))
        hub = f"timm/{model}.{tag}" if cfg.hf_hub_id == "timm/" else cfg.hf_hub_id
        yield make_row(
            name,
            "timm",
            tag,
            default=tag == next(iter(weights)),
            hub=hub,
            url=(cfg.url or None) if is_own or not hub else None,
            classes=cfg.num_classes,
            input=cfg.input_size,
            licence=cfg.license,
            origin=cfg.origin_url,
            notes=["its outputs are an embedding of the image, not classes"] if cfg.num_classes in EMBEDDINGS else [],
            test_input=cfg.test_input_size,
            **{key: stated[key] for key in ("mean", "std", "crop_pct", "test_crop_pct", "crop_mode", "interpolation")},
            first_conv=cfg.first_conv,
            classifier=cfg.classifier if cfg.num_classes else None,
        )


def collect_torchvision(name: str) -> Iterator[Row]:
    """Yield the weights of a network of torchvision, as its enumeration states them."""
    model = name.partition("/")[2]
    known = models.get_model_weights(model)
    for weights in known:
        if weights.name in FEATURES_ALONE:
            continue
        transforms, meta = weights.transforms(), weights.meta
        size, resize = transforms.crop_size[0], transforms.resize_size[0]
        converts = model in CONVERTS_INPUT
        yield make_row(
            name,
            "torchvision",
            weights.name,
            default=weights is known.DEFAULT,
            url=weights.url,
            input=[3, size, size],
            mean=HALF if converts else list(transforms.mean),
            std=HALF if converts else list(transforms.std),
            resize=resize,
            crop_pct=round(size / resize, 4),
            interpolation=transforms.interpolation.value,
            licence=meta.get("license") or "bsd-3-clause (the code's; none stated for weights)",
            origin=meta.get("recipe"),
            acc1=meta["_metrics"]["ImageNet-1K"]["acc@1"],
            acc5=meta["_metrics"]["ImageNet-1K"]["acc@5"],
            acc1_at=size,
        )


def collect_paddle(name: str, urls: dict[str, Any]) -> Iterator[Row]:
    """Yield the weights of a network of paddle.vision, which states no preparation: the spec's is the usual one."""
    model = name.partition("/")[2]
    if model not in urls or OTHER_NAMES.search(model):
        return
    url, md5 = urls[model]
    licence = "apache-2.0 (the code's; none stated for weights)"
    origin = "https://github.com/PaddlePaddle/Paddle"
    preparation = prepare_as_spec(name, antialias=None)
    yield make_row(
        name, "paddle.vision", "imagenet", default=True, url=url, md5=md5, licence=licence, origin=origin, **preparation
    )


def collect_paddleclas(name: str, urls: dict[str, Any]) -> Iterator[Row]:
    """Yield the weights of a network of PaddleClas, whose preparation is that of its configuration, as in the spec."""
    model = name.partition("/")[2]
    if not urls.get(model) or OTHER_NAMES.search(model):
        return
    tag = "ssld" if "_ssld_" in urls[model] else "imagenet"
    licence = "apache-2.0 (the repository's)"
    origin = "https://github.com/PaddlePaddle/PaddleClas"
    preparation = prepare_as_spec(name, antialias=False)
    yield make_row(
        name, "paddleclas", tag, default=True, url=urls[model], licence=licence, origin=origin, **preparation
    )


def prepare_as_spec(name: str, antialias: bool | None) -> Row:
    """Return the preparation that a bundled spec states."""
    network = load(name)
    preprocess = network.preprocess
    if preprocess is None:
        raise ValueError(f"{name} states no preparation")
    return {
        "input": list(network.input),
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "resize": preprocess.resize,
        "crop_pct": round(network.input[1] / preprocess.resize, 4),
        "interpolation": "bilinear",
        "antialias": antialias,
    }


def find_dictionaries(folder: Path) -> dict[str, Any]:
    """Return the entries of all dictionaries of addresses in the source files of a folder."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
                try:
                    values = ast.literal_eval(node.value)
                except ValueError:  # not of constants alone
                    continue
                found |= {key: value for key, value in values.items() if "http" in str(value)[:6]}
    return found


def main(known: Path, target: Path, paddleclas: Path | None) -> None:
    rows = json.loads(known.read_text(encoding="utf-8"))["rows"]
    keys = {(row["spec"], row["tag"]) for row in rows}
    paddle = importlib.util.find_spec("paddle")
    assert paddle is not None and paddle.submodule_search_locations is not None
    of_vision = find_dictionaries(Path(paddle.submodule_search_locations[0]) / "vision" / "models")
    of_vision = {PADDLE_NAMES.get(name, name): value for name, value in of_vision.items()}
    of_paddleclas = find_dictionaries(paddleclas / "arch" / "backbone") if paddleclas else {}
    collected: list[Row] = []
    for name in bundled.names():
        match name.partition("/")[0]:
            case "timm":
                collected += collect_timm(name)
            case "torchvision":
                collected += collect_torchvision(name)
            case "paddle":
                collected += collect_paddle(name, of_vision)
            case "paddleclas":
                collected += collect_paddleclas(name, of_paddleclas)
    new = [row for row in collected if (row["spec"], row["tag"]) not in keys]
    with_default = {row["spec"] for row in rows if row["default"]}
    new = [row | {"default": row["default"] and row["spec"] not in with_default} for row in new]
    target.write_text(json.dumps({"rows": new}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if sys.argv[3:] else None)
