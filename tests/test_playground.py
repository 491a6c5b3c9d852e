"""The playground: a spec is edited, drawn, checked and shared in the browser alone, in headless Chromium."""

from __future__ import annotations

import base64
import gc
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resnet_spec import SpecError, emit, load
from resnet_spec.library import bundled
from resnet_spec.views.drawing.render import draw
from shared.browser import NARROW, WIDE, find, press, set_screen, visible_texts, wait_until
from shared.npm import require_packages
from shared.paths import ROOT
from shared.playground import edit, link_to, open_playground, serve_folder, state, text_of
from shared.sampling import in_sweep

sys.path.append(str(ROOT / "docs"))

import playground_page
from playground.session import Session

SMALL = """\
name: small
input: [3, 32, 32]
stem: {conv1: {op: conv, out: 8, kernel: 3, padding: 1}, relu: act}
head: {pool: global_avg_pool, fc: {op: linear, out: 10}}
"""
WRONG = SMALL.replace("kernel: 3", "kernal: 3")
EDITS = 100
WARM_UP = 20
"""Edits after which memory must not grow any more."""


# -- the part in Python -------------------------------------------------------------------------------------------


def test_a_session_answers_with_what_has_changed(tmp_path: Path) -> None:
    session = Session(tmp_path, SMALL)
    assert "connect-src" not in session.html and '"live":"parent"' in session.html
    news = session.edit(SMALL.replace("out: 8", "out: 16"))
    assert news is not None and news["rows"][0]["out"] == (16, 32, 32)
    assert session.edit(SMALL.replace("out: 8", "out: 16")) is None
    assert session.make("svg") == draw(load(session.path), "svg").decode()
    assert session.make("paddle") == emit(session.path, backend="paddle")


def test_a_session_keeps_the_last_drawing_of_a_wrong_spec(tmp_path: Path) -> None:
    session = Session(tmp_path, SMALL)
    news = session.edit(WRONG)
    assert news is not None and "rows" not in news
    problem = next(each for each in session.problems if "kernal" in each["message"])
    assert (problem["line"], WRONG.splitlines()[2][problem["column"] - 1 :][:6]) == (3, "kernal")
    assert problem["help"] == "did you mean 'kernel'?"
    with pytest.raises(SpecError):
        session.make("svg")
    session.edit("name: x\nextends: no_such_network\n")
    assert session.wrong and session.problems[0]["line"] == 2
    session.edit(SMALL)
    assert not session.wrong and not session.problems


def test_a_session_keeps_nothing_of_old_edits(tmp_path: Path) -> None:
    session = Session(tmp_path, SMALL)
    blocks = []
    for number in range(WARM_UP + EDITS):
        session.edit(SMALL.replace("out: 8", f"out: {number + 1}"))
        if number in (WARM_UP - 1, WARM_UP + EDITS - 1):
            gc.collect()
            blocks.append(sys.getallocatedblocks())
    assert blocks[1] - blocks[0] < 5 * EDITS  # a network has thousands of objects; bounded caches fill up


def test_the_archive_holds_every_bundled_spec(tmp_path: Path) -> None:
    playground_page.write_core(tmp_path / "core.zip")
    names = set(zipfile.ZipFile(tmp_path / "core.zip").namelist())
    assert {f"resnet_spec/specs/{name}.yaml" for name in bundled.names()} <= names
    assert {"session.py", "resnet_spec/views/page/page.js", "yaml/__init__.py"} <= names
    assert not [name for name in names if "__pycache__" in name or "generate" in name]


def test_a_site_without_the_packages_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(playground_page, "PACKAGES", tmp_path)
    assert "npm ci --prefix docs/playground" in playground_page.render_missing()
    with pytest.raises(FileNotFoundError, match="npm ci"):
        playground_page.write_playground(tmp_path / "site")
    assert not (tmp_path / "site").exists()


# -- in the browser -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a playground on this machine."""
    require_packages()
    folder = tmp_path_factory.mktemp("playground")
    playground_page.write_playground(folder)
    with serve_folder(folder) as served:
        yield f"{served}/index.html"


def in_frame(page: Any, selector: str) -> list[str]:
    """Return the texts of the visible elements of the network's page, which is in a frame."""
    page.switch_to.frame("frame")
    texts = visible_texts(page, selector)
    page.switch_to.default_content()
    return texts


def wait_for(page: Any, selector: str, expected: list[str]) -> None:
    """Wait until the visible elements of the network's page, which gets news by message, have these texts."""
    wait_until(lambda: in_frame(page, selector) == expected)


def offers(page: Any) -> list[str]:
    """Return what the editor offers to complete."""
    return visible_texts(page, ".cm-tooltip-autocomplete .cm-completionLabel")


@pytest.fixture(scope="module")
def opened(browser: Any, address: str) -> Any:
    """Return the browser with the playground open, after the first drawing of a small network."""
    set_screen(browser, WIDE, dark=False)
    assert open_playground(browser, address + link_to(SMALL))["wrong"] == "false"
    return browser


def draw_text(page: Any, text: str) -> dict[str, str]:
    """Replace the spec, unless it is this one, and return the state after it is drawn."""
    return state(page) if text_of(page) == text else edit(page, text)[0]


def test_an_edit_is_drawn(opened: Any) -> None:
    draw_text(opened, SMALL)
    wait_for(opened, "#name", ["small"])
    assert draw_text(opened, SMALL.replace("out: 10", "out: 12"))["wrong"] == "false"
    wait_for(opened, "#drawing .output", ["12"])
    draw_text(opened, "name: mine\nextends: resnet18\n")
    wait_for(opened, "#name", ["mine"])
    assert all(button.is_enabled() for button in opened.find_elements("css selector", "[data-make]"))


@pytest.mark.parametrize("backend", ["torch", "paddle", "flax"])
def test_emitted_code_is_downloaded(opened: Any, tmp_path: Path, backend: str) -> None:
    draw_text(opened, SMALL)
    opened.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    find(opened, f"[data-make={backend}]").click()
    file = tmp_path / f"network_{backend}.py"
    wait_until(file.exists)
    (tmp_path / "small.yaml").write_text(SMALL, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == emit(tmp_path / "small.yaml", backend=backend)


def test_problems_are_shown_in_place(opened: Any) -> None:
    draw_text(opened, SMALL)
    assert draw_text(opened, WRONG)["wrong"] == "true"
    assert visible_texts(opened, ".cm-lintRange-error") == ["kernal"]
    place = f"3:{WRONG.splitlines()[2].index('kernal') + 1}"
    problem = f"network.yaml:{place}: conv does not take 'kernal'; did you mean 'kernel'?"
    wait_for(opened, "#trouble p", [problem, "the drawing shows the last valid version of the spec"])
    wait_for(opened, "#drawing .output", ["10"])
    assert not any(button.is_enabled() for button in opened.find_elements("css selector", "[data-make]"))
    for text in ("", "a: [", "- 1", "name: \U0001f642\nstem: {a: \U0001f642, b: nothing}", "name: x\nextends: ../y\n"):
        assert draw_text(opened, f"{text}\n")["wrong"] == "true", text
        wait_until(lambda: in_frame(opened, "#trouble p"))
    draw_text(opened, SMALL)
    wait_for(opened, "#trouble p", [])
    assert not visible_texts(opened, ".cm-lintRange-error")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("sta", {"stages"}),
        ("extends: resnet18\nstages: {layer1: {dep", {"depth"}),
        ("stem:\n  a: {op: global_", {"global_avg_pool", "global_max_pool"}),
        ("stem:\n  a: {op: conv, ker", {"kernel"}),
        ("stages:\n  a:\n    block: bottle", {"bottleneck", "bottleneck_smoothed"}),
        ("stages:\n  a: {block: bottleneck, depth: 1, grou", {"groups"}),
        ("blocks:\n  mine:\n    combine: mul", {"multiply"}),
        ("extends: timm/resnet50_", {"timm/resnet50_gn"}),
    ],
)
def test_the_editor_offers_what_fits(opened: Any, typed: str, expected: set[str]) -> None:
    draw_text(opened, f"name: x\n{typed[:-1]}")
    from selenium.webdriver import Keys

    press(opened, Keys.DOWN * 9 + Keys.END + typed[-1], at=".cm-content")
    wait_until(lambda: expected <= set(offers(opened)))
    press(opened, Keys.ESCAPE)


def test_the_editor_explains_what_the_pointer_is_at(opened: Any) -> None:
    from selenium.webdriver import ActionChains

    draw_text(opened, SMALL)
    ActionChains(opened).move_to_element(find(opened, ".cm-line:nth-child(1) .tok-propertyName")).perform()
    wait_until(lambda: visible_texts(opened, ".about") == ["Name of the network."])


@pytest.mark.parametrize("count", [10, *in_sweep(EDITS)])
def test_edits_leave_nothing_behind(opened: Any, count: int) -> None:
    texts = [SMALL.replace("out: 8", f"out: {number + 1}") for number in range(WARM_UP + count)]
    texts[9::10] = [WRONG] * len(texts[9::10])
    states = edit(opened, *texts[:WARM_UP])
    elements = count_elements(opened)
    states += edit(opened, *texts[WARM_UP:])
    assert [each["wrong"] for each in states] == [str(text == WRONG).lower() for text in texts]
    assert states[WARM_UP]["memory"] == states[-1]["memory"]
    assert count_elements(opened) == elements


def count_elements(page: Any) -> int:
    """Return how many elements the network's page has."""
    page.switch_to.frame("frame")
    count = int(page.execute_script("return document.getElementsByTagName('*').length"))
    page.switch_to.default_content()
    return count


def test_a_link_restores_the_spec(opened: Any, address: str) -> None:
    draw_text(opened, WRONG.replace("name: small", "name: shared"))
    wait_until(lambda: link_holds(opened, "name: shared"))
    link = opened.current_url
    assert open_playground(opened, link)["wrong"] == "true"
    assert text_of(opened).startswith("name: shared\n") and "kernal" in text_of(opened)
    opened.execute_script("location.hash = '#yaml=AAAA'")
    wait_until(lambda: "can't be read" in find(opened, "#status").text)
    assert text_of(opened).startswith("name: shared\n")
    opened.execute_script("location.hash = '#extends=timm/resnet50d'")
    wait_until(lambda: in_frame(opened, "#name") == ["my_resnet50d"])
    set_screen(opened, NARROW, dark=True)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= NARROW[0]
    errors = [entry["message"] for entry in opened.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []
    set_screen(opened, WIDE, dark=False)


def link_holds(page: Any, text: str) -> bool:
    """Whether the address of the page holds a spec with a text."""
    packed = page.current_url.partition("#yaml=")[2]
    return text in zlib.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), wbits=-15).decode()
