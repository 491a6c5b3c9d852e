"""The server of a page: the page follows its files, in headless Chromium, and requests get the right answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from resnet_spec.views.page.server import create_server
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
