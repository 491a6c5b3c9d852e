"""The indexes of the bundled networks, by costs and by shapes of weights, which save expanding hundreds of specs.

``python -m resnet_spec.library.index`` rewrites ``specs/index.json`` and ``specs/shapes.json``; with ``--check`` it
names the networks whose entries are not current, and exits with status 1 if there are any. Tests check a share of them.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from resnet_spec.library import bundled
from resnet_spec.network.network import Network
from resnet_spec.ops import Shape

FILE_NAME = "index.json"
SHAPES_FILE_NAME = "shapes.json"


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


@dataclass(frozen=True, slots=True)
class ShapeGroup:
    """The bundled networks whose weights have the same shapes, in any order, with how many have each shape."""

    shapes: Counter[Shape]
    names: tuple[str, ...]


def count_shapes(shapes: Iterable[Shape]) -> Counter[Shape]:
    """Count shapes, ignoring the order of axes and axes of size 1, in which layouts and kinds of layers differ."""
    return Counter(tuple(sorted(size for size in shape if size != 1)) for shape in shapes)


def read_shapes() -> tuple[ShapeGroup, ...]:
    """Return the groups of networks with the same shapes."""
    table = json.loads((bundled.directory() / SHAPES_FILE_NAME).read_text(encoding="utf-8"))
    shapes = [tuple(shape) for shape in table["shapes"]]
    return tuple(
        ShapeGroup(
            Counter({shapes[index]: count for index, count in zip(row[::2], row[1::2], strict=True)}), tuple(names)
        )
        for row, *names in table["networks"]
    )


def load_networks() -> dict[str, Network]:
    """Return every bundled network by name, expanded, which takes a while."""
    from resnet_spec.library.load import load  # reading the index does not need it

    return {name: load(name) for name in bundled.names()}


def build_index(networks: Mapping[str, Network]) -> tuple[Entry, ...]:
    """Return the entries of a current index."""
    return tuple(
        Entry(name, network.parameters, network.macs, network.input, network.source)
        for name, network in networks.items()
    )


def render_index(entries: Iterable[Entry]) -> str:
    """Return the text of the index, with one network per line, so that diffs are readable."""
    return "[\n" + ",\n".join(json.dumps(asdict(entry)) for entry in entries) + "\n]\n"


def render_shapes(networks: Mapping[str, Network]) -> str:
    """Return the text of a current index by shapes, with one group of networks per line.

    A group is a list of numbers, each of a shape and how many weights have it, and the names of the networks.
    """
    groups: dict[frozenset[tuple[Shape, int]], list[str]] = {}
    for name, network in networks.items():
        groups.setdefault(frozenset(count_shapes(network.weights().values()).items()), []).append(name)
    shapes = sorted({shape for group in groups for shape, _ in group})
    numbers = {shape: number for number, shape in enumerate(shapes)}
    rows = [
        [[number for pair in sorted((numbers[shape], count) for shape, count in group) for number in pair], *names]
        for group, names in groups.items()
    ]
    text = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    return f'{{"shapes":{json.dumps(shapes, separators=(",", ":"))},\n"networks":[\n{text}\n]}}\n'


def find_stale(networks: Mapping[str, Network]) -> list[str]:
    """Return the names of networks that an index lacks, or whose entry in it is not current."""
    entries = {entry.name: entry for entry in read_index()}
    shapes = {name: group.shapes for group in read_shapes() for name in group.names}
    return [
        name
        for name, network in networks.items()
        if entries.get(name) not in build_index({name: network})
        or shapes.get(name) != count_shapes(network.weights().values())
    ]


def main(arguments: list[str]) -> int:
    """Write both indexes, or with ``--check`` compare them, and return the exit status."""
    networks, folder = load_networks(), Path(str(bundled.directory()))
    texts = {FILE_NAME: render_index(build_index(networks)), SHAPES_FILE_NAME: render_shapes(networks)}
    if arguments == ["--check"]:
        stale = [name for name, text in texts.items() if (folder / name).read_text(encoding="utf-8") != text]
        if stale:
            names = ", ".join(find_stale(networks)) or "their order or grouping"
            print(f"not current: {' and '.join(stale)} ({names}); run: python -m resnet_spec.library.index")
        return int(bool(stale))
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
