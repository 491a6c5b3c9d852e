"""The index of a folder of test vectors: which arrays it holds, what they are of, and how far others may be off."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from resnet_spec.ops import Shape

FILE = "index.json"
"""The name of the index in its folder."""

VERSION = 1
"""The version of the index's form."""

Kind: TypeAlias = Literal["node", "gradient", "statistic", "weight"]


class VectorsError(ValueError):
    """A folder that does not hold test vectors, or arrays that cannot be compared with them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An array of a folder of test vectors.

    Attributes:
        name: Its name, under which another runtime's dump is found: a node's is that of its value in ``model.onnx``.
        kind: What it is: the output of a node in evaluation, a gradient of the loss, or a running statistic or a weight
            after one training step.
        operation: The operation of a node, or "".
        input_shapes: The shapes that a node reads.
        shape: Its own shape.
        files: The file by dtype.
        tolerance: The largest relative error that passes, by dtype; None if rounding explains any.
        scale: The magnitude that an error is relative to.
    """

    name: str
    kind: Kind
    operation: str
    input_shapes: tuple[Shape, ...]
    shape: Shape
    files: Mapping[Any, str]
    tolerance: Mapping[Any, float | None]
    scale: float


@dataclass(frozen=True, slots=True)
class Index:
    """What a folder of test vectors holds.

    Attributes:
        made_by: What made it: the command, the network, the seed, and the versions of packages.
        entries: The arrays: nodes in the order in which they run, then what belongs to training.
    """

    made_by: Mapping[str, Any]
    entries: tuple[Entry, ...]

    def to_json(self) -> str:
        """Return the index as JSON text, with a line for each array."""
        head = json.dumps({"version": VERSION, "made_by": self.made_by}, indent=1).removesuffix("\n}")
        rows = ",\n".join(json.dumps(asdict(entry), separators=(",", ":")) for entry in self.entries)
        return f'{head},\n "arrays": [\n{rows}\n]}}\n'


def read_index(folder: Path) -> Index:
    """Read the index of a folder. Raises VectorsError if it holds no test vectors, or an index that is damaged."""
    try:
        data = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VectorsError(
            f"no test vectors in {str(folder)!r}, which has no {FILE}; resnet-spec vectors writes some"
        ) from None
    except ValueError as error:
        raise VectorsError(f"{folder / FILE} is damaged: {error}") from None
    try:
        if data["version"] != VERSION:
            raise VectorsError(f"{folder / FILE} has version {data['version']}; this program reads {VERSION}")
        return Index(data["made_by"], tuple(map(_read_entry, data["arrays"])))
    except (TypeError, KeyError, AttributeError) as error:
        raise VectorsError(f"{folder / FILE} is damaged: it lacks {error}") from None


def _read_entry(data: dict[str, Any]) -> Entry:
    values = {item.name: data[item.name] for item in fields(Entry)}
    values["input_shapes"] = tuple(map(tuple, values["input_shapes"]))
    if values["kind"] not in get_args(Kind):
        raise KeyError("kind")
    if not all(_is_inside(file) for file in values["files"].values()):
        raise KeyError("files inside the folder")
    return Entry(**{**values, "shape": tuple(values["shape"])})


def _is_inside(file: str) -> bool:
    return not Path(file).is_absolute() and ".." not in Path(file).parts
