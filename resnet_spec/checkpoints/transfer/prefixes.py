"""Find where a network's weights stand in a checkpoint: under which prefix of its names, or under which together.

A file may hold the weights at its root, in a mapping, in a mapping of a mapping, or below the name of a module, and may
hold several networks, or keep the parameters and the statistics of one apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

NON_WEIGHTS = frozenset(
    {
        *(
            "optimizer",
            "optimizers",
            "optimizer_state",
            "optimizer_states",
            "optimizer_state_dict",
            "optim",
            "optim_state",
        ),
        *("opt", "opt_state", "exp_avg", "exp_avg_sq", "momentum_buffer", "scaler", "amp", "rng", "rngs", "rng_state"),
        *("lr_scheduler", "lr_schedulers", "scheduler", "schedulers", "callbacks", "loops"),
        *("step", "epoch", "global_step", "iteration", "n_averaged"),
    }
)
"""Keys of values and mappings that are not weights."""

BESIDE_BACKBONES = frozenset(
    {
        *("queue", "queue_ptr", "prototypes", "predictor", "projection", "projection_head", "projector", "proj_head"),
        *("criterion", "loss", "losses", "metrics", "dino_loss", "logit_scale", "contrastive_head"),
    }
)
"""Names of what self-supervised training keeps beside a network."""

AUXILIARY = frozenset({"AuxLogits", "aux1", "aux2"})
"""Names of the classifiers beside an Inception network that only training runs; a spec describes evaluation."""

CLASSIFIERS = frozenset({"classifier", "fc", "head", "heads", "last_linear", "linear", "logits", "output"})
"""Names that libraries give to the last layer of a classifier."""

HEADS = frozenset({"aux_classifier", "decode_head", *CLASSIFIERS, *BESIDE_BACKBONES})
"""Names that libraries give to what follows a backbone."""

# PyTorch's count of batches, the counts that an operation counter leaves behind, and the random state of NNX's dropout.
_NON_WEIGHT_SUFFIXES = ("num_batches_tracked", "total_ops", "total_params", "rngs.count", "rngs.key")

_NORM_BUFFERS = ("_tmp_running_mean", "_tmp_running_var", "_running_iter", "mean_ema.hidden", "var_ema.hidden")
"""Buffers of norms that are synchronised or averaged over several steps, and Haiku's sums behind its averages."""

_EMA = re.compile(r"(^|[._])(ema|swa|shadow|averaged?)([._]|$)", re.IGNORECASE)
_MAX_GROUPS = 6
_MAX_DEPTH, _MAX_BRANCHES = 8, 12


def is_weight_name(name: str) -> bool:
    """Return whether a name may be that of a weight, and not of a counter or a random state."""
    return not name.removesuffix(".value").endswith(_NON_WEIGHT_SUFFIXES)


def is_beside(name: str) -> bool:
    """Return whether an array is one that training keeps beside the weights, by its name.

    >>> is_beside("projection_head.0.weight"), is_beside("layer1.0.bn1._running_iter"), is_beside("layer1.0.se.weight")
    (True, True, False)
    >>> is_beside("AuxLogits.fc.weight"), is_beside("net.batchnorm_0.mean_ema.hidden")
    (True, True)
    """
    first, *_ = parts = name.split(".")
    return (
        first in BESIDE_BACKBONES
        or first in AUXILIARY
        or first.startswith("ema_")  # mmcv's averages, in whose names underscores stand for dots
        or not NON_WEIGHTS.isdisjoint(parts)
        or name.endswith(_NORM_BUFFERS)
    )


def is_optimizer(prefix: str) -> bool:
    """Return whether what stands under a prefix belongs to an optimiser or a scheduler, which may mirror all names."""
    return not NON_WEIGHTS.isdisjoint(prefix.split("."))


def is_average(prefix: str) -> bool:
    """Return whether a prefix says that weights averaged over training stand under it.

    >>> is_average("state_dict_ema"), is_average("model.schema")
    (True, False)
    """
    return _EMA.search(prefix) is not None


def list_prefixes(name: str) -> list[str]:
    """Return the beginnings of a name that end with one of its parts, the shortest first.

    >>> list_prefixes("layer1.0.conv1")
    ['layer1', 'layer1.0', 'layer1.0.conv1']
    """
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def is_under(name: str, prefix: str) -> bool:
    """Return whether a name is a prefix, or stands under it; everything stands under ""."""
    return not prefix or name == prefix or name.startswith(f"{prefix}.")


def add_prefix(prefix: str, name: str) -> str:
    """Return a name under a prefix."""
    return f"{prefix}.{name}" if prefix else name


def find_prefixes(names: Iterable[str], expected: Collection[str]) -> dict[str, set[str]]:
    """Return each prefix under which expected names stand, with those names.

    >>> found = find_prefixes(["a.net.fc.bias", "a.net.fc.weight", "b.fc.bias"], {"fc.bias", "fc.weight"})
    >>> {prefix: sorted(names) for prefix, names in found.items()}
    {'a.net': ['fc.bias', 'fc.weight'], 'b': ['fc.bias']}
    """
    found: dict[str, set[str]] = {}
    for name in names:
        rest, at = name, 0
        while True:
            if rest in expected:
                found.setdefault(name[: max(0, at - 1)], set()).add(rest)
            at = name.find(".", at) + 1
            if not at:
                break
            rest = name[at:]
    return found


def join_prefixes(main: str, found: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Return the prefix under which each found name stands, if more than the names under ``main`` belong together.

    Another prefix adds its names if it is an outer one, as of a head beside a backbone, or differs in one part alone,
    as "params" and "batch_stats" do; if it has no name that ``main`` has, as a second network would; and if no other
    prefix offers the same name.
    """
    under = dict.fromkeys(found[main], main)
    others = [
        prefix
        for prefix, names in found.items()
        if prefix != main and _belong_together(main, prefix) and under.keys().isdisjoint(names)
    ]
    offers = Counter(name for prefix in others for name in found[prefix])
    for prefix in others:
        under |= {name: prefix for name in found[prefix] if offers[name] == 1}
    return under


def _belong_together(main: str, other: str) -> bool:
    if is_under(main, other):
        return True
    a, b = main.split("."), other.split(".")
    return len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) == 1


def describe_ignored(names: Iterable[str], prefixes: Iterable[str]) -> str:
    """Return what is beside the weights, in one line; "" if there is nothing.

    >>> describe_ignored(["model.queue", "model.optim.a", "model.optim.b", "step"], ["model.net"])
    "ignored: 'model.optim' (2 arrays), 'model.queue' (1 array), 'step' (1 array)"
    """
    outer = {"", *(outer for prefix in prefixes for outer in list_prefixes(prefix))}
    groups = Counter(next((p for p in list_prefixes(name) if p not in outer), name) for name in names)
    texts = [f"{key!r} ({_count(number)})" for key, number in groups.most_common(_MAX_GROUPS)]
    rest = groups.total() - sum(number for _, number in groups.most_common(_MAX_GROUPS))
    texts += [f"and {_count(rest)} more"] if rest else []
    return f"ignored: {', '.join(texts)}" if texts else ""


def _count(number: int) -> str:
    return f"{number:,} {'arrays' if number > 1 else 'array'}"


def list_mappings(names: Iterable[str], limit: int) -> list[str]:
    """Return the prefixes of names, those with the most names under them first, and outer ones before inner ones."""
    counts = Counter(prefix for name in names for prefix in list_prefixes(name)[:-1])
    return sorted(counts, key=lambda prefix: (-counts[prefix], prefix.count("."), prefix))[:limit]


def list_branches(names: Iterable[str]) -> list[str]:
    """Return the outermost prefixes of names, or those one level below if there is only one.

    >>> list_branches(["state.q.conv.weight", "state.k.conv.weight"])
    ['state.k', 'state.q']
    """
    mappings = {name.rpartition(".")[0] for name in names if "." in name}
    for depth in range(1, _MAX_DEPTH):
        branches = sorted({".".join(mapping.split(".")[:depth]) for mapping in mappings})
        if len(branches) != 1:
            break
    return branches[:_MAX_BRANCHES]
