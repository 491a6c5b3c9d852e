"""Where the checkout's files lie."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""
DATA = ROOT / "tests" / "data"
"""Recordings from other libraries, and specs that tests read."""
PROBLEMS = ROOT / "tests" / "problems"
"""Wrong specs, each with the text that it gives."""
EXAMPLES = ROOT / "examples"
"""The documentation's example programs."""
THIRD_PARTY = ROOT / "tests" / "backends" / "third_party"
"""A package with a backend of its own, as another distribution would ship it."""
