"""A case in several backends: records taken side by side, compared with the reference's, and what differs located."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol, TypeAlias, assert_never

import numpy as np

from resnet_spec.backend import REFERENCE
from resnet_spec.network.parts import Leaf
from resnet_spec.parity.case import ROUNDED, Case, Group
from resnet_spec.parity.compare import Finding, compared, error, failed, rounds, within
from resnet_spec.parity.gradient_check import settled
from resnet_spec.parity.locate import blamed, inputs
from resnet_spec.parity.processes import Failure
from resnet_spec.parity.recorder import Record
from resnet_spec.weights.canonical import Array

Keep: TypeAlias = Callable[[str, Case, Record], None]
"""Called with a backend's name, the case and what the backend made of it."""


class Subject(Protocol):
    """A backend to ask, here or in a process of its own. Each question raises Failure where there is no answer."""

    name: str

    def record(self, case: Case) -> Record: ...
    def alone(self, case: Case, train: bool, inputs: Mapping[str, Array]) -> dict[str, Array]: ...
    def slopes(self, case: Case) -> dict[str, Array]: ...
    def pulls(self, case: Case, inputs: Mapping[str, Array], slopes: Mapping[str, Array]) -> dict[str, Array]: ...


def examine(
    case: Case,
    reference: Subject,
    subjects: Sequence[Subject],
    *,
    locate: bool = True,
    keep: Keep | None = None,
    memory: float = math.inf,
) -> list[Finding]:
    """Every group of a case in every subject, compared with the reference.

    So many subjects compute at a time as ``memory`` holds, in bytes, one at least. What the reference does not compute is compared with one of the two subjects that are closest to each other, and that one with its
    nearest: where one of three is wrong, it differs alone, and where two agree on one thing and two on another, not all pass.
    """
    everyone = [reference, *(subject for subject in subjects if subject.name != reference.name)]
    together = int(max(1, min(len(everyone), memory / case.memory)))
    with ThreadPoolExecutor(together) as pool:
        asked = {subject.name: pool.submit(_recorded, subject, case) for subject in everyone}
    records = {name: future.result() for name, future in asked.items()}
    for name, record in records.items():
        if keep is not None and isinstance(record, dict):
            keep(name, case, record)
    judges = {group: _judge(case, group, records) for group in case.groups}
    findings = []
    limits: dict[Group, Mapping[str, float]] = {}
    for subject in subjects:
        for group in case.groups:
            finding = _found(case, group, subject.name, judges[group], records)
            if rounds(finding):
                if group not in limits:
                    limits[group] = _limits(case, group, reference, records)
                finding = within(finding, limits[group])
            own = records[subject.name]
            # A backend that could not run the whole may still run its parts, and then the first group says which it can't.
            broken = isinstance(own, Failure) and own.alive and group == case.groups[0]
            if locate and (finding.verdict == "differs" or broken):
                blame, wrong = _blame(case, finding, everyone, records), _wrong(case, finding, records)
                finding = replace(finding, blame=blame, wrong=wrong)
            findings.append(finding)
    return findings


def _limits(case: Case, group: Group, reference: Subject, records: Mapping[str, Record | Failure]) -> dict[str, float]:
    """How far from each of the reference's arrays rounding alone may take a backend: so many times as far as it takes that from float64's."""
    single = records[reference.name]
    try:
        double = reference.record(replace(case, dtype="float64", level="forward"))[group]
    except Failure:
        return {}
    assert isinstance(single, dict)
    return {
        name: ROUNDED * error(double[name], array.astype(double[name].dtype)) for name, array in single[group].items()
    }


def _recorded(subject: Subject, case: Case) -> Record | Failure:
    try:
        return subject.record(case)
    except Failure as failure:
        return failure


def _found(case: Case, group: Group, name: str, judge: str, records: Mapping[str, Record | Failure]) -> Finding:
    own = records[name]
    if isinstance(own, Failure):
        return failed(case, group, name, str(own))
    if group not in own:
        return failed(case, group, name, f"{name} does not train", reference="")
    known = _with(group, records)
    if name != judge:
        return compared(case, group, name, own[group], judge, known[judge])
    return _nearest(case, group, name, known) or failed(
        case, group, name, "no other backend has anything to compare it with", reference=""
    )


def _judge(case: Case, group: Group, records: Mapping[str, Record | Failure]) -> str:
    """Whom the others are compared with: the reference, or the first of the two that are closest; "" if nobody has the group."""
    known = _with(group, records)
    if REFERENCE in known:
        return REFERENCE
    nearest = {name: _nearest(case, group, name, known) for name in known}
    return min(known, key=lambda name: found.worst if (found := nearest[name]) else np.inf, default="")


def _nearest(case: Case, group: Group, name: str, known: Mapping[str, Mapping[str, Array]]) -> Finding | None:
    """A subject compared with the other that is nearest, if there is another."""
    found = (compared(case, group, name, known[name], other, known[other]) for other in known if other != name)
    return min(found, key=lambda finding: finding.worst, default=None)


def _with(group: Group, records: Mapping[str, Record | Failure]) -> dict[str, Mapping[str, Array]]:
    """What those who have a group made of it, by name."""
    return {name: record[group] for name, record in records.items() if isinstance(record, dict) and group in record}


def _blame(
    case: Case, finding: Finding, everyone: Sequence[Subject], records: Mapping[str, Record | Failure]
) -> tuple[str, ...]:
    by_name = {subject.name: subject for subject in everyone}
    subject, other = by_name[finding.backend], by_name[finding.reference]
    wanted = records[other.name]
    assert isinstance(wanted, dict)
    gate = finding.gate or 0.0
    try:
        match finding.group:
            case "evaluation" | "training forward" as group:
                given = inputs(case.network, case.images().astype(case.dtype), wanted[group])
                train = group == "training forward"
                return blamed(case.network, given, wanted[group], lambda xs: subject.alone(case, train, xs), gate)
            case "loss" | "gradient":
                return _backwards(case, subject, other, wanted, gate)
            case "statistics" | "weights":
                off = (name for name, value in finding.errors.items() if not value <= gate)
                return tuple(dict.fromkeys(name.rpartition(".")[0] for name in off))
            case _:
                assert_never(finding.group)
    except Failure:
        return ()


def _wrong(case: Case, finding: Finding, records: Mapping[str, Record | Failure]) -> str:
    """Which of two backends is wrong about a gradient; the reference takes none, but its loss has differences."""
    own, other = records[finding.backend], records.get(finding.reference)
    if finding.group != "gradient" or finding.unlike or isinstance(own, Failure) or not isinstance(other, dict):
        return ""
    names = (finding.backend, own), (finding.reference, other)
    return settled(case, finding.where, {name: record["gradient"][finding.where] for name, record in names}).wrong


def _backwards(case: Case, subject: Subject, other: Subject, wanted: Record, gate: float) -> tuple[str, ...]:
    """The operations whose own gradients are off, given the reference's input and the reference's gradient of their output."""
    forward = wanted.get("training forward") or other.record(replace(case, level="forward"))["training forward"]
    given = inputs(case.network, case.images().astype(case.dtype), forward)
    slopes = other.slopes(case)
    paths = [part.path for part in case.network.nodes() if isinstance(part, Leaf) and part.path in slopes]
    question = {path: given[path] for path in paths}, {path: slopes[path] for path in paths}
    ours, theirs = subject.pulls(case, *question), other.pulls(case, *question)
    off = []
    for path in paths:
        names = [name for name in theirs if name.partition(":")[0] == path]
        scale = max((float(np.abs(theirs[name]).max()) for name in names), default=0.0)
        if any(not error(theirs[name], ours.get(name), scale) <= gate for name in names):
            off.append(path)
    return tuple(off)
