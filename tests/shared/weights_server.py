"""A server of files on this machine that breaks off, redirects, is slow or answers with errors, as a test asks."""

from __future__ import annotations

import hashlib
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, TypeAlias

Answer: TypeAlias = Callable[["Handler", bytes], None]
"""Answers one request for a file in an unusual way."""


@dataclass
class WeightsServer:
    """Files by path, the answers to the first requests for each, and the requests that came, with their ranges."""

    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""

    def count(self, path: str) -> int:
        """Return how many requests for a file came."""
        return sum(requested == path for requested, _ in self.requests)


class Handler(BaseHTTPRequestHandler):
    """Sends files with a strong ETag, whole or from an offset."""

    protocol_version = "HTTP/1.1"
    state: ClassVar[WeightsServer]

    def do_GET(self) -> None:
        state = type(self).state
        path = self.path.partition("?")[0]
        state.requests.append((path, self.headers.get("Range", "")))
        data = state.files.get(path)
        answers = state.answers.get(path, [])
        if answers:
            answers.pop(0)(self, data or b"")
        elif data is None:
            self.send_error(404)
        else:
            send_file(self, data)

    def do_HEAD(self) -> None:
        data = type(self).state.files.get(self.path.partition("?")[0])
        if data is None:
            self.send_error(404)
        else:
            start_file(self, data, 0)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def start_file(handler: Handler, data: bytes, offset: int) -> None:
    """Send the status and the headers of a file from an offset."""
    handler.send_response(206 if offset else 200)
    handler.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
    handler.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
    handler.send_header("Content-Length", str(len(data) - offset))
    if offset:
        handler.send_header("Content-Range", f"bytes {offset}-{len(data) - 1}/{len(data)}")
    handler.end_headers()


def send_file(handler: Handler, data: bytes) -> None:
    """Send a file, from where the request asks if it has the same version."""
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    same = handler.headers.get("If-Range") in (None, f'"{hashlib.sha256(data).hexdigest()}"')
    offset = int(asked[1]) if asked and same else 0
    if offset >= len(data) > 0:
        handler.send_error(416)
        return
    start_file(handler, data, offset)
    handler.wfile.write(data[offset:])


def break_off_at(count: int) -> Answer:
    """Promise the whole rest of a file, and close the connection after some bytes of it."""

    def answer(handler: Handler, data: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        offset = int(asked[1]) if asked else 0
        start_file(handler, data, offset)
        handler.wfile.write(data[offset : offset + count])
        handler.close_connection = True

    return answer


def answer_with(status: int, *headers: str, body: bytes = b"") -> Answer:
    """Send exactly a status, headers such as "ETag: x", and a body, and close the connection."""

    def answer(handler: Handler, data: bytes) -> None:
        handler.send_response(status)
        for header in headers:
            handler.send_header(*header.split(": ", 1))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return answer


def ignore_range(handler: Handler, data: bytes) -> None:
    """Send the whole file, whatever part is asked for."""
    start_file(handler, data, 0)
    handler.wfile.write(data)


def redirect_to(address: str) -> Answer:
    """Send to another address."""

    def answer(handler: Handler, data: bytes) -> None:
        handler.send_response(302)
        handler.send_header("Location", address)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def fail_with(status: int) -> Answer:
    """Answer with an error."""
    return lambda handler, data: handler.send_error(status)


def wait_for(seconds: float) -> Answer:
    """Send the file late."""

    def answer(handler: Handler, data: bytes) -> None:
        time.sleep(seconds)
        send_file(handler, data)

    return answer


@contextmanager
def serve(certificate: Path | None = None) -> Iterator[WeightsServer]:
    """Run a server on a free port of this machine, with TLS if there is a file with a key and a certificate."""
    state = WeightsServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"state": state}))
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    state.address = f"{'http' if certificate is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
