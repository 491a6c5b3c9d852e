"""Write the networks that are another one scaled: its channels times one factor, and its blocks times another.

EfficientNet, MobileNet, MnasNet and their kin come in sizes by such a rule (Tan and Le 2019). The network that is
scaled is a spec written by hand; a scaled one extends it, and says what differs.

    python specs/generate/scaled.py            writes the specs
    python specs/generate/scaled.py --check    names those that differ from what it would write, and exits with 1
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import yaml
from writing import SPECS, main

Spec = dict[str, Any]

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HALF = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])


# -- the rule -----------------------------------------------------------------------------------------------------


def rounded(channels: float, least_share: float = 0.9) -> int:
    """Return a multiple of 8 near a number of channels, and not less than a share of it."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < least_share * channels else near


@dataclass(frozen=True)
class Rule:
    """How a network is scaled.

    Attributes:
        least_share: The share of its channels that a layer keeps at least when they are rounded to a multiple of 8.
        depth: Rounds the number of a stage's blocks.
        scales_stem: Whether the stem's channels are scaled.
        scales_ends: Whether the first and the last stage get more blocks too.
        head: Returns the channels before the classifier, from those of the network that is scaled and the factor.
        gate: Returns the channels inside a gate, from its share of the block's input, that input, and the inner
            channels of the block.
    """

    least_share: float = 0.9
    depth: Callable[[float], int] = math.ceil
    scales_stem: bool = True
    scales_ends: bool = True
    head: Callable[[int, float], int] = lambda channels, _: channels
    gate: Callable[[Fraction, int, int], int] = lambda share, arriving, _: round(share * arriving)


def scaled_head(channels: int, factor: float) -> int:
    return rounded(channels * factor)


def not_less(channels: int, factor: float) -> int:
    return max(channels, rounded(channels * factor))


def quarter_of_inner(_: Fraction, __: int, wide: int) -> int:
    return rounded(wide / 4)


def scale(base: Spec, rule: Rule, width: float, depths: tuple[float, ...]) -> Spec:
    """Return a network scaled by a factor for its channels, and one for the blocks of each stage."""
    (stem,) = convolutions(base["stem"])
    before = after = stem["out"]  # the channels that arrive in a block: in the base, and in the scaled network
    if rule.scales_stem:
        after = rounded(before * width, rule.least_share)
    scaled = base | {"stem": with_out(base["stem"], after), "stages": {}}
    for index, ((name, row), depth) in enumerate(zip(base["stages"].items(), depths, strict=True)):
        is_end = index in (0, len(depths) - 1)
        blocks = list(blocks_of(row))
        count = max(1, rule.depth(len(blocks) * (depth if rule.scales_ends or not is_end else 1)))
        shares = []
        for block in blocks:
            shares.append({key: Fraction(block[key], before) for key in ("wide", "reduced") if key in block})
            before = block["out"]
        blocks, shares = ([*items, *[items[-1]] * (count - len(items))][:count] for items in (blocks, shares))
        for position, (block, share) in enumerate(zip(blocks, shares, strict=True)):
            channels = {"out": rounded(block["out"] * width, rule.least_share)}
            if "wide" in share:
                channels["wide"] = rounded(float(share["wide"] * after))
            if "reduced" in share:
                channels["reduced"] = rule.gate(share["reduced"], after, channels["wide"] if "wide" in share else after)
            blocks[position] = block | channels
            after = channels["out"]
        scaled["stages"][name] = row_of(blocks)
    for layer in convolutions(base["head"]):
        scaled["head"] = with_out(base["head"], rule.head(layer["out"], width))
    return scaled


def convolutions(layers: Any) -> Iterator[Spec]:
    """Yield the convolutions of a stem or a head."""
    if isinstance(layers, dict) and layers.get("op") == "conv":
        yield layers
    elif isinstance(layers, dict | list):
        for layer in layers.values() if isinstance(layers, dict) else layers:
            yield from convolutions(layer)


def with_out(layers: Any, out: int) -> Any:
    """Return a stem or a head whose convolution has another number of channels."""
    if isinstance(layers, dict) and layers.get("op") == "conv":
        return layers | {"out": out}
    if isinstance(layers, dict):
        return {name: with_out(layer, out) for name, layer in layers.items()}
    return [with_out(layer, out) for layer in layers] if isinstance(layers, list) else layers


# -- a stage as a row and as blocks -------------------------------------------------------------------------------


def blocks_of(row: Spec) -> Iterator[Spec]:
    """Yield the arguments of each block of a stage."""
    for index in range(row["depth"]):
        arguments = {key: value for key, value in row.items() if key not in ("depth", "first")}
        arguments = {key: value[index] if isinstance(value, list) else value for key, value in arguments.items()}
        yield arguments | (row.get("first", {}) if index == 0 else {})


def row_of(blocks: list[Spec]) -> Spec:
    """Return a stage of blocks that are alike from the second one on or, if they are not, with a list of values."""
    first, *others = blocks
    common = others[0] if others else first
    row = {"block": common["block"], "depth": len(blocks)} | common
    if any(other != common for other in others):
        return row | {
            key: [block[key] for block in blocks]
            for key in common
            if any(block[key] != common[key] for block in blocks)
        }
    changes = {key: value for key, value in first.items() if common.get(key) != value}
    return row | ({"first": changes} if changes else {})


# -- the difference from the network that is scaled, as YAML -----------------------------------------------------


def difference(base: Spec, spec: Spec) -> Spec:
    """Return what a spec that extends another has to say."""
    changes: Spec = {}
    for key, value in spec.items():
        before = base.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := difference(before, value):
                changes[key] = inner
        elif value != before:
            changes[key] = value
    return changes | {key: None for key in base if key not in spec}


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


@cache
def read(name: str) -> Spec:
    """Return a spec with all that it extends."""
    spec = yaml.safe_load((SPECS / f"{name}.yaml").read_text(encoding="utf-8"))
    return merged(read(spec.pop("extends")), spec) if "extends" in spec else spec


def flow(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(flow(inner) for inner in value) + "]"
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case _:
            return str(value)


def text(comment: str, spec: Spec) -> str:
    """Return a spec as YAML: a line for each key, and for each layer or stage."""
    lines = [f"# {comment}", "# yaml-language-server: $schema=../schema.json"]
    for key, value in spec.items():
        if key in ("stem", "stages", "head"):
            lines += [f"{key}:", *(f"  {name}: {flow(layer)}" for name, layer in value.items())]
        else:
            lines.append(f"{key}: {flow(value)}")
    assert max(map(len, lines)) <= 120, max(lines, key=len)
    return "\n".join(lines) + "\n"


# -- the networks -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """Networks that one is scaled to.

    Attributes:
        base: The spec of the network that is scaled.
        base_title: What comments call it.
        source: The paper and the peer's file, for comments.
        rows: A line for each network: its name, its title (with underscores for spaces) or ``-``, the factors of its
            channels and of its blocks (of all stages or, with commas, of each), the sides of its input and of the
            resized image, and ``half`` if its mean and std are.
    """

    base: str
    base_title: str
    source: str
    rule: Rule
    rows: str


FAMILIES = [
    Family(
        "timm/efficientnet_b0",
        "EfficientNet-B0",
        "Tan and Le 2019; timm efficientnet.py",
        Rule(head=scaled_head),
        """
        efficientnet_b1   EfficientNet-B1   1.0  1.1  240  266  half
        efficientnet_b2   EfficientNet-B2   1.1  1.2  256  292
        efficientnet_b3   EfficientNet-B3   1.2  1.4  288  329
        efficientnet_b4   EfficientNet-B4   1.4  1.8  320  365
        efficientnet_b5   EfficientNet-B5   1.6  2.2  448  448
        efficientnet_b6   EfficientNet-B6   1.8  2.6  528  560
        efficientnet_b7   EfficientNet-B7   2.0  3.1  600  632
        efficientnet_b8   EfficientNet-B8   2.2  3.6  672  704
        efficientnet_l2   EfficientNet-L2   4.3  5.3  800  832
        """,
    ),
    Family(
        "timm/efficientnet_lite0",
        "EfficientNet-Lite0",
        "Liu 2020; timm efficientnet.py",
        Rule(scales_stem=False, scales_ends=False),
        """
        efficientnet_lite1   EfficientNet-Lite1   1.0  1.1  240  272
        efficientnet_lite2   EfficientNet-Lite2   1.1  1.2  260  292
        efficientnet_lite3   EfficientNet-Lite3   1.2  1.4  300  331
        efficientnet_lite4   EfficientNet-Lite4   1.4  1.8  380  412
        """,
    ),
    Family(
        "timm/efficientnet_b0",
        "EfficientNet-B0",
        "Han et al. 2020; timm efficientnet.py",
        Rule(depth=round, scales_stem=False, head=not_less),
        """
        tinynet_a   TinyNet-A   1.0   1.2    192  219
        tinynet_b   TinyNet-B   0.75  1.1    188  214
        tinynet_c   TinyNet-C   0.54  0.85   184  210
        tinynet_d   TinyNet-D   0.54  0.695  152  173
        tinynet_e   TinyNet-E   0.51  0.6    106  121
        """,
    ),
    Family(
        "timm/tf_efficientnetv2_b0",
        "EfficientNetV2-B0",
        "Tan and Le 2021; timm efficientnet.py",
        Rule(least_share=0, head=lambda channels, factor: rounded(channels * factor, 0)),
        """
        tf_efficientnetv2_b1   EfficientNetV2-B1   1.0  1.1  192  217
        tf_efficientnetv2_b2   EfficientNetV2-B2   1.1  1.2  208  233
        tf_efficientnetv2_b3   EfficientNetV2-B3   1.2  1.4  240  266  half
        """,
    ),
    Family(
        "timm/efficientnetv2_s",
        "EfficientNetV2-S",
        "timm efficientnet.py",
        Rule(head=scaled_head),
        """
        efficientnetv2_rw_t   EfficientNetV2-T   0.8  0.9  224  224
        """,
    ),
    Family(
        "timm/efficientnetv2_rw_s",
        "efficientnetv2_rw_s",
        "timm efficientnet.py",
        Rule(head=scaled_head),
        """
        efficientnetv2_rw_m   An_EfficientNetV2-M   1.2  1.2,1.2,1.2,1.2,1.6,1.6  320  320
        """,
    ),
    Family(
        "timm/mnasnet_100",
        "MnasNet-B1",
        "Tan et al. 2018; timm efficientnet.py",
        Rule(),
        """
        mnasnet_050   -   0.5   1.0  224  256
        mnasnet_075   -  0.75  1.0  224  256
        mnasnet_140   -   1.4   1.0  224  256
        """,
    ),
    Family(
        "timm/semnasnet_100",
        "MnasNet-A1",
        "Tan et al. 2018; timm efficientnet.py",
        Rule(),
        """
        semnasnet_050   -   0.5   1.0  224  256
        semnasnet_075   -  0.75  1.0  224  256
        semnasnet_140   -   1.4   1.0  224  256
        """,
    ),
    Family(
        "timm/mobilenetv1_100",
        "MobileNetV1",
        "Howard et al. 2017; timm efficientnet.py",
        Rule(),
        """
        mobilenetv1_125   -   1.25  1.0  224  248  half
        """,
    ),
    Family(
        "timm/mobilenetv2_100",
        "MobileNetV2",
        "Sandler et al. 2018; timm efficientnet.py",
        Rule(head=not_less),
        """
        mobilenetv2_035   -   0.35  1.0  224  256
        mobilenetv2_050   -    0.5   1.0  224  256
        mobilenetv2_075   -   0.75  1.0  224  256
        mobilenetv2_140   -    1.4   1.0  224  256
        """,
    ),
    Family(
        "timm/mobilenetv2_100",
        "MobileNetV2",
        "Sandler et al. 2018; timm efficientnet.py",
        Rule(scales_stem=False, scales_ends=False),
        """
        mobilenetv2_110d   -   1.1  1.2  224  256
        mobilenetv2_120d   -   1.2  1.4  224  256
        """,
    ),
    Family(
        "timm/mobilenetv3_large_100",
        "MobileNetV3-Large",
        "Howard et al. 2019; timm mobilenetv3.py",
        Rule(gate=quarter_of_inner),
        """
        mobilenetv3_large_075   -   0.75  1.0  224  256
        """,
    ),
    Family(
        "timm/mobilenetv3_small_100",
        "MobileNetV3-Small",
        "Howard et al. 2019; timm mobilenetv3.py",
        Rule(gate=quarter_of_inner),
        """
        mobilenetv3_small_075   -   0.75  1.0  224  256
        """,
    ),
    Family(
        "timm/mobilenetv3_small_100",
        "MobileNetV3-Small",
        "Howard et al. 2019; timm mobilenetv3.py",
        Rule(scales_stem=False, gate=quarter_of_inner),
        """
        mobilenetv3_small_050   -   0.5  1.0  224  256
        """,
    ),
    Family(
        "timm/lcnet_100",
        "LCNet",
        "Cui et al. 2021; timm mobilenetv3.py",
        Rule(),
        """
        lcnet_035   -  0.35  1.0  224  256
        lcnet_050   -   0.5   1.0  224  256
        lcnet_075   -  0.75  1.0  224  256
        lcnet_150   -   1.5   1.0  224  256
        """,
    ),
    Family(
        "torchvision/efficientnet_b0",
        "B0",
        "Tan and Le 2019; torchvision efficientnet.py",
        Rule(head=scaled_head),
        """
        efficientnet_b1   EfficientNet-B1   1.0  1.1  240  256
        efficientnet_b2   EfficientNet-B2   1.1  1.2  288  288
        efficientnet_b3   EfficientNet-B3   1.2  1.4  300  320
        efficientnet_b4   EfficientNet-B4   1.4  1.8  380  384
        efficientnet_b5   EfficientNet-B5   1.6  2.2  456  456
        efficientnet_b6   EfficientNet-B6   1.8  2.6  528  528
        efficientnet_b7   EfficientNet-B7   2.0  3.1  600  600
        """,
    ),
]


def description(family: Family, title: str, width: float, depth: str) -> str:
    """Return a spec's comment: what the network is called, where it comes from, and how it is scaled."""
    factors = [
        *([f"{width:g} times as wide"] if width != 1 else []),
        *([f"{float(depth):g} times as deep"] if "," not in depth and float(depth) != 1 else []),
        *(["deeper"] if "," in depth else []),
    ]
    scaled = f"{family.base_title}, {' and '.join(factors)}"
    return f"{scaled} ({family.source})." if title == "-" else f"{title} ({family.source}): {scaled}."


def spec_of(family: Family, row: str) -> tuple[str, str]:
    """Return the path and the text of the spec that a row describes."""
    name, title, width, depth, size, resize, *half = row.split()
    base = read(family.base)
    depths = tuple(map(float, depth.split(",")))
    depths *= len(base["stages"]) // len(depths)
    scaled = scale(base, family.rule, float(width), depths)
    mean, std = HALF if half else IMAGENET
    scaled |= {"input": [3, int(size), int(size)], "preprocess": {"resize": int(resize), "mean": mean, "std": std}}
    path = f"{family.base.partition('/')[0]}/{name}"
    if path in CHANGES:
        scaled |= CHANGES[path](scaled)
    changes = difference(base, scaled | {"name": name})
    spec = {"name": changes.pop("name"), "extends": family.base} | changes
    return f"{path}.yaml", text(description(family, title.replace("_", " "), float(width), depth), spec)


def like_torchvision(rate: float, **norm: Any) -> Callable[[Spec], Spec]:
    """Return what torchvision's EfficientNets change beside the scale, given their dropout."""

    def change(spec: Spec) -> Spec:
        dropout, linear = spec["head"]["classifier"]
        count = sum(row["depth"] for row in spec["stages"].values())
        layers = {"norm": {"op": "batch_norm"} | norm} | spec["layers"]
        return {
            "options": {"drop_path": round(0.2 * (count - 1) / count, 7)},
            "layers": layers if norm else spec["layers"],
            "head": spec["head"] | {"classifier": [dropout | {"rate": rate}, linear]},
        }

    return change


CHANGES = {
    "torchvision/efficientnet_b1": like_torchvision(0.2),
    "torchvision/efficientnet_b2": like_torchvision(0.3),
    "torchvision/efficientnet_b3": like_torchvision(0.3),
    "torchvision/efficientnet_b4": like_torchvision(0.4),
    "torchvision/efficientnet_b5": like_torchvision(0.4, epsilon=0.001, decay=0.99),
    "torchvision/efficientnet_b6": like_torchvision(0.5, epsilon=0.001, decay=0.99),
    "torchvision/efficientnet_b7": like_torchvision(0.5, epsilon=0.001, decay=0.99),
}


if __name__ == "__main__":
    main(dict(spec_of(family, row) for family in FAMILIES for row in family.rows.split("\n") if row.strip()))
