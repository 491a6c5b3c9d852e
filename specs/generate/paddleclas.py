"""Write the networks of PaddleClas that are another one scaled: its channels times one factor, its depth times another.

The network that is scaled is a spec written by hand; a scaled one extends it, and says what differs.

    python specs/generate/paddleclas.py            writes the specs
    python specs/generate/paddleclas.py --check    names those that differ from what it would write, and exits with 1
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml
from writing import SPECS, main

Spec = dict[str, Any]

WIDTH = 120

SHARES = {"out": 1, "wide": 1, "half": 2, "half_width": 2, "width": 1, "reduced": 4}
"""The arguments that are channels, each with the part of the channels that it is: a half, or a quarter."""


def cut(channels: float) -> int:
    return int(channels)


def divisible(divisor: int) -> Callable[[float], int]:
    """Return what rounds to the nearest multiple, or to the next one if that is less than nine tenths."""

    def rounded(channels: float) -> int:
        near = max(divisor, int(channels + divisor / 2) // divisor * divisor)
        return near + divisor if near < 0.9 * channels else near

    return rounded


MULTIPLES_OF_8 = divisible(8)


@dataclass(frozen=True)
class Family:
    """Networks that one is scaled to.

    Attributes:
        name: The name of each, with ``*`` for the factor.
        base: The network that is scaled.
        title: What the comments of the scaled ones call it.
        paper: The paper and the file of PaddleClas.
        factors: As the names say them.
        rounded: How scaled channels become an integer.
        fixed: Layers whose channels are not scaled.
        larger: Layers whose channels are scaled if they grow.
    """

    name: str
    base: str
    title: str
    paper: str
    factors: str
    rounded: Callable[[float], int] = MULTIPLES_OF_8
    fixed: tuple[str, ...] = ()
    larger: tuple[str, ...] = ()


FAMILIES = [
    Family(
        "MobileNetV1_x*",
        "MobileNetV1",
        "MobileNetV1",
        "Howard et al. 2017; PaddleClas mobilenet_v1.py",
        "0_25 0_5 0_75",
        rounded=cut,
    ),
    Family(
        "MobileNetV2_x*",
        "MobileNetV2",
        "MobileNetV2",
        "Sandler et al. 2018; PaddleClas mobilenet_v2.py",
        "0_25 0_5 0_75 1_5 2_0",
        rounded=cut,
        larger=("conv9",),
    ),
    *(
        Family(
            f"MobileNetV3_{size}_x*",
            f"MobileNetV3_{size}_x1_0",
            f"MobileNetV3-{size.title()}",
            "Howard et al. 2019; PaddleClas mobilenet_v3.py",
            "0_35 0_5 0_75 1_25",
            fixed=("last_conv",),
        )
        for size in ("large", "small")
    ),
    Family(
        "PPLCNet_x*",
        "PPLCNet_x1_0",
        "PP-LCNet",
        "Cui et al. 2021; PaddleClas pp_lcnet.py",
        "0_25 0_35 0_5 0_75 1_5 2_0 2_5",
        fixed=("last_conv",),
    ),
    Family(
        "GhostNet_x*",
        "GhostNet_x1_0",
        "GhostNet",
        "Han et al. 2019; PaddleClas ghostnet.py",
        "0_5 1_3",
        rounded=divisible(4),
        fixed=("fc_0",),
    ),
]


@cache
def read(name: str) -> Spec:
    """Return a spec of PaddleClas with all that it extends."""
    spec = yaml.safe_load((SPECS / "paddleclas" / f"{name}.yaml").read_text(encoding="utf-8"))
    return merged(read(spec.pop("extends").removeprefix("paddleclas/")), spec) if "extends" in spec else spec


def merged(base: Spec, changes: Spec) -> Spec:
    """Return a spec with the changes of one that extends it."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            del result[key]
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def changes(family: Family, spec: Spec, factor: float) -> Spec:
    """Return what changes in a part of a spec if it is scaled."""
    found: Spec = {}
    for key, value in spec.items():
        if key in family.fixed or (key in family.larger and factor < 1):
            continue
        if isinstance(value, dict):
            after: Any = changes(family, value, factor)
        elif key in SHARES:
            after = scaled(family, value, factor, SHARES[key])
        else:
            continue
        if after and after != value:
            found[key] = after
    return found


def scaled(family: Family, value: Any, factor: float, share: int) -> Any:
    """Return scaled channels; a list has those of each block."""
    if isinstance(value, list):
        return [scaled(family, item, factor, share) for item in value]
    return family.rounded(value * share * factor) // share if isinstance(value, int) else value


def flow(value: Any) -> str:
    """Return a value as YAML in a line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list) else str(value)


def lines(spec: Spec, depth: int = 0) -> Iterator[str]:
    """Yield the lines of a mapping: one for each value that fits in a line, below the keys of a spec."""
    for key, value in spec.items():
        line = f"{'  ' * depth}{key}: {flow(value)}"
        if isinstance(value, dict) and (key in ("layers", "stem", "stages", "head") or len(line) > WIDTH):
            yield f"{'  ' * depth}{key}:"
            yield from lines(value, depth + 1)
        else:
            yield line


EFFICIENTNETS = """
EfficientNetB1  1.0   1.1    240  0.2
EfficientNetB2  1.1   1.2    260  0.3
EfficientNetB3  1.2   1.4    300  0.3
EfficientNetB4  1.4   1.8    380  0.4
EfficientNetB5  1.6   2.2    456  0.4
EfficientNetB6  1.8   2.6    528  0.5
EfficientNetB7  2.0   3.1    600  0.5
TinyNet_A       1.0   1.2    192  0.2
TinyNet_B       0.75  1.1    188  0.2
TinyNet_C       0.54  0.85   184  0.2
TinyNet_D       0.54  0.695  152  0.2
TinyNet_E       0.51  0.6    106  0.2
"""
"""For each network: the factors of EfficientNet-B0's channels and blocks, the side of its image, and the dropout."""

SOURCES = {
    "EfficientNet": "Tan and Le 2019; PaddleClas efficientnet.py",
    "TinyNet": "Han et al. 2020; PaddleClas tinynet.py",
}


def efficientnet(name: str, width: float, depth: float, size: int, dropout: float) -> tuple[str, str]:
    """Return the path and the text of an EfficientNet's spec; a TinyNet keeps the ends and pads all sides alike."""
    is_tiny = name.startswith("TinyNet")
    rounded = divisible(8)
    stem, last = (32, 1280) if is_tiny else (rounded(32 * width), rounded(1280 * width))
    arriving, blocks, rows = stem, 0, []
    for stage in read("EfficientNetB0")["stages"]["_ef._blocks"]:
        count, out = math.ceil(stage["depth"] * depth), rounded(stage["out"] * width)
        reads = {"reduced": arriving // 4} | ({"wide": 6 * arriving} if stage["block"] == "inverted" else {})
        later = {"reduced": out // 4} | ({"wide": 6 * out} if stage["block"] == "inverted" else {})
        row = {"block": stage["block"], "depth": count, "out": out, **(later if count > 1 else reads)}
        row |= {key: stage[key] for key in ("kernel", "stride") if key in stage}
        rows.append(row | ({"first": reads} if count > 1 and reads != later else {}))
        arriving, blocks = out, blocks + count
    head = {"_drop": {"rate": dropout}} if dropout != 0.2 else {}
    if last != 1280:
        head = {"_conv": {"out": last}, **head}
    spec = {
        "name": name,
        "extends": "paddleclas/EfficientNetB0",
        "input": [3, size, size],
        "preprocess": {"resize": size + 32},
        "options": {"drop_path": round(0.2 * (blocks - 1) / blocks, 6)},
        **({"defaults": {"conv": {"padding": "half"}}} if is_tiny else {}),
        **({"stem": {"_ef._conv_stem._conv": {"out": stem}}} if stem != 32 else {}),
    }
    factors = f"{width:g} times as wide and {depth:g} times as deep" if width != 1 else f"{depth:g} times as deep"
    title = name.replace("tB", "t-B").replace("_", "-")
    comment = f"# {title} ({SOURCES[name.rstrip('_ABCDE1234567')]}): {'EfficientNet-' * is_tiny}B0, {factors}."
    written = [comment, "# yaml-language-server: $schema=../schema.json", *lines(spec), "stages:", "  _ef._blocks:"]
    for row in rows:
        first, *others = (f"{key}: {flow(value)}" for key, value in row.items())
        line = f"    - {flow(row)}"
        written += [line] if len(line) <= WIDTH else [f"    - {first}", *(f"      {other}" for other in others)]
    return f"paddleclas/{name}.yaml", "\n".join([*written, *lines({"head": head} if head else {})]) + "\n"


def files() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each spec."""
    for family in FAMILIES:
        base = read(family.base)
        parts: Spec = {key: base[key] for key in ("layers", "stem", "stages", "head") if key in base}
        for factor in family.factors.split():
            name, number = family.name.replace("*", factor), float(factor.replace("_", "."))
            spec = {"name": name, "extends": f"paddleclas/{family.base}", **changes(family, parts, number)}
            comment = f"# {family.title}, {number:g} times as wide ({family.paper})."
            header = [comment, "# yaml-language-server: $schema=../schema.json"]
            yield f"paddleclas/{name}.yaml", "\n".join([*header, *lines(spec)]) + "\n"
    for row in EFFICIENTNETS.split("\n")[1:-1]:
        name, width, depth, size, dropout = row.split()
        yield efficientnet(name, float(width), float(depth), int(size), float(dropout))


if __name__ == "__main__":
    main(dict(files()))
