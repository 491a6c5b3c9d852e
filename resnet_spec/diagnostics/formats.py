"""Problems in machine-readable formats: JSON, annotations of GitHub workflows, SARIF 2.1.0."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from resnet_spec.diagnostics.codes import codes
from resnet_spec.diagnostics.problems import Problem, Span

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_json(problems: Iterable[Problem]) -> list[dict[str, object]]:
    """Return problems as JSON data. Lines and columns start at 1 and count characters; ``end`` is exclusive."""
    return [
        {
            "code": problem.code,
            "level": problem.level,
            "message": problem.message,
            **_place(problem.span),
            "help": problem.help,
            "notes": [{"message": note.message, **_place(note.span)} for note in problem.notes],
        }
        for problem in problems
    ]


def as_github(problems: Iterable[Problem]) -> str:
    """Return problems as workflow commands, for GitHub to show them beside the lines that they concern."""
    return "\n".join(map(_annotation, problems))


def as_sarif(problems: Iterable[Problem], version: str) -> dict[str, Any]:
    """Return problems as a SARIF log, for code hosts and editors."""
    problems = list(problems)
    used = sorted({problem.code for problem in problems})
    driver = {"name": "resnet-spec", "version": version, "rules": [_rule(code) for code in used]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(problem, used.index(problem.code)) for problem in problems],
    }
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _place(span: Span) -> dict[str, object]:
    return {"file": span.file, "line": span.line, "column": span.column, "end": span.end}


def _annotation(problem: Problem) -> str:
    span = problem.span
    title = f"{problem.code}: {codes()[problem.code].title}"
    place = {"line": span.line, "col": span.column, "endColumn": span.end - 1} if span.end > span.column else {}
    fields = {"file": span.file, **place, "title": title}
    text = "\n".join([problem.message, *([f"help: {problem.help}"] if problem.help else [])])
    escaped = ",".join(f"{key}={_escape(str(value), more=':,')}" for key, value in fields.items())
    return f"::{problem.level} {escaped}::{_escape(text)}"


def _escape(text: str, more: str = "") -> str:
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _rule(code: str) -> dict[str, Any]:
    meaning = codes()[code]
    help = f"{meaning.explanation}\n\nWrong:\n\n{meaning.wrong}\nRight:\n\n{meaning.right}"
    return {
        "id": code,
        "shortDescription": {"text": meaning.title},
        "fullDescription": {"text": meaning.explanation},
        "help": {"text": help},
    }


def _result(problem: Problem, index: int) -> dict[str, Any]:
    text = f"{problem.message}; {problem.help}" if problem.help else problem.message
    notes = [{**_location(note.span), "message": {"text": note.message}} for note in problem.notes]
    return {
        "ruleId": problem.code,
        "ruleIndex": index,
        "level": problem.level,
        "message": {"text": text},
        "locations": [_location(problem.span)],
        **({"relatedLocations": notes} if notes else {}),
    }


def _location(span: Span) -> dict[str, Any]:
    path = Path(span.file)
    uri = path.as_uri() if path.is_absolute() else quote(path.as_posix())
    region = {"region": {"startLine": span.line, "startColumn": span.column, "endColumn": span.end}}
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, **(region if span.end > span.column else {})}}
