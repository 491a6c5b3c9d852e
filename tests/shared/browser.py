"""Helpers for tests of pages in a browser: find elements, read their text, press keys, wait."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WIDE, NARROW = (1400, 900), (390, 844)
"""Sizes of screens in pixels; the narrow one is a phone."""

_VISIBLE = "[...document.querySelectorAll(arguments[0])].filter((element) => element.getClientRects().length)"


def open_browser(profile: Path) -> Any:
    """Return a headless Chromium that keeps its profile in a folder."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    # a container may run as root, which has no sandbox, and has little shared memory
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return Chrome(options, Service(str(shutil.which("chromedriver")), log_output=os.devnull))


def set_screen(browser: Any, size: tuple[int, int], dark: bool) -> None:
    """Set the size of the screen, and whether the system prefers a dark theme."""
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == NARROW}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def find(browser: Any, selector: str) -> Any:
    """Return the first element that matches a CSS selector."""
    return browser.find_element("css selector", selector)


def visible_texts(browser: Any, selector: str) -> list[str]:
    """Return the texts of all visible elements that match a CSS selector.

    One script reads them all, since a live page may redraw itself between two calls.
    """
    script = f"return {_VISIBLE}.map((element) => element.innerText.trim())"
    texts: list[str] = browser.execute_script(script, selector)
    return texts


def table_paths(browser: Any) -> list[str]:
    """Return the paths of the table's rows, from top to bottom."""
    script = "return [...document.querySelectorAll('tbody tr')].map((row) => row.dataset.row)"
    paths: list[str] = browser.execute_script(script)
    return paths


def press(browser: Any, *keys: str, at: str = "") -> None:
    """Press keys, after moving the focus to the element that ``at`` selects, if given."""
    from selenium.webdriver import ActionChains

    if at:
        browser.execute_script("document.querySelector(arguments[0]).focus()", at)
    ActionChains(browser).send_keys(*keys).perform()


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for a condition to hold, at most a number of seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def visible_parts(browser: Any, path: str) -> list[Any]:
    """Return the visible elements of the drawing that show a part of the network."""
    elements = browser.find_elements("css selector", f'#drawing [data-path="{path}"]')
    return [element for element in elements if element.is_displayed()]
