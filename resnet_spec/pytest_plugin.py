"""A pytest plug-in: ``pytest --resnet-spec specs/*.yaml`` runs one parity test per spec, backend and level.

A spec is examined once, when its first test runs. Each backend runs in a worker process, which is kept until the
session ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:  # pytest imports this file in every test suite on the machine, so its imports must cost nothing
    from resnet_spec.parity.case import Case, Level
    from resnet_spec.parity.compare import Finding
    from resnet_spec.parity.processes import WorkerProcess


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plug-in."""
    group = parser.getgroup("resnet-spec", "parity of networks across frameworks")
    group.addoption(
        "--resnet-spec", nargs="+", default=[], metavar="SPEC", help="Specs to compare: files or bundled names."
    )
    group.addoption(
        "--resnet-spec-backend", metavar="NAME,...", help="Backends to compare. [default: all installed ones]"
    )
    group.addoption("--resnet-spec-level", choices=["forward", "inference", "gradient", "training"], default="training")
    group.addoption("--resnet-spec-dtype", choices=["float64", "float32"], default="float64")


def pytest_load_initial_conftests(args: list[str]) -> None:
    """Accept the short names --backend, --level and --dtype, if --resnet-spec is given: other plug-ins may use them."""
    if any(argument.partition("=")[0] == "--resnet-spec" for argument in args):
        for short in ("--backend", "--level", "--dtype"):
            args[:] = [re.sub(f"^{short}(?=$|=)", f"--resnet-spec-{short[2:]}", argument) for argument in args]


def pytest_collection(session: pytest.Session) -> None:
    """Collect the specs in a second plug-in, since pytest does not look at them as files."""
    if session.config.getoption("--resnet-spec"):
        session.config.pluginmanager.register(_Specs(session.config), "resnet-spec-specs")


class _Specs:
    """The specs of a session, and the worker processes of its backends."""

    def __init__(self, config: pytest.Config) -> None:
        from resnet_spec.backend import BackendError, choose_backends, installed_backends

        self.specs: list[str] = list(dict.fromkeys(config.getoption("--resnet-spec") or ()))
        names = config.getoption("--resnet-spec-backend")
        try:
            self.backends = installed_backends() if names is None else choose_backends(names)
        except BackendError as error:
            raise pytest.UsageError(f"--resnet-spec-backend: {error}") from None
        self.workers: dict[str, WorkerProcess] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        for spec in self.specs:
            collector = _Spec.from_parent(session, name=spec, nodeid=spec, specs=self)
            items += cast("list[pytest.Item]", list(collector.collect()))
        session.testscollected = len(items)

    def worker(self, name: str) -> WorkerProcess:
        from resnet_spec.parity.processes import WorkerProcess

        if name not in self.workers:
            self.workers[name] = WorkerProcess(name)
        return self.workers[name]

    def pytest_sessionfinish(self) -> None:
        for worker in self.workers.values():
            worker.close()


class _Spec(pytest.Collector):
    """One spec, with a test for each backend and level."""

    def __init__(self, *, specs: _Specs, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.specs = specs
        self._findings: list[Finding] | None = None

    def collect(self) -> Iterator[pytest.Item]:
        from resnet_spec.parity.case import LEVELS

        last = self.config.getoption("--resnet-spec-level")
        for backend in self.specs.backends:
            for level in LEVELS[: LEVELS.index(last) + 1]:
                yield _Comparison.from_parent(self, name=f"{backend} {level}", backend=backend, level=level)

    def case(self) -> Case:
        from resnet_spec.parity.case import Case, load_for_comparison

        dtype: Any = self.config.getoption("--resnet-spec-dtype")
        level: Any = self.config.getoption("--resnet-spec-level")
        return Case(load_for_comparison(self.name), dtype, level)

    def findings(self) -> list[Finding]:
        """Examine the spec when first called; return the findings of all backends and groups."""
        if self._findings is None:
            from resnet_spec.backend import REFERENCE
            from resnet_spec.parity.examine import examine
            from resnet_spec.parity.processes import usable_memory

            runners = [self.specs.worker(name) for name in self.specs.backends]
            self._findings = examine(self.case(), self.specs.worker(REFERENCE), runners, memory=usable_memory())
        return self._findings


class _DifferenceError(Exception):
    """Backends that do not compute the same."""


class _Comparison(pytest.Item):
    """The comparison of one backend with the reference, at one level."""

    def __init__(self, *, backend: str, level: Level, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.backend = backend
        self.level: Level = level

    def runtest(self) -> None:
        from resnet_spec.parity.case import GROUPS
        from resnet_spec.parity.tables import describe

        spec = cast("_Spec", self.parent)
        groups = GROUPS[self.level]
        findings = [one for one in spec.findings() if one.backend == self.backend and one.group in groups]
        failing = [finding for finding in findings if finding.verdict in ("differs", "failed", "ill-conditioned")]
        if failing:
            raise _DifferenceError("\n".join([*map(_describe, failing), f"to reproduce: {self._command(spec)}"]))
        if not findings:
            pytest.skip(f"{self.level} is not compared in {self.config.getoption('--resnet-spec-dtype')}")
        if all(finding.verdict == "alone" for finding in findings):
            pytest.skip(describe(findings[0]))

    def _command(self, spec: _Spec) -> str:
        dtype, level = (self.config.getoption(f"--resnet-spec-{name}") for name in ("dtype", "level"))
        backends = ",".join(spec.specs.backends)
        return f"resnet-spec parity {spec.name} --backend {backends} --dtype {dtype} --level {level}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        from resnet_spec.backend import BackendError
        from resnet_spec.diagnostics.problems import SpecError

        # An error in what the user gave needs no traceback.
        if isinstance(excinfo.value, (_DifferenceError, SpecError, BackendError, FileNotFoundError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return Path(self.nodeid.partition("::")[0]), None, f"{cast('_Spec', self.parent).name}: {self.name}"


def _describe(finding: Finding) -> str:
    from resnet_spec.parity.tables import describe

    text = f"{finding.group}: {describe(finding)}"
    if finding.failure:
        return text
    gate = "none" if finding.gate is None else f"{finding.gate:.0e}"
    return f"{text} (worst {finding.worst:.1e}, gate {gate}, against {finding.reference})"
