"""Open and drive the playground. ``PYTHONPATH=tests python -m shared.playground`` prints how long it takes to draw.

The times are those of a first visit, of edits to networks of several sizes, and the memory after each.
"""

from __future__ import annotations

import base64
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from shared.browser import WIDE, open_browser, set_screen, wait_until
from shared.paths import ROOT

sys.path.append(str(ROOT / "docs"))

from playground_page import write_playground

NETWORKS = ("resnet18", "resnet50", "timm/efficientnet_b0", "timm/resnet152d")
EDITS = 20
"""How many edits of each network are timed."""


class _Handler(SimpleHTTPRequestHandler):
    """Serves the files of a folder to pages and workers that may ask nothing of any other server."""

    def end_headers(self) -> None:
        policy = "default-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' data:"
        self.send_header("Content-Security-Policy", policy)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port of this machine, and yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def link_to(text: str) -> str:
    """Return the fragment of a link that holds a spec."""
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(text.encode()) + packer.flush()
    return f"#yaml={base64.urlsafe_b64encode(packed).decode().rstrip('=')}"


def state(browser: Any) -> dict[str, str]:
    """Return what the page noted at its last drawing: edits, memory, milliseconds, and whether the spec is wrong."""
    return dict(browser.execute_script("return {...document.body.dataset}"))


def open_playground(browser: Any, address: str) -> dict[str, str]:
    """Open the page anew, wait for its first drawing, and return its state."""
    browser.get("about:blank")
    browser.get(address)
    wait_until(lambda: "edits" in state(browser), seconds=60)
    return state(browser)


def text_of(browser: Any) -> str:
    """Return the spec in the editor, which must be short: long ones are not on the page as a whole."""
    script = "return [...document.querySelectorAll('.cm-line')].map((line) => line.textContent).join('\\n')"
    return str(browser.execute_script(script))


def edit(browser: Any, *texts: str) -> list[dict[str, str]]:
    """Replace the spec by each text in turn, and return the state after each drawing, with the seconds it took."""
    script = """
        const [fragments, done] = arguments, states = [];
        const next = () => {
            if (states.length === fragments.length) return done(states);
            const before = document.body.dataset.edits, started = performance.now();
            location.hash = fragments[states.length];
            const look = () => {
                if (document.body.dataset.edits === before) return setTimeout(look, 2);
                states.push({ ...document.body.dataset, seconds: (performance.now() - started) / 1000 });
                next();
            };
            look();
        };
        next();
    """
    browser.set_script_timeout(120)
    return list(browser.execute_async_script(script, [link_to(text) for text in texts]))


def main() -> None:
    """Print the times of a first drawing and of edits."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "site"
        write_playground(folder)
        browser = open_browser(Path(made) / "profile")
        set_screen(browser, WIDE, dark=False)
        with serve_folder(folder) as address:
            for visit in ("first visit", "second visit"):
                started = time.monotonic()
                open_playground(browser, f"{address}/index.html")
                print(f"{visit}: {time.monotonic() - started:.1f} s to the first drawing")
            for name in NETWORKS:
                noted = edit(browser, *(f"name: edit_{each}\nextends: {name}\n" for each in range(EDITS)))
                times = sorted(float(each["seconds"]) for each in noted)
                memory = int(noted[-1]["memory"]) / 2**20
                median = f"an edit is drawn in {times[EDITS // 2]:.2f} s, at most {times[-1]:.2f} s"
                print(f"{name}: {median}, in {memory:.0f} MiB")
        browser.quit()


if __name__ == "__main__":
    main()
