"""The published weights of the bundled networks: one JSON file for each registry, in ``specs/weights/``.

``specs/generate/weights.py`` writes the files from the libraries' own tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias

from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.library import bundled

FOLDER = "weights"
DEFAULT = "default"
"""Stands for the tag that the library itself takes if none is named."""

HUB = "https://huggingface.co"
HUB_FILE = "model.safetensors"
"""The name of a file of weights in a Hugging Face repository."""

ChannelOrder: TypeAlias = Literal["rgb", "bgr"]

_SUFFIX = ".json"
_OPEN = ("apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "mit")
_NON_COMMERCIAL = ("cc-by-nc-4.0", "fair-noncommercial-research-license", "seer-license")
_TUPLES = ("input", "test_input", "mean", "std", "range", "first_conv", "classifier", "notes", "same_network")


class UnknownTagError(ValueError):
    """A network has no published weights of this tag. The message names the nearest one."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One place where a file of weights is published.

    Attributes:
        url: Its address.
        hub: The Hugging Face repository that holds it, or "".
        sha256: The SHA-256 of the file, or the first eight or more of its digits; "" if it is not stated.
        md5: Its MD5, or "" if it is not stated.
        revision: The commit, or the branch, of the repository.
        size: The number of bytes, or None if it is not stated.
    """

    url: str
    hub: str = ""
    sha256: str = ""
    md5: str = ""
    revision: str = ""
    size: int | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.partition("?")[0].rpartition("/")[2]

    @property
    def has_hash(self) -> bool:
        """Whether the publisher states a hash, or a part of one."""
        return bool(self.sha256 or self.md5)


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """Published weights of a bundled network, how images are prepared for them, and where their files are.

    Attributes:
        spec: The full name of the network, such as "timm/resnet50".
        tag: The publisher's name for these weights, such as "a1_in1k".
        registry: The library that publishes them, such as "timm".
        model: The library's name of the network.
        default: Whether the library takes these weights if none are named.
        files: Where they are published, the preferred place first. The files may differ in format and in names.
        names: The dialect that the files' names are in, or "" for the network's own names.
        classes: The number of classes, or 0 if the files have no head.
        labels: The list of classes, such as "imagenet-1k".
        input: The shape (channels, height, width) for which the library evaluates them.
        test_input: The larger shape with which they are more accurate, if the library states one.
        mean: Subtracted from each channel, after pixels are scaled to ``range``.
        std: Divides each channel thereafter.
        range: What black and white become.
        channel_order: "rgb" or "bgr".
        resize: The shorter side in pixels before the crop, if it is stated; timm's is floor(size / crop_pct).
        crop_pct: The size of the crop by that of the resized image.
        test_crop_pct: The same for ``test_input``.
        crop_mode: "center", "squash" or "border".
        interpolation: "bilinear", "bicubic" or "nearest"; None if nothing is resized.
        antialias: Whether shrinking averages over what lies between; None if it is not stated.
        license: The identifier of the license, such as "apache-2.0", or "unknown".
        license_note: What the license is stated for, if not for these weights.
        origin: Where the weights come from.
        acc1: Top-1 accuracy in percent, on the validation images of ``labels``, for images of ``acc1_at`` pixels.
        acc5: Top-5 accuracy in percent.
        first_conv: The paths of the convolutions that read the image: one, or several that run side by side.
        classifier: The paths of the classifiers: one, or several whose outputs are averaged; () if there is no head.
        same_network: Other bundled names of the network.
        notes: What else the user should know.
    """

    spec: str
    tag: str
    registry: str
    model: str
    files: tuple[PublishedFile, ...]
    default: bool = False
    names: str = ""
    classes: int = 1000
    labels: str = "imagenet-1k"
    input: tuple[int, int, int] = (3, 224, 224)
    test_input: tuple[int, int, int] | None = None
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    range: tuple[int, int] = (0, 1)
    channel_order: ChannelOrder = "rgb"
    resize: int | None = None
    crop_pct: float | None = None
    test_crop_pct: float | None = None
    crop_mode: str = "center"
    interpolation: str | None = None
    antialias: bool | None = None
    license: str = "unknown"
    license_note: str = ""
    origin: str = ""
    acc1: float | None = None
    acc5: float | None = None
    acc1_at: int | None = None
    first_conv: tuple[str, ...] = ()
    classifier: tuple[str, ...] = ()
    same_network: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_restricted(self) -> bool:
        """Whether the license forbids commercial use, is the publisher's own, or is unknown."""
        return self.license not in _OPEN

    @property
    def is_non_commercial(self) -> bool:
        """Whether the license forbids commercial use."""
        return self.license in _NON_COMMERCIAL

    @property
    def key(self) -> str:
        """The name by which messages and metadata call these weights, such as "timm/resnet50 a1_in1k"."""
        return f"{self.spec} {self.tag}"


@cache
def read_published() -> tuple[PublishedWeights, ...]:
    """Return the published weights of all bundled networks, by registry and in the order of the files.

    >>> next(w for w in read_published() if w.key == "timm/resnet50 a1_in1k").interpolation
    'bicubic'
    """
    tables = sorted((file for file in (bundled.directory() / FOLDER).iterdir()), key=lambda file: file.name)
    return tuple(
        weights
        for file in tables
        if file.name.endswith(_SUFFIX)
        for weights in read_records(json.loads(file.read_text(encoding="utf-8")))
    )


def read_records(table: Mapping[str, Any]) -> list[PublishedWeights]:
    """Return the records of one registry's table, whose rows leave out what is as in its ``defaults``."""
    common = {"registry": table["registry"], **table["defaults"]}
    return [_read_record({**common, **row}) for row in table["weights"]]


def _read_record(row: dict[str, Any]) -> PublishedWeights:
    files = tuple(map(_read_file, row.pop("files")))
    row.setdefault("model", row["spec"].rpartition("/")[2])
    tuples: dict[str, Any] = {name: _to_tuple(row.pop(name)) for name in _TUPLES if row.get(name) is not None}
    return PublishedWeights(files=files, **tuples, **row)


def _to_tuple(value: Any) -> tuple[Any, ...]:
    """Return a list as a tuple, and a single path as a tuple of one."""
    return (value,) if isinstance(value, str) else tuple(value)


def _read_file(file: Mapping[str, Any]) -> PublishedFile:
    """Return where a file is; of one in a Hugging Face repository, the address follows from the repository's name."""
    if "url" in file:
        return PublishedFile(**file)
    hub, revision = file["hub"], file.get("revision", "main")
    return PublishedFile(**{"url": f"{HUB}/{hub}/resolve/{revision}/{HUB_FILE}", **file, "revision": revision})


def find_published(name: str) -> tuple[PublishedWeights, ...]:
    """Return the published weights of a bundled network by its full name; () if there are none.

    >>> [weights.tag for weights in find_published("torchvision/resnet50")]
    ['IMAGENET1K_V1', 'IMAGENET1K_V2']
    """
    return _by_network().get(name, ())


@cache
def _by_network() -> dict[str, tuple[PublishedWeights, ...]]:
    found: dict[str, tuple[PublishedWeights, ...]] = {}
    for weights in read_published():
        for name in (weights.spec, *weights.same_network):
            found[name] = (*found.get(name, ()), weights)
    return found


def choose_published(name: str, tag: str) -> PublishedWeights:
    """Return the weights of a bundled network by tag, or those that its library prefers if the tag is "default".

    Raises UnknownTagError, which names the nearest tag.

    >>> choose_published("timm/resnet50", "a1_in1k").classes
    1000
    """
    known = find_published(name)
    for weights in known:
        if weights.tag == tag or (tag == DEFAULT and weights.default):
            return weights
    if not known:
        raise UnknownTagError(f"no weights are published for {name}; resnet-spec weights list prints those there are")
    hint = suggest(tag, [weights.tag for weights in known])
    raise UnknownTagError(f"{name} has no published weights with the tag {tag!r}; {hint}")


def list_licenses(records: Iterable[PublishedWeights]) -> list[str]:
    """Return the licenses of some weights, in alphabetical order."""
    return sorted({weights.license for weights in records})
