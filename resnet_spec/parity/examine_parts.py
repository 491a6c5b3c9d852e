"""Compare backends in 16 bits: each part on its own, with a gate that is derived for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from resnet_spec.backend import OUTPUT, REFERENCE
from resnet_spec.network.parts import Leaf
from resnet_spec.parity.case import UNITS, Case, Group
from resnet_spec.parity.compare import Finding, failed_finding, relative_error
from resnet_spec.parity.locate import compute_part_inputs
from resnet_spec.parity.part_gates import round_to_type, sum_error
from resnet_spec.parity.processes import Failure
from resnet_spec.parity.recorder import PART_PREFIX, Record
from resnet_spec.parity.reference import compute_statistics
from resnet_spec.parity.runner import OnRecord, Runner, run_case
from resnet_spec.parity.saved_records import SavedRecords
from resnet_spec.parity.slopes import cross_entropy
from resnet_spec.weights.canonical import Array

Judged = Mapping[str, Array]
"""By name, the error of an array and its gate, in the same unit."""

MOST_VALUES = 2**16
"""The number of values up to which a running statistic in float32 is not off by more than its gate grants it."""

GRADIENT_UNITS = 8.0
"""The gate of a part's gradient, in units of rounding: of its input, its weights, its cotangent and its result."""


def examine_parts(
    case: Case,
    reference: Runner,
    runners: Sequence[Runner],
    *,
    locate: bool = True,
    on_record: OnRecord | None = None,
    memory: float = math.inf,
) -> list[Finding]:
    """Run a case in 16 bits in all backends and return the finding of every backend and group, as ``examine`` does."""
    runners = list({runner.name: runner for runner in runners}.values())
    concurrent = int(max(1, min(len(runners), memory / case.memory)))
    with ThreadPoolExecutor(concurrent) as pool:
        outcomes = list(pool.map(lambda runner: run_case(runner, case), runners))
    findings = []
    for runner, (record, failures) in zip(runners, outcomes, strict=True):
        if on_record is not None and record:
            on_record(runner.name, case, record)
        for group in case.groups:
            failure = failures.get(group)
            if failure is None:
                finding = _find(case, group, reference, runner, runners, record)
            else:
                finding = failed_finding(case, group, runner.name, str(failure))
            findings.append(finding if locate else replace(finding, blame=()))
    return findings


def _find(
    case: Case, group: Group, reference: Runner, runner: Runner, runners: Sequence[Runner], record: Record
) -> Finding:
    if group not in record:
        return failed_finding(case, group, runner.name, _why_missing(case, group, runner, record), reference="")
    try:
        compared_with, judged = _judge(case, group, reference, runner, runners, record)
    except Failure as failure:
        return failed_finding(case, group, runner.name, f"its outputs were not judged: {failure}")
    if judged is None:
        return failed_finding(case, group, runner.name, "no other backend computes it", reference="")
    return _make_finding(case, group, runner.name, compared_with, judged)


def _why_missing(case: Case, group: Group, runner: Runner, record: Record) -> str:
    """Return why a record lacks a group."""
    if not record:
        return f"{runner.name} does not compute in {case.dtype}"
    if isinstance(runner, SavedRecords):
        return "the saved record lacks it"
    lacks = f"has no inference mode in {case.dtype}" if group == "inference" else "does not train"
    return f"{runner.name} {lacks}"


def _judge(
    case: Case, group: Group, reference: Runner, runner: Runner, runners: Sequence[Runner], record: Record
) -> tuple[str, Judged | None]:
    """Return the backend that a group is compared with, and the error and the gate of each array."""
    training = {path: np.asarray(array, np.float64) for path, array in record.get("training forward", {}).items()}
    match group:
        case "evaluation" | "training forward" | "inference":
            return REFERENCE, reference.judge_parts(case, group, record[group])
        case "loss":
            return REFERENCE, _judge_loss(case, training, record)
        case "statistics":
            return REFERENCE, _judge_statistics(case, training, record)
        case "updates":
            weights = record["weights"]
            return REFERENCE, {
                name: np.array([relative_error(array, weights.get(name)), case.gate(group) or 0.0])
                for name, array in record["updates"].items()
            }
        case _:
            other = next((one for one in runners if one.name not in (runner.name, REFERENCE)), None)
            return (other.name, _judge_gradients(case, runner, other, training)) if other else ("", None)


def _judge_loss(case: Case, training: Mapping[str, Array], record: Record) -> Judged:
    """Judge the loss by the outputs of the training pass."""
    outputs = training[OUTPUT]
    expected = cross_entropy(outputs, case.labels())
    gate = 4 * UNITS[case.dtype] * float(np.abs(outputs).max()) / expected
    return {OUTPUT: np.array([abs(float(record["loss"][OUTPUT][0]) - expected) / expected, gate])}


def _judge_statistics(case: Case, training: Mapping[str, Array], record: Record) -> Judged:
    """Judge running statistics by the norms' own inputs, of which each may be one rounding off."""
    expected, bounds = compute_statistics(case, training)
    judged = {}
    for name, y in expected.items():
        actual = _in_double(record["statistics"].get(name))
        scale = max(case.weight_magnitudes()[name], float(np.abs(y).max())) or 1.0
        gate = float(bounds[name].max()) * UNITS[case.dtype] / scale + sum_error(MOST_VALUES)
        judged[name] = np.array([relative_error(y, actual, scale), gate])
    return judged


def _judge_gradients(case: Case, runner: Runner, other: Runner, training: Mapping[str, Array]) -> Judged:
    """Judge the vector-Jacobian products of each operation by those of another backend in float64."""
    missing = [part.path for part in case.network.nodes() if part.path not in training]
    if missing:
        raise Failure(f"its training pass has no output of {missing[0]}", alive=True)
    inputs = compute_part_inputs(case.network, case.images(), training)
    leaves = [part.path for part in case.network.nodes() if isinstance(part, Leaf)]
    rng = np.random.default_rng(case.seed)
    rounded = {path: round_to_type(inputs[path], case.dtype) for path in leaves}
    cotangents = {path: round_to_type(rng.standard_normal(training[path].shape), case.dtype) for path in leaves}
    single = [{path: x.astype(np.float32) for path, x in arrays.items()} for arrays in (rounded, cotangents)]
    actual = runner.vjps(case, *single)
    expected = other.vjps(replace(case, dtype="float64"), rounded, cotangents)
    gate = GRADIENT_UNITS * UNITS[case.dtype]
    return {name: np.array([relative_error(y, _in_double(actual.get(name))), gate]) for name, y in expected.items()}


def _in_double(array: Array | None) -> Array | None:
    return None if array is None else array.astype(np.float64)


def _make_finding(case: Case, group: Group, backend: str, reference: str, judged: Judged) -> Finding:
    """Return the finding of a group in which each array has a gate of its own."""
    errors = {name: float(pair[0]) for name, pair in judged.items()}
    gates = {name: float(pair[1]) for name, pair in judged.items()}
    failing = [name for name in errors if not errors[name] <= gates[name]]
    where = failing[0] if failing else max(errors, key=lambda name: errors[name] / (gates[name] or 1.0), default="")
    worst, gate = errors.get(where, math.inf), gates.get(where, 0.0)
    finding = Finding(case.network.name, backend, case.dtype, group, reference, len(errors), worst, where, gate, errors)
    finding = replace(finding, gates=gates, blame=_blame(case, failing))
    largest = case.gate(group) or 0.0
    unknown = [name for name, value in gates.items() if value > largest]
    if unknown and not any(errors[name] > gates[name] for name in failing):
        return replace(finding, where=unknown[0], rounding=gates[unknown[0]])
    return finding


def _blame(case: Case, failing: Sequence[str]) -> tuple[str, ...]:
    """Return the operations that fail; if none does, the other parts."""
    leaves = {leaf.path for leaf in case.network.leaves()}
    failing = [name.removeprefix(PART_PREFIX) for name in failing]
    parts = list(
        dict.fromkeys(name.partition(":")[0] if name.partition(":")[0] in leaves else name for name in failing)
    )
    own = [name for name in parts if name in leaves]
    owners = [name.rpartition(".")[0] for name in parts if name.rpartition(".")[0] in leaves]
    return tuple(dict.fromkeys(own or owners or parts))
