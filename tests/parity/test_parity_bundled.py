"""Small copies of some bundled networks pass every gate in every framework; narrow ones of all with ``--sweep``.

To compare the networks at full width, run ``resnet-spec parity '*' --jobs 2``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from resnet_spec.library import bundled
from resnet_spec.network.network import Network
from resnet_spec.parity.case import GROUPS, Case, Dtype, Group, Level, load_for_comparison
from resnet_spec.parity.examine import examine
from resnet_spec.parity.processes import WorkerProcess
from resnet_spec.transforms.width_reduction import reduce_width
from shared.bundled_networks import small_copy
from shared.frameworks import required

FRAMEWORKS = ("torch", "paddle", "flax")
GATED: dict[Dtype, tuple[Level, set[Group]]] = {
    "float64": ("training", {group for groups in GROUPS.values() for group in groups}),
    "float32": ("gradient", {"evaluation", "inference", "loss"}),
}
"""The level and the groups that must pass, by type. In float32 one ReLU that flips moves a gradient by percents."""

ENVIRONMENT = {"XLA_FLAGS": "--xla_backend_optimization_level=1"}
"""Level 0 compiles faster, but the gradient of a grouped convolution then takes ten times as long."""


@pytest.fixture(scope="module")
def workers() -> Iterator[Mapping[str, WorkerProcess]]:
    """A worker process for each backend, by name."""
    for name in FRAMEWORKS:
        required(name)
    workers = {name: WorkerProcess(name, environment=ENVIRONMENT) for name in ("numpy", *FRAMEWORKS)}
    yield workers
    for worker in workers.values():
        worker.close()


@pytest.mark.sweep
def test_every_gate_is_passed(workers: Mapping[str, WorkerProcess]) -> None:
    """On a small copy of a network of many operations; ``resnet-spec fuzz``, in CI, runs random ones in both types."""
    check_every_gate(workers, small_copy("timm/skresnet18"), "float64")


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", GATED)
@pytest.mark.parametrize("name", bundled.names())
def test_every_gate_is_passed_at_full_depth(workers: Mapping[str, WorkerProcess], name: str, dtype: Dtype) -> None:
    check_every_gate(workers, reduce_width(load_for_comparison(name)), dtype)


def check_every_gate(workers: Mapping[str, WorkerProcess], network: Network, dtype: Dtype) -> None:
    level, gated = GATED[dtype]
    case = Case(network, dtype, level)
    gated = gated & {*case.groups}  # without batch norm there are no statistics
    findings = examine(case, workers["numpy"], [workers[name] for name in FRAMEWORKS])
    verdicts = [
        (finding.backend, finding.group, finding.failure or finding.verdict)
        for finding in findings
        if finding.group in gated
    ]
    assert set(verdicts) == {(backend, group, "same") for backend in FRAMEWORKS for group in gated}
    assert all(finding.count for finding in findings)
