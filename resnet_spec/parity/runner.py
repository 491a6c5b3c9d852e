"""What runs a case in one backend, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from resnet_spec.parity.case import Case, Group
from resnet_spec.parity.processes import Failure
from resnet_spec.parity.recorder import Record
from resnet_spec.weights.canonical import Array

OnRecord: TypeAlias = Callable[[str, Case, Record], None]
"""Called with a backend's name, a case, and the backend's record of it."""

Results: TypeAlias = Mapping[str, Record]
"""The record of a case by backend; empty for a backend that failed."""

Failures: TypeAlias = Mapping[tuple[str, Group], Failure]
"""Why a backend has nothing of a group that it should have."""


class Runner(Protocol):
    """Runs cases in one backend: in this process, in another, or from saved records. Each method raises Failure."""

    name: str

    def record(self, case: Case) -> Record:
        """Run a case and return every array that is compared. Inference mode may be left to ``infer``."""
        ...

    def infer(self, case: Case) -> dict[str, Array]:
        """Return the outputs of a case's network in inference mode, as ``recorder.infer`` does, or nothing."""
        ...

    def run_parts(self, case: Case, train: bool, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run parts, each on its own input; return their outputs by path."""
        ...

    def output_gradients(self, case: Case) -> dict[str, Array]:
        """Return the gradient of the loss with respect to the output of every part, by path."""
        ...

    def vjps(self, case: Case, inputs: Mapping[str, Array], cotangents: Mapping[str, Array]) -> dict[str, Array]:
        """Return the vector-Jacobian products of parts, each at its own input, by ``path:name``."""
        ...

    def judge_parts(self, case: Case, group: Group, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the error and the gate of each output of a group in 16 bits, by name: only the reference does."""
        ...

    def central_difference(self, case: Case, number: int, step: float) -> float:
        """Return the slope of the loss in float64 along a direction, as ``slopes.central_difference`` does."""
        ...


def run_case(runner: Runner, case: Case) -> tuple[Record, dict[Group, Failure]]:
    """Run a case in one backend; return its record, and why groups are missing.

    Inference mode is a request of its own, and the last: a process that it ends has answered for the rest.
    """
    try:
        record = runner.record(case)
    except Failure as failure:
        return {}, dict.fromkeys(case.groups, failure)
    if "inference" not in case.groups or "inference" in record:
        return record, {}
    try:
        outputs = runner.infer(case)
    except Failure as failure:
        return record, {"inference": failure}
    return (record | {"inference": outputs} if outputs else record), {}
