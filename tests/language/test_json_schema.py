"""The JSON Schema: it is current, every spec names it, and it refuses what the reader refuses for its form, and that alone."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from os.path import relpath
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError, validators

from resnet_spec.diagnostics.problems import Problems, Source, SpecError
from resnet_spec.language.grammar import BLOCK, SPEC, Record
from resnet_spec.language.json_schema import block_schema, spec_schema
from resnet_spec.language.validator import check
from resnet_spec.library import bundled
from resnet_spec.syntax.nodes import parse
from shared.paths import DATA
from shared.spec_documents import Json, as_json, documents, mutated

SPECS = Path(str(bundled.directory()))
COMMITTED = {"schema.json": spec_schema(), "blocks/schema.json": block_schema("../schema.json")}
FILES = sorted(SPECS.rglob("*.yaml"))


# -- the schema that is committed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_schema_is_current(name: str, rewrite: bool) -> None:
    text = json.dumps(COMMITTED[name], indent=1) + "\n"
    if rewrite:
        (SPECS / name).write_text(text, encoding="utf-8")
    assert (SPECS / name).read_text(encoding="utf-8") == text


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SPECS)))
def test_a_bundled_spec_names_its_schema(path: Path, rewrite: bool) -> None:
    folder = SPECS / "blocks" if path.is_relative_to(SPECS / "blocks") else SPECS
    line = f"# yaml-language-server: $schema={Path(relpath(folder / 'schema.json', path.parent)).as_posix()}"
    lines = path.read_text(encoding="utf-8").split("\n")
    if rewrite and line not in lines:
        first = next(index for index, text in enumerate(lines) if not text.startswith("#"))
        lines.insert(first, line)
        path.write_text("\n".join(lines), encoding="utf-8")
    assert line in lines[: next(index for index, text in enumerate(lines) if not text.startswith("#"))]


def test_it_is_a_schema() -> None:
    for found in COMMITTED.values():
        Draft202012Validator.check_schema(found)


def test_every_key_says_what_it_is_for() -> None:
    silent = [path for path, rule in properties(spec_schema()) if not rule.get("description")]
    assert silent == []


def properties(rule: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """What an editor offers to complete: the properties of each mapping that lists the keys it may have."""
    if isinstance(rule, dict):
        if rule.get("additionalProperties") is False and not path.endswith(("defaults", "defaults_in_part")):
            for name, held in rule.get("properties", {}).items():
                if name != "block" or "anyOf" not in held:
                    yield f"{path}/{name}", held
        for key, value in rule.items():
            yield from properties(value, f"{path}/{key}")
    elif isinstance(rule, list):
        for value in rule:
            yield from properties(value, path)


# -- schema and reader agree --------------------------------------------------------------------------------------


def _pattern(validator: Any, pattern: str, instance: Any, rule: Any) -> Iterator[ValidationError]:
    """Patterns are ECMA's, where $ is the end; Python's lets a line's end follow it."""
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance):
        yield ValidationError("does not match")


def _integer(checker: Any, instance: object) -> bool:
    """JSON knows no difference of 64.0 and 64; a spec does, and no schema can say it."""
    return isinstance(instance, int) and not isinstance(instance, bool)


CHECKER = Draft202012Validator.TYPE_CHECKER.redefine("integer", _integer)
EXACT = validators.extend(Draft202012Validator, {"pattern": _pattern}, type_checker=CHECKER)
VALIDATORS = {
    "spec": EXACT(spec_schema()),
    "block": EXACT(spec_schema() | {"if": True, "then": {"$ref": "#/$defs/block"}}),
}


def refused(document: Json, form: Record) -> bool:
    """Whether the reader refuses a document for its form, of the one file that it is."""
    problems = Problems()
    try:
        check(parse(Source("it.json", json.dumps(document, ensure_ascii=False))), form, problems)
    except SpecError:
        return True
    return bool(problems.found)


def agree(document: Json, kind: str) -> None:
    by_schema = not VALIDATORS[kind].is_valid(document)
    assert refused(document, SPEC if kind == "spec" else BLOCK) == by_schema, document


def bundled_documents(kind: str) -> list[Json]:
    files = bundled.catalogue() if kind == "spec" else bundled.block_files()
    found = [as_json(parse(Source(name, file.read_text(encoding="utf-8")))) for name, file in files.items()]
    return random.Random(0).sample(found, min(60, len(found)))


EVERYTHING = as_json(parse(Source("it", (DATA / "everything.yaml").read_text(encoding="utf-8"))))
BUNDLED = {kind: bundled_documents(kind) for kind in ("spec", "block")}


@pytest.mark.parametrize("kind", ["spec", "block"])
def test_what_is_bundled_passes_both(kind: str) -> None:
    for document in BUNDLED[kind]:
        assert VALIDATORS[kind].is_valid(document)
        agree(document, kind)


@pytest.mark.parametrize("kind", ["spec", "block"])
@settings(max_examples=1000, deadline=None, derandomize=True)
@given(data=st.data())
def test_schema_and_reader_agree_on_mutated_documents(kind: str, data: st.DataObject) -> None:
    chance = data.draw(st.randoms(use_true_random=False))
    start = [*BUNDLED[kind], *([EVERYTHING] * 5 if kind == "spec" else EVERYTHING["blocks"].values())]
    agree(mutated(chance.choice(start), chance), kind)


@pytest.mark.parametrize("kind", ["spec", "block"])
@settings(max_examples=500, deadline=None, derandomize=True)
@given(data=st.data())
def test_schema_and_reader_agree_on_generated_documents(kind: str, data: st.DataObject) -> None:
    agree(data.draw(documents(SPEC if kind == "spec" else BLOCK)), kind)


def test_the_generated_documents_are_of_both_kinds() -> None:
    """Else agreement would show nothing: some are refused and some are not."""
    chance = random.Random(0)
    verdicts = [refused(mutated(chance.choice([*BUNDLED["spec"], EVERYTHING]), chance), SPEC) for _ in range(300)]
    assert 50 < sum(verdicts) < 250
