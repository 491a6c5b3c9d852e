"""Say a spec as a bundled one with differences, where that is shorter."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from resnet_spec.diagnostics.problems import SpecError
from resnet_spec.importing.dataflow import dataflow_fingerprint
from resnet_spec.importing.recover.bundled_blocks import literal
from resnet_spec.library.index import Entry, read_index
from resnet_spec.library.load import find_source, load, load_document
from resnet_spec.network.network import Network
from resnet_spec.ops import Conv, Linear
from resnet_spec.syntax.nodes import List, Mapping, Node, Scalar

CANDIDATES = 16
"""How many bundled networks, those with the nearest numbers of parameters, are tried."""

CLASSES = (10, 1000)
"""Numbers of classes that bundled networks have."""

_KEPT = ("name", "source", "preprocess", "extends")


def differences(document: dict[str, Any], network: Network) -> Iterator[dict[str, Any]]:
    """Yield documents that extend a bundled network and say what a document of a network says, the shortest first."""
    parameters = [network.parameters, *_with_usual_classes(network)]
    channels = document["input"][0]
    entries = [entry for entry in read_index() if entry.input[0] == channels and entry.parameters]
    nearest = sorted(
        entries,
        key=lambda entry: (
            min(_distance(entry, count) for count in parameters),
            entry.name.count("/"),
            len(entry.name),
        ),
    )
    found = []
    for entry in nearest[:CANDIDATES]:
        if entry.parameters in parameters and (same := _same_network(entry, document, network)):
            yield same
            return
    for entry in nearest[:CANDIDATES]:
        base = _plain(load_document(find_source(entry.name)))
        rest = _difference({key: value for key, value in base.items() if key not in _KEPT}, document)
        found.append({"name": document["name"], "extends": entry.name, **rest})
        if "preprocess" in base:
            found[-1]["preprocess"] = None
    yield from sorted(found, key=lambda item: len(repr(item)) + item["extends"].count("/"))


def _same_network(entry: Entry, document: dict[str, Any], network: Network) -> dict[str, Any] | None:
    """Return the document that extends a bundled network, if that is the same but for names of weightless layers."""
    settings: dict[str, Any] = document.get("takes", {})
    try:
        same = load(entry.name, input=network.input, **settings)
    except SpecError:
        return None
    if dataflow_fingerprint(same) != dataflow_fingerprint(network):
        return None
    found = {"name": document["name"], "extends": entry.name}
    found |= {key: value for key, value in (("takes", settings), ("input", document["input"])) if value}
    return found | ({"preprocess": None} if same.preprocess else {})


def _with_usual_classes(network: Network) -> Iterator[int]:
    """Yield how many parameters a network has with as many classes as most bundled ones."""
    for leaf in reversed(list(network.leaves())):
        if isinstance(leaf.op, Linear | Conv):
            own = sum(math.prod(weight.shape) for weight in leaf.op.weights(leaf.input_shape))
            for classes in CLASSES:
                yield network.parameters - own + own * classes // leaf.op.out
            return


def _distance(entry: Entry, parameters: int) -> float:
    return abs(math.log(entry.parameters / max(1, parameters)))


def _difference(base: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Return what to merge into one mapping so that it becomes another."""
    found: dict[str, Any] = {key: None for key in base if key not in ours}
    for key, value in ours.items():
        if key == "name" or (key in base and _equal(base[key], value)):
            continue
        known = base.get(key)
        if isinstance(known, dict) and isinstance(value, dict) and _is_same_kind(known, value):
            found[key] = _difference(known, value)
        else:
            found[key] = value
    return found


def _equal(a: Any, b: Any) -> bool:
    """Return whether two values are written alike."""
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return type(a) is type(b) and bool(a == b)


def _is_same_kind(base: dict[str, Any], value: dict[str, Any]) -> bool:
    """Return whether two mappings are calls of one operation or block, or neither is a call."""
    return all(base.get(key) == value.get(key) for key in ("op", "block"))


def _plain(node: Node) -> Any:
    match node:
        case Mapping(items):
            return {key.text: _plain(value) for key, value in items}
        case List(items):
            return [_plain(item) for item in items]
        case Scalar(text=text):
            return literal(node) if node.plain else text
