"""Write the loop that draws a model's initial weights where the framework's own differ from the specification's."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from resnet_spec.emitting.dialect import Dialect
from resnet_spec.network.parts import Leaf

MAX_NAMES = 6
"""More layers that differ from others of their class are told by the ends of their names, if these tell them."""


def initialization_loop(
    leaves: Sequence[Leaf],
    dialect: Dialect,
    modules: str,
    initializers: Mapping[str, str],
    defaults: Mapping[type, str],
) -> list[str]:
    """Return a loop over a model's modules, by name, that draws weights; no statement if none is drawn otherwise.

    ``initializers`` are the statements by the distribution, and ``defaults`` what the framework does by itself.
    """
    wanted: dict[str, dict[str, str]] = defaultdict(dict)
    for leaf in leaves:
        distribution = _distribution(leaf)
        layer = dialect.layer(leaf, False)
        if distribution and layer.call is not None and not layer.apply.startswith("{x}"):
            known = defaults.get(type(leaf.op), "1.0")
            if layer.call.function in ("nn.PReLU", "PReLU"):
                continue
            wanted[layer.call.function][leaf.path] = "" if distribution == known else distribution
    # A subclass comes before the class that it extends.
    ordered = sorted(wanted.items(), key=lambda item: item[0].startswith("nn."))
    rules = [rule for function, paths in ordered for rule in _rules(function, paths, initializers)]
    if not rules:
        return []
    needs_name = any("name" in condition.split() or "name." in condition for condition, _ in rules)
    items = modules if needs_name else modules.replace("named_", "")
    lines = [f"for {'name, module' if needs_name else 'module'} in {items}:"]
    for index, (condition, statement) in enumerate(rules):
        lines += [f"    {'elif' if index else 'if'} {condition}:", f"        {statement}"]
    return lines


def _distribution(leaf: Leaf) -> str:
    """Return how the weight of an operation is drawn: by name, or the number that all of it is."""
    name = getattr(leaf.op, "init", None)
    if name is not None:
        return str(name)
    gamma = getattr(leaf.op, "gamma", None)
    has_scale = any(weight.name == "weight" for weight in leaf.op.weights(leaf.input_shape))
    return str(float(gamma)) if gamma is not None and has_scale else ""


def _rules(function: str, paths: Mapping[str, str], initializers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
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


def _condition(function: str, paths: Mapping[str, str], wanted: str) -> str:
    chosen = [path for path, name in paths.items() if name == wanted]
    others = [path for path, name in paths.items() if name != wanted]
    ends = tuple(dict.fromkeys(f".{path.rpartition('.')[2]}" for path in chosen))
    if not any(f".{path}".endswith(ends) for path in others):
        chosen_text = ", ".join(f'"{end[1:]}"' for end in ends)
        names = f"({chosen_text},)" if len(ends) == 1 else f"({chosen_text})"
        return f'isinstance(module, {function}) and name.rpartition(".")[2] in {names}'
    names = ", ".join(f'"{path}"' for path in chosen)
    return f"isinstance(module, {function}) and name in ({names},)"
