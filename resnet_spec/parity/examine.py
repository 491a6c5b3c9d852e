"""Run a case in several backends, compare the results, and locate the differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import assert_never

import numpy as np

from resnet_spec.backend import REFERENCE
from resnet_spec.network.parts import Leaf
from resnet_spec.parity.case import GATES, Case, Group
from resnet_spec.parity.compare import Finding, compare_group, failed_finding, relative_error
from resnet_spec.parity.examine_parts import examine_parts
from resnet_spec.parity.gradient_check import check_gradient
from resnet_spec.parity.locate import compute_part_inputs, find_faulty_parts
from resnet_spec.parity.processes import Failure
from resnet_spec.parity.recorder import Record
from resnet_spec.parity.reference import complete_record
from resnet_spec.parity.rounding import Rounding
from resnet_spec.parity.runner import Failures, OnRecord, Results, Runner, run_case
from resnet_spec.parity.saved_records import SavedRecords
from resnet_spec.parity.slopes import measure_slopes
from resnet_spec.weights.canonical import Array


def examine(
    case: Case,
    reference: Runner,
    runners: Sequence[Runner],
    *,
    locate: bool = True,
    on_record: OnRecord | None = None,
    memory: float = math.inf,
) -> list[Finding]:
    """Run a case in all backends and return the finding of every backend and group.

    As many backends run at a time as fit into ``memory`` bytes by the case's estimate, and at least one. With
    ``locate``, a finding that differs names the parts at fault.

    Groups that the reference does not compute, such as gradients, are compared with one of the two backends that are
    closest to each other; that backend itself is compared with the one closest to it. If one of three backends is
    wrong, it alone differs; if two pairs of backends disagree, at least one pair differs.
    """
    if case.is_mixed:
        return examine_parts(case, reference, runners, locate=locate, on_record=on_record, memory=memory)
    runners = list({runner.name: runner for runner in runners}.values())  # no runner answers twice at a time
    everyone = [reference, *(runner for runner in runners if runner.name != reference.name)]
    results, failures = _run_all(case, everyone, memory)
    for name, result in results.items():
        if on_record is not None and result:
            on_record(name, case, result)
    _add_slopes(case, reference, results, failures)
    references = {group: _choose_reference(case, group, results) for group in case.groups}
    findings = _find_failed_reference(case, reference, runners, failures)
    rounding = Rounding(case, everyone, results)
    for runner in runners:
        earlier: list[Finding] = []
        for group in case.groups:
            found = _find(case, group, runner, references[group], results, failures)
            finding = rounding.judge(found, earlier)
            earlier.append(finding)
            if locate and (
                finding.verdict == "differs" or _parts_may_run(case, group, failures.get((runner.name, group)))
            ):
                blame, wrong = _locate_fault(case, finding, everyone, results), _find_wrong(case, finding, results)
                finding = replace(finding, blame=blame, wrong=wrong)
            findings.append(finding)
    return findings


def _run_all(
    case: Case, runners: Sequence[Runner], memory: float
) -> tuple[dict[str, Record], dict[tuple[str, Group], Failure]]:
    """Run a case in all backends, of which the first is the reference."""
    concurrent = int(max(1, min(len(runners), memory / case.memory)))
    with ThreadPoolExecutor(concurrent) as pool:
        futures = {runner.name: pool.submit(_run, runner, case, runner is runners[0]) for runner in runners}
    outcomes = {name: future.result() for name, future in futures.items()}
    results = {name: record for name, (record, _) in outcomes.items()}
    failures = {(name, group): why for name, (_, failed) in outcomes.items() for group, why in failed.items()}
    return results, failures


def _run(runner: Runner, case: Case, is_reference: bool) -> tuple[Record, dict[Group, Failure]]:
    """Run a case in one backend, or in the reference; return its record, and why groups are missing."""
    if not is_reference:
        return run_case(runner, case)
    try:
        return complete_record(case, runner.record(replace(case, level="forward"))), {}
    except Failure as failure:
        return {}, dict.fromkeys(case.groups, failure)


def _add_slopes(
    case: Case, reference: Runner, results: dict[str, Record], failures: dict[tuple[str, Group], Failure]
) -> None:
    """Add to each record with gradients the slope of the loss by them, and by central differences of the reference."""
    gradients = _records_of("gradient", results)
    if "slope" not in case.groups or not gradients:
        return
    try:
        gate = GATES[case.dtype]["slope"]
        slopes = measure_slopes(case, gradients, lambda *trial: reference.central_difference(case, *trial), gate)
    except Failure as failure:
        failures |= {(name, "slope"): Failure(f"no loss of the reference: {failure}") for name in gradients}
        return
    for name, slope in slopes.items():
        results[name]["slope"] = {"gradient": np.array(slope.gradient), "difference": np.array(slope.difference)}


def _find_failed_reference(
    case: Case, reference: Runner, runners: Sequence[Runner], failures: Failures
) -> list[Finding]:
    """Return a finding for a reference that gave no result, unless it is one of the backends that are compared.

    Without it nothing is compared with the definition, even if all backends agree.
    """
    failure = failures.get((reference.name, case.groups[0]))
    is_compared = any(runner.name == reference.name for runner in runners)
    if is_compared or failure is None:
        return []
    return [failed_finding(case, case.groups[0], reference.name, str(failure))]


def _parts_may_run(case: Case, group: Group, failure: Failure | None) -> bool:
    """Return whether to look for the fault of a backend that could not run the network: in its first group only."""
    return failure is not None and failure.alive and group == case.groups[0]


def _find(case: Case, group: Group, runner: Runner, reference: str, results: Results, failures: Failures) -> Finding:
    name = runner.name
    result, failure = results[name], failures.get((name, group))
    if failure is not None:
        return failed_finding(case, group, name, str(failure))
    if group not in result:
        # A record of a lower level lacks what the backend itself may well compute.
        reason = "the saved record lacks it" if isinstance(runner, SavedRecords) else f"{name} does not train"
        return failed_finding(case, group, name, reason, reference="")
    if group == "slope":
        actual, expected = ({"all gradients": result[group][key]} for key in ("gradient", "difference"))
        return compare_group(case, group, name, actual, REFERENCE, expected)
    if group == "updates":
        weights = {parameter: result["weights"][parameter] for parameter in result[group]}
        return compare_group(case, group, name, weights, REFERENCE, result[group])
    records = _records_of(group, results)
    if name != reference:
        return compare_group(case, group, name, result[group], reference, records[reference])
    nearest = _compare_with_nearest(case, group, name, records)
    return nearest or failed_finding(case, group, name, "no other backend computes it", reference="")


def _choose_reference(case: Case, group: Group, results: Results) -> str:
    """Return the backend that the others are compared with, or "" if no backend has the group.

    That is the reference, or else the first of the two backends that are closest to each other.
    """
    records = _records_of(group, results)
    if REFERENCE in records:
        return REFERENCE
    nearest = {name: _compare_with_nearest(case, group, name, records) for name in records}
    return min(records, key=lambda name: finding.worst if (finding := nearest[name]) else np.inf, default="")


def _compare_with_nearest(
    case: Case, group: Group, name: str, records: Mapping[str, Mapping[str, Array]]
) -> Finding | None:
    """Compare a backend with the one closest to it; return None if there is no other."""
    findings = (
        compare_group(case, group, name, records[name], other, records[other]) for other in records if other != name
    )
    return min(findings, key=lambda finding: finding.worst, default=None)


def _records_of(group: Group, results: Results) -> dict[str, Mapping[str, Array]]:
    """Return the arrays of a group by backend, of the backends that have it."""
    return {name: result[group] for name, result in results.items() if group in result}


def _locate_fault(case: Case, finding: Finding, everyone: Sequence[Runner], results: Results) -> tuple[str, ...]:
    """Return the paths of the parts at fault; none if a backend fails to run them, or if the reference failed."""
    by_name = {runner.name: runner for runner in everyone}
    expected = results.get(finding.reference)
    if not expected:
        return ()
    runner, reference = by_name[finding.backend], by_name[finding.reference]
    gate = finding.gate or 0.0
    try:
        match finding.group:
            case "evaluation" | "training forward" as group:
                inputs = compute_part_inputs(case.network, case.images().astype(case.dtype), expected[group])
                train = group == "training forward"
                return find_faulty_parts(
                    case.network, inputs, expected[group], lambda xs: runner.run_parts(case, train, xs), gate
                )
            case "gradient":
                return _locate_backward(case, runner, reference, expected, gate)
            case "loss" | "slope" | "inference":
                return ()  # of the network as a whole: parts are fused, and the outputs and gradients have findings
            case "statistics" | "updates" | "weights":
                failing = (name for name, value in finding.errors.items() if not value <= gate)
                return tuple(dict.fromkeys(name.rpartition(".")[0] for name in failing))
            case _:
                assert_never(finding.group)
    except Failure:
        return ()


def _find_wrong(case: Case, finding: Finding, results: Results) -> str:
    """Return which of two backends has the wrong gradient, by differences of the reference's loss; "" if unknown."""
    own, other = results[finding.backend], results.get(finding.reference)
    if finding.group != "gradient" or finding.unlike or not own or not other:
        return ""
    gradients = {finding.backend: own["gradient"][finding.where], finding.reference: other["gradient"][finding.where]}
    return check_gradient(case, finding.where, gradients).wrong


def _locate_backward(case: Case, runner: Runner, reference: Runner, expected: Record, gate: float) -> tuple[str, ...]:
    """Return the operations with wrong gradients, each given the reference's input and gradient of its output."""
    forward = expected.get("training forward") or reference.record(replace(case, level="forward"))["training forward"]
    inputs = compute_part_inputs(case.network, case.images().astype(case.dtype), forward)
    cotangents = reference.output_gradients(case)
    paths = [part.path for part in case.network.nodes() if isinstance(part, Leaf) and part.path in cotangents]
    arguments = {path: inputs[path] for path in paths}, {path: cotangents[path] for path in paths}
    actual_vjps, expected_vjps = runner.vjps(case, *arguments), reference.vjps(case, *arguments)
    faulty = []
    for path in paths:
        names = [name for name in expected_vjps if name.partition(":")[0] == path]
        scale = max((float(np.abs(expected_vjps[name]).max()) for name in names), default=0.0)
        if any(not relative_error(expected_vjps[name], actual_vjps.get(name), scale) <= gate for name in names):
            faulty.append(path)
    return tuple(faulty)
