"""A backend of another distribution, laid out in a folder as an installer would."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

from shared.paths import THIRD_PARTY as PACKAGE


def install(folder: Path) -> None:
    """Put the package of ``tests/third_party`` and its metadata into a folder."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ((group, points),) = project["entry-points"].items()
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    shutil.copy(PACKAGE / "resnet_spec_shouting.py", folder)
