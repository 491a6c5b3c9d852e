"""Serve the page of a spec over HTTP, and update it when the spec's files are saved.

While a spec is invalid, its problems are shown beside the last valid drawing. The server answers only for its one page
and that page's data: the path of a request is never used as the path of a file.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from resnet_spec.diagnostics.problems import Source, SpecError, one_line
from resnet_spec.library.load import Setting, find_source, find_sources, load, read_start
from resnet_spec.views.page.page import page_content, render_document
from resnet_spec.views.page.parts import empty_page_data, file_data, problem_data

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
WILDCARD_HOSTS = ("0.0.0.0", "[::]", "")
HTTP_PORT = 80
"""The port that browsers leave out of the Host header."""
MAX_VERSION_DIGITS = 18
CONNECTION_SECONDS = 10.0
"""How long a connection may send or receive nothing before it is closed."""


class WatchedSpec:
    """The current state of a spec's files: what to show, and a version number that grows when that changes."""

    def __init__(self, spec: str, settings: Mapping[str, Setting]) -> None:
        self.spec = spec
        self.settings = settings
        self.lock = Lock()
        self.version = 0
        self.texts: dict[str, str | None] = {}
        self.content = empty_page_data(Path(spec).name, [])
        self.status: dict[str, Any] = {"problems": []}
        find_source(spec)  # raises an error if there is no such spec now; if it disappears later, the page says so

    def state(self) -> dict[str, Any]:
        """Return everything that a page needs: the last valid network, with the current files and problems."""
        with self.lock:
            self._refresh()
            return {**self.content, **self.status, "version": self.version}

    def changes_since(self, version: int) -> dict[str, Any] | None:
        """Return what a page with this version does not know yet; None if it is up to date."""
        state = self.state()
        if state["version"] == version:
            return None
        return {**self.status, "version": state["version"]} if self.status["problems"] else state

    def _refresh(self) -> None:
        """Read the spec again if its files have changed.

        While there are problems it is always read again, since the problem may be a missing file, which is not watched.
        """
        texts = {name: _read_text(name) for name in self.texts}
        if self.version and texts == self.texts and not self.status["problems"]:
            return
        content, status, sources = self._read()
        self.texts = {**texts, **{source.name: source.text for source in sources}}
        if not self.version or (content, status) != (self.content, self.status):
            self.version += 1
        self.content, self.status = content, status

    def _read(self) -> tuple[dict[str, Any], dict[str, Any], list[Source]]:
        """Return the content of the page, or the last one if the spec is invalid; the problems; and the files read."""
        sources: list[Source] = []
        try:
            sources = find_sources(find_source(self.spec))
            return (
                page_content(load(self.spec, input=None, outputs=None, **self.settings), sources),
                {"problems": []},
                sources,
            )
        except SpecError as error:
            files = {source.name: source for source in (*sources, *(problem.span.source for problem in error.problems))}
            problems = problem_data(error.problems, files.values())
            return self.content, {"problems": problems, "files": file_data(files.values())}, sources
        except FileNotFoundError:
            return self._failed(f"{Path(self.spec).name} no longer exists", sources)
        except OSError as error:
            return self._failed(f"can't read {Path(self.spec).name}: {error.strerror}", sources)
        except Exception as error:  # a page that waits for an answer would show an old drawing as if it were current
            return self._failed(f"resnet-spec failed on this spec: {type(error).__name__}: {error}", sources)

    def _failed(self, message: str, sources: list[Source]) -> tuple[dict[str, Any], dict[str, Any], list[Source]]:
        problem = {"message": one_line(message), "help": "", "file": None}
        return self.content, {"problems": [problem]}, sources


def create_server(
    spec: str, host: str = "127.0.0.1", port: int = 8000, settings: Mapping[str, Setting] = MappingProxyType({})
) -> ThreadingHTTPServer:
    """Return a server for a spec's page, bound and ready for ``serve_forever``. Port 0 selects any free port.

    The settings are those of ``load``. Raises FileNotFoundError if there is no such spec, and OSError if the address
    can't be bound.
    """
    watched = WatchedSpec(spec, settings)

    class Handler(_PageHandler):
        spec = watched
        hosts: frozenset[str] = frozenset()

    class Server(_PageServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    server = Server((host, port), Handler)
    Handler.hosts = allowed_hosts(host, server.server_port)
    return server


def format_host(host: str) -> str:
    """Return a host as it stands in an address: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def allowed_hosts(host: str, port: int) -> frozenset[str]:
    """Return the values of the Host header that name a server; none if it answers under any name.

    >>> sorted(allowed_hosts("192.168.0.7", 80))
    ['192.168.0.7', '192.168.0.7:80']
    """
    name = format_host(host.lower())
    if name in WILDCARD_HOSTS:
        return frozenset()
    names = {*LOOPBACK, name} if name in LOOPBACK or name.startswith("127.") else {name}
    return frozenset(f"{name}:{port}" for name in names) | (names if port == HTTP_PORT else frozenset())


class _PageServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing when a browser closed its connection or is slow; that is no error of ours."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _PageHandler(BaseHTTPRequestHandler):
    spec: WatchedSpec
    hosts: frozenset[str]
    """The values of the Host header to answer; any if empty."""
    protocol_version = "HTTP/1.1"
    timeout = CONNECTION_SECONDS

    def do_GET(self) -> None:
        try:
            url = urlsplit(self.path)
        except ValueError:
            self._send(HTTPStatus.BAD_REQUEST, "text/plain", b"not an address; the only page here is /\n")
            return
        if not self._is_allowed_host():
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"use the host name that this server was started with\n")
        elif url.path == "/":
            state = self.spec.state()
            self._send(HTTPStatus.OK, "text/html", render_document(state["name"], state, live=True).encode())
        elif url.path == "/state":
            version = parse_qs(url.query).get("have", [""])[0]
            is_number = version.isdecimal() and len(version) <= MAX_VERSION_DIGITS
            changes = self.spec.changes_since(int(version) if is_number else 0)
            if changes is None:
                self._send(HTTPStatus.NO_CONTENT, "", b"")
            else:
                self._send(HTTPStatus.OK, "application/json", json.dumps(changes).encode())
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"not found; the only page here is /\n")

    def _is_allowed_host(self) -> bool:
        """Whether the Host header names this server, which keeps out websites that use DNS rebinding."""
        return not self.hosts or self.headers.get("Host", "").lower() in self.hosts

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", f"{content_type}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing, since a page asks for changes twice a second."""


def _read_text(name: str) -> str | None:
    try:
        return read_start(Path(name)).decode("utf-8-sig", errors="replace")
    except OSError:
        return None
