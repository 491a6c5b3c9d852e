"""What tests of pages share: finding elements, pressing keys, waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

WIDE, NARROW = (1400, 900), (390, 844)


def shape(browser: Any, size: tuple[int, int], dark: bool) -> None:
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == NARROW}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def one(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


SHOWN = "[...document.querySelectorAll(arguments[0])].filter((one) => one.getClientRects().length)"


def texts(browser: Any, selector: str) -> list[str]:
    """What stands in the elements that can be seen, all at one moment: a page may redraw itself at the next."""
    found: list[str] = browser.execute_script(f"return {SHOWN}.map((one) => one.innerText.trim())", selector)
    return found


def paths(browser: Any) -> list[str]:
    """The rows of the table, as they stand."""
    found: list[str] = browser.execute_script(
        "return [...document.querySelectorAll('tbody tr')].map((row) => row.dataset.row)"
    )
    return found


def press(browser: Any, *keys: str, at: str = "") -> None:
    from selenium.webdriver import ActionChains

    if at:
        browser.execute_script("document.querySelector(arguments[0]).focus()", at)
    ActionChains(browser).send_keys(*keys).perform()


def until(holds: Callable[[], object]) -> None:
    """Wait for what the page will show soon."""
    ends = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.05)


def drawn(browser: Any, path: str) -> list[Any]:
    found = browser.find_elements("css selector", f'#drawing [data-path="{path}"]')
    return [part for part in found if part.is_displayed()]
