"""The page of a network, driven in headless Chromium."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from resnet_spec import load
from resnet_spec.library.load import find_source, find_sources
from resnet_spec.views.page.page import render_page
from shared.browser import NARROW, WIDE, find, press, set_screen, table_paths, visible_parts, visible_texts
from shared.command_line import run_cli

OpenPage: TypeAlias = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[OpenPage]:
    """Yield a function that opens a network's page; afterwards check that it logged no error and fetched nothing."""

    def open_(name: str = "resnet50", size: tuple[int, int] = WIDE, dark: bool = False) -> Any:
        path = tmp_path / "page.html"
        path.write_text(render_page(load(name), find_sources(find_source(name))), encoding="utf-8")
        set_screen(browser, size, dark)
        browser.get(f"file://{path}")
        return browser

    browser.get_log("browser")
    yield open_
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []


# -- opening stages and blocks -----------------------------------------------------------------------------------------


def test_a_page_opens_with_its_stages_and_blocks(open_page: OpenPage) -> None:
    browser = open_page()
    assert browser.title == find(browser, "h1").text == "resnet50"
    assert "25,557,032 parameters · 4.09 G MACs · 8.18 G FLOPs" in find(browser, "#summary").text
    assert visible_texts(browser, ".frame > header b") == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    assert visible_texts(browser, ".block > header b")[:2] == ["layer1.0", "layer1.1-2"]
    assert visible_parts(browser, "layer1.0.conv1") == []


@pytest.mark.parametrize(
    ("level", "key", "blocks", "layers", "rows"),
    [("stages", "1", 0, 0, 10), ("blocks", "2", 8, 0, 26), ("layers", "3", 8, 8, 26 + 16 * 9 + 4 * 3)],
)
def test_levels(open_page: OpenPage, level: str, key: str, blocks: int, layers: int, rows: int) -> None:
    browser = open_page()
    for change_level in (lambda: find(browser, f'[data-level="{level}"]').click(), lambda: press(browser, key)):
        browser.execute_script("setLevel('blocks')")
        change_level()
        convolutions = browser.find_elements("css selector", 'rect[data-path$=".conv1"]')
        assert len(visible_texts(browser, ".block > header b")) == blocks
        assert sum(convolution.is_displayed() for convolution in convolutions) == layers
        assert len(table_paths(browser)) == rows
        assert visible_texts(browser, '[data-level][aria-pressed="true"]') == [level]


def test_a_block_opens_in_drawing_and_table(open_page: OpenPage) -> None:
    browser = open_page()
    find(browser, '[data-toggle="layer2.0"]').click()
    assert visible_parts(browser, "layer2.0.downsample.0")
    assert "layer2.0.downsample.0" in table_paths(browser)
    assert "layer1.0.conv1" not in table_paths(browser)
    find(browser, '[data-toggle="layer2.0"]').click()
    assert visible_parts(browser, "layer2.0.downsample.0") == []


def test_folded_blocks_unfold(open_page: OpenPage) -> None:
    browser = open_page("resnet152")
    browser.find_elements("css selector", ".fold")[2].click()
    names = visible_texts(browser, '.stage[data-path="layer3"] .block > header b')
    assert names == [f"layer3.{number}" for number in range(36)]
    find(browser, '[data-toggle="layer3.17"]').click()
    assert visible_parts(browser, "layer3.17.conv2")
    assert visible_parts(browser, "layer3.16.conv2") == []


# -- zoom --------------------------------------------------------------------------------------------------------------


def stage_width(browser: Any) -> float:
    """Return the width of the first stage on the screen."""
    width: float = browser.execute_script("return document.querySelector('.frame').getBoundingClientRect().width")
    return width


def test_zoom(open_page: OpenPage) -> None:
    browser = open_page()
    original = stage_width(browser)
    find(browser, "#larger").click()
    find(browser, "#larger").click()
    assert stage_width(browser) == pytest.approx(1.25 * original, rel=0.01)
    assert find(browser, "#zoom").text == "125 %"
    press(browser, "---")
    assert stage_width(browser) < original
    press(browser, "0")
    assert (stage_width(browser), find(browser, "#zoom").text) == (original, "100 %")
    event = "new WheelEvent('wheel', {deltaY: -1, ctrlKey: true, bubbles: true, cancelable: true})"
    browser.execute_script(f"document.querySelector('#drawing').dispatchEvent({event})")
    assert find(browser, "#zoom").text == "110 %"


# -- selecting ---------------------------------------------------------------------------------------------------------


def selection(browser: Any) -> dict[str, list[str]]:
    """Return what each pane shows as selected."""
    parts = browser.find_elements("css selector", "#drawing .chosen")
    rows = browser.find_elements("css selector", "tr.chosen")
    return {
        "drawing": sorted({part.get_attribute("data-path") for part in parts}),
        "table": [row.get_attribute("data-row") for row in rows],
        "details": visible_texts(browser, "#details h2"),
        "yaml": visible_texts(browser, '#files [aria-selected="true"], .line.chosen'),
    }


def test_a_part_selected_in_the_drawing_is_selected_in_every_pane(open_page: OpenPage) -> None:
    browser = open_page()
    press(browser, "3")
    visible_parts(browser, "layer2.0.conv2")[1].click()  # the label, which covers the box
    path = "layer2.0.conv2"
    at = next(part.span for part in load("resnet50").nodes() if part.path == path)
    line = f"{at.line}\n{at.source.line(at.line)}"  # type: ignore[union-attr]
    assert selection(browser) == {
        "drawing": [path],
        "table": [path],
        "details": [path],
        "yaml": ["blocks/bottleneck.yaml", line],
    }
    details = find(browser, "#details").text
    assert "conv: out: 128, kernel: 3, stride: 2, padding: 1" in details
    assert "128x56x56" in details
    assert "147,456 (0.6 %)" in details
    find(browser, "#files button").click()  # resnet50.yaml, which defines the stage
    (stage,) = visible_texts(browser, ".line.near")
    assert "layer2: {block: bottleneck, depth: 4, out: 512, width: 128}" in stage


def test_selecting_a_row_opens_its_stage_and_block(open_page: OpenPage) -> None:
    browser = open_page("resnet152")
    press(browser, "3")
    row = find(browser, 'tr[data-row="layer3.17.bn2"] td')
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", row)
    row.click()
    assert selection(browser)["drawing"] == ["layer3.1.bn2"]  # drawn once for all 35 blocks
    assert selection(browser)["details"] == ["layer3.17.bn2"]
    press(browser, "1")
    browser.execute_script("choose('layer3.20.conv1')")
    assert visible_parts(browser, "layer3.1.conv1")


def test_a_line_of_yaml_selects_its_parts(open_page: OpenPage) -> None:
    browser = open_page("seresnet50")
    find(browser, '.line[data-line="7"]').click()
    assert visible_texts(browser, "#details h2") == ["layer1"]
    assert selection(browser)["drawing"] == ["layer1"]
    find(browser, '.line[data-line="7"]').click()
    assert visible_texts(browser, "#details h2") == [
        "layer1.0"
    ]  # a line may define several parts: each click selects the next


def test_pointing_shows_shapes_and_costs(open_page: OpenPage) -> None:
    from selenium.webdriver import ActionChains

    browser = open_page()
    press(browser, "3")
    ActionChains(browser).move_to_element(visible_parts(browser, "layer1.0.conv3")[0]).perform()
    assert visible_texts(browser, "#tip") == [
        "layer1.0.conv3\nconv: 64x56x56 to 256x56x56\n16,384 parameters, 51,380,224 MACs"
    ]
    ActionChains(browser).move_to_element(find(browser, "h1")).perform()
    assert visible_texts(browser, "#tip") == []


# -- keyboard ----------------------------------------------------------------------------------------------------------


def test_the_drawing_works_by_keyboard(open_page: OpenPage) -> None:
    from selenium.webdriver import Keys

    browser = open_page()
    browser.execute_script("choose('layer1')")
    press(browser, Keys.ARROW_DOWN, at="#drawing")
    assert visible_texts(browser, "#details h2") == ["layer1.0"]
    press(browser, Keys.ENTER, Keys.ARROW_DOWN)
    assert visible_texts(browser, "#details h2") == ["layer1.0.conv1"]
    script = "return document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).dataset.path"
    assert browser.execute_script(script) == "layer1.0.conv1"
    press(browser, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert visible_texts(browser, "#details h2") == ["layer1.0"]
    assert visible_parts(browser, "layer1.0.conv1") == []
    press(browser, Keys.ARROW_DOWN, "u")
    blocks = visible_texts(browser, '.stage[data-path="layer1"] .block > header b')
    assert blocks == ["layer1.0", "layer1.1", "layer1.2"]
    press(browser, Keys.ESCAPE)
    assert visible_texts(browser, "#details h2") == ["resnet50"]


def test_the_table_works_by_keyboard(open_page: OpenPage) -> None:
    from selenium.webdriver import Keys

    browser = open_page()
    press(browser, *[Keys.ARROW_DOWN] * 4, Keys.ARROW_LEFT, at="tbody tr")
    assert visible_texts(browser, "#details h2") == ["layer1"]
    assert "layer1.0" not in table_paths(browser)
    press(browser, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert visible_texts(browser, "#details h2") == ["layer1.0"]


# -- the table ---------------------------------------------------------------------------------------------------------


def test_a_column_heading_sorts(open_page: OpenPage) -> None:
    browser = open_page()
    head = find(browser, 'th[data-key="parameters"] button')
    head.click()
    assert table_paths(browser)[:3] == ["layer4.0.conv2", "layer4.1.conv2", "layer4.2.conv2"]
    assert find(browser, 'th[data-key="parameters"]').get_attribute("aria-sort") == "descending"
    assert len(table_paths(browser)) == len(list(load("resnet50").leaves()))
    head.click()
    assert "relu" in table_paths(browser)[0]
    head.click()
    assert table_paths(browser)[0] == "conv1"
    assert find(browser, 'th[data-key="parameters"]').get_attribute("aria-sort") is None


# -- search ------------------------------------------------------------------------------------------------------------


def test_search(open_page: OpenPage) -> None:
    from selenium.webdriver import Keys

    browser = open_page()
    press(browser, "3", "/", "layer2 downsample")
    assert find(browser, "#found").text == "3"
    assert table_paths(browser) == ["layer2.0.downsample", "layer2.0.downsample.0", "layer2.0.downsample.1"]
    matches = browser.find_elements("css selector", "#drawing .match")
    assert {part.get_attribute("data-path") for part in matches} == {"layer2.0.downsample.0", "layer2.0.downsample.1"}
    press(browser, Keys.ENTER, Keys.ENTER)
    assert visible_texts(browser, "#details h2") == ["layer2.0.downsample.0"]
    press(browser, Keys.ESCAPE)
    assert len(table_paths(browser)) > 100
    assert browser.find_elements("css selector", "#drawing .match") == []


# -- screens and themes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet152", "resnext50_32x4d", "seresnet50"])
@pytest.mark.parametrize("size", [WIDE, (1024, 700), NARROW])
@pytest.mark.share(5)
def test_a_page_fits_the_width_of_the_screen(open_page: OpenPage, name: str, size: tuple[int, int]) -> None:
    browser = open_page(name, size)
    press(browser, "3")
    page_width, screen_width = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert page_width <= screen_width
    for pane in ("#drawing", "#details", "#table", "#text"):
        assert find(browser, pane).is_displayed()
    if size == NARROW:
        tops = [find(browser, pane).rect["y"] for pane in ("#drawing", "#details", "#table-pane", "#source")]
        assert tops == sorted(tops)


def test_light_and_dark(open_page: OpenPage) -> None:
    page_colour = "return getComputedStyle(document.body).backgroundColor"
    conv_colour = "return getComputedStyle(document.querySelector('rect.rs-conv')).fill"
    browser = open_page(dark=True)
    dark = [browser.execute_script(script) for script in (page_colour, conv_colour)]
    press(browser, "t")
    light = [browser.execute_script(script) for script in (page_colour, conv_colour)]
    assert dark == ["rgb(16, 21, 28)", "rgb(32, 57, 92)"]
    assert light == ["rgb(255, 255, 255)", "rgb(219, 232, 251)"]
    find(browser, "#theme").click()
    assert browser.execute_script(page_colour) == dark[0]


# -- security ----------------------------------------------------------------------------------------------------------


def test_a_spec_can_not_run_scripts(browser: Any, tmp_path: Path) -> None:
    evil = "</script><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
    spec = tmp_path / "evil.yaml"
    name = evil.replace("'", "''")
    layers = "{conv1: {op: conv, out: 4, kernel: 3}}"
    spec.write_text(f"# {evil}\nname: '{name}'\ninput: [3, 8, 8]\nstem: {layers}\n")
    done = run_cli("show", spec, "--html", tmp_path / "evil.html")
    assert (done.returncode, done.stderr) == (0, "")
    browser.get(f"file://{tmp_path / 'evil.html'}")
    assert find(browser, "h1").text == evil
    assert find(browser, ".line code").text == f"# {evil}"
    # The content security policy must stop the script even where the text is inserted as HTML.
    script = "const div = document.createElement('div'); div.innerHTML = arguments[0]; document.body.append(div)"
    browser.execute_script(script, evil)
    time.sleep(0.2)
    assert browser.title == evil
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))
