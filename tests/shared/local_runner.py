"""Runners of parity that run a backend in this process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from resnet_spec.parity import part_gates, recorder, slopes
from resnet_spec.parity.case import Case, Group
from resnet_spec.parity.processes import Failure
from resnet_spec.weights.canonical import Array
from shared.frameworks import required


class LocalRunner:
    """Runs cases in a backend in this process, and keeps what it computed of each."""

    def __init__(self, name: str, backend: Any) -> None:
        self.name = name
        self.backend = backend
        self.record = cache(self._record)
        self.output_gradients = cache(self._output_gradients)
        self.central_difference = cache(self._central_difference)

    def _record(self, case: Case) -> recorder.Record:
        try:
            return dict(recorder.record(self.backend, case))
        except recorder.PART_ERRORS as error:
            raise Failure(str(error), alive=True) from None

    def infer(self, case: Case) -> dict[str, Array]:
        return recorder.infer(self.backend, case)

    def run_parts(self, case: Case, train: bool, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return recorder.run_parts(self.backend, case, train, inputs)

    def _output_gradients(self, case: Case) -> dict[str, Array]:
        return recorder.output_gradients(self.backend, case)

    def vjps(self, case: Case, inputs: Mapping[str, Array], cotangents: Mapping[str, Array]) -> dict[str, Array]:
        return recorder.vjps(self.backend, case, inputs, cotangents)

    def judge_parts(self, case: Case, group: Group, outputs: Mapping[str, Array]) -> dict[str, Array]:
        return part_gates.judge_parts(self.backend, case, group, outputs)

    def _central_difference(self, case: Case, number: int, step: float) -> float:
        return slopes.central_difference(self.backend, case, number, step)


class LocalWorker(LocalRunner):
    """Stands for a ``WorkerProcess``, which takes seconds to start, where a test is about other things."""

    def __init__(self, name: str, *_: object) -> None:
        super().__init__(name, required(name))

    def close(self) -> None:
        """Do nothing: there is no process."""
