"""Write the loop that draws a model's initial weights where the framework's own differ from the specification's."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from resnet_spec.emitting.dialect import Dialect
from resnet_spec.emitting.formatting import Bracket, Document, Row, Statement
from resnet_spec.network.parts import Leaf

MAX_NAMES = 6
"""More layers that differ from others of their class are told by the ends of their names, if these tell them."""


def initialization_loop(
    leaves: Sequence[Leaf],
    dialect: Dialect,
    modules: str,
    initializers: Mapping[str, str],
    defaults: Mapping[type, str],
    bases: Mapping[str, str],
) -> list[Statement]:
    """Return a loop over a model's modules, by name, that draws weights; no statement if none is drawn otherwise.

    ``initializers`` are the statements by the distribution, ``defaults`` what the framework does by itself, and
    ``bases`` the classes that emitted layers extend.
    """
    wanted: dict[str, dict[str, str]] = defaultdict(dict)
    for leaf in leaves:
        distribution = _distribution(leaf)
        layer = dialect.layer(leaf, False)
        if distribution and layer.call is not None:
            function = layer.call.function
            is_default = distribution == defaults.get(type(leaf.op), "1.0")
            wanted[bases.get(function, function)][leaf.path] = "" if is_default else distribution
    rules = [rule for function, paths in wanted.items() for rule in _rules(function, paths, initializers)]
    if not rules:
        return []
    needs_name = any(isinstance(condition, Row) for condition, _ in rules)
    items = modules if needs_name else modules.replace("named_", "")
    lines: list[Statement] = [(0, f"for {'name, module' if needs_name else 'module'} in {items}:")]
    for index, (statement, same) in enumerate(groupby(rules, lambda rule: rule[1])):
        conditions = [condition for condition, _ in same]
        test = _either(conditions)
        lines += [(1, Row((f"{'elif' if index else 'if'} ", test, ":"))), (2, statement)]
    return lines


def _either(conditions: Sequence[Document]) -> Document:
    """Return a condition that is true if one of some conditions is."""
    kinds = [condition for condition in conditions if isinstance(condition, str)]
    if len(kinds) == len(conditions) > 1:
        names = " | ".join(kind.removeprefix("isinstance(module, ").removesuffix(")") for kind in kinds)
        return f"isinstance(module, {names})"
    pieces: list[Document] = []
    for condition in conditions:
        pieces += [" or ", condition] if pieces else [condition]
    return Row(tuple(pieces))


def _distribution(leaf: Leaf) -> str:
    """Return how the weight of an operation is drawn: by name, or the number that all of it is."""
    name = getattr(leaf.op, "init", None)
    if name is not None:
        return str(name)
    gamma = getattr(leaf.op, "gamma", None)
    has_scale = any(weight.name == "weight" for weight in leaf.op.weights(leaf.input_shape))
    return str(float(gamma)) if gamma is not None and has_scale else ""


def _rules(function: str, paths: Mapping[str, str], initializers: Mapping[str, str]) -> Iterator[tuple[Document, str]]:
    """Yield a condition and a statement for each distribution among the layers of one class, exceptions first."""
    ranked = [name for name, _ in Counter(paths.values()).most_common()]
    for name in reversed(ranked):
        if not name:
            if name != ranked[0]:
                yield _condition(function, paths, name), "continue"
            continue
        test = f"isinstance(module, {function})" if name == ranked[0] else _condition(function, paths, name)
        kind = "constant" if name[-1].isdigit() else name
        yield test, initializers[kind].format(w="module.weight", value=name)


def _condition(function: str, paths: Mapping[str, str], wanted: str) -> Document:
    """Return the condition that a module is one of those that are drawn in one way: by the ends of their names."""
    chosen = [path for path, name in paths.items() if name == wanted]
    others = [path for path, name in paths.items() if name != wanted]
    kind = f"isinstance(module, {function}) and name"
    for length in (1, 2, 3):
        ends = tuple(dict.fromkeys(".".join(path.split(".")[-length:]) for path in chosen))
        if len(ends) <= MAX_NAMES and not any(path.endswith(ends) for path in others):
            return Row((f"{kind}.endswith(", _strings(ends) if ends[1:] else f'"{ends[0]}"', ")"))
    return Row((f"{kind} in ", _strings(tuple(chosen)))) if chosen[1:] else Row((f'{kind} == "{chosen[0]}"',))


def _strings(texts: Sequence[str]) -> Document:
    return Bracket("(", tuple(f'"{text}"' for text in texts), ")", is_literal=True)
