"""Test that the JSON Schema is current, that every spec names it, and that it accepts what the decoder accepts."""

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
from jsonschema import Draft7Validator, ValidationError, validators

from resnet_spec.diagnostics.problems import Problems, Source, SpecError
from resnet_spec.language.decoder import decode
from resnet_spec.language.grammar import BLOCK, SPEC, Record
from resnet_spec.language.json_schema import block_schema, spec_schema
from resnet_spec.library import bundled
from resnet_spec.ops import OPS
from resnet_spec.syntax.nodes import parse
from shared.paths import DATA
from shared.spec_documents import Json, as_json, documents, mutate

SPECS = Path(str(bundled.directory()))
COMMITTED = {"schema.json": spec_schema(), "blocks/schema.json": block_schema("../schema.json")}
FILES = sorted(SPECS.rglob("*.yaml"))


# -- the schemas in specs/ ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_schema_is_current(name: str, rewrite: bool) -> None:
    text = json.dumps(COMMITTED[name], indent=1) + "\n"
    if rewrite:
        (SPECS / name).write_text(text, encoding="utf-8")
    assert (SPECS / name).read_text(encoding="utf-8") == text


def test_each_bundled_spec_names_its_schema(rewrite: bool) -> None:
    missing = []
    for path in FILES:
        folder = SPECS / "blocks" if path.is_relative_to(SPECS / "blocks") else SPECS
        line = f"# yaml-language-server: $schema={Path(relpath(folder / 'schema.json', path.parent)).as_posix()}"
        lines = path.read_text(encoding="utf-8").split("\n")
        first = next(index for index, text in enumerate(lines) if not text.startswith("#"))
        if line not in lines[:first]:
            missing.append(str(path.relative_to(SPECS)))
            if rewrite:
                path.write_text("\n".join([*lines[:first], line, *lines[first:]]), encoding="utf-8")
    assert rewrite or missing == []


def test_the_schemas_are_valid() -> None:
    for schema in COMMITTED.values():
        Draft7Validator.check_schema(schema)


def test_every_key_has_a_description() -> None:
    missing = [path for path, schema in properties(spec_schema()) if not schema.get("description")]
    assert missing == []


def test_every_description_is_one_or_two_sentences() -> None:
    schema = spec_schema()
    texts = dict(described(schema))
    defined = {name.removesuffix("_in_part") for name in schema["definitions"]}
    records = {"spec", "block", "stage", "told", "fork", "collect", "options", *(f"op_{name}" for name in OPS)}
    assert records <= defined
    assert [name for name in records if f"/definitions/{name}" not in texts] == []
    names = [each["const"] for each in schema["definitions"]["operation_name"]["anyOf"] if each["description"]]
    assert names == list(OPS)
    assert [text for text in texts.values() if not is_one_or_two_sentences(text)] == []


def is_one_or_two_sentences(text: str) -> bool:
    """Return whether a text is one line of one or two sentences, of a length that a tooltip can show."""
    stops = re.findall(r"[.!?](?=\s|$)", text.replace("et al.", "et al"))
    return 1 <= len(stops) <= 2 and text.endswith(".") and "\n" not in text and len(text) < 320


def described(schema: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the description of each schema that has one."""
    if isinstance(schema, dict):
        if isinstance(schema.get("description"), str):
            yield path, schema["description"]
        for key, value in schema.items():
            yield from described(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from described(value, f"{path}/{index}")


def test_the_schema_follows_the_rules_of_the_catalog() -> None:
    """The rules of SchemaStore: the draft, an identifier, and titles and descriptions that do not end with a colon."""
    schema = spec_schema()
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert schema["$id"] == "https://www.schemastore.org/resnet-spec.json"
    assert schema["title"] and schema["description"]
    assert not [line for line in json.dumps(schema, indent=1).splitlines() if re.search(r':"(,?)$', line)]


def properties(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what an editor completes: the properties of each mapping that allows no other keys."""
    if isinstance(schema, dict):
        if schema.get("additionalProperties") is False and not path.endswith(("defaults", "defaults_in_part")):
            for name, value in schema.get("properties", {}).items():
                if name != "block" or "anyOf" not in value:
                    yield f"{path}/{name}", value
        for key, value in schema.items():
            yield from properties(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for value in schema:
            yield from properties(value, path)


# -- schema and decoder agree -------------------------------------------------------------------------------------


def _pattern(validator: Any, pattern: str, instance: Any, rule: Any) -> Iterator[ValidationError]:
    """Check a pattern as ECMAScript does, where $ matches at the end only, and not before a final line break."""
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance):
        yield ValidationError("does not match")


def _integer(checker: Any, instance: object) -> bool:
    """Return whether a value is written as an integer. JSON Schema accepts 64.0 too, but a spec does not."""
    return isinstance(instance, int) and not isinstance(instance, bool)


CHECKER = Draft7Validator.TYPE_CHECKER.redefine("integer", _integer)
EXACT = validators.extend(Draft7Validator, {"pattern": _pattern}, type_checker=CHECKER)
VALIDATORS = {
    "spec": EXACT(spec_schema()),
    "block": EXACT(spec_schema() | {"if": True, "then": {"$ref": "#/definitions/block"}}),
}


def is_rejected(document: Json, form: Record) -> bool:
    """Return whether the decoder finds a problem in a document."""
    problems = Problems()
    try:
        decode(parse(Source("it.json", json.dumps(document, ensure_ascii=False))), form, problems)
    except SpecError:
        return True
    return bool(problems)


def check_agreement(document: Json, kind: str) -> None:
    """Assert that schema and decoder both accept or both reject a document."""
    is_rejected_by_schema = not VALIDATORS[kind].is_valid(document)
    assert is_rejected(document, SPEC if kind == "spec" else BLOCK) == is_rejected_by_schema, document


def bundled_documents(kind: str) -> list[Json]:
    files = bundled.network_files() if kind == "spec" else bundled.block_files()
    chosen = random.Random(0).sample([*files.items()], min(25, len(files)))
    return [as_json(parse(Source(name, file.read_text(encoding="utf-8")))) for name, file in chosen]


EVERYTHING = as_json(parse(Source("it", (DATA / "everything.yaml").read_text(encoding="utf-8"))))
BUNDLED = {kind: bundled_documents(kind) for kind in ("spec", "block")}


@pytest.mark.parametrize("kind", ["spec", "block"])
def test_schema_and_decoder_accept_bundled_documents(kind: str) -> None:
    for document in BUNDLED[kind]:
        assert VALIDATORS[kind].is_valid(document)
        check_agreement(document, kind)


@pytest.mark.parametrize("kind", ["spec", "block"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_schema_and_decoder_agree_on_mutated_documents(kind: str, data: st.DataObject) -> None:
    rng = data.draw(st.randoms(use_true_random=False))
    originals = [*BUNDLED[kind], *([EVERYTHING] * 5 if kind == "spec" else EVERYTHING["blocks"].values())]
    check_agreement(mutate(rng.choice(originals), rng), kind)


@pytest.mark.parametrize("kind", ["spec", "block"])
@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data())
def test_schema_and_decoder_agree_on_generated_documents(kind: str, data: st.DataObject) -> None:
    check_agreement(data.draw(documents(SPEC if kind == "spec" else BLOCK)), kind)


def test_mutated_documents_include_valid_and_invalid_ones() -> None:
    rng = random.Random(0)
    verdicts = [is_rejected(mutate(rng.choice([*BUNDLED["spec"], EVERYTHING]), rng), SPEC) for _ in range(300)]
    assert 50 < sum(verdicts) < 250
