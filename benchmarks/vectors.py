"""Print the size of test vectors and the time to write them, for each family: ``python benchmarks/vectors.py``.

A family is a row of bundled networks whose names differ in their numbers, and its smallest network stands for it.
``python benchmarks/vectors.py timm/densenet121 resnet50`` measures these networks instead.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from resnet_spec.library import bundled
from resnet_spec.transforms.width_reduction import reduce_width
from resnet_spec.vectors.write import Request, load_small, write_vectors

NARROW = 8
"""The channels of the widest operation."""

MAX_BYTES, MAX_SECONDS = 2**20, 10.0
"""The largest folder, and the longest time of the processor."""

LARGER = (
    "cifar/bearpaw/resnet164",
    "keras/InceptionResNetV2",
    "keras/InceptionV3",
    "paddleclas/ESNet_x0_25",
    "paddleclas/GhostNet_x0_5",
    "timm/ghostnetv3_050",
    "timm/mixnet_s",
    "timm/vgg11",
)
"""Networks whose folders are larger, as docs/how-to/make-test-vectors.md explains."""

PREFIXES = ("tf", "legacy", "test", "nf", "eca", "se", "dm", "cs3", "SE")
"""Words before the name of a family."""


class Measurement(NamedTuple):
    """What the vectors of a network take."""

    arrays: int
    bytes: int
    seconds: float

    @property
    def passes(self) -> bool:
        """Whether they are small and quick enough."""
        return self.bytes <= MAX_BYTES and self.seconds <= MAX_SECONDS


def main() -> None:
    """Print a table with a row for each network. The exit status is 1 if one is too large or too slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=[*smallest_networks().values()])
    parser.add_argument("--every", type=int, default=1, help="Measure each Nth network only.")
    arguments = parser.parse_args()
    print("| network | arrays | kB | seconds |\n| --- | ---: | ---: | ---: |")
    failed = []
    for name in arguments.networks[:: arguments.every]:
        measured = measure(name)
        print(f"| {name} | {measured.arrays} | {measured.bytes / 1e3:.0f} | {measured.seconds:.1f} |", flush=True)
        failed += [] if measured.passes or name in LARGER else [name]
    if failed:
        sys.exit(f"too large or too slow: {', '.join(failed)}")


def smallest_networks() -> dict[str, str]:
    """Return the network with the fewest operations of arithmetic of each family, by the family's name."""
    rows = json.loads((bundled.directory() / "index.json").read_text(encoding="utf-8"))
    smallest: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: (row["macs"], row["name"])):
        smallest.setdefault(family_of(row["name"]), row["name"])
    return dict(sorted(smallest.items()))


def family_of(name: str) -> str:
    """Return the family of a bundled network.

    >>> family_of("timm/tf_efficientnet_b0"), family_of("resnet50"), family_of("timm/res2net50_26w_4s")
    ('timm/efficientnet', 'resnet', 'timm/res2net')
    """
    folder, slash, last = name.rpartition("/")
    words = last.split("_")
    while len(words) > 1 and words[0] in PREFIXES:
        words = words[1:]
    return folder + slash + (re.sub(r"\d+\w*$", "", words[0]) or words[0])


def measure(name: str) -> Measurement:
    """Write the vectors of a network, and return what they take."""
    started = time.process_time()
    network = reduce_width(load_small(name), NARROW)
    with TemporaryDirectory() as folder:
        index = write_vectors(Request(network), Path(folder) / "v")
        seconds = time.process_time() - started
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return Measurement(len(index.entries), size, seconds)


if __name__ == "__main__":
    main()
