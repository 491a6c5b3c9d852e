"""The schema in SchemaStore's catalog: its entry and test files follow the catalog's rules, and Ajv accepts the schema.

The rules are those of SchemaStore's ``cli.js``. Ajv in strict mode is the validator that it runs.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from resnet_spec import SpecError, load
from resnet_spec.language.json_schema import spec_schema
from shared.npm import PLAYGROUND, require_packages
from shared.paths import ROOT

FOLDER = ROOT / "docs" / "schemastore"
ENTRY = json.loads((FOLDER / "catalog.json").read_text(encoding="utf-8"))
ACCEPTED = sorted((FOLDER / "test").iterdir())
REFUSED = sorted((FOLDER / "negative_test").iterdir())
FIRST_LINE = "# yaml-language-server: $schema=../../schemas/json/resnet-spec.json"
AJV = """
import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
const { schema, documents } = JSON.parse(readFileSync(0));
const validate = new Ajv({ strict: true }).compile(schema);
console.log(JSON.stringify(documents.map((document) => validate(document))));
"""


def test_the_entry_follows_the_rules() -> None:
    assert set(ENTRY) == {"name", "description", "fileMatch", "url"}
    for text in (ENTRY["name"], ENTRY["description"]):
        assert "schema" not in text.lower() and "\n" not in text and not re.search(r"[,. \t-]$", text)
    assert ENTRY["url"] == spec_schema()["$id"]


@pytest.mark.parametrize("path", [*ACCEPTED, *REFUSED], ids=lambda path: path.stem)
def test_files_are_accepted_or_refused(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[0] == FIRST_LINE
    assert Draft7Validator(spec_schema()).is_valid(yaml.safe_load(text)) == (path in ACCEPTED)
    if path in ACCEPTED:
        load(path)
    else:
        with pytest.raises(SpecError):
            load(path)


def test_ajv_in_strict_mode_agrees() -> None:
    require_packages()
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (*ACCEPTED, *REFUSED)]
    command = ["node", "--input-type=module", "--eval", AJV]
    given = json.dumps({"schema": spec_schema(), "documents": documents})
    done = subprocess.run(command, cwd=PLAYGROUND, input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [path in ACCEPTED for path in (*ACCEPTED, *REFUSED)]
