"""The differences between a network and a checkpoint: names and shapes of weights, and parameter counts by stage."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from itertools import groupby

from resnet_spec.network.network import Network
from resnet_spec.network.structure import group_stages
from resnet_spec.ops import Shape
from resnet_spec.views.network_diff import Change, StageDiff, merge_repeats
from resnet_spec.views.table import format_shape

ELSEWHERE = "elsewhere"
"""The stage under which arrays are counted whose names belong to no part of the network."""
_COUNTER = "num_batches_tracked"  # kept by PyTorch's batch norms; networks here have no such weight
_STATISTICS = ("running_mean", "running_var")


def diff_weights(network: Network, checkpoint: Mapping[str, Shape]) -> list[Change]:
    """Return the changes from a network's weights to the arrays of a checkpoint, given by name and shape.

    Arrays with other names but the same shapes, in the same order, count as renamed.

    >>> from resnet_spec import load
    >>> network = load("resnet18")
    >>> checkpoint = {name.replace("fc.", "head."): shape for name, shape in network.weights().items()}
    >>> [(change.kind, change.before, change.after) for change in diff_weights(network, checkpoint)]
    [('renamed', 'fc.weight', 'head.weight'), ('renamed', 'fc.bias', 'head.bias')]
    """
    expected = network.weights()
    actual = _without_counters(checkpoint)
    changes = [
        Change("changed", name, format_shape(shape), format_shape(actual[name]))
        for name, shape in expected.items()
        if name in actual and actual[name] != shape
    ]
    missing = {name: shape for name, shape in expected.items() if name not in actual}
    unknown = {name: shape for name, shape in actual.items() if name not in expected}
    changes += _diff_unmatched(missing, unknown)
    position = {name: number for number, name in enumerate((*expected, *unknown))}
    changes.sort(key=lambda change: position[change.before if change.kind == "renamed" else change.path])
    return merge_repeats([list(block) for _, block in groupby(changes, lambda change: _block_prefix(change.path))])


def diff_weight_stages(network: Network, checkpoint: Mapping[str, Shape]) -> list[StageDiff]:
    """Return how many parameters the network and the checkpoint have in the stem, each stage and the head.

    Running statistics are not counted. MACs and shapes are None, as a checkpoint does not tell them.
    """
    stages = group_stages(network)
    prefixes = {
        f"{path}.": group.name
        for group in stages
        for path in ([group.path] if group.path else [part.path for part in group.parts])
    }
    counts = {name: [0, 0] for name in (*(group.name for group in stages), ELSEWHERE)}
    for side, weights in enumerate((network.weights(), _without_counters(checkpoint))):
        for name, shape in weights.items():
            if not name.endswith(_STATISTICS):
                stage = next((stage for prefix, stage in prefixes.items() if name.startswith(prefix)), ELSEWHERE)
                counts[stage][side] += math.prod(shape)
    return [
        StageDiff(name, (first, second), (None, None), (None, None))
        for name, (first, second) in counts.items()
        if name != ELSEWHERE or first or second
    ]


def _without_counters(checkpoint: Mapping[str, Shape]) -> dict[str, Shape]:
    return {name: shape for name, shape in checkpoint.items() if not name.endswith(_COUNTER)}


def _diff_unmatched(missing: Mapping[str, Shape], unknown: Mapping[str, Shape]) -> Iterator[Change]:
    """Yield a change for each name on one side only: renamed where shapes align, else removed or added."""
    old, new = list(missing), list(unknown)
    shapes = list(missing.values()), list(unknown.values())
    for tag, a, b, c, d in SequenceMatcher(None, shapes[0], shapes[1], autojunk=False).get_opcodes():
        if tag == "equal":
            pairs = zip(old[a:b], new[c:d], strict=True)
            yield from (Change("renamed", after, before, after) for before, after in pairs)
        else:
            yield from (Change("removed", name, format_shape(missing[name]), "") for name in old[a:b])
            yield from (Change("added", name, "", format_shape(unknown[name])) for name in new[c:d])


def _block_prefix(name: str) -> str:
    """Return a name up to its first number, which the names of all weights in a block have in common."""
    numbered = re.match(r".*?\.\d+(?=\.)", name)
    return numbered[0] if numbered else name
