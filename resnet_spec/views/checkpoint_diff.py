"""How a checkpoint differs from a network: by names and shapes, aligned with the network's own, and what that is by stage."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from itertools import groupby

from resnet_spec.network.network import Network
from resnet_spec.network.structure import group_stages
from resnet_spec.ops import Shape
from resnet_spec.views.network_diff import Change, StageDiff, merge_repeats
from resnet_spec.views.table import format_shape

ELSEWHERE = "elsewhere"
"""Where a checkpoint's arrays are whose names belong to no part of the network."""
_COUNTER = "num_batches_tracked"  # torch's own, which no network here has
_STATISTICS = ("running_mean", "running_var")


def diff_weights(network: Network, held: Mapping[str, Shape]) -> list[Change]:
    """What differs from a network's weights to the arrays of a checkpoint; those of other names and the same shapes are renamed.

    >>> from resnet_spec import load
    >>> network = load("resnet18")
    >>> held = {name.replace("fc.", "head."): shape for name, shape in network.weights().items()}
    >>> [(change.kind, change.before, change.after) for change in diff_weights(network, held)]
    [('renamed', 'fc.weight', 'head.weight'), ('renamed', 'fc.bias', 'head.bias')]
    """
    expected = network.weights()
    held = _without_counters(held)
    found = [
        Change("changed", name, format_shape(expected[name]), format_shape(held[name]))
        for name in expected
        if name in held and held[name] != expected[name]
    ]
    lacking = [name for name in expected if name not in held]
    strange = [name for name in held if name not in expected]
    found += _diff_unmatched(lacking, strange, expected, held)
    places = {name: number for number, name in enumerate((*expected, *strange))}
    found.sort(key=lambda change: places[change.before if change.kind == "renamed" else change.path])
    return merge_repeats([list(alike) for _, alike in groupby(found, lambda change: _block_prefix(change.path))])


def diff_weight_stages(network: Network, held: Mapping[str, Shape]) -> list[StageDiff]:
    """How many numbers are learnt in stem, stages and head: in the network, and of those in the checkpoint. It has no MACs."""
    expected, found = network.weights(), _without_counters(held)
    counts = {name: [0, 0] for name in (*(group.name for group in group_stages(network)), ELSEWHERE)}
    prefixes = {
        f"{path}.": group.name
        for group in group_stages(network)
        for path in ([group.path] if group.path else [part.path for part in group.parts])
    }
    for side, weights in enumerate((expected, found)):
        for name, extent in weights.items():
            if not name.endswith(_STATISTICS):
                place = next((group for prefix, group in prefixes.items() if name.startswith(prefix)), ELSEWHERE)
                counts[place][side] += math.prod(extent)
    return [
        StageDiff(name, (count[0], count[1]), (None, None), (None, None))
        for name, count in counts.items()
        if name != ELSEWHERE or any(count)
    ]


def _without_counters(held: Mapping[str, Shape]) -> dict[str, Shape]:
    return {name: extent for name, extent in held.items() if not name.endswith(_COUNTER)}


def _diff_unmatched(
    lacking: list[str], strange: list[str], expected: Mapping[str, Shape], held: Mapping[str, Shape]
) -> Iterable[Change]:
    """Names in the place of others: those in order with shapes in order are the same under another name."""
    shapes = [expected[name] for name in lacking], [held[name] for name in strange]
    for tag, a, b, c, d in SequenceMatcher(None, shapes[0], shapes[1], autojunk=False).get_opcodes():
        if tag == "equal":
            pairs = zip(lacking[a:b], strange[c:d], strict=True)
            yield from (Change("renamed", other, name, other) for name, other in pairs)
        else:
            yield from (Change("removed", name, format_shape(expected[name]), "") for name in lacking[a:b])
            yield from (Change("added", name, "", format_shape(held[name])) for name in strange[c:d])


def _block_prefix(name: str) -> str:
    """A name up to the first number in it: all of a block's weights share that."""
    numbered = re.match(r".*?\.\d+(?=\.)", name)
    return numbered[0] if numbered else name
