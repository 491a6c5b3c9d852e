"""Write generated specs, or check that they are what would be written."""

from __future__ import annotations

import sys
from pathlib import Path

SPECS = Path(__file__).resolve().parent.parent


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def main(files: dict[str, str]) -> None:
    """Write the files, whose paths start from the folder of the specs; with ``--check``, name those that differ."""
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(f"usage: python {sys.argv[0]} [--check]")
    if not sys.argv[1:]:
        for name, text in files.items():
            write(SPECS / name, text)
        return
    differing = [
        name
        for name, text in files.items()
        if not (SPECS / name).is_file() or (SPECS / name).read_bytes() != text.encode()
    ]
    if differing:
        sys.exit("\n".join(["these files differ from what is generated:", *differing]))
