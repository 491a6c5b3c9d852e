"""The index of the bundled networks with their costs, ``specs/index.json``, which saves expanding hundreds of specs.

``python -m resnet_spec.library.index`` rewrites it. A test checks that it is current.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from resnet_spec.library import bundled

FILE_NAME = "index.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """A bundled network: its full name, and its costs for one image of its default input size.

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
        """Return the folder that contains the network; "" if there is none."""
        return self.name.rpartition("/")[0]


def read_index() -> tuple[Entry, ...]:
    """Return the entries of the index, sorted by name."""
    rows = json.loads((bundled.directory() / FILE_NAME).read_text(encoding="utf-8"))
    return tuple(Entry(**{**row, "input": tuple(row["input"])}) for row in rows)


def build_index() -> tuple[Entry, ...]:
    """Return the entries of a current index, by expanding every bundled network."""
    from resnet_spec.library.load import load  # reading the index does not need it

    networks = ((name, load(name)) for name in bundled.names())
    return tuple(
        Entry(name, network.parameters, network.macs, network.input, network.source) for name, network in networks
    )


def render_index(entries: Iterable[Entry]) -> str:
    """Return the text of the index, with one network per line, so that diffs are readable."""
    return "[\n" + ",\n".join(json.dumps(asdict(entry)) for entry in entries) + "\n]\n"


if __name__ == "__main__":
    Path(str(bundled.directory() / FILE_NAME)).write_text(render_index(build_index()), encoding="utf-8")
