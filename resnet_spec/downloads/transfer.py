"""Download a file by HTTPS, resumed where it broke off.

Proxies are those of the usual environment variables; certificates those of OpenSSL, or of the variables below.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Callable
from http.client import BadStatusLine, HTTPException, IncompleteRead, InvalidURL
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
    getproxies,
)

from resnet_spec.diagnostics.problems import one_line
from resnet_spec.downloads.errors import DownloadError, UnreachableError

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


class _NoConnection(_Interrupted):
    """No server was reached; another attempt may succeed if an earlier one reached it."""


def download(url: str, part: Path, progress: Progress | None = None) -> None:
    """Download a file to ``part``, after what is there already from an attempt that broke off.

    Raises DownloadError, after some attempts, UnreachableError, at once, if there is no connection, and OSError if the
    file can't be written. What was received is kept for the next attempt, but not if the disk is full.
    """
    if _find_scheme(url) not in ("http", "https"):
        raise DownloadError(f"cannot download {url}: only http and https are supported")
    opener = _make_opener()
    for attempt in range(ATTEMPTS):
        try:
            return _receive(opener, url, part, progress)
        except _Interrupted as error:
            reason = str(error)
            if isinstance(error, _NoConnection) and not attempt:
                raise UnreachableError(f"cannot download {url}: {reason}") from None
        if attempt < ATTEMPTS - 1:
            time.sleep(PAUSE * 2**attempt)
    kept = part.stat().st_size if part.is_file() else 0
    again = f"; {kept:,} bytes are kept, and the same command continues from there" if kept else ""
    raise DownloadError(f"cannot download {url}: {reason}{again}")


def _receive(opener: OpenerDirector, url: str, part: Path, progress: Progress | None) -> None:
    """Request the rest of a file, and append it to ``part``. Raises _Interrupted if the connection breaks."""
    tag = part.with_suffix(".etag")
    version = _read_tag(tag)
    offset = part.stat().st_size if part.is_file() and version else 0
    request = Request(url, headers={"User-Agent": "resnet-spec", "Accept-Encoding": "identity"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
        request.add_header("If-Range", version)
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            _check_answer(url, response)
            _write_body(response, part, tag, offset, progress)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # what is here is not the start of what is there
            part.unlink(missing_ok=True)
            raise _Interrupted("the server has fewer bytes than were received before") from None
        answer = _describe_answer(error.code, error.reason)
        if error.code in _BUSY:
            raise _Interrupted(answer) from None
        raise DownloadError(f"cannot download {url}: {answer}") from None
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            trust = f"if it is your own, set {CERTIFICATES[0]} to a file with it"
            raise DownloadError(
                f"cannot download {url}: its certificate is not trusted ({error.reason.verify_message}); {trust}"
            ) from None
        proxy = f" through the proxy of {request.type}_proxy" if request.type in getproxies() else ""
        raise _NoConnection(f"there is no connection{proxy} ({_describe(error.reason)})") from None
    except (InvalidURL, ValueError) as error:
        raise DownloadError(f"cannot download {url}: it leads to an invalid address ({one_line(str(error))})") from None
    except (HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _Interrupted(_describe(error)) from None


def _find_scheme(url: str) -> str:
    """Return the scheme of an address, or "" if it is none."""
    try:
        return urlparse(url).scheme
    except ValueError:
        return ""


def _make_opener() -> OpenerDirector:
    """Return what opens addresses by http and https, and nothing else. Raises DownloadError for wrong certificates."""
    opener = OpenerDirector()
    context = ssl.create_default_context()
    for name in CERTIFICATES:
        if place := os.environ.get(name):
            _trust(context, name, place)
    handlers = (HTTPHandler(), HTTPSHandler(context=context), _SafeRedirects(), HTTPErrorProcessor())
    for handler in (ProxyHandler(), HTTPDefaultErrorHandler(), *handlers):
        opener.add_handler(handler)
    return opener


def _trust(context: ssl.SSLContext, name: str, place: str) -> None:
    """Trust the certificates in a file or a folder that an environment variable names."""
    try:
        if Path(place).is_dir():
            context.load_verify_locations(capath=place)
        else:
            context.load_verify_locations(place)
    except OSError as error:  # ssl.SSLError is one
        raise DownloadError(
            f"{name} is {place!r}, which is no file of certificates ({_describe(error)}); correct it, or unset it"
        ) from None


class _SafeRedirects(HTTPRedirectHandler):
    """Follows redirects to http and https, but none from https to http."""

    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.type == "https" and urlparse(newurl).scheme != "https":
            raise DownloadError(f"cannot download {req.full_url}: it leads to {one_line(newurl)}, without https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_answer(url: str, response: Any) -> None:
    """Raise DownloadError if what a server sends is no file, so that what was received before is kept."""
    if response.status not in (200, 206):
        raise DownloadError(f"cannot download {url}: {_describe_answer(response.status, response.reason)}")
    if response.headers.get_content_type() == "text/html":
        raise DownloadError(
            f"cannot download {url}: the server sends a web page, such as one to log in, and not a file; open the "
            "address in a browser"
        )


def _write_body(response: Any, part: Path, tag: Path, offset: int, progress: Progress | None) -> None:
    """Append a response to ``part``, or start again if the server sends the file from its start."""
    start, total = _find_extent(response)
    version = response.headers.get("ETag", "")
    if start not in (0, offset) or (start and version not in ("", _read_tag(tag))):
        part.unlink(missing_ok=True)
        raise _Interrupted("the server sends another part, or another version, than was asked for")
    done = start
    try:
        if not start:
            part.unlink(missing_ok=True)
            _keep_tag(version, tag)
        with part.open("ab") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
    except OSError as error:
        if not isinstance(error, ConnectionError | TimeoutError | ssl.SSLError):  # a full disk
            part.unlink(missing_ok=True)
            tag.unlink(missing_ok=True)
        raise
    if done < total:
        raise _Interrupted(f"the connection broke off after {done:,} of {total:,} bytes")


def _find_extent(response: Any) -> tuple[int, int]:
    """Return where a response starts in the file, or -1, and the size of the file, or 0, as the server states them."""
    length = response.headers.get("Content-Length", "")
    size = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else 0
    if response.status == 200:
        return 0, size
    stated = re.match(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)$", response.headers.get("Content-Range", ""))
    if stated is None:
        return -1, 0
    start = int(stated[1])
    return start, start + size if stated[2] == "*" else int(stated[2])


def _read_tag(tag: Path) -> str:
    """Return what identifies the version of a file that was received in part, or "" if nothing does."""
    try:
        version = tag.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
    return version if version.isprintable() else ""


def _keep_tag(version: str, tag: Path) -> None:
    """Keep what identifies the version of a file, without which it can't be resumed."""
    if version and not version.startswith("W/"):
        tag.write_text(version, encoding="utf-8")
    else:
        tag.unlink(missing_ok=True)


def _describe_answer(status: int, reason: str) -> str:
    """Return what a server answers in place of a file, in one line."""
    if 300 <= status < 400:
        return f"the server redirects in a circle, or to no address of http or https (status {status})"
    return f"the server answers {status} {one_line(reason)}".rstrip()


def _describe(error: object) -> str:
    """Return what broke a connection, without Python's number of the error."""
    if isinstance(error, TimeoutError):
        return f"the server did not answer within {TIMEOUT:g} seconds"
    if isinstance(error, IncompleteRead):
        return "the connection broke off"
    if isinstance(error, BadStatusLine) and not isinstance(error, ConnectionError):
        return "the server's answer is not one of HTTP"
    return one_line(str(getattr(error, "strerror", None) or error or type(error).__name__)).lower()
