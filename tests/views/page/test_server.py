"""A served page, in a real browser: redrawn as its files are saved; and what the server answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from resnet_spec.views.page.server import create_server
from shared.browser import WIDE, one, shape, texts, until
from shared.command_line import run_cli

MINE = "name: mine\nextends: base\nstages:\n  layer1: {depth: 3}\n"


@pytest.fixture
def served(browser: Any, tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Serves mine.yaml, and opens its page."""
    (tmp_path / "base.yaml").write_text("name: base\nextends: resnet18\n")
    (tmp_path / "mine.yaml").write_text(MINE)
    made: list[Any] = []

    def open_() -> Any:
        made.append(create_server(str(tmp_path / "mine.yaml"), port=0))
        threading.Thread(target=made[0].serve_forever, daemon=True).start()
        shape(browser, WIDE, dark=False)
        browser.get(f"http://127.0.0.1:{made[0].server_port}/")
        return browser

    yield open_
    browser.get("about:blank")
    made[0].shutdown()
    made[0].server_close()
    browser.get_log("browser")


def test_an_edit_is_drawn_as_it_is_saved(served: Callable[[], Any], tmp_path: Path) -> None:
    browser = served()
    assert one(browser, '.stage[data-path="layer1"] .times').text == "3 ×"
    browser.execute_script("choose('layer2.1.conv1')")
    (tmp_path / "mine.yaml").write_text(MINE.replace("3", "5"))
    until(lambda: texts(browser, '.stage[data-path="layer1"] .times') == ["5 ×"])
    assert texts(browser, "#details h2") == ["layer2.1.conv1"]
    (tmp_path / "base.yaml").write_text("name: base\nextends: resnet34\n")  # what it extends, too
    until(lambda: texts(browser, '.stage[data-path="layer3"] .times') == ["6 ×"])


def test_what_is_wrong_stands_in_its_place_beside_the_last_good_drawing(
    served: Callable[[], Any], tmp_path: Path
) -> None:
    browser = served()
    (tmp_path / "mine.yaml").write_text(MINE.replace("depth: 3", "dept: 3"))
    until(lambda: texts(browser, ".line.wrong"))
    assert texts(browser, "#trouble p")[0].startswith("mine.yaml:4:12: ")
    assert texts(browser, ".line.wrong mark") == ["dept"]
    assert "'dept'" in texts(browser, ".problem")[0]
    assert texts(browser, '.stage[data-path="layer1"] .times') == ["3 ×"]
    (tmp_path / "mine.yaml").write_text(MINE.replace("3", "4"))
    until(lambda: not one(browser, "#trouble").is_displayed())
    assert texts(browser, '.stage[data-path="layer1"] .times') == ["4 ×"]
    assert texts(browser, ".line.wrong") == []


def test_a_page_opened_on_a_broken_spec_shows_what_is_wrong(served: Callable[[], Any], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: [")
    browser = served()
    until(lambda: texts(browser, ".line.wrong"))
    assert "mine.yaml:1:8: not YAML: expected a value here" in texts(browser, "#trouble p")[0]
    (tmp_path / "mine.yaml").write_text(MINE)
    until(lambda: texts(browser, '.stage[data-path="layer1"] .times') == ["3 ×"])


def test_a_base_that_was_missing_and_comes(served: Callable[[], Any], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE.replace("extends: base", "extends: later"))
    browser = served()
    until(lambda: "named 'later' to extend" in one(browser, "#trouble").text)
    (tmp_path / "later.yaml").write_text("name: later\nextends: resnet18\n")
    until(lambda: texts(browser, '.stage[data-path="layer1"] .times') == ["3 ×"])


def test_a_file_that_goes_and_comes_again(served: Callable[[], Any], tmp_path: Path) -> None:
    browser = served()
    (tmp_path / "mine.yaml").unlink()
    until(lambda: "mine.yaml is no longer there" in one(browser, "#trouble").text)
    (tmp_path / "mine.yaml").write_text(MINE)
    until(lambda: not one(browser, "#trouble").is_displayed())


# -- what it answers -----------------------------------------------------------------------------------------------


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "mine.yaml").write_text("name: mine\nextends: resnet18\n")
    (tmp_path / "secret.yaml").write_text("name: secret\nextends: resnet18\n")
    made = create_server(str(tmp_path / "mine.yaml"), port=0)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made.server_port
    made.shutdown()
    made.server_close()


def asked(port: int, path: str, host: str = "") -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


@pytest.mark.parametrize(
    "path", ["/secret.yaml", "/mine.yaml", "/../secret.yaml", "//etc/passwd", "/state/../secret.yaml", "/%2e%2e/x"]
)
def test_no_path_is_a_file(port: int, path: str) -> None:
    assert asked(port, path) == (404, "there is one page here: /\n")


def test_nothing_is_said_of_files_beside_it(port: int) -> None:
    assert "secret" not in asked(port, "/")[1] + asked(port, "/state?have=0")[1]


@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1", 200), ("localhost", 200), ("elsewhere.example", 403), ("", 403)]
)
def test_only_the_names_of_this_machine_are_answered(port: int, host: str, status: int) -> None:
    assert asked(port, "/", f"{host}:{port}")[0] == status


def test_nothing_new_is_nothing_said(port: int) -> None:
    version = json.loads(asked(port, "/state?have=0")[1])["version"]
    assert asked(port, f"/state?have={version}") == (204, "")
    assert asked(port, "/state?have=junk")[0] == 200


def test_it_listens_to_this_machine_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nextends: resnet18\n")
    made = create_server(str(tmp_path / "mine.yaml"), port=0)
    assert made.server_address[0] == "127.0.0.1"
    made.server_close()


def test_what_can_not_be_served_is_said(port: int, tmp_path: Path) -> None:
    taken = run_cli("serve", tmp_path / "mine.yaml", "--port", str(port))
    assert (taken.returncode, taken.stderr) == (
        2,
        f"error: can't serve at 127.0.0.1, port {port}: address already in use; try: --port 0\n",
    )
    none = run_cli("serve", "no.yaml")
    assert none.returncode == 2
    assert none.stderr.startswith("error: no file or bundled network named 'no.yaml'")
