"""Write the specs of keras.applications' EfficientNets that scale EfficientNet-B0 and EfficientNetV2-B0.

A file says what differs from the network that it extends. EfficientNetB0.yaml and EfficientNetV2B0.yaml are written by
hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from writing import main

WIDTH = 120
HALF = "mean: [0.501961, 0.501961, 0.501961], std: [0.501961, 0.501961, 0.501961]"  # 128 / 255

B = """
    separable  1  32  16  1  3  1
    inverted   2  16  24  6  3  2
    inverted   2  24  40  6  5  2
    inverted   3  40  80  6  3  2
    inverted   3  80 112  6  5  1
    inverted   4 112 192  6  5  2
    inverted   1 192 320  6  3  1
"""
V2_B = """
    single     1  32  16  1  3  1
    fused      2  16  32  4  3  2
    fused      2  32  48  4  3  2
    inverted   3  48  96  4  3  2
    inverted   5  96 112  6  3  1
    inverted   8 112 192  6  3  2
"""
V2_S = """
    single     2  24  24  1  3  1
    fused      4  24  48  4  3  2
    fused      4  48  64  4  3  2
    inverted   6  64 128  4  3  2
    inverted   9 128 160  6  3  1
    inverted  15 160 256  6  3  2
"""
V2_M = """
    single     3  24  24  1  3  1
    fused      5  24  48  4  3  2
    fused      5  48  80  4  3  2
    inverted   7  80 160  4  3  2
    inverted  14 160 176  6  3  1
    inverted  18 176 304  6  3  2
    inverted   5 304 512  6  3  1
"""
V2_L = """
    single     4  32  32  1  3  1
    fused      7  32  64  4  3  2
    fused      7  64  96  4  3  2
    inverted  10  96 192  4  3  2
    inverted  19 192 224  6  3  1
    inverted  25 224 384  6  3  2
    inverted   7 384 640  6  3  1
"""
"""A line for each stage: block, depth, channels before and behind it, factor of the inner channels, kernel, stride."""


@dataclass(frozen=True)
class Model:
    """A network: what it extends, its stages, factors of channels and depth, size of the image, and dropout."""

    base: str
    table: str
    width: float
    depth: float
    size: int
    dropout: float = 0.2

    @property
    def is_v2(self) -> bool:
        return self.table is not B

    def channels(self, number: int) -> int:
        """Return a number of channels, scaled and rounded to a multiple of 8."""
        scaled = number * self.width
        rounded = max(8, int(scaled + 4) // 8 * 8)
        # only the first version does not round down by more than a tenth
        return rounded + 8 if not self.is_v2 and rounded < 0.9 * scaled else rounded

    def stages(self) -> dict[str, dict[str, Any]]:
        """Return the arguments of each stage."""
        rows = [line.split() for line in self.table.split("\n") if line]
        return {
            f"block{number}": self.stage(block, *map(int, numbers))
            for number, (block, *numbers) in enumerate(rows, start=1)
        }

    def stage(
        self, block: str, depth: int, before: int, out: int, factor: int, kernel: int, stride: int
    ) -> dict[str, Any]:
        """Return the arguments of a stage. Its first block reads ``before`` channels, and the others ``out``."""
        before, out, depth = self.channels(before), self.channels(out), math.ceil(depth * self.depth)

        def inner(channels: int) -> dict[str, Any]:
            wide = {} if factor == 1 else {"wide": channels * factor}
            return wide | ({} if block in ("single", "fused") else {"reduced": channels // 4})

        first, others = inner(before), inner(out if depth > 1 else before)
        arguments = {"block": block, "depth": depth, "out": out, **others}
        arguments |= {"kernel": kernel} if kernel != 3 else {}
        arguments |= {"stride": stride} if stride != 1 else {}
        changed = {name: value for name, value in first.items() if others[name] != value}
        return arguments | ({"first": changed} if changed else {})

    def stem_and_top(self) -> tuple[int, int]:
        """Return the channels of the stem and of the last convolution."""
        return self.channels(int(self.table.split()[2])), self.channels(1280)

    def drop_path(self) -> str:
        """Return the rate of the last block, which is 0.2 times its index over the number of blocks.

        The second version counts the blocks before they are scaled.
        """
        blocks = sum(stage["depth"] for stage in self.stages().values())
        unscaled = sum(int(line.split()[1]) for line in self.table.split("\n") if line)
        return f"{0.2 * (blocks - 1) / (unscaled if self.is_v2 else blocks):.6g}"


ROOTS = {"EfficientNetB0": Model("", B, 1.0, 1.0, 224), "EfficientNetV2B0": Model("", V2_B, 1.0, 1.0, 224)}
MODELS = {
    "EfficientNetB1": Model("EfficientNetB0", B, 1.0, 1.1, 240),
    "EfficientNetB2": Model("EfficientNetB0", B, 1.1, 1.2, 260, 0.3),
    "EfficientNetB3": Model("EfficientNetB0", B, 1.2, 1.4, 300, 0.3),
    "EfficientNetB4": Model("EfficientNetB0", B, 1.4, 1.8, 380, 0.4),
    "EfficientNetB5": Model("EfficientNetB0", B, 1.6, 2.2, 456, 0.4),
    "EfficientNetB6": Model("EfficientNetB0", B, 1.8, 2.6, 528, 0.5),
    "EfficientNetB7": Model("EfficientNetB0", B, 2.0, 3.1, 600, 0.5),
    "EfficientNetV2B1": Model("EfficientNetV2B0", V2_B, 1.0, 1.1, 240),
    "EfficientNetV2B2": Model("EfficientNetV2B0", V2_B, 1.1, 1.2, 260),
    "EfficientNetV2B3": Model("EfficientNetV2B0", V2_B, 1.2, 1.4, 300),
    "EfficientNetV2S": Model("EfficientNetV2B0", V2_S, 1.0, 1.0, 384),
    "EfficientNetV2M": Model("EfficientNetV2S", V2_M, 1.0, 1.0, 480),
    "EfficientNetV2L": Model("EfficientNetV2M", V2_L, 1.0, 1.0, 480),
}


def changes(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return what to write for a mapping that extends another, to make it a new one."""
    result: dict[str, Any] = {}
    for name in [*new, *(name for name in old if name not in new)]:
        value = new.get(name, "null")
        if isinstance(value, dict) and isinstance(old.get(name), dict):
            value = changes(old[name], value)
        if value != old.get(name) and value != {}:
            result[name] = value
    return result


def flow(mapping: dict[str, Any]) -> str:
    items = (f"{name}: {flow(value) if isinstance(value, dict) else value}" for name, value in mapping.items())
    return "{" + ", ".join(items) + "}"


def stage_line(name: str, arguments: dict[str, Any]) -> str:
    """Return a line for a stage, or two if it does not fit one."""
    line = f"  {name}: {flow(arguments)}"
    if len(line) <= WIDTH:
        return line
    first, rest = arguments["first"], {key: value for key, value in arguments.items() if key != "first"}
    return f"  {name}: {flow(rest)[:-1]},\n{' ' * (len(name) + 5)}first: {flow(first)}}}"


def text(name: str, model: Model) -> str:
    base = {**ROOTS, **MODELS}[model.base]
    family, letter = ("EfficientNetV2", 14) if model.is_v2 else ("EfficientNet", 12)
    lines = [
        f"# {family}-{name[letter:]} (Tan and Le {2021 if model.is_v2 else 2019}), as in keras.applications.",
        "# yaml-language-server: $schema=../schema.json",
        f"name: {name}",
        f"extends: keras/{model.base}",
        f"input: [3, {model.size}, {model.size}]",
    ]
    resize = "" if model.size == base.size else f"resize: {model.size}"
    statistics = HALF if name == "EfficientNetV2S" else ""
    if resize or statistics:
        lines.append(f"preprocess: {{{', '.join(filter(None, [resize, statistics]))}}}")
    lines.append(f"options: {{drop_path: {model.drop_path()}}}")
    (stem, top), (base_stem, base_top) = model.stem_and_top(), base.stem_and_top()
    if stem != base_stem:
        lines += ["stem:", f"  stem_conv: {{out: {stem}}}"]
    different = changes(base.stages(), model.stages())
    lines += ["stages:", *(stage_line(stage, arguments) for stage, arguments in different.items())]
    head = [f"  top_conv: {{out: {top}}}"] if top != base_top else []
    head += [f"  top_dropout: {{rate: {model.dropout}}}"] if model.dropout != base.dropout else []
    return "\n".join([*lines, *(["head:", *head] if head else []), ""])


if __name__ == "__main__":
    main({f"keras/{name}.yaml": text(name, model) for name, model in MODELS.items()})
