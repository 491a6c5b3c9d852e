"""Decide whether rounding explains a difference: whether it is amplified that far in one backend alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from resnet_spec.backend import REFERENCE
from resnet_spec.parity.case import FORWARD_GROUPS, GROUPS, LEVELS, ROUNDING_FACTOR, Case, Group
from resnet_spec.parity.compare import Finding, allow_for_rounding, compare_group, may_be_rounding, relative_error
from resnet_spec.parity.processes import Failure
from resnet_spec.parity.recorder import Record
from resnet_spec.parity.reference import complete_record
from resnet_spec.parity.runner import Results, Runner
from resnet_spec.weights.canonical import Array

Errors: TypeAlias = Mapping[str, float]
"""Relative errors by the names of arrays."""


class Rounding:
    """The rounding errors of a case's backends. They are measured when a difference asks for them, and once."""

    def __init__(self, case: Case, runners: Sequence[Runner], results: Results) -> None:
        self.case = case
        self.runners = {runner.name: runner for runner in runners}
        self.results = results
        self._records: dict[tuple[str, Case, bool], Record] = {}

    def judge(self, finding: Finding, earlier: Sequence[Finding]) -> Finding:
        """Return a finding as ``allow_for_rounding`` judges it, by the rounding error of each of the two backends.

        Both must explain it: a mistake may make a backend amplify rounding. ``earlier`` are the same backend's findings
        of the groups before. If a training pass is ill-conditioned, so is what follows from it.
        """
        if not may_be_rounding(finding):
            return finding
        source = next((one for one in earlier if one.rounding and one.group not in ("evaluation", "inference")), None)
        if source is not None and finding.group not in ("evaluation", "inference"):
            return replace(finding, rounding=max(source.rounding, finding.worst))
        judged = finding
        for name in dict.fromkeys((finding.reference, finding.backend)):
            judged = allow_for_rounding(
                finding, self._explained(finding.group, name), self.case.largest_gate(finding.group) or 0.0
            )
            if judged.verdict == "differs":
                return judged
        return judged

    def _explained(self, group: Group, name: str) -> dict[str, float]:
        """Return the error that rounding explains of each array of a group; none if it cannot be measured."""
        is_single = self.case.dtype == "float32" and group in FORWARD_GROUPS
        errors = self._precision_errors(group) if is_single else self._nudge_errors(group, name)
        return {array: ROUNDING_FACTOR * error for array, error in errors.items()}

    def _precision_errors(self, group: Group) -> Errors:
        """Return how far the reference in float32 is from the reference in float64."""
        single = self.results[REFERENCE].get(group, {})
        double = self._group_of(REFERENCE, replace(self.case, dtype="float64"), group)
        return {
            name: relative_error(double[name], array.astype(np.float64))
            for name, array in single.items()
            if name in double
        }

    def _nudge_errors(self, group: Group, name: str) -> Errors:
        """Return how far the results of a backend move if the images move by one unit of rounding."""
        still = self.results[name].get(group)
        nudged = still and self._group_of(name, replace(self.case, nudged=True), group)
        return compare_group(self.case, group, name, nudged, name, still).errors if still and nudged else {}

    def _group_of(self, name: str, case: Case, group: Group) -> Mapping[str, Array]:
        """Return a group of another case, which a backend runs for it; nothing if it has no such group, or fails."""
        level = next(level for level in LEVELS if group in GROUPS[level])
        key = (
            name,
            replace(case, level="forward" if name == REFERENCE else level),
            group == "inference" and name != REFERENCE,
        )
        if key not in self._records:
            self._records[key] = self._run(*key)
        return self._records[key].get(group, {})

    def _run(self, name: str, case: Case, infers: bool) -> Record:
        try:
            if name == REFERENCE:
                return complete_record(replace(case, level=self.case.level), self.runners[name].record(case))
            return {"inference": self.runners[name].infer(case)} if infers else self.runners[name].record(case)
        except Failure:
            return {}
