"""The server of a page: the page follows its files, in headless Chromium, and requests get the right answers."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import pytest

from resnet_spec.diagnostics.problems import Source
from resnet_spec.library import bundled
from resnet_spec.library.load import read_start
from resnet_spec.syntax.yaml_events import MAX_BYTES
from resnet_spec.views.page import server as server_module
from resnet_spec.views.page.parts import file_data
from resnet_spec.views.page.server import WatchedSpec, allowed_hosts, create_server
from shared.browser import WIDE, find, set_screen, visible_texts, wait_until
from shared.command_line import run_cli

MINE = "name: mine\nextends: base\nstages:\n  layer1: {depth: 3}\n"


ServePage: TypeAlias = Callable[[], Any]


@pytest.fixture
def serve_page(browser: Any, tmp_path: Path) -> Iterator[ServePage]:
    """Yield a function that serves mine.yaml and opens its page."""
    (tmp_path / "base.yaml").write_text("name: base\nextends: resnet18\n")
    (tmp_path / "mine.yaml").write_text(MINE)
    servers: list[Any] = []

    def open_() -> Any:
        servers.append(create_server(str(tmp_path / "mine.yaml"), port=0))
        threading.Thread(target=servers[0].serve_forever, daemon=True).start()
        set_screen(browser, WIDE, dark=False)
        browser.get(f"http://127.0.0.1:{servers[0].server_port}/")
        return browser

    yield open_
    browser.get("about:blank")
    servers[0].shutdown()
    servers[0].server_close()
    browser.get_log("browser")


def test_an_edit_is_drawn_when_it_is_saved(serve_page: ServePage, tmp_path: Path) -> None:
    browser = serve_page()
    assert find(browser, '.stage[data-path="layer1"] .times').text == "3 ×"
    browser.execute_script("choose('layer2.1.conv1')")
    (tmp_path / "mine.yaml").write_text(MINE.replace("3", "5"))
    wait_until(lambda: visible_texts(browser, '.stage[data-path="layer1"] .times') == ["5 ×"])
    assert visible_texts(browser, "#details h2") == ["layer2.1.conv1"]
    (tmp_path / "base.yaml").write_text("name: base\nextends: resnet34\n")  # a file that it extends
    wait_until(lambda: visible_texts(browser, '.stage[data-path="layer3"] .times') == ["6 ×"])


def test_problems_are_shown_at_their_lines_beside_the_last_valid_drawing(serve_page: ServePage, tmp_path: Path) -> None:
    browser = serve_page()
    (tmp_path / "mine.yaml").write_text(MINE.replace("depth: 3", "dept: 3"))
    wait_until(lambda: visible_texts(browser, ".line.wrong"))
    assert visible_texts(browser, "#trouble p")[0].startswith("mine.yaml:4:12: ")
    assert visible_texts(browser, ".line.wrong mark") == ["dept"]
    assert "'dept'" in visible_texts(browser, ".problem")[0]
    assert visible_texts(browser, '.stage[data-path="layer1"] .times') == ["3 ×"]
    (tmp_path / "mine.yaml").write_text(MINE.replace("3", "4"))
    wait_until(lambda: not find(browser, "#trouble").is_displayed())
    assert visible_texts(browser, '.stage[data-path="layer1"] .times') == ["4 ×"]
    assert visible_texts(browser, ".line.wrong") == []


def test_a_page_opened_on_an_invalid_spec_shows_the_problem(serve_page: ServePage, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: [")
    browser = serve_page()
    wait_until(lambda: visible_texts(browser, ".line.wrong"))
    assert "mine.yaml:1:8: invalid YAML: expected a value here" in visible_texts(browser, "#trouble p")[0]
    (tmp_path / "mine.yaml").write_text(MINE)
    wait_until(lambda: visible_texts(browser, '.stage[data-path="layer1"] .times') == ["3 ×"])


def test_a_missing_base_that_appears_is_found(serve_page: ServePage, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE.replace("extends: base", "extends: later"))
    browser = serve_page()
    wait_until(lambda: "named 'later' to extend" in find(browser, "#trouble").text)
    (tmp_path / "later.yaml").write_text("name: later\nextends: resnet18\n")
    wait_until(lambda: visible_texts(browser, '.stage[data-path="layer1"] .times') == ["3 ×"])


def test_a_file_may_disappear_and_return(serve_page: ServePage, tmp_path: Path) -> None:
    browser = serve_page()
    (tmp_path / "mine.yaml").unlink()
    wait_until(lambda: "mine.yaml no longer exists" in find(browser, "#trouble").text)
    (tmp_path / "mine.yaml").write_text(MINE)
    wait_until(lambda: not find(browser, "#trouble").is_displayed())


# -- requests ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "mine.yaml").write_text("name: mine\nextends: resnet18\n")
    (tmp_path / "secret.yaml").write_text("name: secret\nextends: resnet18\n")
    server = create_server(str(tmp_path / "mine.yaml"), port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_settings_hold_for_the_page(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nextends: resnet18\n")
    server = create_server(str(tmp_path / "mine.yaml"), port=0, settings={"classes": "7"})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _, body = request(server.server_port, "/state")
    server.shutdown()
    server.server_close()
    assert json.loads(body)["summary"]["output"] == [7]


def request(port: int, path: str, host: str = "") -> tuple[int, str]:
    """Return the status and body of the answer to a GET request."""
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


@pytest.mark.parametrize(
    "path", ["/secret.yaml", "/mine.yaml", "/../secret.yaml", "//etc/passwd", "/state/../secret.yaml", "/%2e%2e/x"]
)
def test_no_request_reads_a_file(port: int, path: str) -> None:
    assert request(port, path) == (404, "not found; the only page here is /\n")


def test_other_files_in_the_folder_are_not_mentioned(port: int) -> None:
    assert "secret" not in request(port, "/")[1] + request(port, "/state?have=0")[1]


@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1", 200), ("localhost", 200), ("elsewhere.example", 403), ("", 403)]
)
def test_only_requests_to_local_host_names_are_answered(port: int, host: str, status: int) -> None:
    assert request(port, "/", f"{host}:{port}")[0] == status


def test_the_state_is_empty_if_nothing_has_changed(port: int) -> None:
    version = json.loads(request(port, "/state?have=0")[1])["version"]
    assert request(port, f"/state?have={version}") == (204, "")
    assert request(port, "/state?have=junk")[0] == 200


def test_the_server_listens_on_the_loopback_address(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nextends: resnet18\n")
    server = create_server(str(tmp_path / "mine.yaml"), port=0)
    assert server.server_address[0] == "127.0.0.1"
    server.server_close()


def test_the_command_reports_what_it_can_not_serve(port: int, tmp_path: Path) -> None:
    taken = run_cli("serve", tmp_path / "mine.yaml", "--port", str(port))
    assert (taken.returncode, taken.stderr) == (
        2,
        f"error: can't serve at 127.0.0.1, port {port}: address already in use; try: --port 0\n",
    )
    missing = run_cli("serve", "no.yaml")
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: no file or bundled network named 'no.yaml'")


def test_the_command_ends_at_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nextends: resnet18\n")
    command = [sys.executable, "-u", "-m", "resnet_spec", "serve", "mine.yaml", "--port", "0"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("serving mine.yaml at http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert (process.returncode, errors.strip()) == (130, "stopped")


# -- files and requests that are not what they should be ---------------------------------------------------------------


def read_problem(port: int) -> str:
    (problem,) = json.loads(request(port, "/state?have=0")[1])["problems"]
    return str(problem["message"])


def test_a_pipe_in_the_place_of_a_spec_is_not_waited_for(port: int, tmp_path: Path) -> None:
    assert request(port, "/")[0] == 200
    (tmp_path / "mine.yaml").unlink()
    os.mkfifo(tmp_path / "mine.yaml")
    assert read_problem(port) == "mine.yaml no longer exists"
    (tmp_path / "mine.yaml").unlink()
    (tmp_path / "mine.yaml").write_text("name: mine\nextends: resnet18\n")
    assert json.loads(request(port, "/state?have=0")[1])["problems"] == []


def test_a_pipe_is_refused_even_if_it_takes_the_place_of_a_file_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(OSError, match="not a regular file"):
        read_start(tmp_path / "pipe.yaml")


def test_of_a_large_file_only_the_start_is_read(port: int, tmp_path: Path) -> None:
    assert request(port, "/")[0] == 200
    (tmp_path / "mine.yaml").write_bytes(b"a" * 2**26)
    assert len(read_start(tmp_path / "mine.yaml")) < MAX_BYTES + 10
    assert "has more than" in read_problem(port)
    mine = str(tmp_path / "mine.yaml")
    watched = [cell for cell in gc.get_objects() if type(cell) is WatchedSpec and cell.spec == mine]
    texts = [text for cell in watched for text in cell.texts.values()]
    assert max(len(text or "") for text in texts) < MAX_BYTES + 10


def test_an_error_of_ours_is_shown_as_a_problem(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(spec: str, **settings: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(server_module, "load", fail)
    assert read_problem(port) == "resnet-spec failed on this spec: ZeroDivisionError: by\N{REPLACEMENT CHARACTER}zero"


@pytest.mark.parametrize("digits", ["9" * 5000, "\u0663", "-1", "1e3"])
def test_any_version_is_answered(port: int, digits: str) -> None:
    assert request(port, f"/state?have={quote(digits)}")[0] == 200


def send(port: int, text: bytes, close: bool = False) -> bytes:
    """Send bytes to the server, and return all that it answers until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(text)
        if close:
            # with a linger time of zero, the server finds the connection reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return b""
        return b"".join(iter(lambda: connection.recv(2**16), b""))


def test_an_address_that_is_none_is_refused(port: int) -> None:
    answer = send(port, b"GET http://[ HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x"])
def test_a_silent_connection_is_closed(port: int, start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module._PageHandler, "timeout", 0.05)
    assert send(port, start) == b""


def test_a_connection_that_the_browser_closes_prints_nothing(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    host = f"Host: 127.0.0.1:{port}"
    for _ in range(5):
        send(port, f"GET / HTTP/1.1\r\n{host}\r\n\r\nGET / HTTP/1.1\r\n{host}\r\n\r\n".encode(), close=True)
    assert request(port, "/")[0] == 200
    for error in (BrokenPipeError(), ConnectionResetError(), TimeoutError()):
        try:
            raise error
        except OSError:
            server_module._PageServer.handle_error(object(), None, None)  # type: ignore[arg-type]
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_an_address_of_ipv6_is_served(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nextends: resnet18\n")
    server = create_server(str(tmp_path / "mine.yaml"), "::1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connection = HTTPConnection("::1", server.server_port)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    connection.close()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("host", "port", "allowed", "refused"),
    [
        ("127.0.0.1", 80, "127.0.0.1", "elsewhere.example"),
        ("127.0.0.1", 80, "localhost:80", "127.0.0.1:8000"),
        ("127.0.0.1", 8000, "127.0.0.1:8000", "127.0.0.1"),
        ("::1", 8000, "[::1]:8000", "::1:8000"),
        ("Name.example", 8000, "name.example:8000", "localhost:8000"),
    ],
)
def test_the_host_header_names_the_server(host: str, port: int, allowed: str, refused: str) -> None:
    hosts = allowed_hosts(host, port)
    assert allowed in hosts
    assert refused not in hosts
    assert allowed_hosts("::", port) == allowed_hosts("0.0.0.0", port) == frozenset()


def test_a_folder_with_a_longer_name_is_not_the_bundled_one() -> None:
    specs = str(bundled.directory())
    assert file_data([Source(f"{specs}/blocks/a.yaml", "")])[0]["name"] == "blocks/a.yaml"
    assert file_data([Source(f"{specs}_of_mine/secret/a.yaml", "")])[0]["name"] == "a.yaml"
