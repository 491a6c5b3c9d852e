"""A spec's page over HTTP, kept as its files are: read anew as they are saved, with what is wrong with them beside the last good one.

It gives its one page and that page's data, whatever the address asked for says: no path of a request is ever a path of a file.
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
    """A spec as its files are now: what to show of it, and a number that grows as that changes."""

    def __init__(self, spec: str) -> None:
        self.spec = spec
        self.lock = Lock()
        self.version = 0
        self.texts: dict[str, str | None] = {}
        self.good = empty_page_data(Path(spec).name, [])
        self.news: dict[str, Any] = {"problems": []}
        find_source(spec)  # a spec that never was there is an error; one that goes later is news

    def now(self) -> dict[str, Any]:
        """All that a page needs: the last good network, with the files and problems of now."""
        with self.lock:
            self._look()
            return {**self.good, **self.news, "version": self.version}

    def since(self, version: int) -> dict[str, Any] | None:
        """What is new to a page that knows a version; None if nothing is."""
        now = self.now()
        if now["version"] == version:
            return None
        return {**self.news, "version": now["version"]} if self.news["problems"] else now

    def _look(self) -> None:
        """Read the files again if they have changed; while something is wrong always, since what is missing may come."""
        texts = {name: _read_text(name) for name in self.texts}
        if self.version and texts == self.texts and not self.news["problems"]:
            return
        good, news, found = self._read()
        self.texts = {**texts, **{one.name: one.text for one in found}}
        if not self.version or (good, news) != (self.good, self.news):
            self.version += 1
        self.good, self.news = good, news

    def _read(self) -> tuple[dict[str, Any], dict[str, Any], list[Source]]:
        found: list[Source] = []
        try:
            found = find_sources(find_source(self.spec))
            return page_content(load(self.spec), found), {"problems": []}, found
        except SpecError as error:
            named = {one.name: one for one in (*found, *(problem.at.source for problem in error.problems))}
            texts = list(named.values())
            return self.good, {"problems": problem_data(error.problems, texts), "files": file_data(texts)}, found
        except OSError:
            gone = {"message": f"{Path(self.spec).name} is no longer there", "help": "", "file": None}
            return self.good, {"problems": [gone]}, found


def create_server(spec: str, host: str = "127.0.0.1", port: int = 8000) -> ThreadingHTTPServer:
    """A server of a spec's page, bound and ready for ``serve_forever``; port 0 is any that is free.

    Raises FileNotFoundError where there is no such spec, and OSError where the port is taken.
    """
    watched = WatchedSpec(spec)

    class Page(_PageHandler):
        state = watched
        hosts: frozenset[str] = frozenset()

    made = ThreadingHTTPServer((host, port), Page)
    made.daemon_threads = True
    if host not in WILDCARD_HOSTS:
        names = {*LOOPBACK, host} if host in LOOPBACK or host.startswith("127.") else {host}
        Page.hosts = frozenset(f"{name}:{made.server_port}" for name in names)
    return made


class _PageHandler(BaseHTTPRequestHandler):
    state: WatchedSpec
    hosts: frozenset[str]
    """What the page may be asked for as; empty: anything."""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if not self._welcome():
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"ask by the name that this server was started with\n")
        elif asked.path == "/":
            now = self.state.now()
            self._answer(HTTPStatus.OK, "text/html", render_document(now["name"], now, live=True).encode())
        elif asked.path == "/state":
            have = parse_qs(asked.query).get("have", [""])[0]
            news = self.state.since(int(have) if have.isdecimal() else 0)
            if news is None:
                self._answer(HTTPStatus.NO_CONTENT, "", b"")
            else:
                self._answer(HTTPStatus.OK, "application/json", json.dumps(news).encode())
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there is one page here: /\n")

    def _welcome(self) -> bool:
        """Whether the name asked for is ours: a page elsewhere, whose name was made to mean this machine, is kept out."""
        return not self.hosts or self.headers.get("Host", "") in self.hosts

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a page asks twice a second."""


def _read_text(name: str) -> str | None:
    try:
        return Path(name).read_bytes().decode("utf-8-sig", errors="replace")
    except OSError:
        return None
