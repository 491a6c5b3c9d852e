"""Bundled networks at every gate in every framework: some of each kind here, narrow; all of them with ``pytest --sweep``.

The full width, in one command: ``resnet-spec parity '*' --jobs 2``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from resnet_spec.library import bundled
from resnet_spec.parity.case import GROUPS, Case, Dtype, Group, Level
from resnet_spec.parity.comparison_size import small
from resnet_spec.parity.examine import examine
from resnet_spec.parity.processes import Elsewhere
from resnet_spec.transforms.width_reduction import reduce_width
from shared.frameworks import required

FRAMEWORKS = ("torch", "paddle", "flax")
HERE = {
    *(
        "resnet18",
        "preact_resnet18_cifar",
        "timm/resnet14t",
        "timm/skresnet18",
        "timm/legacy_seresnet18",
        "cifar/resnet20",
        "flax/ResNet18",
    ),
}
GATED: dict[Dtype, tuple[Level, set[Group]]] = {
    "float64": ("training", {group for groups in GROUPS.values() for group in groups}),
    "float32": ("gradient", {"evaluation", "loss"}),
}
"""How far each type goes, and what must pass: one ReLU that flips in float32 moves a gradient by percents."""

LITTLE = {"XLA_FLAGS": "--xla_backend_optimization_level=1"}
"""Five steps are long enough for XLA to do a little: at 0 a grouped convolution's gradient runs ten times as long."""


@pytest.fixture(scope="module")
def team() -> Iterator[Mapping[str, Elsewhere]]:
    """A process for each backend."""
    for name in FRAMEWORKS:
        required(name)
    team = {name: Elsewhere(name, environment=LITTLE) for name in ("numpy", *FRAMEWORKS)}
    yield team
    for subject in team.values():
        subject.close()


@pytest.mark.parametrize("dtype", list(GATED))
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in HERE else pytest.mark.sweep) for name in bundled.names()]
)
def test_every_gate_is_passed(team: Mapping[str, Elsewhere], name: str, dtype: Dtype) -> None:
    level, gated = GATED[dtype]
    case = Case(reduce_width(small(name)), dtype, level)
    gated = gated & {*case.groups}  # without batch norm there are no statistics
    findings = examine(case, team["numpy"], [team[name] for name in FRAMEWORKS])
    wanted = [
        (finding.backend, finding.group, finding.failure or finding.verdict)
        for finding in findings
        if finding.group in gated
    ]
    assert set(wanted) == {(backend, group, "same") for backend in FRAMEWORKS for group in gated}
    assert all(finding.count for finding in findings)


def test_what_is_compared_here_is_bundled() -> None:
    assert set(bundled.names()) >= HERE
