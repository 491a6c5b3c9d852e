"""``extends``: a spec that starts from another, merged node by node, so that every value keeps the file it came from."""

from __future__ import annotations

from collections.abc import Callable

from resnet_spec.diagnostics.problems import Note, Problem, Problems, Source, Span, SpecError, quote
from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.language.grammar import SPEC
from resnet_spec.language.scalars import CALL_KEYS
from resnet_spec.language.validator import check, word
from resnet_spec.language.values import is_null, is_text
from resnet_spec.syntax.nodes import Mapping, Scalar, parse_into
from resnet_spec.syntax.yaml_events import MAX_CHARACTERS

MAX_FILES = 16

Find = Callable[[str, Source, Span], Source]
"""The source that a name means, said in a file at a place. Raises SpecError."""


def resolve_extends(source: Source, find: Find, problems: Problems) -> Mapping | None:
    """A source's document with all that it extends merged beneath it; None where that can't be told.

    What is wrong in any of the files is added to ``problems``; what they are merged to is still to be looked at.
    """
    chain: list[tuple[Source, Mapping]] = []
    links: list[Scalar] = []
    while True:
        root = parse_into(source, problems)
        if not isinstance(root, Mapping):
            if root is not None:
                check(root, SPEC, problems)
            return None
        chain.append((source, root))
        base = next((value for key, value in root.items if key.text == "extends"), None)
        if base is None:
            break
        check(root, SPEC, problems)
        if not isinstance(base, Scalar) or not is_text(word(base)):
            return None
        links.append(base)
        following = _following([seen for seen, _ in chain], links, find, problems)
        if following is None:
            return None
        source = following
    merged = _without_extends(chain.pop()[1])
    for _, node in reversed(chain):
        merged = merge(merged, _without_extends(node), problems)
    return merged


def _following(files: list[Source], links: list[Scalar], find: Find, problems: Problems) -> Source | None:
    """The source that the last of some files extends, unless it is one of them, or all are too many."""
    base = links[-1]
    try:
        source = find(base.text, files[-1], base.at)
    except SpecError as error:
        for problem in error.problems:
            problems.add(problem)
        return None
    names = [file.name for file in files]
    if source.name in names:
        chain = " -> ".join(Span(file, 1, 1, 2).file for file in [*files, source])
        notes = tuple(Note("this is extended here", link.at) for link in links[names.index(source.name) : -1])
        problems.add(Problem("RS210", f"extends goes in a circle: {chain}", base.at, notes=notes))
    elif len(files) == MAX_FILES:
        problems.report("RS104", f"extends goes through more than {MAX_FILES} files", base.at)
    elif sum(len(file.text) for file in [*files, source]) > MAX_CHARACTERS:
        problems.report("RS104", f"with what it extends, the spec has more than {MAX_CHARACTERS:,} characters", base.at)
    else:
        return source
    return None


def merge(base: Mapping, over: Mapping, problems: Problems) -> Mapping:
    """Mappings merge; anything else replaces; a key set to null is dropped.

    A new key stands where it is written: after the key before it, or before the known key after it; behind a dropped one, in its
    place. A layer that names another operation replaces the whole layer, since it has no use for the old one's arguments.
    """
    items = {key.text: (key, value) for key, value in base.items}
    order = _order([key.text for key, _ in base.items], over)
    for key, value in over.items:
        if isinstance(value, Scalar) and is_null(word(value)):
            if key.text not in items:
                help = f"null takes away what the base has; {suggest(key.text, items)}"
                problems.report("RS202", f"there is no {quote(key.text)} to take away", key.at, help.removesuffix("; "))
            items.pop(key.text, None)
        elif key.text in items:
            kept, old = items[key.text]
            if isinstance(old, Mapping) and isinstance(value, Mapping) and not _another_layer(old, value):
                items[key.text] = (kept, merge(old, value, problems))
            else:
                items[key.text] = (key, value)
        else:
            items[key.text] = (key, value)
    return Mapping(tuple(items[name] for name in order if name in items), over.at)


def _another_layer(base: Mapping, over: Mapping) -> bool:
    """Whether the other is an operation or a block where the one is something else; blocks take over from blocks what fits."""
    before, after = ({key.text: value for key, value in node.items if key.text in CALL_KEYS} for node in (base, over))
    if before.keys() != after.keys():
        return bool(after)
    old, new = before.get("op"), after.get("op")
    return isinstance(old, Scalar) and isinstance(new, Scalar) and old.text != new.text


def _order(known: list[str], over: Mapping) -> list[str]:
    """The keys of both: as a chain of what follows what, so that adding one takes no longer where there are many."""
    follows: dict[str | None, str | None] = dict(zip([None, *known], [*known, None], strict=True))
    before = {name: last for last, name in follows.items()}
    last: str | None = None
    for index, (key, _) in enumerate(over.items):
        if key.text not in follows:
            if index == 0:
                last = before[next((other.text for other, _ in over.items if other.text in follows), None)]
            follows[key.text], follows[last] = follows[last], key.text
        last = key.text
    order: list[str] = []
    name = follows[None]
    while name is not None:
        order.append(name)
        name = follows[name]
    return order


def _without_extends(root: Mapping) -> Mapping:
    return Mapping(tuple(item for item in root.items if item[0].text != "extends"), root.at)
