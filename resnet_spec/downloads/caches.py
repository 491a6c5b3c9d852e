"""Where files of published weights may lie: in this project's cache, in those of other tools, and in any folder.

The cache has one folder for each file, named by its SHA-256: two libraries' files may have one name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from resnet_spec.library.published import HUB_FILE, PublishedFile, PublishedWeights

CACHE = "RESNET_SPEC_CACHE"
"""The environment variable with the folder of the cache; by default ``~/.cache/resnet-spec``."""

_SUBFOLDERS = ("", "checkpoints", "hub/checkpoints", "weights", "hapi/weights", "models", "hub")
"""Where tools put files below their own folders: torch.hub, PaddleClas, Paddle, Keras and Hugging Face."""


@dataclass(frozen=True, slots=True)
class ToolCache:
    """The folder in which another tool keeps what it downloads, and the registries whose files it downloads."""

    title: str
    folder: Path
    registries: tuple[str, ...]
    is_hub: bool = False

    def may_hold(self, weights: PublishedWeights, file: PublishedFile, is_known: bool) -> bool:
        """Return whether a file of this name is likely to be the published one: if not by its hash, by the tool."""
        return self.is_hub == bool(file.hub) and (is_known or weights.registry in self.registries)


def cache_folder() -> Path:
    """Return the folder of the cache."""
    return Path(os.environ.get(CACHE) or _user_cache() / "resnet-spec").expanduser()


def tool_caches() -> list[ToolCache]:
    """Return the caches of other tools that there are, as their own environment variables say."""
    torch = Path(os.environ.get("TORCH_HOME") or _user_cache() / "torch")
    home = Path(os.environ.get("HF_HOME") or _user_cache() / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or home / "hub")
    keras = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    caches = [
        ToolCache("torch.hub", torch / "hub" / "checkpoints", ("torchvision", "timm", "chenyaofo")),
        ToolCache("Hugging Face", hub, ("timm",), is_hub=True),
        ToolCache("Paddle", Path.home() / ".cache" / "paddle" / "hapi" / "weights", ("paddle.vision",)),
        ToolCache("PaddleClas", Path.home() / ".paddleclas" / "weights", ("paddleclas",)),
        ToolCache("Keras", keras / "models", ("keras",)),
    ]
    return [cache for cache in caches if cache.folder.is_dir()]


def list_candidates(folder: Path, file: PublishedFile) -> Iterator[Path]:
    """Yield the files in the folder of a cache that may be a published one."""
    return filter(Path.is_file, _list_hub_paths(folder, file) if file.hub else _list_paths(folder, file))


def search_folder(folder: Path, file: PublishedFile, sha256: str = "") -> Iterator[Path]:
    """Yield the files in a folder, laid out as any of the tools does it, that may be a published one.

    ``sha256`` is the file's SHA-256, or the first digits of it, if it is known.
    """
    if sha256:
        yield from _glob(folder, f"{sha256}*/{file.name}")
    for subfolder in _SUBFOLDERS:
        yield from list_candidates(folder / subfolder, file)


def _list_paths(folder: Path, file: PublishedFile) -> Iterator[Path]:
    """Yield where a file with an address may be: by its name, or by the address, as a mirror has it."""
    address = urlparse(file.url)
    yield folder / file.name
    yield folder / address.netloc / address.path.lstrip("/")


def _list_hub_paths(folder: Path, file: PublishedFile) -> Iterator[Path]:
    """Yield where a file of a Hugging Face repository may be: in the hub's cache, or in a copy of the repository.

    The name alone, which is the same in every repository, is not enough.
    """
    name = file.hub.rpartition("/")[2]
    cached = folder / f"models--{file.hub.replace('/', '--')}"
    yield from _glob(cached, f"snapshots/{_read_revision(cached, file.revision)}/{HUB_FILE}")
    yield from _glob(cached, f"snapshots/*/{HUB_FILE}")
    yield folder / file.hub / HUB_FILE
    yield folder / name / HUB_FILE
    if folder.resolve().name == name:
        yield folder / HUB_FILE
    address = urlparse(file.url)
    yield folder / address.netloc / address.path.lstrip("/")


def _read_revision(cached: Path, revision: str) -> str:
    """Return the commit that a branch stands for in the hub's cache, or the branch's own name."""
    try:
        return (cached / "refs" / revision).read_text(encoding="utf-8").strip() or revision
    except (OSError, UnicodeDecodeError):
        return revision


def _glob(folder: Path, pattern: str) -> Iterator[Path]:
    yield from sorted(folder.glob(pattern)) if folder.is_dir() else ()


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
