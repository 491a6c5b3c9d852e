"""Serve the page of a spec over HTTP, and update it when the spec's files are saved.

While a spec is invalid, its problems are shown beside the last valid drawing. The server answers only for its one page
and that page's data: the path of a request is never used as the path of a file.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

from resnet_spec.diagnostics.problems import Source, SpecError
from resnet_spec.library.load import find_source, find_sources, load
from resnet_spec.views.page.page import page_content, render_document
from resnet_spec.views.page.parts import empty_page_data, file_data, problem_data

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
WILDCARD_HOSTS = ("0.0.0.0", "::", "")


class WatchedSpec:
    """The current state of a spec's files: what to show, and a version number that grows when that changes."""

    def __init__(self, spec: str) -> None:
        self.spec = spec
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
            return page_content(load(self.spec), sources), {"problems": []}, sources
        except SpecError as error:
            files = {source.name: source for source in (*sources, *(problem.span.source for problem in error.problems))}
            problems = problem_data(error.problems, files.values())
            return self.content, {"problems": problems, "files": file_data(files.values())}, sources
        except OSError:
            problem = {"message": f"{Path(self.spec).name} no longer exists", "help": "", "file": None}
            return self.content, {"problems": [problem]}, sources


def create_server(spec: str, host: str = "127.0.0.1", port: int = 8000) -> ThreadingHTTPServer:
    """Return a server for a spec's page, bound and ready for ``serve_forever``. Port 0 selects any free port.

    Raises FileNotFoundError if there is no such spec, and OSError if the address can't be bound.
    """
    watched = WatchedSpec(spec)

    class Handler(_PageHandler):
        spec = watched
        hosts: frozenset[str] = frozenset()

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    if host not in WILDCARD_HOSTS:
        names = {*LOOPBACK, host} if host in LOOPBACK or host.startswith("127.") else {host}
        Handler.hosts = frozenset(f"{name}:{server.server_port}" for name in names)
    return server


class _PageHandler(BaseHTTPRequestHandler):
    spec: WatchedSpec
    hosts: frozenset[str]
    """The values of the Host header to answer; any if empty."""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if not self._is_allowed_host():
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"use the host name that this server was started with\n")
        elif url.path == "/":
            state = self.spec.state()
            self._send(HTTPStatus.OK, "text/html", render_document(state["name"], state, live=True).encode())
        elif url.path == "/state":
            version = parse_qs(url.query).get("have", [""])[0]
            changes = self.spec.changes_since(int(version) if version.isdecimal() else 0)
            if changes is None:
                self._send(HTTPStatus.NO_CONTENT, "", b"")
            else:
                self._send(HTTPStatus.OK, "application/json", json.dumps(changes).encode())
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"not found; the only page here is /\n")

    def _is_allowed_host(self) -> bool:
        """Whether the Host header names this server, which keeps out websites that use DNS rebinding."""
        return not self.hosts or self.headers.get("Host", "") in self.hosts

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
        return Path(name).read_bytes().decode("utf-8-sig", errors="replace")
    except OSError:
        return None
