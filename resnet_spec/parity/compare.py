"""Two records of a case, group by group: the worst difference, and the first that passes its gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, assert_never

import numpy as np

from resnet_spec.backend import REFERENCE
from resnet_spec.parity.case import Case, Group
from resnet_spec.weights.canonical import Array

Verdict: TypeAlias = Literal["same", "differs", "reported", "failed", "alone"]


@dataclass(frozen=True, slots=True)
class Finding:
    """How one backend's group of arrays compares with the reference's.

    Attributes:
        reference: The backend that it is compared with.
        count: How many arrays were compared.
        worst: The largest difference, relative to what ``scales`` says; infinite for another shape or type, or what is not finite.
        where: The name of the first array that passes the gate; where none does, that of the worst.
        gate: What ``worst`` may be at most; None where it is reported alone.
        errors: Every array's difference by name, in order.
        failure: Why there is nothing to compare: the backend's last words, or that no other backend has this group.
        blame: The parts that are at fault, once that is known.
        unlike: Why that first array has no difference in numbers, as "holds NaN".
        wrong: Which of the two backends is wrong about a gradient, where differences of the reference's loss can tell.
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

    @property
    def verdict(self) -> Verdict:
        if self.failure:
            return "alone" if self.reference == "" and not self.count else "failed"
        if self.gate is None:
            return "reported"
        return "same" if self.count > 0 and self.worst <= self.gate else "differs"


def compared(
    case: Case, group: Group, backend: str, found: Mapping[str, Array], reference: str, wanted: Mapping[str, Array]
) -> Finding:
    """Compare a group of a backend's record with the reference's, name by name in the reference's order."""
    scale = scales(case, group, wanted)
    errors = {name: error(wanted[name], found.get(name), scale[name]) for name in wanted}
    errors |= {name: np.inf for name in found if name not in wanted}
    gate = case.gate(group)
    off = [name for name, value in errors.items() if not value <= (np.inf if gate is None else gate)]
    where = off[0] if off else max(errors, key=errors.__getitem__, default="")
    worst = max(errors.values(), default=np.inf)
    finding = Finding(case.network.name, backend, case.dtype, group, reference, len(errors), worst, where, gate, errors)
    return replace(finding, unlike=unlike(wanted.get(where), found.get(where)) if off else "")


def rounds(finding: Finding) -> bool:
    """Whether a difference may be one of rounding alone: numbers in float32, of a forward pass that the reference takes too."""
    forward = finding.group in ("evaluation", "training forward") and finding.reference == REFERENCE
    return finding.verdict == "differs" and finding.dtype == "float32" and forward and np.isfinite(finding.worst)


def within(finding: Finding, limits: Mapping[str, float]) -> Finding:
    """The finding by a wider gate for some of its arrays: that of the worst where it passes, else at the first that does not."""
    gate = finding.gate or 0.0
    off = [name for name, value in finding.errors.items() if value > max(gate, limits.get(name, 0.0))]
    if off:
        return replace(finding, where=off[0])
    where = max(finding.errors, key=finding.errors.__getitem__)
    return replace(finding, gate=limits[where], where=where)


def scales(case: Case, group: Group, wanted: Mapping[str, Array]) -> dict[str, float]:
    """What an array's error is relative to: its largest magnitude, now or, of a weight, before training; of a gradient, the model's.

    A running mean of what has been centred decays towards nothing, and a gradient may be nothing: neither is a yardstick.
    """
    largest = {name: _largest(array) for name, array in wanted.items()}
    match group:
        case "evaluation" | "training forward" | "loss":
            return largest
        case "gradient":
            return dict.fromkeys(largest, max(largest.values(), default=0.0))
        case "statistics" | "weights":
            before = case.largest()
            return {name: max(value, before[name]) for name, value in largest.items()}
        case _:
            assert_never(group)


def failed(case: Case, group: Group, backend: str, why: str, reference: str = "numpy") -> Finding:
    """A finding where there is nothing to compare."""
    return Finding(case.network.name, backend, case.dtype, group, reference, 0, np.inf, "", case.gate(group), {}, why)


def error(wanted: Array, found: Array | None, scale: float | None = None) -> float:
    """The largest difference relative to the largest magnitude, or to a scale; infinite where there is no comparing."""
    if found is None or unlike(wanted, found):
        return float("inf")
    difference = float(np.abs(wanted - found).max())
    scale = _largest(wanted) if scale is None else scale
    return difference / scale if scale else difference


def unlike(wanted: Array | None, found: Array | None) -> str:
    """Why two arrays have no difference in numbers; "" where they have."""
    if wanted is None or found is None:
        return f"is {'unknown to the reference' if wanted is None else 'missing'}"
    if wanted.shape != found.shape:
        return f"has shape {found.shape}, not {wanted.shape}"
    if wanted.dtype != found.dtype:
        return f"is {found.dtype}, not {wanted.dtype}"
    if wanted.size == 0:
        return "holds nothing"
    if not np.isfinite(found).all():
        return f"holds {'NaN' if np.isnan(found).any() else 'infinity'}"
    return "" if np.isfinite(wanted).all() else "is finite, and the reference's is not"


def _largest(array: Array) -> float:
    return float(np.abs(array).max()) if array.size else 0.0
