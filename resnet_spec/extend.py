"""``extends``: a spec that starts from another, merged node by node, so that every value keeps the file it came from."""

from __future__ import annotations

from collections.abc import Callable

from resnet_spec.nodes import Mapping, Node, Scalar, parse
from resnet_spec.source import Problem, Source, Span, SpecError
from resnet_spec.spec import Word
from resnet_spec.values import null

MOST_FILES = 16

Find = Callable[[str, Source, Span], Source]
"""The source that a name means, said in a file at a place. Raises SpecError."""


def extended(source: Source, find: Find) -> Node:
    """A source's document with all that it extends merged beneath it. Raises SpecError."""
    chain: list[tuple[Source, Node]] = []
    while True:
        root = parse(source)
        base = _base(root)
        chain.append((source, _without(root)))
        if base is None:
            break
        source = find(base.text, source, base.at)
        if any(source.name == seen.name for seen, _ in chain):
            names = " -> ".join([*(seen.name for seen, _ in chain), source.name])
            raise SpecError([Problem("RS207", f"extends goes in a circle: {names}", base.at)])
        if len(chain) == MOST_FILES:
            raise SpecError([Problem("RS104", f"extends goes through more than {MOST_FILES} files", base.at)])
    merged = chain.pop()[1]
    for _, node in reversed(chain):
        merged = merge(merged, node)
    return merged


def merge(base: Node, over: Node) -> Node:
    """Mappings merge; anything else replaces; a key set to null is dropped.

    A new key stands where it is written: after the known key before it, or before the known key after it; behind a dropped
    one, in its place. A layer that names another operation replaces the whole layer, since it has no use for the old one's
    arguments.
    """
    if not isinstance(base, Mapping) or not isinstance(over, Mapping) or _another_layer(base, over):
        return over
    order = [key.text for key, _ in base.items]
    items = {key.text: (key, value) for key, value in base.items}
    place: int | None = None
    for index, (key, value) in enumerate(over.items):
        if isinstance(value, Scalar) and null(Word(value.text, value.plain, value.at)):
            if key.text in items:
                place = order.index(key.text)
                order.remove(key.text)
                del items[key.text]
            else:
                help = "null takes away what the base has"
                raise SpecError([Problem("RS202", f"there is no {key.text!r} to drop", key.at, help)])
            continue
        if key.text in items:
            kept, old = items[key.text]
            items[key.text] = (kept if isinstance(old, Mapping) else key, merge(old, value))
        else:
            order.insert(_before_next(order, over, index) if place is None else place, key.text)
            items[key.text] = (key, value)
        place = order.index(key.text) + 1
    return Mapping(tuple(items[name] for name in order), over.at)


def _another_layer(base: Mapping, over: Mapping) -> bool:
    """Whether the other is an operation or a block where the one is something else; blocks take over from blocks what fits."""
    before = {key.text: value for key, value in base.items if key.text in {"op", "block"}}
    after = {key.text: value for key, value in over.items if key.text in {"op", "block"}}
    if before.keys() != after.keys():
        return bool(after)
    old, new = before.get("op"), after.get("op")
    return isinstance(old, Scalar) and isinstance(new, Scalar) and old.text != new.text


def _before_next(order: list[str], over: Mapping, index: int) -> int:
    following = (key.text for key, _ in over.items[index + 1 :] if key.text in order)
    first = next(following, None)
    return len(order) if first is None else order.index(first)


def _base(root: Node) -> Scalar | None:
    if not isinstance(root, Mapping):
        return None
    for key, value in root.items:
        if key.text == "extends":
            if not isinstance(value, Scalar):
                raise SpecError([Problem("RS201", "extends names one spec", value.at)])
            return value
    return None


def _without(root: Node) -> Node:
    if not isinstance(root, Mapping):
        return root
    return Mapping(tuple(item for item in root.items if item[0].text != "extends"), root.at)
