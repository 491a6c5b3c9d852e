"""Write the specs of timm's networks without norms that differ from others of their kind in depth.

The input of a block is multiplied by beta, one over its expected standard deviation: the variance is 1 behind a
projection, and each block adds 0.04 to it.
"""

from __future__ import annotations

import textwrap
from itertools import pairwise

from writing import main

WIDTH = 120

DEPTHS = """
    nf_resnet50      NF-ResNet-50       nf_resnet26     256  272  3  4  6  3
    nf_resnet101     NF-ResNet-101      nf_resnet26     224  248  3  4 23  3
    nf_seresnet50    NF-SE-ResNet-50    nf_seresnet26   224  248  3  4  6  3
    nf_seresnet101   NF-SE-ResNet-101   nf_seresnet26   224  248  3  4 23  3
    nf_ecaresnet50   NF-ECA-ResNet-50   nf_ecaresnet26  224  248  3  4  6  3
    nf_ecaresnet101  NF-ECA-ResNet-101  nf_ecaresnet26  224  248  3  4 23  3
    nf_regnet_b1     NF-RegNet-B1       nf_regnet_b0    256  284  2  4  7  7
    nf_regnet_b2     NF-RegNet-B2       nf_regnet_b0    240  266  2  4  8  8
    nf_regnet_b3     NF-RegNet-B3       nf_regnet_b0    288  320  2  5  9  9
    nf_regnet_b4     NF-RegNet-B4       nf_regnet_b0    320  355  2  6 11 11
    nf_regnet_b5     NF-RegNet-B5       nf_regnet_b0    384  426  3  7 14 14
    nfnet_f1         NFNet-F1           nfnet_f0        224  248  2  4 12  6
    nfnet_f2         NFNet-F2           nfnet_f0        256  284  3  6 18  9
    nfnet_f3         NFNet-F3           nfnet_f0        320  355  4  8 24 12
    nfnet_f4         NFNet-F4           nfnet_f0        384  426  5 10 30 15
    nfnet_f5         NFNet-F5           nfnet_f0        416  462  6 12 36 18
    nfnet_f6         NFNet-F6           nfnet_f0        448  497  7 14 42 21
    nfnet_f7         NFNet-F7           nfnet_f0        480  533  8 16 48 24
    dm_nfnet_f1      DeepMind's_NFNet-F1  dm_nfnet_f0   224  246  2  4 12  6
    dm_nfnet_f2      DeepMind's_NFNet-F2  dm_nfnet_f0   256  278  3  6 18  9
    dm_nfnet_f3      DeepMind's_NFNet-F3  dm_nfnet_f0   320  340  4  8 24 12
    dm_nfnet_f4      DeepMind's_NFNet-F4  dm_nfnet_f0   384  403  5 10 30 15
    dm_nfnet_f5      DeepMind's_NFNet-F5  dm_nfnet_f0   416  436  6 12 36 18
    dm_nfnet_f6      DeepMind's_NFNet-F6  dm_nfnet_f0   448  468  7 14 42 21
    eca_nfnet_l1     ECA-NFNet-L1       eca_nfnet_l0    256  284  2  4 12  6
    eca_nfnet_l2     ECA-NFNet-L2       eca_nfnet_l0    320  355  3  6 18  9
    eca_nfnet_l3     ECA-NFNet-L3       eca_nfnet_l0    352  391  4  8 24 12
"""
"""The name of a network, what its comment calls it, what it extends, size, resize, and the depth of each stage."""

CHANNELS = {
    "nf_regnet_b1": (48, 104, 208, 440),
    "nf_regnet_b2": (56, 112, 232, 488),
    "nf_regnet_b3": (56, 128, 248, 528),
    "nf_regnet_b4": (64, 144, 288, 616),
    "nf_regnet_b5": (80, 168, 336, 704),
}
"""The channels of each stage in the paper, of which timm takes three quarters."""


def betas(depths: list[int]) -> list[list[float]]:
    """Return beta for each block of each stage."""
    variance, rows = 1.0, []
    for depth in depths:
        row = []
        for index in range(depth):
            row.append(1 / variance**0.5)
            variance = (variance if index else 1.0) + 0.2**2
        rows.append(row)
    return rows


def divisible(channels: float, round_limit: float = 0.9) -> int:
    """Return the nearest multiple of 8, or the next one if that is less than a share of the channels."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < round_limit * channels else rounded


def regnet_arguments(channels: tuple[int, ...]) -> list[list[str]]:
    """Return the arguments of each stage of a RegNet, whose blocks widen by what they read."""
    outs = [divisible(0.75 * width) for width in channels]
    rows: list[list[str]] = []
    for before, out in pairwise([outs[0], *outs]):
        factor = 2.25 if rows else 1
        inner, first = (
            f"width: {width}, groups: {width // 8}, reduced: {divisible(0.5 * width, 0)}"
            for width in (divisible(2.25 * out), divisible(factor * before))
        )
        rows.append([f"out: {out}", *inner.split(", "), f"first: {{{first}}}"])
    return rows


def stage(index: int, arguments: list[str], beta: list[float]) -> list[str]:
    """Return the lines of a stage: one if it fits, otherwise one for each argument."""
    numbers = f"[{', '.join('1' if value == 1 else repr(value) for value in beta)}]"
    line = f"  stages.{index}: {{{', '.join([*arguments, f'beta: {numbers}'])}}}"
    if len(line) <= WIDTH:
        return [line]
    lines = [f"  stages.{index}:", *(f"    {argument}" for argument in arguments)]
    if len(numbers) + 10 <= WIDTH:
        return [*lines, f"    beta: {numbers}"]
    rows = textwrap.wrap(numbers, WIDTH - 7)
    return [*lines, "    beta:", f"      {rows[0]}", *(f"       {row}" for row in rows[1:])]


def text(name: str, title: str, extends: str, size: str, resize: str, *depths: str) -> str:
    """Return the spec of a network."""
    channels = CHANNELS.get(name)
    arguments = regnet_arguments(channels) if channels else [[]] * len(depths)
    lines = [f"# {title.replace('_', ' ')} (Brock et al. 2021; timm nfnet.py)."]
    lines += ["# yaml-language-server: $schema=../schema.json", f"name: {name}", f"extends: timm/{extends}"]
    if (size, resize) != ("224", "248"):  # the networks that have these extend one that has them too
        lines += [f"input: [3, {size}, {size}]", f"preprocess: {{resize: {resize}}}"]
    stem = divisible(0.75 * channels[0]) if channels else 0
    if stem not in (0, 40):
        lines += [f"stem: {{stem.conv: {{out: {stem}}}}}"]
    lines += ["stages:"]
    for index, (depth, others, beta) in enumerate(zip(depths, arguments, betas([*map(int, depths)]), strict=True)):
        lines += stage(index, [f"depth: {depth}", *others], beta)
    features = divisible(0.75 * (1280 * channels[-1] // 440)) if channels else 0
    if features not in (0, 960):
        lines += [f"head: {{final_conv: {{out: {features}}}}}"]
    if extends == "eca_nfnet_l0":
        lines += ["head: {final_conv: {out: 3072}}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    rows = [line.split() for line in DEPTHS.split("\n") if line.strip()]
    main({f"timm/{row[0]}.yaml": text(*row) for row in rows})
