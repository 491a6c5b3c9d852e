"""Write the tables of published weights in ``specs/weights/`` from the records of them that were collected.

    python specs/generate/weights.py ROWS.json...

``collect_weights.py`` collects records from libraries.

Each record is a mapping with one key for each field of ``resnet_spec.library.published.PublishedWeights``, whose names
differ where a library states more than is kept: see ``read_row``. Records of the same network and tag are merged, the
last one first.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from writing import SPECS, write

Row = dict[str, Any]

DEFAULTS: Row = {
    "default": False,
    "names": "",
    "classes": 1000,
    "labels": "imagenet-1k",
    "test_input": None,
    "test_crop_pct": None,
    "crop_mode": "center",
    "channel_order": "rgb",
    "range": [0, 1],
    "license_note": "",
    "origin": "",
    "acc1": None,
    "acc5": None,
    "acc1_at": None,
    "first_conv": [],
    "classifier": [],
    "same_network": [],
    "notes": [],
}
"""What a record says if neither the row nor the table's own defaults do."""

COMMON = (
    *("input", "mean", "std", "crop_pct", "interpolation", "antialias", "resize", "license", "license_note"),
    *("names", "origin"),
)
"""What a table states once, in its defaults, as most of its rows have it."""

ORDER = ("spec", "tag", "model", "default", "files")
"""The first keys of a row."""

OWN_RELEASES = ("/rwightman/", "/huggingface/")
"""Where timm publishes files in its own names; those elsewhere are as their authors wrote them."""

PADDLECLAS_NAMES = (
    ("^RegNet", "paddleclas_regnet"),
    ("^Res2Net", "paddleclas_res2net"),
    ("^ResNeSt", "paddleclas_resnest"),
    ("_wsl$", "paddleclas_wsl"),
    ("^(SE|ResNeXt)|_vc$", "paddleclas_zoo"),
)
"""The dialects of PaddleClas by its models' names."""

OUTDATED_NOTES = (
    "needs h5py",
    "epsilon 1.001e-5",
    "blue, green, red",
    "x/127.5-1",
    "cv2 bilinear",
    "also measured",
    "in the stored snapshot",
    "file of 4 MiB",
    "SWAG weights: licence",
    "not for commercial use",
    "needs classes",
    "trained with ImageNet's mean",
)
"""The beginnings of notes that the other fields, or this project's readers, have made unnecessary."""


def read_row(row: Row) -> Row:
    """Return a collected row in the names of the record's fields."""
    license, note = read_license(row["licence"])
    kept = {key: row[key] for key in DEFAULTS if key in row and row[key] is not None}
    kept["acc1_at"] = row["acc1_at"] if row["acc1"] else None
    return {
        **kept,
        "spec": row["spec"],
        "tag": row["tag"].replace(", no top", "_notop"),
        "registry": row["registry"],
        "model": row["model"],
        "files": list_files(row),
        "names": read_names(row),
        "input": row["input"],
        "mean": row["mean"],
        "std": row["std"],
        "resize": row["resize"],
        "crop_pct": row["crop_pct"],
        "interpolation": row["interpolation"] and row["interpolation"].partition(" ")[0],
        "antialias": row["antialias"],
        "labels": read_labels(row["labels"]),
        "license": license,
        "license_note": note,
        "notes": [note for note in row["notes"] if not note.startswith(OUTDATED_NOTES)],
    }


def read_names(row: Row) -> str:
    """Return the dialect of a row's files; PaddleClas has one for each of its files of source."""
    if row["names"] == "own" or row["registry"] == "paddle.vision":  # whose specs have the same names
        return ""
    if row["names"] != "paddleclas":
        return row["names"]
    return next((name for pattern, name in PADDLECLAS_NAMES if re.search(pattern, row["model"])), "paddleclas")


def read_license(text: str | None) -> tuple[str, str]:
    """Return the identifier of a license and what else is said of it.

    >>> read_license("bsd-3-clause (the code's; none stated for weights)")
    ('bsd-3-clause', "the code's; none stated for weights")
    """
    if not text:
        return "unknown", ""
    identifier, _, note = text.partition(" ")
    if "cc-by-nc-4.0" in note:
        return "cc-by-nc-4.0", "that of Facebook's WSL weights; the repository's is apache-2.0"
    if identifier == "apache-2.0" and "(MIT)" in note:
        return identifier, "Keras's; weights of ResNet v1 are from Kaiming He's Caffe models, which are MIT"
    return identifier.lower(), note.removeprefix("(").removesuffix(")")


def read_labels(text: str) -> str:
    """Return the name of a list of classes: "imagenet-12k" of timm, "imagenet-21k-goog", or "" without a head."""
    match text.partition(" ")[0]:
        case "none:" | "":
            return ""
        case "imagenet-21k":
            return "imagenet-21k-goog"
        case name:
            return name


def list_files(row: Row) -> list[Row]:
    """Return the places of a row's files: timm's releases with a hash, then the hub, then those of others."""
    hub = {"hub": row["hub"]} if row["hub"] else None
    if hub and row["hub_file"] != "model.safetensors":
        raise ValueError(f"{row['spec']}: {row['hub_file']}")
    address = {"url": row["url"]} if row["url"] else None
    if address and row["sha256_prefix"]:
        address["sha256"] = row["sha256_prefix"]
    if address and row["md5"]:
        address["md5"] = row["md5"]
    is_own = bool(row["url"]) and urlparse(row["url"]).path.startswith(OWN_RELEASES)
    places = [address, hub] if is_own and row["sha256_prefix"] else [hub, address]
    return [place for place in places if place]


def render_table(registry: str, rows: list[Row]) -> str:
    """Return the text of a registry's table, with the weights of one line each, so that changes are readable."""
    values = {key: Counter(json.dumps(row.get(key, DEFAULTS.get(key))) for row in rows) for key in COMMON}
    common = {key: json.loads(counter.most_common(1)[0][0]) for key, counter in values.items()}
    defaults = {key: value for key, value in common.items() if key not in DEFAULTS or value != DEFAULTS[key]}
    absent = {**DEFAULTS, **common}
    lines = ",\n".join(json.dumps(shorten(row, absent), ensure_ascii=False) for row in sorted(rows, key=sort_key))
    head = f'"registry": {json.dumps(registry)},\n"defaults": {json.dumps(defaults)}'
    return f'{{{head},\n"weights": [\n{lines}\n]}}\n'


def sort_key(row: Row) -> tuple[str, str]:
    return row["spec"], row["tag"]


def shorten(row: Row, absent: Row) -> Row:
    """Return a row without what it need not say, its first keys in order."""
    said = {
        key: value for key, value in row.items() if key != "registry" and (key not in absent or value != absent[key])
    }
    if said["model"] == said["spec"].rpartition("/")[2]:
        del said["model"]
    first = {key: said[key] for key in ORDER if key in said}
    return {**first, **{key: said[key] for key in sorted(said) if key not in first}}


def main(paths: list[str]) -> None:
    rows: dict[tuple[str, str], Row] = {}
    for path in paths:
        for row in json.loads(Path(path).read_text(encoding="utf-8"))["rows"]:
            if row["usable"]:
                rows[row["spec"], row["tag"]] = read_row(row)
    for registry in sorted({row["registry"] for row in rows.values()}):
        table = [row for row in rows.values() if row["registry"] == registry]
        write(SPECS / "weights" / f"{registry}.json", render_table(registry, table))


if __name__ == "__main__":
    main(sys.argv[1:])
