"""Identify what a network computes, whatever its parts are called and however they are nested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256

from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Parallel, Part, Residual
from resnet_spec.network.traversal import Rules, propagate
from resnet_spec.ops import (
    AvgPool,
    EvoNormS0,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    Identity,
    MaxPool,
    Scale,
    Stochastic,
    op_name,
)


@dataclass(frozen=True, slots=True)
class _Term:
    """A value as an expression: its digest and, for a sum or a concatenation, those of its terms, by kind."""

    digest: str
    kind: str = ""
    terms: tuple[str, ...] = ()


def dataflow_fingerprint(network: Network) -> str:
    """Return a text that networks share if they apply the same operations, with the same weights, to the same values.

    Names of layers without weights, and how parts are nested, make no difference, nor does the order of sums.

    >>> from resnet_spec import load, loads
    >>> relu = "{{name: a, input: [3, 8, 8], stem: {{{}: relu, group: {{pool: global_avg_pool}}}}}}"
    >>> dataflow_fingerprint(loads(relu.format("relu"))) == dataflow_fingerprint(loads(relu.format("act")))
    True
    """
    rules: Rules[_Term] = Rules(leaf=_leaf, combine=_combine, join=_join, split=_split, cascade=_cascade)
    _, last = propagate(network.parts, _Term("input"), rules)
    return last.digest


def dataflow_digests(network: Network) -> dict[str, str]:
    """Return a text for the output of each part, by path, in the order in which parts finish."""
    found: dict[str, str] = {}

    def leave(part: Part, x: _Term, y: _Term) -> tuple[Part, _Term]:
        found[part.path] = y.digest
        return part, y

    rules: Rules[_Term] = Rules(leaf=_leaf, combine=_combine, join=_join, split=_split, cascade=_cascade, leave=leave)
    propagate(network.parts, _Term("input"), rules)
    return found


def _digest(*items: object) -> str:
    return sha256(repr(items).encode()).hexdigest()[:32]


def _leaf(leaf: Leaf, x: _Term) -> tuple[Part, _Term]:
    op = leaf.op
    is_flat = isinstance(op, Flatten) and leaf.input_shape[1:] in ((), (1, 1))
    is_pixel = isinstance(op, AvgPool | MaxPool) and (op.kernel, op.stride, op.padding) == (1, 1, 0)
    is_unused = isinstance(op, Stochastic) and not op.rate
    is_one = isinstance(op, Scale) and not op.learned and op.factor == 1
    if isinstance(op, Identity) or is_flat or is_pixel or is_unused or is_one:
        return leaf, x
    if isinstance(op, GlobalAvgPool | GlobalMaxPool):
        op = replace(op, keepdims=False)
    if isinstance(op, GroupNorm | EvoNormS0):
        op = replace(op, groups=op.group_count(leaf.input_shape[0]), size=0)
    if isinstance(op, Scale) and not op.learned:
        op = replace(op, per="all", keepdims=False)
    path = leaf.path if op.weights(leaf.input_shape) else ""
    arguments = [_rounded(getattr(op, field.name)) for field in fields(op)]
    return leaf, _Term(_digest(op_name(op), arguments, path, x.digest))


def _rounded(value: object) -> object:
    """Return an argument with twelve digits, since factors may be computed from others."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _combine(part: Residual, branch: _Term, shortcut: _Term) -> _Term:
    return _joined(part.combine, [shortcut, branch])


def _join(part: Parallel, x: _Term, outputs: Sequence[_Term]) -> _Term:
    return _joined(f"{part.combine}{part.resize}", outputs)


def _joined(combine: str, terms: Sequence[_Term]) -> _Term:
    if len(terms) == 1:
        return terms[0]
    inner = [digest for term in terms for digest in (term.terms if term.kind == combine else (term.digest,))]
    ordered = sorted(inner) if combine in ("add", "multiply", "mean") else inner
    mergeable = combine in ("add", "concat")
    return _Term(_digest(combine, ordered), combine if mergeable else "", tuple(inner) if mergeable else ())


def _split(part: Parallel, x: _Term) -> list[_Term]:
    if not part.pieces:
        return [x] * len(part.branches)
    starts = [sum(part.pieces[:index]) for index in range(len(part.pieces))]
    return [_Term(_digest("piece", start, size, x.digest)) for start, size in zip(starts, part.pieces, strict=True)]


def _cascade(part: Parallel, index: int, piece: _Term, previous: _Term) -> _Term:
    return _joined("add", [piece, previous])
