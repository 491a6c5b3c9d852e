"""Download a file by HTTPS, resumed where it broke off.

Proxies are those of the usual environment variables; certificates those of OpenSSL, or of the variables below.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from resnet_spec.downloads.errors import DownloadError

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes received so far and in total; the total is 0 if the server does not say it."""

CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Environment variables with a file of certificates to trust as well; OpenSSL itself reads SSL_CERT_FILE."""

ATTEMPTS = 5
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""
PAUSE = 1.0
"""Seconds before the second attempt, doubled before each further one."""

_CHUNK = 2**18
_BUSY = (408, 429, 500, 502, 503, 504)


class _Interrupted(Exception):
    """The connection broke, or the server is busy; another attempt may succeed."""


def download(url: str, part: Path, progress: Progress | None = None) -> None:
    """Download a file to ``part``, after what is there already from an attempt that broke off.

    Raises DownloadError, after some attempts, and OSError if the file can't be written. What was received is kept for
    the next attempt, but not if the disk is full.
    """
    if urlparse(url).scheme not in ("http", "https"):
        raise DownloadError(f"cannot download {url}: only http and https are supported")
    for attempt in range(ATTEMPTS):
        try:
            return _receive(url, part, progress)
        except _Interrupted as error:
            reason = str(error)
        if attempt < ATTEMPTS - 1:
            time.sleep(PAUSE * 2**attempt)
    kept = part.stat().st_size if part.is_file() else 0
    again = f"; {kept:,} bytes are kept, and the same command continues from there" if kept else ""
    raise DownloadError(f"cannot download {url}: {reason}{again}")


def _receive(url: str, part: Path, progress: Progress | None) -> None:
    """Request the rest of a file, and append it to ``part``. Raises _Interrupted if the connection breaks."""
    tag = part.with_suffix(".etag")
    offset = part.stat().st_size if part.is_file() and tag.is_file() else 0
    request = Request(url, headers={"User-Agent": "resnet-spec", "Accept-Encoding": "identity"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
        request.add_header("If-Range", tag.read_text(encoding="utf-8"))
    try:
        with _open(request) as response:
            _write_body(response, part, tag, offset, progress)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # what is here is not the start of what is there
            part.unlink(missing_ok=True)
            raise _Interrupted("the server has fewer bytes than were received before") from None
        if error.code in _BUSY:
            raise _Interrupted(f"the server answers {error.code} {error.reason}") from None
        raise DownloadError(f"cannot download {url}: the server answers {error.code} {error.reason}") from None
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            trust = f"if it is your own, set {CERTIFICATES[0]} to a file with it"
            raise DownloadError(
                f"cannot download {url}: its certificate is not trusted ({error.reason.verify_message}); {trust}"
            ) from None
        raise _Interrupted(_describe(error.reason)) from None
    except (HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _Interrupted(_describe(error)) from None


def _open(request: Request) -> Any:
    opener = OpenerDirector()
    context = ssl.create_default_context()
    for name in CERTIFICATES:
        if os.environ.get(name):
            context.load_verify_locations(os.environ[name])
    handlers = (HTTPHandler(), HTTPSHandler(context=context), _SafeRedirects(), HTTPErrorProcessor())
    for handler in (ProxyHandler(), HTTPDefaultErrorHandler(), *handlers):
        opener.add_handler(handler)
    return opener.open(request, timeout=TIMEOUT)


class _SafeRedirects(HTTPRedirectHandler):
    """Follows redirects, but none from https to http."""

    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.type == "https" and urlparse(newurl).scheme != "https":
            raise DownloadError(f"cannot download {req.full_url}: it leads to {newurl}, without https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _write_body(response: Any, part: Path, tag: Path, offset: int, progress: Progress | None) -> None:
    """Append a response to ``part``, or start again if the server sends the whole file."""
    starts = response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
    offset = offset if response.status == 206 and starts else 0
    length = response.headers.get("Content-Length", "")
    total = offset + int(length) if length.isdecimal() else 0
    if not offset:
        part.unlink(missing_ok=True)
        _keep_tag(response, tag)
    done = offset
    try:
        with part.open("ab") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
    except OSError as error:
        if not isinstance(error, ConnectionError | TimeoutError | ssl.SSLError):
            part.unlink(missing_ok=True)  # a full disk
        raise
    if done < total:
        raise _Interrupted(f"the connection broke off after {done:,} of {total:,} bytes")


def _keep_tag(response: Any, tag: Path) -> None:
    """Keep what identifies the version of a file, without which it can't be resumed."""
    version = response.headers.get("ETag", "")
    if version and not version.startswith("W/"):
        tag.write_text(version, encoding="utf-8")
    else:
        tag.unlink(missing_ok=True)


def _describe(error: object) -> str:
    """Return what broke a connection, without Python's number of the error."""
    if isinstance(error, TimeoutError):
        return f"the server did not answer within {TIMEOUT:g} seconds"
    return str(getattr(error, "strerror", None) or error or type(error).__name__).lower()
