"""Paths of folders in the checkout."""

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
