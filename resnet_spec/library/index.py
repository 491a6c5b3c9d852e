"""What the bundled networks cost, kept in ``specs/index.json``: a list of hundreds is not to expand them all.

``python -m resnet_spec.library.index`` writes it anew; a test says when that is due.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from resnet_spec.library import bundled

NAME = "index.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One bundled network, by its full name.

    >>> next(entry for entry in read_index() if entry.name == "timm/resnet50d").parameters
    25576264
    """

    name: str
    parameters: int
    macs: int
    input: tuple[int, int, int]
    source: str

    @property
    def registry(self) -> str:
        """The folder that it lies in; "" for those that lie in none."""
        return self.name.rpartition("/")[0]


def read_index() -> tuple[Entry, ...]:
    """Every bundled network, as the index has it, in the order of their names."""
    rows = json.loads((bundled.directory() / NAME).read_text(encoding="utf-8"))
    return tuple(Entry(**{**row, "input": tuple(row["input"])}) for row in rows)


def build_index() -> tuple[Entry, ...]:
    """Every bundled network, expanded to see."""
    from resnet_spec.library.load import load  # a list needs none of it

    networks = ((name, load(name)) for name in bundled.names())
    return tuple(
        Entry(name, network.parameters, network.macs, network.input, network.source) for name, network in networks
    )


def render_index(found: Iterable[Entry]) -> str:
    """The index as it is kept: a network a line, so that a change reads well."""
    return "[\n" + ",\n".join(json.dumps(asdict(entry)) for entry in found) + "\n]\n"


if __name__ == "__main__":
    Path(str(bundled.directory() / NAME)).write_text(render_index(build_index()), encoding="utf-8")
