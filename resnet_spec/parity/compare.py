"""Compare two records of a case, group by group: the worst error, and the first array that exceeds its gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, assert_never

import numpy as np

from resnet_spec.parity.case import Case, Group
from resnet_spec.weights.canonical import Array

Verdict: TypeAlias = Literal["same", "differs", "ill-conditioned", "reported", "failed", "alone"]
"""``ill-conditioned``: rounding explains the difference, but no gate grows so far, so nothing is known.

``reported``: no gate applies. ``failed``: the backend gave no result. ``alone``: nothing to compare with.
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """How one backend's arrays of a group compare with those of another backend.

    The fields are also the keys of ``resnet-spec parity --json``.

    Attributes:
        reference: The backend that it is compared with.
        count: How many arrays were compared.
        worst: The largest error, relative to what ``error_scales`` says; infinite if shapes or types differ, or values
            are not finite.
        where: The name of the first array that exceeds the gate; if none does, that of the array with the largest
            error.
        gate: The largest value of ``worst`` that passes; None if errors are only reported.
        errors: The error of every array by name, in the order of the network.
        failure: Why nothing was compared: the backend's error message, or that no other backend has this group.
        blame: The paths of the parts at fault, if known.
        unlike: Why the array at ``where`` has no numeric error, such as "holds NaN".
        wrong: Which of the two backends has the wrong gradient, if central differences of the reference's loss can
            tell.
        rounding: How large an error rounding alone explains, if that exceeds the largest gate; otherwise 0.
        gates: In 16 bits, the gate of each array by name: ``worst`` is then the error of the array at ``where``, and
            ``gate`` its gate.
    """

    network: str
    backend: str
    dtype: str
    group: Group
    reference: str
    count: int
    worst: float
    where: str
    gate: float | None
    errors: Mapping[str, float]
    failure: str = ""
    blame: tuple[str, ...] = ()
    unlike: str = ""
    wrong: str = ""
    rounding: float = 0.0
    gates: Mapping[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """The result of the comparison."""
        if self.failure:
            return "alone" if self.reference == "" and not self.count else "failed"
        if self.gate is None:
            return "reported"
        if self.rounding:
            return "ill-conditioned"
        return "same" if self.count > 0 and self.worst <= self.gate else "differs"


def compare_group(
    case: Case, group: Group, backend: str, actual: Mapping[str, Array], reference: str, expected: Mapping[str, Array]
) -> Finding:
    """Compare a backend's arrays of a group with the reference's, by name, in the reference's order."""
    scales = error_scales(case, group, expected)
    errors = {name: relative_error(expected[name], actual.get(name), scales[name]) for name in expected}
    errors |= {name: np.inf for name in actual if name not in expected}
    gate = case.gate(group)
    # "not value <= gate" also holds if the value is NaN.
    failing = [name for name, value in errors.items() if not value <= (np.inf if gate is None else gate)]
    where = failing[0] if failing else max(errors, key=errors.__getitem__, default="")
    worst = max(errors.values(), default=np.inf)
    finding = Finding(case.network.name, backend, case.dtype, group, reference, len(errors), worst, where, gate, errors)
    return replace(finding, unlike=describe_mismatch(expected.get(where), actual.get(where)) if failing else "")


def may_be_rounding(finding: Finding) -> bool:
    """Return whether rounding may explain a finding: a finite difference above a gate."""
    return finding.verdict == "differs" and np.isfinite(finding.worst)


def allow_for_rounding(finding: Finding, explained: Mapping[str, float], largest_gate: float) -> Finding:
    """Judge a finding again by the error that rounding explains, for each array: ``explained``.

    - If an array has a larger error, the finding differs, and ``where`` becomes the first such array.
    - If rounding explains more than ``largest_gate`` of an array above the gate, the finding is ill-conditioned.
    - Otherwise the gate becomes what rounding explains of the array with the largest error, and all arrays pass.
    """
    gate = finding.gate or 0.0
    failing = [name for name, value in finding.errors.items() if value > max(gate, explained.get(name, 0.0))]
    if failing:
        return replace(finding, where=failing[0])
    unknown = [name for name, value in finding.errors.items() if value > gate and explained[name] > largest_gate]
    if unknown:
        return replace(finding, where=unknown[0], rounding=max(explained[name] for name in unknown))
    where = max(finding.errors, key=finding.errors.__getitem__)
    return replace(finding, gate=explained[where], where=where)


def error_scales(case: Case, group: Group, expected: Mapping[str, Array]) -> dict[str, float]:
    """Return the magnitude that the error of each array is relative to.

    - the output of a part, or the loss: its own largest magnitude
    - a slope: 1, since slopes are in units of their own, as ``slopes.measure_slopes`` says
    - a gradient: the largest magnitude of all gradients of the model, since some are exactly zero in theory, such as
      that of a norm's shift before another norm
    - a statistic or a weight: its largest magnitude before or after training, whichever is larger, since the running
      mean of centred values decays towards zero
    """
    magnitudes = {name: _magnitude(array) for name, array in expected.items()}
    match group:
        case "evaluation" | "training forward" | "inference" | "loss":
            return magnitudes
        case "gradient":
            return dict.fromkeys(magnitudes, max(magnitudes.values(), default=0.0))
        case "slope":
            return dict.fromkeys(magnitudes, 1.0)
        case "statistics" | "updates" | "weights":
            before = case.weight_magnitudes()
            return {name: max(value, before[name]) for name, value in magnitudes.items()}
        case _:
            assert_never(group)


def failed_finding(case: Case, group: Group, backend: str, why: str, reference: str = "numpy") -> Finding:
    """Return the finding of a group in which nothing could be compared."""
    return Finding(case.network.name, backend, case.dtype, group, reference, 0, np.inf, "", case.gate(group), {}, why)


def relative_error(expected: Array, actual: Array | None, scale: float | None = None) -> float:
    """Return the largest difference of two arrays, relative to a scale.

    The scale is by default the largest magnitude of ``expected``; if it is 0, the error is absolute. The error is
    infinite if ``describe_mismatch`` finds that there is no numeric difference.
    """
    if actual is None or describe_mismatch(expected, actual):
        return float("inf")
    difference = float(np.abs(expected - actual).max())
    scale = _magnitude(expected) if scale is None else scale
    return difference / scale if scale else difference


def describe_mismatch(expected: Array | None, actual: Array | None) -> str:
    """Return why two arrays have no numeric difference, such as "holds NaN", or "" if they have one."""
    if expected is None or actual is None:
        return f"is {'unknown to the reference' if expected is None else 'missing'}"
    if expected.shape != actual.shape:
        return f"has shape {actual.shape}, not {expected.shape}"
    if expected.dtype != actual.dtype:
        return f"is {actual.dtype}, not {expected.dtype}"
    if expected.size == 0:
        return "is empty"
    if not np.isfinite(actual).all():
        return f"holds {'NaN' if np.isnan(actual).any() else 'infinity'}"
    return "" if np.isfinite(expected).all() else "is finite, but the reference's is not"


def _magnitude(array: Array) -> float:
    return float(np.abs(array).max()) if array.size else 0.0
