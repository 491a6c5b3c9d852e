"""Resolve ``extends``: merge a spec over its base, node by node, so that every value keeps its file and line."""

from __future__ import annotations

from collections.abc import Callable

from resnet_spec.diagnostics.problems import Note, Problem, Problems, Source, Span, SpecError, quote
from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.language.decoder import decode
from resnet_spec.language.grammar import SPEC
from resnet_spec.language.scalars import CALL_KEYS
from resnet_spec.language.values import is_null, is_text
from resnet_spec.syntax.nodes import Mapping, Scalar, parse_into
from resnet_spec.syntax.yaml_events import MAX_BYTES, count_bytes

MAX_FILES = 16

FindSource = Callable[[str, Source, Span], Source]
"""Returns the source to which a name under ``extends`` refers, given the name's file and place. Raises SpecError."""


def resolve_extends(source: Source, find: FindSource, problems: Problems) -> Mapping | None:
    """Return a source's document merged over everything that it extends; None if that can't be determined.

    Problems in any of the files are added to ``problems``. The merged document itself is not checked.
    """
    chain: list[tuple[Source, Mapping]] = []
    links: list[Scalar] = []
    while True:
        root = parse_into(source, problems)
        if not isinstance(root, Mapping):
            if root is not None:
                decode(root, SPEC, problems)
            return None
        chain.append((source, root))
        link = next((value for key, value in root.items if key.text == "extends"), None)
        if link is None:
            break
        decode(root, SPEC, problems)
        if not isinstance(link, Scalar) or not is_text(link):
            return None
        links.append(link)
        base = _find_base([file for file, _ in chain], links, find, problems)
        if base is None:
            return None
        source = base
    merged = _without_extends(chain.pop()[1])
    for _, node in reversed(chain):
        merged = merge(merged, _without_extends(node), problems)
    return merged


def _find_base(files: list[Source], links: list[Scalar], find: FindSource, problems: Problems) -> Source | None:
    """Return the source that the last of some files extends; None if it is missing, one of them, or exceeds a limit.

    ``links`` are the values of ``extends`` in the files.
    """
    link = links[-1]
    try:
        source = find(link.text, files[-1], link.span)
    except SpecError as error:
        for problem in error.problems:
            problems.add(problem)
        return None
    names = [file.name for file in files]
    if source.name in names:
        chain = " -> ".join(Span(file, 1, 1, 2).file for file in [*files, source])
        notes = tuple(Note("this file is extended here", link.span) for link in links[names.index(source.name) : -1])
        problems.add(Problem("RS210", f"extends forms a cycle: {chain}", link.span, notes=notes))
    elif len(files) == MAX_FILES:
        problems.report("RS104", f"extends leads through more than {MAX_FILES} files", link.span)
    elif sum(count_bytes(file.text) for file in [*files, source]) > MAX_BYTES:
        message = f"the spec and the files that it extends have more than {MAX_BYTES:,} bytes"
        problems.report("RS104", message, link.span)
    else:
        return source
    return None


def merge(base: Mapping, override: Mapping, problems: Problems) -> Mapping:
    """Return a mapping merged over a base: mappings merge, anything else replaces, and null removes a key.

    A new key is placed where it is written: after the key before it or, if it is first, before the next key that the
    base has. After a removed key, it takes the removed key's place. A layer that calls another operation replaces the
    base's layer as a whole, because it does not take the same arguments.
    """
    items = {key.text: (key, value) for key, value in base.items}
    order = _merge_order([key.text for key, _ in base.items], override)
    for key, value in override.items:
        if isinstance(value, Scalar) and is_null(value):
            if key.text not in items:
                help = f"null removes a key of the base; {suggest(key.text, items)}"
                message = f"the base has no {quote(key.text)} to remove"
                problems.report("RS202", message, key.span, help.removesuffix("; "))
            items.pop(key.text, None)
            continue
        base_key, base_value = items.get(key.text, (key, None))
        if isinstance(base_value, Mapping) and isinstance(value, Mapping) and not _replaces_layer(base_value, value):
            items[key.text] = (base_key, merge(base_value, value, problems))
        else:
            items[key.text] = (key, value)
    return Mapping(tuple(items[name] for name in order if name in items), override.span)


def _replaces_layer(base: Mapping, override: Mapping) -> bool:
    """Return whether a layer calls another operation than the base's, or changes from an operation to a block or back.

    A block in place of another block keeps the arguments of the base.
    """
    before, after = (
        {key.text: value for key, value in node.items if key.text in CALL_KEYS} for node in (base, override)
    )
    if before.keys() != after.keys():
        return bool(after)
    old, new = before.get("op"), after.get("op")
    return isinstance(old, Scalar) and isinstance(new, Scalar) and old.text != new.text


def _merge_order(base_keys: list[str], override: Mapping) -> list[str]:
    """Return the keys of both mappings in order.

    A linked list inserts each key in constant time, so that a spec with very many keys stays cheap.
    """
    next_key: dict[str | None, str | None] = dict(zip([None, *base_keys], [*base_keys, None], strict=True))
    previous_key = {name: previous for previous, name in next_key.items()}
    last: str | None = None
    for index, (key, _) in enumerate(override.items):
        if key.text not in next_key:
            if index == 0:
                first_shared = next((other.text for other, _ in override.items if other.text in next_key), None)
                last = previous_key[first_shared]
            next_key[key.text], next_key[last] = next_key[last], key.text
        last = key.text
    order: list[str] = []
    name = next_key[None]
    while name is not None:
        order.append(name)
        name = next_key[name]
    return order


def _without_extends(root: Mapping) -> Mapping:
    return Mapping(tuple(item for item in root.items if item[0].text != "extends"), root.span)
