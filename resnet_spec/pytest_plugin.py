"""Parity as tests in anybody's suite: ``pytest --resnet-spec specs/*.yaml`` collects one for each spec, backend and level.

A spec is examined once, when its first test runs; each backend runs in a process of its own, which lasts as long as the session.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:  # what pytest loads in every suite on a machine must cost nothing
    from resnet_spec.parity.case import Case, Level
    from resnet_spec.parity.compare import Finding
    from resnet_spec.parity.processes import Elsewhere


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("resnet-spec", "parity of residual networks across frameworks")
    group.addoption(
        "--resnet-spec", nargs="+", default=[], metavar="SPEC", help="Specs to compare: files or bundled names."
    )
    group.addoption("--resnet-spec-backend", metavar="NAME,...", help="Backends to compare. [default: those installed]")
    group.addoption("--resnet-spec-level", choices=["forward", "gradient", "training"], default="training")
    group.addoption("--resnet-spec-dtype", choices=["float64", "float32"], default="float64")


def pytest_load_initial_conftests(args: list[str]) -> None:
    """Beside --resnet-spec, take --backend and --level too: elsewhere those names are for others to use."""
    if any(word.partition("=")[0] == "--resnet-spec" for word in args):
        for short in ("--backend", "--level", "--dtype"):
            args[:] = [re.sub(f"^{short}(?=$|=)", f"--resnet-spec-{short[2:]}", word) for word in args]


def pytest_collection(session: pytest.Session) -> None:
    """Give each spec a place among what is collected: the specs are no files that pytest would look at by itself."""
    if session.config.getoption("--resnet-spec"):
        session.config.pluginmanager.register(_Specs(session.config), "resnet-spec-specs")


class _Specs:
    """The specs of a session, and the processes that answer for its backends."""

    def __init__(self, config: pytest.Config) -> None:
        from resnet_spec.backend import installed_backends

        self.specs: list[str] = list(config.getoption("--resnet-spec") or ())
        named = config.getoption("--resnet-spec-backend")
        self.backends: list[str] = named.split(",") if named else installed_backends()
        self.pool: dict[str, Elsewhere] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        for spec in self.specs:
            holder = _Spec.from_parent(session, name=spec, specs=self)
            items += cast("list[pytest.Item]", list(holder.collect()))
        session.testscollected = len(items)

    def subject(self, name: str) -> Elsewhere:
        from resnet_spec.parity.processes import Elsewhere

        return self.pool.setdefault(name, Elsewhere(name))

    def pytest_sessionfinish(self) -> None:
        for subject in self.pool.values():
            subject.close()


class _Spec(pytest.Collector):
    """One spec: a test for each backend and level."""

    def __init__(self, *, specs: _Specs, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.specs = specs
        self.findings: list[Finding] | None = None

    def collect(self) -> Iterator[pytest.Item]:
        from resnet_spec.parity.case import LEVELS

        wanted = self.config.getoption("--resnet-spec-level")
        for backend in self.specs.backends:
            for level in LEVELS[: LEVELS.index(wanted) + 1]:
                yield _Comparison.from_parent(self, name=f"{backend} {level}", backend=backend, level=level)

    def case(self) -> Case:
        from resnet_spec.parity.case import Case
        from resnet_spec.parity.comparison_size import small

        dtype: Any = self.config.getoption("--resnet-spec-dtype")
        level: Any = self.config.getoption("--resnet-spec-level")
        return Case(small(self.name), dtype, level)

    def found(self) -> list[Finding]:
        """Every finding, examined when it is first asked for."""
        if self.findings is None:
            from resnet_spec.backend import REFERENCE
            from resnet_spec.parity.examine import examine
            from resnet_spec.parity.processes import machine

            subjects = [self.specs.subject(name) for name in self.specs.backends]
            self.findings = examine(self.case(), self.specs.subject(REFERENCE), subjects, memory=machine())
        return self.findings


class _Different(Exception):
    """Backends that do not compute the same."""


class _Comparison(pytest.Item):
    """One backend against the reference at one level."""

    def __init__(self, *, backend: str, level: Level, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.backend = backend
        self.level: Level = level

    def runtest(self) -> None:
        from resnet_spec.parity.case import GROUPS
        from resnet_spec.parity.tables import sentence

        spec = cast("_Spec", self.parent)
        found = [one for one in spec.found() if one.backend == self.backend and one.group in GROUPS[self.level]]
        off = [one for one in found if one.verdict in ("differs", "failed")]
        if off:
            raise _Different("\n".join([*(_line(one) for one in off), f"to see it again: {self._command(spec)}"]))
        if not found:
            pytest.skip(f"{self.level} is not compared in {self.config.getoption('--resnet-spec-dtype')}")
        if all(one.verdict == "alone" for one in found):
            pytest.skip(sentence(found[0]))

    def _command(self, spec: _Spec) -> str:
        dtype, level = (self.config.getoption(f"--resnet-spec-{name}") for name in ("dtype", "level"))
        backends = ",".join(spec.specs.backends)
        return f"resnet-spec parity {spec.name} --backend {backends} --dtype {dtype} --level {level}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, _Different):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return Path(self.nodeid.partition("::")[0]), None, f"{cast('_Spec', self.parent).name}: {self.name}"


def _line(finding: Finding) -> str:
    from resnet_spec.parity.tables import sentence

    figures = f" (worst {finding.worst:.1e}, gate {finding.gate:.0e}, against {finding.reference})"
    return f"{finding.group}: {sentence(finding)}{'' if finding.failure else figures}"
