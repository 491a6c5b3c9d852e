"""Find the published weights that a user names by a network and a tag, or that a file holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TypeGuard

from resnet_spec.checkpoints.transfer.identify import Match
from resnet_spec.downloads.digests import Digest, compute_digest
from resnet_spec.downloads.hash_lock import read_lock
from resnet_spec.library import bundled
from resnet_spec.library.load import load
from resnet_spec.library.published import (
    DEFAULT,
    PublishedWeights,
    UnknownTagError,
    choose_published,
    find_published,
    read_published,
)
from resnet_spec.network.network import Network

_SEPARATORS = "./\\"


def is_tag(spec: str | PathLike[str] | Network, weights: object) -> TypeGuard[str]:
    """Return whether ``weights`` is a tag, and not a path: a file of that name takes precedence, a folder does not.

    A word without dots and slashes that is no path is a tag, if only a misspelt one, of a network that has some.
    """
    if not isinstance(weights, str) or any(separator in weights for separator in _SEPARATORS):
        return False
    tags = [published.tag for name in find_names(spec) for published in find_published(name)]
    if not Path(weights).exists():
        return bool(tags) or weights == DEFAULT
    return weights in (*tags, DEFAULT) and not Path(weights).is_file()


def find_names(spec: str | PathLike[str] | Network) -> list[str]:
    """Return the full names of the bundled networks that a user may mean: one, or those that are equal to a network."""
    if isinstance(spec, str) and not Path(spec).is_file():
        return bundled.match_name(spec)
    try:
        network = spec if isinstance(spec, Network) else load(spec)
    except (ValueError, OSError):  # it needs settings, or whoever loads it will say what is wrong
        return []
    names = [name for name in bundled.names() if name.rpartition("/")[2] == network.name and find_published(name)]
    return [name for name in names if _is_same(name, network)]


def _is_same(name: str, network: Network) -> bool:
    """Return whether a network is a bundled one, with the settings with which it was loaded."""
    settings: Mapping[str, str] = dict(network.settings)
    try:
        known = load(name, input=network.input, outputs=network.outputs or None, **settings)
    except ValueError:  # the bundled one has no such settings
        return False
    return known.fingerprint == network.fingerprint


def select_published(spec: str | PathLike[str] | Network, tag: str) -> PublishedWeights:
    """Return the published weights of a network by tag. Raises UnknownTagError, which names the nearest tag."""
    names = find_names(spec)
    if len(names) == 1 or not names:
        return choose_published(names[0] if names else _describe(spec), tag)
    found = [weights for name in names for weights in find_published(name)]
    matches = [weights for weights in found if weights.tag == tag or (tag == DEFAULT and weights.default)]
    if len(set(matches)) == 1:
        return matches[0]
    known = ", ".join(dict.fromkeys(weights.key for weights in matches or found))
    raise UnknownTagError(f"{tag!r} is {'several' if matches else 'none'} of the published weights: {known}")


def _describe(spec: str | PathLike[str] | Network) -> str:
    return spec.name if isinstance(spec, Network) else str(spec)


def recognize_file(path: str | PathLike[str], *, is_thorough: bool = True) -> list[PublishedWeights]:
    """Return the published weights that a file is, by its hash: of several networks, if they share a file.

    Reading a large file takes a moment; without ``is_thorough``, it is read only if its name is that of a published
    file.
    """
    file = Path(path)
    if not file.is_file() or not (is_thorough or file.name in _names()):
        return []
    digest, locked = compute_digest(file, md5=True), read_lock()
    return [weights for weights in read_published() if _is_file_of(weights, digest, locked)]


def _names() -> set[str]:
    return {file.name for weights in read_published() for file in weights.files}


def _is_file_of(weights: PublishedWeights, digest: Digest, locked: Mapping[str, str]) -> bool:
    return any(
        (file.sha256 and digest.sha256.startswith(file.sha256))
        or (file.md5 and digest.md5 == file.md5)
        or locked.get(file.url) == digest.sha256
        for file in weights.files
    )


def name_published(path: str | PathLike[str], matches: Iterable[Match]) -> list[Match]:
    """Return the networks that a file fits, each with the tag of its published weights that have the file's hash."""
    tags = {name: weights.tag for weights in recognize_file(path) for name in (weights.spec, *weights.same_network)}
    return [replace(match, published=tags.get(match.network, "")) for match in matches]


def find_provenance(path: str | PathLike[str]) -> dict[str, str]:
    """Return what a file that is made from another one says of its weights, if that is a published one."""
    return next((describe_provenance(weights) for weights in recognize_file(path, is_thorough=False)), {})


def describe_provenance(weights: PublishedWeights) -> dict[str, str]:
    """Return what a file that is made from published weights says of them in its metadata.

    >>> describe_provenance(choose_published("timm/resnet50", "a1_in1k"))["license"]
    'apache-2.0'
    """
    return {"weights": weights.key, "license": weights.license, "origin": weights.files[0].url}
