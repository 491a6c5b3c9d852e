"""Write timm's GhostNets and RepGhostNets that are another one scaled: all of its channels times a factor.

The network that is scaled is written by hand, and its name ends in _100. A scaled one extends it.

    python specs/generate/ghost.py            writes the specs
    python specs/generate/ghost.py --check    names those that differ from what it would write, and exits with 1
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from writing import main

WIDTH = 120

Rows = list[list[tuple[int, int, bool]]]
"""For each stage and block: the channels inside, those that leave it, and whether it has squeeze-and-excitation."""

GHOSTNET: Rows = [
    [(16, 16, False)],
    [(48, 24, False)],
    [(72, 24, False)],
    [(72, 40, True)],
    [(120, 40, True)],
    [(240, 80, False)],
    [(200, 80, False), (184, 80, False), (184, 80, False), (480, 112, True), (672, 112, True)],
    [(672, 160, True)],
    [(960, 160, False), (960, 160, True), (960, 160, False), (960, 160, True)],
]
REPGHOSTNET: Rows = [
    [(8, 16, False)],
    [(24, 24, False)],
    [(36, 24, False)],
    [(36, 40, True)],
    [(60, 40, True)],
    [(120, 80, False)],
    [(100, 80, False), (120, 80, False), (120, 80, False), (240, 112, True), (336, 112, True)],
    [(336, 160, True)],
    [(480, 160, False), (480, 160, True), (480, 160, False), (480, 160, True)],
]
REDUCTIONS = {1, 3, 5, 7}
"""The stages that halve the map."""


@dataclass(frozen=True)
class Family:
    """Networks that differ in their widths.

    Attributes:
        title: What the comments of their specs call them.
        paper: The paper and timm's file.
        last: The channels of the last convolution, times those inside the last block.
        halves: Whether a Ghost module makes one half of its channels from the other.
        attended_from: The first stage with GhostNetV2's attention.
    """

    title: str
    paper: str
    rows: Rows
    factors: tuple[float, ...]
    last: int = 1
    halves: bool = True
    attended_from: int = 9


FAMILIES = {
    "ghostnet": Family("GhostNet", "Han et al. 2019; timm ghostnet.py", GHOSTNET, (0.5, 1.3)),
    "ghostnetv2": Family("GhostNetV2", "Tang et al. 2022; timm ghostnet.py", GHOSTNET, (1.3, 1.6), attended_from=2),
    "ghostnetv3": Family("GhostNetV3", "Liu et al. 2024; timm ghostnet.py", GHOSTNET, (0.5, 1.3, 1.6), attended_from=2),
    "repghostnet": Family(
        "RepGhostNet",
        "Chen et al. 2022; timm repghost.py",
        REPGHOSTNET,
        (0.5, 0.58, 0.8, 1.11, 1.3, 1.5, 2.0),
        last=2,
        halves=False,
    ),
}


def divisible(channels: float) -> int:
    """Return the nearest multiple of 4, or the next one if that is less than nine tenths of the channels."""
    near = max(4, int(channels + 2) // 4 * 4)
    return near + 4 if near < 0.9 * channels else near


def each(values: list[int]) -> str:
    """Return one value if all are the same, otherwise a list with one for each block."""
    return str(values[0]) if len({*values}) == 1 else f"[{', '.join(map(str, values))}]"


def arguments(family: Family, index: int, factor: float) -> dict[str, str]:
    """Return the arguments of a stage that depend on the factor."""
    widths, outs = ([divisible(row[axis] * factor) for row in family.rows[index]] for axis in (0, 1))
    gates = [(row[2], divisible(width / 4)) for row, width in zip(family.rows[index], widths, strict=True)]
    found = {"out": each(outs)}
    if family.halves:
        found["half"] = each([out // 2 for out in outs])
    if not family.halves or index in REDUCTIONS or index >= family.attended_from:
        found["width"] = each(widths)
    if family.halves:
        found["half_width"] = each([width // 2 for width in widths])
    if len(gates) > 1:
        layers = (f"{{block: se, reduced: {reduced}}}" if has_gate else "none" for has_gate, reduced in gates)
        found["attention"] = f"[{', '.join(layers)}]"
    elif gates[0][0]:
        found["attention"] = f"{{reduced: {gates[0][1]}}}"
    return found


def stage(family: Family, index: int, factor: float) -> list[str]:
    """Return the lines of a stage: one if it fits, otherwise one for each argument."""
    before = arguments(family, index, 1)
    found = [f"{name}: {value}" for name, value in arguments(family, index, factor).items() if value != before[name]]
    line = f"  blocks.{index}: {{{', '.join(found)}}}"
    if len(line) <= WIDTH:
        return [line] if found else []
    return [f"  blocks.{index}:", *(f"    {argument}" for argument in found)]


def text(name: str, family: Family, root: str, factor: float) -> str:
    """Return the spec of a network."""
    last = divisible(family.rows[-1][-1][0] * factor * family.last)
    lines = [
        f"# {family.title}, {factor:g} times as wide ({family.paper}).",
        "# yaml-language-server: $schema=../schema.json",
        f"name: {name}",
        f"extends: timm/{root}",
    ]
    if divisible(16 * factor) != 16:
        lines += ["stem:", f"  conv_stem: {{out: {divisible(16 * factor)}}}"]
    lines += ["stages:"]
    for index in range(len(family.rows)):
        lines += stage(family, index, factor)
    lines += ["head:", f"  blocks.9.0: {{conv: {{out: {last}}}}}"]
    return "\n".join(lines) + "\n"


def files() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each spec."""
    for prefix, family in FAMILIES.items():
        for factor in family.factors:
            name = f"{prefix}_{round(100 * factor):03}"
            yield f"timm/{name}.yaml", text(name, family, f"{prefix}_100", factor)


if __name__ == "__main__":
    main(dict(files()))
