"""What a checkpoint has around its weights: mappings within mappings, prefixes, and what are no weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

HOLDERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")
"""Mappings that hold a model's weights, the likeliest first; what lies beside one is left out."""

PREFIXES = ("module", "backbone", "_orig_mod", "encoder", "resnet")
"""What wrappers put before the names of the model that they hold."""

BESIDE = {
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
"""Mappings that hold no weights."""

_UNCOUNTED = ("num_batches_tracked", "total_ops", "total_params", "rngs.count", "rngs.key")

_MOST = 4


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """Names as they are inside, with the file's own; and what to tell of what was taken off."""

    names: Mapping[str, str]
    notes: tuple[str, ...] = ()


def unwrappings(names: Iterable[str], under: str | None = None) -> Iterator[Unwrapped]:
    """The names as they stand, then with one thing after another taken off; ``under`` says which mapping to read.

    >>> [list(found.names) for found in unwrappings(["state_dict.module.fc.bias", "optimizer.lr"])]
    [['state_dict.module.fc.bias', 'optimizer.lr'], ['module.fc.bias'], ['fc.bias']]
    """
    found = Unwrapped({name: name for name in names if counted(name)})
    if under is not None:
        found = _inside(found, under)
    yield found
    for _ in range(_MOST):
        once = _once(found)
        if once is None:
            return
        yield once
        found = once


def counted(name: str) -> bool:
    """Whether a name may be a weight's: not PyTorch's count of batches, nor a dropout's keys in NNX, nor what a counter of operations leaves."""
    return not name.removesuffix(".value").endswith(_UNCOUNTED)


def _once(found: Unwrapped) -> Unwrapped | None:
    groups = Counter(_first(name) for name in found.names if _first(name) != name)
    beside = BESIDE & set(map(_first, found.names))
    holder = next((name for name in HOLDERS if groups[name]), None)
    if holder is not None:
        return _inside(found, holder)
    if beside:
        kept = {name: full for name, full in found.names.items() if _first(name) not in beside}
        return Unwrapped(kept, (*found.notes, _left_out(found.names, set(kept)))) if kept else None
    prefix = next((name for name in PREFIXES if groups[name]), None)
    if prefix is None:
        return None
    bare = {name.removeprefix(f"{prefix}."): full for name, full in found.names.items()}
    if len(bare) != len(found.names):
        return None
    return Unwrapped(bare, (*found.notes, f"{groups[prefix]} names start with {prefix + '.'!r}, which is taken off"))


def _inside(found: Unwrapped, holder: str) -> Unwrapped:
    start = f"{holder}."
    inner = {name.removeprefix(start): full for name, full in found.names.items() if name.startswith(start)}
    notes = (*found.notes, f"the weights are under {holder!r}")
    left = _left_out(found.names, {name for name in found.names if name.startswith(start)})
    return Unwrapped(inner, (*notes, left) if left else notes)


def _left_out(names: Mapping[str, str], kept: set[str]) -> str:
    groups = Counter(_first(name) for name in names if name not in kept)
    said = ", ".join(f"{name!r} ({count} {'arrays' if count > 1 else 'array'})" for name, count in groups.items())
    return f"left out: {said}" if said else ""


def _first(name: str) -> str:
    return name.replace("/", ".").partition(".")[0]
