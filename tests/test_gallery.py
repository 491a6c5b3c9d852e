"""The gallery: one page with every bundled network, which works without a server."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from resnet_spec.library.bundled import network_files
from resnet_spec.library.index import read_index
from resnet_spec.library.published import read_published
from shared.browser import NARROW, WIDE, set_screen
from shared.paths import ROOT

sys.path.append(str(ROOT / "docs"))

from gallery_page import draw_picture, render_page

SIZE_LIMIT = 2**20
"""Bytes that the page may have, without its pictures."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    (folder / "index.html").write_text(render_page(), encoding="utf-8")
    picture = folder / "pictures" / "timm" / "resnet50d.svg"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(draw_picture("timm/resnet50d"))
    return folder


@pytest.fixture
def page(browser: Any, folder: Path) -> Any:
    set_screen(browser, WIDE, dark=False)
    browser.get("about:blank")  # a link to a part of the page that is open would not load it
    browser.get(f"{(folder / 'index.html').as_uri()}#timm/resnet50d")
    return browser


def shown(page: Any) -> list[str]:
    """Return the names in the rows that are shown, in their order."""
    script = "return [...document.querySelectorAll('#rows tr:not([hidden])')].map((row) => row.cells[0].textContent)"
    return list(page.execute_script(script))


def fill(page: Any, name: str, value: str) -> None:
    script = "const [id, value] = arguments, at = document.getElementById(id); at.value = value;"
    page.execute_script(f"{script} at.dispatchEvent(new Event('input'))", name, value)


def text_of(page: Any, selector: str) -> str:
    return str(page.execute_script("return document.querySelector(arguments[0]).innerText", selector))


def test_the_page_is_small_and_loads_nothing_from_elsewhere(folder: Path) -> None:
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert len(text.encode()) < SIZE_LIMIT
    addresses = set(re.findall(r"""(?:src|href)=["']([^"'$]*)""", text))
    assert not [address for address in addresses if re.match(r"(https?:)?//", address)]


def test_every_network_is_shown_and_sorted(page: Any) -> None:
    assert sorted(shown(page)) == sorted(network_files())
    page.execute_script("document.querySelector('th button[data-key=parameters]').click()")
    parameters = {entry.name: entry.parameters for entry in read_index()}
    in_order = [parameters[name] for name in shown(page)]
    assert in_order == sorted(in_order)
    page.execute_script("document.querySelector('th button[data-key=accuracy]').click()")
    imagenet = [record for record in read_published() if record.labels == "imagenet-1k"]
    assert shown(page)[0] == max(imagenet, key=lambda record: record.acc1 or 0).spec


def test_filters_combine(page: Any) -> None:
    fill(page, "name", "res 50d")
    fill(page, "registry", "timm")
    fill(page, "limit", "26")
    expected = {
        entry.name
        for entry in read_index()
        if entry.registry == "timm" and "res" in entry.name and "50d" in entry.name and entry.parameters <= 26e6
    }
    assert set(shown(page)) == expected != set()
    fill(page, "weights", "open")
    free = {record.spec for record in read_published() if not record.is_restricted}
    assert set(shown(page)) == expected & free
    assert text_of(page, "#count").startswith(f"{len(expected & free)} of {len(network_files())} networks")
    fill(page, "name", "no such network")
    assert not shown(page)
    page.execute_script("document.getElementById('clear').click()")
    assert len(shown(page)) == len(network_files())


def test_a_point_of_the_plot_can_be_chosen(page: Any) -> None:
    fill(page, "name", "timm/resnet18d")
    assert page.execute_script("return document.querySelectorAll('#chart circle').length") == 1
    page.execute_script("document.querySelector('#chart circle').dispatchEvent(new MouseEvent('click'))")
    assert text_of(page, "#details h2") == "timm/resnet18d"
    assert page.execute_script("return location.hash") == "#timm/resnet18d"
    fill(page, "name", "bearpaw")
    assert "has published weights" in text_of(page, "#hint")


def test_a_network_is_described_with_its_spec_and_picture(page: Any) -> None:
    script = """
        const done = arguments[arguments.length - 1];
        const texts = () => [...document.querySelectorAll('#details pre')].map((at) => at.textContent);
        specs.then(() => setTimeout(() => done(texts())));
    """
    *commands, spec = page.execute_async_script(script)
    assert spec == network_files()["timm/resnet50d"].read_text(encoding="utf-8")
    tags = [record.tag for record in read_published() if record.spec == "timm/resnet50d" and record.default]
    assert f'build("timm/resnet50d", backend="torch", weights="{tags[0]}")' in commands[0]
    assert page.execute_script("return document.querySelector('#details img').naturalWidth") > 100


def test_it_fits_a_narrow_screen(page: Any) -> None:
    set_screen(page, NARROW, dark=True)
    assert page.execute_script("return document.documentElement.scrollWidth") <= NARROW[0]


def test_no_message_is_left_in_the_console(page: Any) -> None:
    assert not [entry for entry in page.get_log("browser") if entry["source"] == "javascript"]
