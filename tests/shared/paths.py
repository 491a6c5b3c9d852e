"""Paths of folders in the checkout."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The root of the checkout."""
DATA = ROOT / "tests" / "data"
"""Recordings of other libraries, and specs that tests read."""
PROBLEMS = ROOT / "tests" / "problems"
"""Wrong specs, and the error message of each."""
EXAMPLES = ROOT / "examples"
"""The documentation's example programs."""
THIRD_PARTY = ROOT / "tests" / "backends" / "third_party"
"""A package with a backend, like those that others can publish."""
SHARED = Path(os.environ.get("RESNET_SPEC_SHARED") or ROOT.parent / "shared")
"""Files that are too many or too large for the checkout; tests that read them are skipped without them."""
