"""The page, driven in a real browser: Debian's Chromium, without a window."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resnet_spec import load
from resnet_spec.library.load import find_source, find_sources
from resnet_spec.views.page.page import render_page
from shared.browser import NARROW, WIDE, drawn, one, paths, press, shape, texts
from shared.command_line import run_cli


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a network's page; after the test nothing may have gone wrong in it, and nothing been asked of a network."""

    def open_(name: str = "resnet50", size: tuple[int, int] = WIDE, dark: bool = False) -> Any:
        path = tmp_path / "page.html"
        path.write_text(render_page(load(name), find_sources(find_source(name))), encoding="utf-8")
        shape(browser, size, dark)
        browser.get(f"file://{path}")
        return browser

    browser.get_log("browser")
    yield open_
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)") == []


# -- opening, and what is open -------------------------------------------------------------------------------------


def test_a_page_opens_with_its_stages_and_blocks(opened: Callable[..., Any]) -> None:
    browser = opened()
    assert browser.title == one(browser, "h1").text == "resnet50"
    assert "25,557,032 parameters · 4.09 G MACs · 8.18 G FLOPs" in one(browser, "#summary").text
    assert texts(browser, ".frame > header b") == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    assert texts(browser, ".block > header b")[:2] == ["layer1.0", "layer1.1-2"]
    assert drawn(browser, "layer1.0.conv1") == []


@pytest.mark.parametrize(
    ("level", "key", "blocks", "layers", "rows"),
    [("stages", "1", 0, 0, 10), ("blocks", "2", 8, 0, 26), ("layers", "3", 8, 8, 26 + 16 * 9 + 4 * 3)],
)
def test_levels(opened: Callable[..., Any], level: str, key: str, blocks: int, layers: int, rows: int) -> None:
    browser = opened()
    for way in (lambda: one(browser, f'[data-level="{level}"]').click(), lambda: press(browser, key)):
        browser.execute_script("setLevel('blocks')")
        way()
        assert len(texts(browser, ".block > header b")) == blocks
        assert (
            len(
                [
                    part
                    for part in browser.find_elements("css selector", 'rect[data-path$=".conv1"]')
                    if part.is_displayed()
                ]
            )
            == layers
        )
        assert len(paths(browser)) == rows
        assert texts(browser, '[data-level][aria-pressed="true"]') == [level]


def test_a_block_opens_in_drawing_and_table(opened: Callable[..., Any]) -> None:
    browser = opened()
    one(browser, '[data-toggle="layer2.0"]').click()
    assert drawn(browser, "layer2.0.downsample.0")
    assert "layer2.0.downsample.0" in paths(browser)
    assert "layer1.0.conv1" not in paths(browser)
    one(browser, '[data-toggle="layer2.0"]').click()
    assert drawn(browser, "layer2.0.downsample.0") == []


def test_a_fold_unfolds(opened: Callable[..., Any]) -> None:
    browser = opened("resnet152")
    browser.find_elements("css selector", ".fold")[2].click()
    names = texts(browser, '.stage[data-path="layer3"] .block > header b')
    assert names == [f"layer3.{number}" for number in range(36)]
    one(browser, '[data-toggle="layer3.17"]').click()
    assert drawn(browser, "layer3.17.conv2")
    assert drawn(browser, "layer3.16.conv2") == []


# -- zoom ----------------------------------------------------------------------------------------------------------


def width(browser: Any) -> float:
    """How wide a stage is on the screen."""
    found: float = browser.execute_script("return document.querySelector('.frame').getBoundingClientRect().width")
    return found


def test_zoom(opened: Callable[..., Any]) -> None:
    browser = opened()
    whole = width(browser)
    one(browser, "#larger").click()
    one(browser, "#larger").click()
    assert width(browser) == pytest.approx(1.25 * whole, rel=0.01)
    assert one(browser, "#zoom").text == "125 %"
    press(browser, "---")
    assert width(browser) < whole
    press(browser, "0")
    assert (width(browser), one(browser, "#zoom").text) == (whole, "100 %")
    browser.execute_script(
        "document.querySelector('#drawing').dispatchEvent(new WheelEvent('wheel', {deltaY: -1, ctrlKey: true, bubbles: true, cancelable: true}))"
    )
    assert one(browser, "#zoom").text == "110 %"


# -- selecting -----------------------------------------------------------------------------------------------------


def chosen(browser: Any) -> dict[str, list[str]]:
    """What each pane says is chosen."""
    return {
        "drawing": sorted(
            {part.get_attribute("data-path") for part in browser.find_elements("css selector", "#drawing .chosen")}
        ),
        "table": [row.get_attribute("data-row") for row in browser.find_elements("css selector", "tr.chosen")],
        "details": texts(browser, "#details h2"),
        "yaml": texts(browser, '#files [aria-selected="true"], .line.chosen'),
    }


def test_what_is_chosen_in_the_drawing_is_chosen_everywhere(opened: Callable[..., Any]) -> None:
    browser = opened()
    press(browser, "3")
    drawn(browser, "layer2.0.conv2")[1].click()  # its label: it lies on its box
    path = "layer2.0.conv2"
    at = next(part.at for part in load("resnet50").nodes() if part.path == path)
    line = f"{at.line}\n{at.source.line(at.line)}"  # type: ignore[union-attr]
    assert chosen(browser) == {
        "drawing": [path],
        "table": [path],
        "details": [path],
        "yaml": ["blocks/bottleneck.yaml", line],
    }
    details = one(browser, "#details").text
    assert "conv: out: 128, kernel: 3, stride: 2, padding: 1" in details
    assert "128x56x56" in details
    assert "147,456 (0.6 %)" in details
    one(browser, "#files button").click()  # resnet50.yaml: the stage is there
    (stage,) = texts(browser, ".line.near")
    assert "layer2: {block: bottleneck, depth: 4, out: 512, width: 128}" in stage


def test_a_row_of_the_table_opens_what_hides_it(opened: Callable[..., Any]) -> None:
    browser = opened("resnet152")
    press(browser, "3")
    row = one(browser, 'tr[data-row="layer3.17.bn2"] td')
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", row)
    row.click()
    assert chosen(browser)["drawing"] == ["layer3.1.bn2"]  # drawn once for all 35
    assert chosen(browser)["details"] == ["layer3.17.bn2"]
    press(browser, "1")
    browser.execute_script("choose('layer3.20.conv1')")
    assert drawn(browser, "layer3.1.conv1")


def test_a_line_of_yaml_chooses_what_it_makes(opened: Callable[..., Any]) -> None:
    browser = opened("seresnet50")
    one(browser, '.line[data-line="7"]').click()
    assert texts(browser, "#details h2") == ["layer1"]
    assert chosen(browser)["drawing"] == ["layer1"]
    one(browser, '.line[data-line="7"]').click()
    assert texts(browser, "#details h2") == ["layer1.0"]  # a line makes several: each click the next


def test_pointing_shows_shapes_and_costs(opened: Callable[..., Any]) -> None:
    from selenium.webdriver import ActionChains

    browser = opened()
    press(browser, "3")
    ActionChains(browser).move_to_element(drawn(browser, "layer1.0.conv3")[0]).perform()
    assert texts(browser, "#tip") == ["layer1.0.conv3\nconv: 64x56x56 to 256x56x56\n16,384 parameters, 51,380,224 MACs"]
    ActionChains(browser).move_to_element(one(browser, "h1")).perform()
    assert texts(browser, "#tip") == []


# -- keyboard ------------------------------------------------------------------------------------------------------


def test_the_drawing_by_keyboard_alone(opened: Callable[..., Any]) -> None:
    from selenium.webdriver import Keys

    browser = opened()
    browser.execute_script("choose('layer1')")
    press(browser, Keys.ARROW_DOWN, at="#drawing")
    assert texts(browser, "#details h2") == ["layer1.0"]
    press(browser, Keys.ENTER, Keys.ARROW_DOWN)
    assert texts(browser, "#details h2") == ["layer1.0.conv1"]
    at = browser.execute_script(
        "return document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).dataset.path"
    )
    assert at == "layer1.0.conv1"
    press(browser, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert texts(browser, "#details h2") == ["layer1.0"]
    assert drawn(browser, "layer1.0.conv1") == []
    press(browser, Keys.ARROW_DOWN, "u")
    assert texts(browser, '.stage[data-path="layer1"] .block > header b') == ["layer1.0", "layer1.1", "layer1.2"]
    press(browser, Keys.ESCAPE)
    assert texts(browser, "#details h2") == ["resnet50"]


def test_the_table_by_keyboard_alone(opened: Callable[..., Any]) -> None:
    from selenium.webdriver import Keys

    browser = opened()
    press(browser, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_LEFT, at="tbody tr")
    assert texts(browser, "#details h2") == ["layer1"]
    assert "layer1.0" not in paths(browser)
    press(browser, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert texts(browser, "#details h2") == ["layer1.0"]


# -- the table -----------------------------------------------------------------------------------------------------


def test_a_column_sorts(opened: Callable[..., Any]) -> None:
    browser = opened()
    head = one(browser, 'th[data-key="parameters"] button')
    head.click()
    assert paths(browser)[:3] == ["layer4.0.conv2", "layer4.1.conv2", "layer4.2.conv2"]
    assert one(browser, 'th[data-key="parameters"]').get_attribute("aria-sort") == "descending"
    assert len(paths(browser)) == len(list(load("resnet50").leaves()))
    head.click()
    assert "relu" in paths(browser)[0]
    head.click()
    assert paths(browser)[0] == "conv1"
    assert one(browser, 'th[data-key="parameters"]').get_attribute("aria-sort") is None


# -- search --------------------------------------------------------------------------------------------------------


def test_search(opened: Callable[..., Any]) -> None:
    from selenium.webdriver import Keys

    browser = opened()
    press(browser, "3", "/", "layer2 downsample")
    assert one(browser, "#found").text == "3"
    assert paths(browser) == ["layer2.0.downsample", "layer2.0.downsample.0", "layer2.0.downsample.1"]
    lit = {part.get_attribute("data-path") for part in browser.find_elements("css selector", "#drawing .match")}
    assert lit == {"layer2.0.downsample.0", "layer2.0.downsample.1"}
    press(browser, Keys.ENTER, Keys.ENTER)
    assert texts(browser, "#details h2") == ["layer2.0.downsample.0"]
    press(browser, Keys.ESCAPE)
    assert len(paths(browser)) > 100
    assert browser.find_elements("css selector", "#drawing .match") == []


# -- screens and themes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet152", "resnext50_32x4d", "seresnet50"])
@pytest.mark.parametrize("size", [WIDE, (1024, 700), NARROW])
def test_no_screen_is_too_narrow(opened: Callable[..., Any], name: str, size: tuple[int, int]) -> None:
    browser = opened(name, size)
    press(browser, "3")
    across = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert across[0] <= across[1]
    for pane in ("#drawing", "#details", "#table", "#text"):
        assert one(browser, pane).is_displayed()
    if size == NARROW:
        tops = [one(browser, pane).rect["y"] for pane in ("#drawing", "#details", "#table-pane", "#source")]
        assert tops == sorted(tops)


def test_light_and_dark(opened: Callable[..., Any]) -> None:
    page_colour = "return getComputedStyle(document.body).backgroundColor"
    conv_colour = "return getComputedStyle(document.querySelector('rect.rs-conv')).fill"
    browser = opened(dark=True)
    dark = [browser.execute_script(script) for script in (page_colour, conv_colour)]
    press(browser, "t")
    light = [browser.execute_script(script) for script in (page_colour, conv_colour)]
    assert dark == ["rgb(16, 21, 28)", "rgb(32, 57, 92)"]
    assert light == ["rgb(255, 255, 255)", "rgb(219, 232, 251)"]
    one(browser, "#theme").click()
    assert browser.execute_script(page_colour) == dark[0]


# -- what is written in a spec is text, and no more ----------------------------------------------------------------


def test_what_a_spec_says_can_not_run(browser: Any, tmp_path: Path) -> None:
    evil = "</script><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
    spec = tmp_path / "evil.yaml"
    spec.write_text(
        f"# {evil}\nname: '{evil.replace(chr(39), chr(39) * 2)}'\ninput: [3, 8, 8]\nstem: {{conv1: {{op: conv, out: 4, kernel: 3}}}}\n"
    )
    done = run_cli("show", spec, "--html", tmp_path / "evil.html")
    assert (done.returncode, done.stderr) == (0, "")
    browser.get(f"file://{tmp_path / 'evil.html'}")
    assert one(browser, "h1").text == evil
    assert one(browser, ".line code").text == f"# {evil}"
    browser.execute_script(
        "const made = document.createElement('div'); made.innerHTML = arguments[0]; document.body.append(made)", evil
    )
    time.sleep(0.2)
    assert browser.title == evil
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))
