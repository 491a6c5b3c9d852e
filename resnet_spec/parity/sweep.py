"""Many cases, several at a time, each backend in a process of its own; what differs is shrunk and kept."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from resnet_spec.backend import REFERENCE
from resnet_spec.network.network import Network
from resnet_spec.network.to_yaml import to_yaml
from resnet_spec.parity.case import Case
from resnet_spec.parity.compare import Finding
from resnet_spec.parity.examine import Subject, examine
from resnet_spec.parity.minimize import shrunk
from resnet_spec.parity.processes import SECONDS, Elsewhere, machine
from resnet_spec.parity.recorder import Record

Team = dict[str, Subject]


@dataclass(frozen=True, slots=True)
class Sweep:
    """How to go about many cases.

    Attributes:
        backends: Whom to compare, by name.
        others: Those of whom there are only records.
        jobs: How many cases at a time.
        seconds: How long one backend may take over one case.
        keep: Called with each backend's record.
        shrink: How many smaller networks to try where one differs; none if 0.
        environment: What the backends' environment is, where the user's does not say otherwise.
    """

    backends: Sequence[str]
    others: Sequence[Subject] = ()
    jobs: int = 1
    seconds: float = SECONDS
    keep: Callable[[str, Case, Record], None] | None = None
    shrink: int = 0
    environment: Mapping[str, str] | None = None

    @property
    def memory(self) -> float:
        """Bytes that the backends of one case may take together."""
        return machine() / self.jobs


@dataclass(frozen=True, slots=True)
class Examined:
    """A case, what was found, and the smallest network found that still differs, if it differs."""

    case: Case
    findings: Sequence[Finding]
    smallest: Network | None = None


def swept(cases: Iterable[Case], sweep: Sweep) -> Iterator[Examined]:
    """Examine cases, and give each as it is done. Closing the iterator ends every process."""
    with (
        ThreadPoolExecutor(sweep.jobs) as pool,
        _teams(sweep) as teams,
    ):  # processes end before their threads are waited for
        waiting: list[Future[Examined]] = []
        done: queue.Queue[Future[Examined]] = queue.Queue()
        try:
            for case in cases:
                future = pool.submit(_examined, teams, case, sweep)
                future.add_done_callback(done.put)
                waiting.append(future)
            for _ in range(len(waiting)):
                yield done.get().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def _teams(sweep: Sweep) -> Iterator[queue.Queue[Team]]:
    """As many sets of processes as there are jobs, ended with the context."""
    names = dict.fromkeys([REFERENCE, *sweep.backends])
    teams: list[Team] = [
        {name: Elsewhere(name, sweep.seconds, sweep.environment) for name in names} for _ in range(sweep.jobs)
    ]
    free: queue.Queue[Team] = queue.Queue()
    for team in teams:
        free.put(team)
    try:
        yield free
    finally:
        for team in teams:
            for subject in team.values():
                if isinstance(subject, Elsewhere):
                    subject.close()


def _examined(teams: queue.Queue[Team], case: Case, sweep: Sweep) -> Examined:
    team = teams.get()
    try:
        subjects = [*(team[name] for name in sweep.backends), *sweep.others]
        findings = examine(case, team[REFERENCE], subjects, keep=sweep.keep, memory=sweep.memory)
        off = next((finding for finding in findings if finding.verdict == "differs"), None)
        smallest = None
        if off is not None and sweep.shrink and off.backend in team:
            pair = [team[off.backend], *(team[name] for name in [off.reference] if name in team)]
            smallest = shrunk(
                case.network,
                lambda network: _differs(replace(case, network=network), off, team[REFERENCE], pair, sweep.memory),
                sweep.shrink,
            )
        return Examined(case, findings, smallest)
    finally:
        teams.put(team)


def _differs(case: Case, off: Finding, reference: Subject, pair: Sequence[Subject], memory: float) -> bool:
    """Whether a case differs as one was found to: the same backend in the same group."""
    findings = examine(case, reference, pair, locate=False, memory=memory)
    return any(
        finding.verdict == "differs" and (finding.backend, finding.group) == (off.backend, off.group)
        for finding in findings
    )


def kept(folder: Path, examined: Examined) -> Path | None:
    """Write the smallest network that differs as a spec that says how to see it differ, if there is one."""
    if examined.smallest is None:
        return None
    case = examined.case
    off = next(finding for finding in examined.findings if finding.verdict == "differs")
    path = folder / f"{case.network.name}-{off.backend}-{off.group.replace(' ', '-')}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    others = ",".join(name for name in (off.backend, off.reference) if name != REFERENCE)
    size = "x".join(map(str, examined.smallest.input[1:]))
    command = f"resnet-spec parity {path} --backend {others} --dtype {case.dtype} --level {case.level} --seed {case.seed} --size {size}"
    head = f"# {off.backend} differs from {off.reference} in {off.group}: {off.worst:.1e}\n# {command}\n"
    path.write_text(head + to_yaml(examined.smallest), encoding="utf-8")
    return path
