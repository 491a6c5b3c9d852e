"""Spec documents as JSON data for tests of the language: parsed, mutated, and generated from the grammar."""

from __future__ import annotations

import random
from collections.abc import Mapping as AbstractMapping
from typing import Any

from hypothesis import strategies as st

from resnet_spec.language.grammar import Form, Items, Key, Names, PerBlock, Record, Simple, Value
from resnet_spec.language.values import ArgumentType, operation_arguments
from resnet_spec.ops import OPS
from resnet_spec.syntax.nodes import List, Mapping, Node, Scalar

Json = Any


def as_json(node: Node) -> Json:
    """Return a node as JSON data, as a YAML 1.2 reader passes it to a schema validator."""
    match node:
        case Scalar(text=text, plain=True):
            return _plain(text)
        case Scalar(text=text):
            return text
        case List(items=items):
            return [as_json(item) for item in items]
        case Mapping(items=items):
            return {key.text: as_json(value) for key, value in items}


def _plain(text: str) -> Json:
    constants: dict[str, Json] = {"": None, "~": None, "null": None, "true": True, "false": False}
    if text in constants:
        return constants[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


WORDS = [
    "norm",
    "act",
    "none",
    "conv",
    "relu",
    "basic",
    "out",
    "in",
    "required",
    "x",
    "a b",
    "64",
    "",
    "é",
    "true",
    "1x",
    "a.b",
]
KEYS = [
    "op",
    "block",
    "out",
    "kernel",
    "stride",
    "bias",
    "depth",
    "as",
    "project",
    "takes",
    "branch",
    "combine",
    "shortcut",
    "name",
]
VALUES: list[Json] = [
    None,
    True,
    False,
    0,
    1,
    3,
    -1,
    2**53,
    0.5,
    2.0,
    1e-5,
    1e300,
    *WORDS,
    [],
    {},
    [1],
    ["relu"],
    {"a": "relu"},
]


def mutate(document: Json, rng: random.Random) -> Json:
    """Return a document with one to three random changes of its values, keys or items."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        document = _mutate_once(document, rng)
    return document


def _mutate_once(document: Json, rng: random.Random) -> Json:
    if isinstance(document, dict) and document and rng.random() < 0.85:
        key = rng.choice(list(document))
        return {name: _mutate_once(value, rng) if name == key else value for name, value in document.items()}
    if isinstance(document, list) and document and rng.random() < 0.7:
        index = rng.randrange(len(document))
        return [_mutate_once(item, rng) if i == index else item for i, item in enumerate(document)]
    match document:
        case dict():
            return _mutate_mapping(dict(document), rng)
        case list():
            return [*document, rng.choice(VALUES)] if rng.random() < 0.5 else document[1:]
        case _:
            return rng.choice(VALUES)


def _mutate_mapping(document: dict[str, Json], rng: random.Random) -> Json:
    choice = rng.randrange(4)
    if choice == 0 or not document:
        document[rng.choice([*KEYS, *WORDS])] = rng.choice(VALUES)
    elif choice == 1:
        del document[rng.choice(list(document))]
    elif choice == 2:
        old = rng.choice(list(document))
        return {rng.choice([*KEYS, *WORDS]) if key == old else key: value for key, value in document.items()}
    else:
        return rng.choice(VALUES)
    return document


# -- documents from the grammar -----------------------------------------------------------------------------------


@st.composite
def documents(draw: st.DrawFn, form: Form, depth: int = 0) -> Json:
    """Generate documents of a form, in which some values have another form."""
    if draw(st.integers(0, 39)) == 0:
        return draw(st.sampled_from(VALUES))
    match form:
        case Simple.TEXT:
            return draw(st.sampled_from([*WORDS[:10], "two\nlines", "\u202e", "x" * 1001]))
        case Simple.REFERENCE:
            return draw(st.sampled_from(WORDS[:10]))
        case Simple.NUMBERING:
            return draw(
                st.sampled_from(
                    ["{index}", "b{number}", "a.b{index}.c", "train.{index}", "b", "{index}{index}", "a..{index}"]
                )
            )
        case Value(argument, accepts_name):
            return draw(literals(argument) | st.sampled_from(WORDS[:10])) if accepts_name else draw(literals(argument))
        case Simple.LAYER | Simple.ARGUMENT | Simple.GROUP:
            return draw(layers(form, depth))
        case Simple.DEFAULTS:
            return {
                name: draw(operation(name, depth)) for name in draw(st.lists(st.sampled_from(list(OPS)), max_size=2))
            }
        case PerBlock(each):
            return draw(documents(each, depth + 1) | st.lists(documents(each, depth + 1), max_size=3))
        case Items(each, count):
            return draw(st.lists(documents(each, depth + 1), min_size=count or 0, max_size=count or 3))
        case Names(_, each):
            return draw(named(each, depth))
        case Record(keys=known, other_keys=other_keys):
            return draw(record(known, other_keys, depth))


@st.composite
def record(draw: st.DrawFn, known: AbstractMapping[str, Key], other_keys: Form | None, depth: int) -> Json:
    chosen = [
        name
        for name, key in known.items()
        if (key.required and draw(st.integers(0, 19))) or not draw(st.integers(0, 2))
    ]
    values = {name: draw(documents(known[name].form, depth + 1)) for name in chosen}
    if other_keys is not None or not draw(st.integers(0, 19)):
        values |= {draw(st.sampled_from(KEYS)): draw(documents(other_keys or Simple.ARGUMENT, depth + 1))}
    return values


def named(each: Form, depth: int) -> st.SearchStrategy[Json]:
    names = st.sampled_from(["conv1", "bn1", "a.b", "0", "x-y", *WORDS, "train", "op"])
    return st.dictionaries(names, documents(each, depth + 1), max_size=2)


def literals(argument: ArgumentType) -> st.SearchStrategy[Json]:
    if argument.choices:
        return st.sampled_from(argument.choices)
    if argument.kind is bool:
        return st.booleans()
    numbers: st.SearchStrategy[Json] = st.integers(-2, 5)
    return numbers if argument.kind is int else numbers | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def operation(draw: st.DrawFn, name: str, depth: int) -> Json:
    known = operation_arguments(name)
    chosen = draw(st.lists(st.sampled_from([*known, "out"]), max_size=3)) if known else []
    return {key: draw(documents(Value(known[key]) if key in known else Simple.ARGUMENT, depth + 1)) for key in chosen}


@st.composite
def layers(draw: st.DrawFn, form: Simple, depth: int) -> Json:
    choices = ["named", "list"] if form is Simple.GROUP else ["word", "op", "block", "named", "list", "value"]
    match draw(st.sampled_from(choices)) if depth < 5 else "word":
        case "op":
            name = draw(st.sampled_from([*OPS, "gate"]))
            return {"op": name} | (draw(operation(name, depth)) if name in OPS else draw(named(Simple.ARGUMENT, depth)))
        case "block":
            return {"block": draw(st.sampled_from(WORDS[:8]))} | draw(named(Simple.ARGUMENT, depth))
        case "named":
            return draw(named(Simple.LAYER, depth))
        case "list":
            return draw(st.lists(documents(Simple.LAYER, depth + 1), max_size=2))
        case "value" if form is Simple.ARGUMENT:
            return draw(st.sampled_from([1, 0.5, True, "x"]))
        case _:
            return draw(st.sampled_from(WORDS[:10]))
