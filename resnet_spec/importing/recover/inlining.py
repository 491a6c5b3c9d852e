"""Write the layers of a chain that is called at one place there, rather than as a block of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from resnet_spec.importing.recover.families import Block
from resnet_spec.importing.recover.terms import IN, BlockCall, Param, PerBlock, Repeats, Sequence, map_terms, subterms
from resnet_spec.importing.recover.unify import MISSING


def inline_single_calls(row: Sequence, blocks: Mapping[str, Block]) -> tuple[Sequence, dict[str, Block]]:
    """Return a row and its blocks, without those that are chains and that one place calls."""
    left = dict(blocks)
    for name, block in blocks.items():  # a block stands behind those that it calls
        calls = list(_calls([row, *(other.body for other in left.values())]))
        if Counter(called for called, _ in calls)[name] != 1 or not _is_plain(block):
            continue
        call = next(call for called, call in calls if called == name)
        if isinstance(call, BlockCall) and (layers := _layers(block, dict(call.arguments))) is not None:
            del left[name]
            row = _replace_calls(row, name, layers)
            left = {key: replace(other, body=_replace_calls(other.body, name, layers)) for key, other in left.items()}
    return row, left


def _calls(terms: Iterable[Any]) -> Iterator[tuple[str, BlockCall | Repeats]]:
    """Yield the names of blocks that terms call, and the calls."""
    for call in (inner for term in terms for inner in subterms(term)):
        if isinstance(call, BlockCall):
            yield call.block, call
        elif isinstance(call, Repeats):
            names = call.block.values if isinstance(call.block, PerBlock) else (call.block,)
            yield from ((name, call) for name in names)


def _replace_calls(term: Any, name: str, layers: Sequence) -> Any:
    return map_terms(term, lambda inner: layers if isinstance(inner, BlockCall) and inner.block == name else inner)


def _is_plain(block: Block) -> bool:
    """Return whether a block is a chain that means the same wherever its layers stand."""
    is_chain = block.body.combine == "none" and [role for role, _ in block.body.sections] == ["branch"]
    return is_chain and IN not in subterms(block.body) and not block.body.project


def _layers(block: Block, arguments: Mapping[str, Any]) -> Sequence | None:
    """Return the layers of a chain with arguments in place of their names; None if one of them is unknown."""
    known = {name: arguments.get(name, default) for name, default in block.takes.items()}
    if any(value is MISSING for value in known.values()):
        return None
    return map_terms(block.body.section("branch"), lambda term: known[term.name] if isinstance(term, Param) else term)
