"""Find the weights among a checkpoint's names: remove enclosing mappings, prefixes, and arrays that are not weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")
"""Keys of mappings that hold a model's weights, the most likely first. What is beside such a mapping is ignored."""

PREFIXES = ("module", "backbone", "_orig_mod", "encoder", "resnet")
"""Prefixes that wrappers put before the names of the model inside them."""

NON_WEIGHTS = {
    "optimizer",
    "optimizer_state",
    "opt_state",
    "opt",
    "step",
    "epoch",
    "rng",
    "rngs",
    "lr_scheduler",
    "scheduler",
}
"""Keys of values and mappings that are not weights."""

HEADS = frozenset(
    {"aux_classifier", "classifier", "decode_head", "fc", "head", "heads", "projection_head", "projector"}
)
"""Names that libraries give to what follows a backbone."""

# PyTorch's count of batches, the counts that an operation counter leaves behind, and the random state of NNX's dropout.
_NON_WEIGHT_SUFFIXES = ("num_batches_tracked", "total_ops", "total_params", "rngs.count", "rngs.key")

_MAX_STEPS = 4


@dataclass(frozen=True, slots=True)
class UnwrappedNames:
    """A checkpoint's full names by the names without wrappings, and notes for the user on what was removed."""

    names: Mapping[str, str]
    notes: tuple[str, ...] = ()


def unwrap_names(names: Iterable[str], under: str | None = None) -> Iterator[UnwrappedNames]:
    """Yield the names as they are, then with one wrapping after another removed.

    ``under`` is the key of the mapping to read, if it is known.

    >>> [list(unwrapped.names) for unwrapped in unwrap_names(["state_dict.module.fc.bias", "optimizer.lr"])]
    [['state_dict.module.fc.bias', 'optimizer.lr'], ['module.fc.bias'], ['fc.bias']]
    """
    unwrapped = UnwrappedNames({name: name for name in names if is_weight_name(name)})
    if under is not None:
        unwrapped = _enter(unwrapped, under)
    yield unwrapped
    for _ in range(_MAX_STEPS):
        step = _unwrap_once(unwrapped)
        if step is None:
            return
        yield step
        unwrapped = step


def is_weight_name(name: str) -> bool:
    """Return whether a name may be that of a weight, and not of a counter or a random state."""
    return not name.removesuffix(".value").endswith(_NON_WEIGHT_SUFFIXES)


def list_prefixes(name: str) -> list[str]:
    """Return the beginnings of a name that end with one of its parts, the shortest first.

    >>> list_prefixes("layer1.0.conv1")
    ['layer1', 'layer1.0', 'layer1.0.conv1']
    """
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _unwrap_once(unwrapped: UnwrappedNames) -> UnwrappedNames | None:
    names = unwrapped.names
    counts = Counter(_first_key(name) for name in names if _first_key(name) != name)
    non_weights = NON_WEIGHTS & set(map(_first_key, names))
    container = next((key for key in CONTAINERS if counts[key]), None)
    if container is not None:
        return _enter(unwrapped, container)
    if non_weights:
        kept = {name: full for name, full in names.items() if _first_key(name) not in non_weights}
        return UnwrappedNames(kept, (*unwrapped.notes, _describe_ignored(names, set(kept)))) if kept else None
    prefix = next((key for key in PREFIXES if counts[key]), None)
    if prefix is None:
        return None
    stripped = {name.removeprefix(f"{prefix}."): full for name, full in names.items()}
    if len(stripped) != len(names):
        return None
    return UnwrappedNames(
        stripped, (*unwrapped.notes, f"removed the prefix {prefix + '.'!r} from {counts[prefix]} names")
    )


def _enter(unwrapped: UnwrappedNames, container: str) -> UnwrappedNames:
    """Keep the names in one mapping, without its key."""
    prefix, names = f"{container}.", unwrapped.names
    inner = {name.removeprefix(prefix): full for name, full in names.items() if name.startswith(prefix)}
    notes = (*unwrapped.notes, f"the weights are under {container!r}")
    ignored = _describe_ignored(names, {name for name in names if name.startswith(prefix)})
    return UnwrappedNames(inner, (*notes, ignored) if ignored else notes)


def _describe_ignored(names: Mapping[str, str], kept: set[str]) -> str:
    counts = Counter(_first_key(name) for name in names if name not in kept)
    groups = ", ".join(f"{key!r} ({count} {'arrays' if count > 1 else 'array'})" for key, count in counts.items())
    return f"ignored: {groups}" if groups else ""


def _first_key(name: str) -> str:
    return name.replace("/", ".").partition(".")[0]
