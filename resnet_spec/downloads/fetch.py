"""Get a file of published weights: from the cache, another tool's cache or a folder, or else from the network."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from typing import IO, Any, TypeAlias
from urllib.parse import urlparse

from filelock import FileLock, Timeout

from resnet_spec.backend import BackendError
from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.atomic import move_file
from resnet_spec.checkpoints.formats.tensors import CheckpointError
from resnet_spec.downloads.caches import CACHE, cache_folder, list_candidates, search_folder, tool_caches
from resnet_spec.downloads.digests import Digest, compute_digest, describe_mismatch
from resnet_spec.downloads.errors import DownloadError, LicenseError, UnreachableError
from resnet_spec.downloads.hash_lock import LOCK, add_to_lock, lock_path, read_lock
from resnet_spec.downloads.transfer import Progress, download
from resnet_spec.language.values import join_alternatives
from resnet_spec.library.published import HUB, HUB_FILE, PublishedFile, PublishedWeights

OFFLINE = ("RESNET_SPEC_OFFLINE", "HF_HUB_OFFLINE")
"""Environment variables that forbid downloads, if they are set to 1, true, yes or on."""
MIRROR = "RESNET_SPEC_MIRROR"
"""The environment variable with the address of a mirror, where ``https://HOST/PATH`` is ``MIRROR/HOST/PATH``."""
HUB_ENDPOINT = "HF_ENDPOINT"
"""The environment variable with the address of a mirror of Hugging Face, as its own tools read it."""
LICENSES = "RESNET_SPEC_LICENSES"
"""The environment variable with the licenses that are allowed, joined by commas; by default all."""

Tell: TypeAlias = Callable[[str], object]
"""Called with sentences that the user should read."""

_log = logging.getLogger("resnet_spec").warning


@dataclass(frozen=True, slots=True)
class Fetched:
    """A verified file of published weights.

    Attributes:
        path: Where it is.
        file: What it was published as.
        place: Where it was found: "the cache", the name of another tool, a folder, or an address.
    """

    path: Path
    weights: PublishedWeights
    file: PublishedFile
    digest: Digest
    place: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A file that may be a published one, and where it was found."""

    path: Path
    file: PublishedFile
    place: str


def fetch(
    weights: PublishedWeights,
    *,
    folder: str | PathLike[str] | None = None,
    licenses: Collection[str] | None = None,
    progress: Progress | None = None,
    tell: Tell = _log,
) -> Fetched:
    """Return a verified file of published weights, and download it if it is in no cache.

    Args:
        folder: A folder to copy the file from, which is then not looked for elsewhere.
        licenses: The licenses that are allowed; by default those in the environment variable, or all.
        tell: Called with what the user should read; by default, it is logged as a warning.

    Raises:
        DownloadError: The file cannot be had, or its hash is wrong; then nothing is kept.
        LicenseError: The license is not allowed.
    """
    check_license(weights, licenses)
    if folder is not None:
        return _import_from(Path(folder), weights, tell)
    found = find(weights, tell)
    if found is not None:
        return found
    if is_offline():
        raise DownloadError(
            f"{weights.key} is in no cache, and {_offline_variable()} forbids downloads; unset it, or "
            f"{_how_to_do_without(weights)}"
        )
    return _download(weights, progress, tell)


def find(weights: PublishedWeights, tell: Tell = _log) -> Fetched | None:
    """Return a verified file of published weights from a cache, or None; files of other contents are told."""
    locked = read_lock()
    for candidate in _list_cached(weights, locked):
        digest, mismatch = _examine(candidate.path, candidate.file, locked)
        if mismatch:
            tell(f"{candidate.path} is not used for {weights.key}: {mismatch}")
            continue
        fetched = Fetched(candidate.path, weights, candidate.file, digest, candidate.place)
        if not (candidate.file.has_hash or candidate.file.url in locked):
            _lock(fetched, tell)
        return fetched
    return None


def _examine(path: Path, file: PublishedFile, locked: Mapping[str, str]) -> tuple[Digest, str]:
    """Return a file's hashes, and what shows that it is not the published one, or "".

    A file of which no hash is known must at least be a whole checkpoint: what it is now is what counts ever after.
    """
    digest = compute_digest(path, md5=bool(file.md5))
    mismatch = describe_mismatch(digest, file, locked.get(file.url))
    if mismatch or file.has_hash or file.url in locked:
        return digest, mismatch
    try:
        registry.read(path)
    except CheckpointError as error:
        reason = str(error).removeprefix(f"{path} ")
        return digest, reason if reason == str(error) else f"it {reason}"
    except BackendError:  # nothing here reads its format, so nothing can be loaded from it either
        pass
    return digest, ""


def is_cached(weights: PublishedWeights, locked: dict[str, str]) -> bool:
    """Return whether a file of published weights seems to be in a cache; its contents are not read."""
    return next(_list_cached(weights, locked), None) is not None


def check_license(weights: PublishedWeights, licenses: Collection[str] | None = None) -> None:
    """Raise LicenseError if the license of weights is none of ``licenses``, or of those in the environment variable."""
    names = os.environ.get(LICENSES, "").split(",") if licenses is None else licenses
    allowed = [name.strip().lower() for name in names if name.strip()]
    if allowed and weights.license not in allowed:
        raise LicenseError(
            f"the license of {weights.key} is {_describe_license(weights)}; allowed: {', '.join(sorted(allowed))}"
        )


def is_offline() -> bool:
    """Return whether an environment variable forbids downloads."""
    return bool(_offline_variable())


def _offline_variable() -> str:
    set_variables = (name for name in OFFLINE if os.environ.get(name, "").lower() in ("1", "true", "yes", "on"))
    return next(set_variables, "")


def _list_cached(weights: PublishedWeights, locked: dict[str, str]) -> Iterator[_Candidate]:
    """Yield the files in caches that may be published weights, in this project's cache first.

    Where no hash is known, a file's name counts only in the cache of the tool that downloads it.
    """
    for file in weights.files:
        sha256 = locked.get(file.url, file.sha256)
        if sha256:
            cached = filter(Path.is_file, sorted(cache_folder().glob(f"{sha256}*/{file.name}")))
            yield from (_Candidate(path, file, "the cache") for path in cached)
    for tool in tool_caches():
        for file in weights.files:
            if tool.may_hold(weights, file, file.has_hash or file.url in locked):
                paths = list_candidates(tool.folder, file)
                yield from (_Candidate(path, file, f"the cache of {tool.title}") for path in paths)


def _import_from(folder: Path, weights: PublishedWeights, tell: Tell) -> Fetched:
    """Copy a file of published weights from a folder to the cache."""
    locked = read_lock()
    if not folder.is_dir():
        hint = "; name the folder that the file is in" if folder.exists() else ""
        raise DownloadError(f"no folder named {str(folder)!r}{hint}")
    for file in weights.files:
        for path in search_folder(folder, file, locked.get(file.url, file.sha256)):
            with path.open("rb") as source, _writing(CACHE), _exclusively(file, tell):
                return _copy(source, weights, file, str(path), tell)
    raise DownloadError(f"{folder} has no {join_alternatives(_expected_names(weights))} of {weights.key}")


def _copy(source: IO[bytes], weights: PublishedWeights, file: PublishedFile, place: str, tell: Tell) -> Fetched:
    """Copy an open file to the cache, and leave nothing if that fails."""
    part = _part_path(file).with_suffix(".copy")
    try:
        with part.open("wb") as target:
            shutil.copyfileobj(source, target)
        return _keep(part, weights, file, place, tell)
    finally:
        part.unlink(missing_ok=True)


def _download(weights: PublishedWeights, progress: Progress | None, tell: Tell) -> Fetched:
    """Download the first file that can be had, the preferred place first."""
    if weights.is_restricted:
        tell(f"the license of {weights.key} is {_describe_license(weights)}")
    failures: list[str] = []
    is_unreachable = False
    for file in weights.files:
        try:
            library = _find_hub_library() if file.hub else None
            if library is not None:
                return _download_by_library(library, weights, file, tell)
            return _download_file(weights, file, progress, tell)
        except _UnavailableError as error:
            failures.append(str(error))
            # Hugging Face's library raises FileNotFoundError if there is no connection and its cache has no such file.
            is_unreachable |= isinstance(error.__cause__, UnreachableError | FileNotFoundError)
            if file is not weights.files[-1]:
                tell(failures[-1])
    lines = [f"cannot download {weights.key}", *failures] if failures[1:] else failures
    hint = [f"without a network, {_how_to_do_without(weights)}"] if is_unreachable else []
    raise DownloadError("\n".join([*lines, *hint]))


class _UnavailableError(DownloadError):
    """A file cannot be had from one place, or is a wrong one there; it may be at another."""


def _download_file(weights: PublishedWeights, file: PublishedFile, progress: Progress | None, tell: Tell) -> Fetched:
    url, part = mirror_url(file), _part_path(file)
    with _writing(CACHE), _exclusively(file, tell):
        found = find(weights, tell=str)
        if found is not None:  # another process was downloading it
            return found
        tell(f"downloading {url}")
        try:
            download(url, part, progress)
        except DownloadError as error:
            raise _UnavailableError(str(error)) from error
        return _keep(part, weights, file, url, tell)


def _find_hub_library() -> Any:
    """Return Hugging Face's own library, or None if it is not installed, or not needed for a mirror."""
    try:
        return None if os.environ.get(MIRROR) else import_module("huggingface_hub.file_download")
    except ImportError:
        return None


def _download_by_library(library: Any, weights: PublishedWeights, file: PublishedFile, tell: Tell) -> Fetched:
    """Download a file to Hugging Face's cache by its own library, which knows the user's token and endpoint."""
    tell(f"downloading {HUB_FILE} of {file.hub} from Hugging Face")
    try:
        path = Path(library.hf_hub_download(file.hub, HUB_FILE, revision=file.revision))
    except Exception as error:  # of its own kinds, or of those of its HTTP library
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise _UnavailableError(f"cannot download {file.hub}: {reason}") from error
    locked = read_lock()
    digest, mismatch = _examine(path, file, locked)
    if mismatch:
        accept = _how_to_accept(file, locked)
        raise _UnavailableError(f"{path} is not {weights.key}: {mismatch}; delete it there. {accept}")
    fetched = Fetched(path, weights, file, digest, file.url)
    _lock(fetched, tell)
    return fetched


def mirror_url(file: PublishedFile) -> str:
    """Return the address to download a file from: its own, or that on the mirror that the user has set."""
    address = urlparse(file.url)
    if os.environ.get(MIRROR):
        return f"{os.environ[MIRROR].rstrip('/')}/{address.netloc}{address.path}"
    if file.hub and os.environ.get(HUB_ENDPOINT):
        return file.url.replace(HUB, os.environ[HUB_ENDPOINT].rstrip("/"), 1)
    return file.url


def _keep(part: Path, weights: PublishedWeights, file: PublishedFile, place: str, tell: Tell) -> Fetched:
    """Verify a file, and move it to the cache; a wrong one is deleted. Raises DownloadError."""
    locked = read_lock()
    digest, mismatch = _examine(part, file, locked)
    if mismatch:
        _discard(part)
        accept = _how_to_accept(file, locked)
        raise _UnavailableError(f"{place} is not {weights.key}: {mismatch}; nothing is kept. {accept}")
    target = cache_folder() / digest.sha256 / file.name
    fetched = Fetched(target, weights, file, digest, place)
    try:
        _lock(fetched, tell)  # first, since nobody finds a file without a known hash
        target.parent.mkdir(exist_ok=True)
        move_file(part, target)
    except OSError:
        _discard(part)
        raise
    _discard(part)
    return fetched


def _discard(part: Path) -> None:
    """Remove what was received of a file, and what identifies its version."""
    part.unlink(missing_ok=True)
    part.with_suffix(".etag").unlink(missing_ok=True)


def _lock(fetched: Fetched, tell: Tell) -> None:
    """Write the hash of a file to the user's lock, and tell so if nobody else states it."""
    if fetched.file.url in read_lock():
        return
    with _writing(LOCK if os.environ.get(LOCK) else CACHE):
        add_to_lock(fetched.file.url, fetched.weights.key, fetched.digest)
    if not fetched.file.has_hash:
        tell(
            f"{fetched.weights.key} is published without a hash; that of this file, {fetched.digest.sha256}, is now "
            f"in {lock_path()}, and every later file must have it"
        )


def _how_to_accept(file: PublishedFile, locked: Mapping[str, str]) -> str:
    if file.has_hash or file.url not in locked:
        return "Try again, or another place"
    return f"If the publisher has changed the file, delete the line of {file.url} in {lock_path()}"


def _how_to_do_without(weights: PublishedWeights) -> str:
    """Return how to get weights where there is no network."""
    names = join_alternatives(_expected_names(weights))
    return f"take {names} from a folder: resnet-spec weights get {weights.key} --from FOLDER"


def _describe_license(weights: PublishedWeights) -> str:
    """Return what is known of a license, and what it means.

    >>> from resnet_spec.library.published import choose_published
    >>> _describe_license(choose_published("timm/resnet18", "fb_swsl_ig1b_ft_in1k"))
    'cc-by-nc-4.0, which forbids commercial use'
    """
    note = f" ({weights.license_note})" if weights.license_note else ""
    if weights.license == "unknown":
        return f"unknown{note}: nobody states whether, and for what, they may be used"
    if weights.is_non_commercial:
        return f"{weights.license}{note}, which forbids commercial use"
    return f"{weights.license}{note}{', whose terms are its own: read them' if weights.is_restricted else ''}"


def _expected_names(weights: PublishedWeights) -> list[str]:
    return [f"{file.hub}/{file.name}" if file.hub else file.name for file in weights.files]


def _part_path(file: PublishedFile) -> Path:
    """Return where a file is written before it is verified; the name follows from the address, for another attempt."""
    return cache_folder() / "partial" / f"{hashlib.sha256(file.url.encode()).hexdigest()[:32]}.part"


@contextmanager
def _exclusively(file: PublishedFile, tell: Tell) -> Iterator[None]:
    """Let one process at a time write a file; the system ends the lock of a process that ends."""
    part = _part_path(file)
    part.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(part.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell(f"waiting for another process, which is getting {file.url}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing(variable: str) -> Iterator[None]:
    """Let errors of the file system say that the cache, or the lock, which a variable places, can't be written."""
    try:
        yield
    except DownloadError:
        raise
    except OSError as error:
        where = error.filename or cache_folder()
        is_file = isinstance(error, FileExistsError)  # where a folder is to be made
        reason = "it is a file, not a folder" if is_file else (error.strerror or str(error)).lower()
        raise DownloadError(
            f"cannot write to {fspath(where)}: {reason}; make room there or make it writable, or set {variable} to "
            "another place"
        ) from None
