"""Examine many cases, several at a time, shrink each network that differs, and save the smallest."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from resnet_spec.backend import REFERENCE
from resnet_spec.network.network import Network
from resnet_spec.network.to_yaml import to_yaml
from resnet_spec.parity.case import Case
from resnet_spec.parity.compare import Finding
from resnet_spec.parity.examine import examine
from resnet_spec.parity.minimize import shrink_network
from resnet_spec.parity.processes import DEFAULT_TIMEOUT, WorkerProcess, usable_memory
from resnet_spec.parity.runner import OnRecord, Runner
from resnet_spec.parity.saved_records import file_stem

Workers: TypeAlias = dict[str, WorkerProcess]
"""One worker process per backend, by name."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """How to examine many cases.

    Attributes:
        backends: The names of the backends to compare.
        others: Runners that are compared as well, such as saved records.
        jobs: How many cases to examine at a time.
        timeout: Seconds that one backend may take for one case.
        on_record: Called with each backend's record of each case.
        shrink: How many smaller networks to try for each case that differs; 0 for none.
        environment: Environment variables of the worker processes, unless the user has set them.
    """

    backends: Sequence[str]
    others: Sequence[Runner] = ()
    jobs: int = 1
    timeout: float = DEFAULT_TIMEOUT
    on_record: OnRecord | None = None
    shrink: int = 0
    environment: Mapping[str, str] | None = None

    @property
    def memory(self) -> float:
        """Bytes that the backends of one case may use together."""
        return usable_memory() / self.jobs


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The findings of a case, and, if it differs and was shrunk, the smallest network found that still differs."""

    case: Case
    findings: Sequence[Finding]
    smallest: Network | None = None


def run_sweep(cases: Iterable[Case], sweep: Sweep) -> Iterator[CaseResult]:
    """Examine cases and yield each result when it is ready. Closing the iterator stops all worker processes."""
    # The pool is left last: its threads end only when the workers that they wait for are stopped.
    with ThreadPoolExecutor(sweep.jobs) as pool, _open_worker_sets(sweep) as idle:
        futures: list[Future[CaseResult]] = []
        done: queue.Queue[Future[CaseResult]] = queue.Queue()
        try:
            for case in cases:
                future = pool.submit(_run_case, idle, case, sweep)
                future.add_done_callback(done.put)
                futures.append(future)
            for _ in range(len(futures)):
                yield done.get().result()
        finally:
            for future in futures:
                future.cancel()


@contextmanager
def _open_worker_sets(sweep: Sweep) -> Iterator[queue.Queue[Workers]]:
    """Return a queue of one set of worker processes per job; stop them all when the context ends."""
    names = dict.fromkeys([REFERENCE, *sweep.backends])
    sets: list[Workers] = [
        {name: WorkerProcess(name, sweep.timeout, sweep.environment) for name in names} for _ in range(sweep.jobs)
    ]
    idle: queue.Queue[Workers] = queue.Queue()
    for workers in sets:
        idle.put(workers)
    try:
        yield idle
    finally:
        for workers in sets:
            for worker in workers.values():
                worker.close()


def _run_case(idle: queue.Queue[Workers], case: Case, sweep: Sweep) -> CaseResult:
    workers = idle.get()
    try:
        runners = [*(workers[name] for name in sweep.backends), *sweep.others]
        findings = examine(case, workers[REFERENCE], runners, on_record=sweep.on_record, memory=sweep.memory)
        different = next((finding for finding in findings if finding.verdict == "differs"), None)
        smallest = None
        if different is not None and sweep.shrink and different.backend in workers:
            smallest = _shrink(case, different, workers, sweep)
        return CaseResult(case, findings, smallest)
    finally:
        idle.put(workers)


def _shrink(case: Case, different: Finding, workers: Workers, sweep: Sweep) -> Network:
    """Return the smallest network found for which the same backend differs in the same group."""
    pair = [workers[name] for name in (different.backend, different.reference) if name in workers]

    def differs(network: Network) -> bool:
        smaller = replace(case, network=network)
        findings = examine(smaller, workers[REFERENCE], pair, locate=False, memory=sweep.memory)
        wanted = (different.backend, different.group)
        return any(finding.verdict == "differs" and (finding.backend, finding.group) == wanted for finding in findings)

    return shrink_network(case.network, differs, sweep.shrink)


def save_smallest(folder: Path, result: CaseResult) -> Path | None:
    """Write the smallest network that differs, if any, with the command that reproduces it; return its path."""
    if result.smallest is None:
        return None
    case = result.case
    different = next(finding for finding in result.findings if finding.verdict == "differs")
    path = folder / f"{file_stem(case.network.name)}-{different.backend}-{different.group.replace(' ', '-')}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    backends = ",".join(name for name in (different.backend, different.reference) if name != REFERENCE)
    size = "x".join(map(str, result.smallest.input[1:]))
    device = f"--device {case.device} " if case.device else ""
    options = f"{device}--dtype {case.dtype} --level {case.level} --seed {case.seed} --size {size}"
    comment = (
        f"# {different.backend} differs from {different.reference} in {different.group}: {different.worst:.1e}\n"
        f"# resnet-spec parity {path} --backend {backends} {options}\n"
    )
    path.write_text(comment + to_yaml(result.smallest), encoding="utf-8")
    return path
