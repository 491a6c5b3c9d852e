"""A backend that another distribution registers is found and used with no change here."""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from resnet_spec import build, dump, run
from resnet_spec.backend import backends

PACKAGE = Path(__file__).parent / "third_party"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package as an installer would lay it out: its module, and its metadata beside it."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ((group, points),) = project["entry-points"].items()
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    shutil.copy(PACKAGE / "resnet_spec_shouting.py", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "resnet_spec_shouting", raising=False)


@pytest.mark.usefixtures("installed")
def test_it_is_listed() -> None:
    assert "shouting" in backends()


@pytest.mark.usefixtures("installed")
def test_it_is_used() -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 40, 40))
    theirs = build("resnet18", backend="shouting", classes=3)
    ours = build("resnet18", backend="numpy", classes=3)
    assert np.array_equal(run(theirs, x), -run(ours, x))
    assert list(dump(theirs)) == list(dump(ours))
