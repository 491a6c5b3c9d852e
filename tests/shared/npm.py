"""Skip tests that need npm's packages where they are not installed, or fail if RESNET_SPEC_REQUIRE names npm."""

from __future__ import annotations

import pytest

from shared.frameworks import REQUIRED
from shared.paths import ROOT

PLAYGROUND = ROOT / "docs" / "playground"
MISSING = "this needs packages of npm, which are not installed: run npm ci --prefix docs/playground"


def require_packages() -> None:
    """Skip or fail the test without the packages in ``docs/playground/package.json``."""
    if not (PLAYGROUND / "node_modules" / "pyodide").is_dir():
        if "npm" in REQUIRED:
            pytest.fail(MISSING)
        pytest.skip(MISSING)
