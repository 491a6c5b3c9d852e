"""Networks of any kind keep rounding small in parity's weights: a chain, a fork, dense blocks, residual blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from resnet_spec import Network, loads
from resnet_spec.parity.case import Case, Dtype, Group
from resnet_spec.parity.compare import compare_group
from resnet_spec.parity.examine import examine
from resnet_spec.parity.processes import FAST_COMPILE_ENV, WorkerProcess
from resnet_spec.parity.recorder import Record, record
from resnet_spec.parity.tables import describe
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.frameworks import required
from shared.local_runner import LocalRunner
from shared.plain_networks import plain_network, vgg_network
from shared.sampling import in_sweep, one_in

DENSE = """
name: dense
input: [3, 12, 11]
blocks:
  dense:
    combine: none
    branch:
      cat:
        combine: concat
        branches:
          - none
          - {n1: norm, a1: act, c1: {op: conv, out: 8, kernel: 1}, n2: norm, a2: act,
             c2: {op: conv, out: 4, kernel: 3, padding: 1}}
stem: {c: {op: conv, out: 8, kernel: 3, padding: 1}}
stages: {s: {block: dense, depth: 24}}
head: {n: norm, a: act, p: global_avg_pool, fc: {op: linear, out: 5}}
"""

FORKS = """
name: forks
input: [3, 12, 11]
blocks:
  fork:
    combine: none
    branch:
      cat:
        combine: concat
        branches:
          - {c1: {op: conv, out: 6, kernel: 1}, n1: norm, a1: act}
          - {c2: {op: conv, out: 6, kernel: 1}, n2: norm, a2: act, c3: {op: conv, out: 6, kernel: 3, padding: 1},
             n3: norm, a3: act}
          - {p: {op: max_pool, kernel: 3, stride: 1, padding: 1}, c4: {op: conv, out: 4, kernel: 1}, n4: norm, a4: act}
stem: {c: {op: conv, out: 8, kernel: 3, padding: 1}, n: norm, a: act}
stages: {s: {block: fork, depth: 20}}
head: {p: global_avg_pool, fc: {op: linear, out: 5}}
"""


class ScaledWeights:
    """The torch backend with the weight of one part times a factor."""

    def __init__(self, path: str, factor: float) -> None:
        self.path, self.factor = path, factor

    def __getattr__(self, name: str) -> Any:
        return getattr(required("torch"), name)

    def build(self, network: Network, weights: dict[str, Array], dtype: str) -> Any:
        weights[f"{self.path}.weight"] *= self.factor
        return required("torch").build(network, weights, dtype)


NETWORKS = {
    "plain-20": plain_network(20),
    "plain-56": plain_network(56),
    "plain-56 with group norms": plain_network(56, norm="{op: group_norm, groups: 4}"),
    "plain-56 with GELU": plain_network(56, activation="gelu"),
    "plain-56 with tanh": plain_network(56, activation="tanh"),
    "VGG-16 with norms": vgg_network(norms=True),
    "VGG-16 without norms": vgg_network(norms=False),
    "dense": DENSE,
    "forks": FORKS,
}


def move_by_rounding(network: Network) -> dict[Group, float]:
    """Return by how much torch's results move, by group, if each pixel moves by one unit of rounding."""
    torch, case = required("torch"), Case(network)
    before, after = dict(record(torch, case)), dict(record(torch, replace(case, nudged=True)))
    return {group: compare_group(case, group, "a", after[group], "b", before[group]).worst for group in before}


@pytest.mark.parametrize("name", one_in(3, NETWORKS))
def test_rounding_stays_a_tenth_of_every_gate(name: str) -> None:
    network = loads(NETWORKS[name])
    case = Case(network)
    moves = move_by_rounding(network)
    assert set(moves) == set(case.groups) - {"inference", "slope"}
    too_far = {group: move for group, move in moves.items() if not move <= 0.1 * (case.gate(group) or 0.0)}
    assert too_far == {}


def test_nudged_images_move_by_one_unit_of_rounding() -> None:
    case = Case(loads(plain_network(8)))
    moves = abs(replace(case, nudged=True).images() / case.images() - 1)
    assert moves.min() > 1e-16
    assert moves.max() < 5e-16


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_network_that_amplifies_rounding_is_not_the_same_and_does_not_differ(dtype: Dtype) -> None:
    """Each norm restores the scale of what the rectifier before it halved, so no shift of a norm helps."""
    case = Case(loads(plain_network(92, order="can")), dtype, "forward")
    findings = examine(case, LocalRunner("numpy", required("numpy")), [LocalRunner("torch", required("torch"))])
    (finding,) = (finding for finding in findings if finding.group == "training forward")
    assert finding.verdict == "ill-conditioned"
    assert finding.rounding > finding.worst > (case.largest_gate("training forward") or 0)
    assert f"ill-conditioned: not comparable in {dtype}, first at " in describe(finding)


class NudgedRunner(LocalRunner):
    """Stands for a backend that rounds otherwise: torch, with images that differ by one unit of rounding."""

    def _record(self, case: Case) -> Record:
        return super()._record(replace(case, nudged=not case.nudged))


@pytest.mark.sweep
def test_training_of_a_network_that_amplifies_rounding_is_ill_conditioned() -> None:
    case = Case(loads(plain_network(56, order="can")))
    runners = [LocalRunner("torch", required("torch")), NudgedRunner("other", required("torch"))]
    findings = examine(case, LocalRunner("numpy", required("numpy")), runners)
    verdicts = {(finding.backend, finding.group): finding.verdict for finding in findings}
    assert {verdicts[name, "evaluation"] for name in ("torch", "other")} == {"same"}
    assert {verdicts[name, "weights"] for name in ("torch", "other")} == {"ill-conditioned"}
    assert set(verdicts.values()) == {"same", "ill-conditioned"}


@pytest.mark.parametrize("dtype", ["float32", *in_sweep("float64")])
@pytest.mark.sweep
def test_a_wrong_layer_of_a_deep_plain_network_differs(dtype: Dtype) -> None:
    case = Case(loads(plain_network(56)), dtype, "forward")
    runners = [LocalRunner("torch", required("torch")), LocalRunner("wrong", ScaledWeights("n2x15", 1.25))]
    findings = examine(case, LocalRunner("numpy", required("numpy")), runners)
    verdicts = {(finding.backend, finding.group): (finding.verdict, finding.blame) for finding in findings}
    assert verdicts == {
        (name, group): expected
        for name, expected in (("torch", ("same", ())), ("wrong", ("differs", ("n2x15",))))
        for group in case.groups
    }


@pytest.fixture(scope="module")
def workers() -> Iterator[dict[str, WorkerProcess]]:
    names = ("numpy", "torch", "paddle")
    workers = {name: WorkerProcess(name, environment=FAST_COMPILE_ENV) for name in names}
    yield workers
    for worker in workers.values():
        worker.close()


@pytest.mark.sweep
def test_a_plain_network_of_56_layers_is_the_same_after_training(workers: dict[str, WorkerProcess]) -> None:
    required("torch")
    required("paddle")
    case = Case(loads(plain_network(56)))
    findings = examine(case, workers["numpy"], [workers["torch"], workers["paddle"]])
    verdicts = {(finding.backend, finding.group): finding.verdict for finding in findings}
    assert verdicts == {(name, group): "same" for name in ("torch", "paddle") for group in case.groups}


def test_the_shift_of_a_norm_is_raised_if_an_activation_follows() -> None:
    text = "{name: t, input: [3, 9, 8], stem: {a: {op: conv, out: 4, kernel: 3}, n: norm, r: relu, "
    network = loads(text + "b: {op: conv, out: 4, kernel: 3}, m: norm}, head: {p: global_avg_pool}}")
    random, conditioned = comparison_weights(network), Case(network).weights()
    raised = {name for name in random if not (random[name] == conditioned[name]).all()}
    assert raised == {"n.bias"}
    assert (conditioned["n.bias"] > random["n.weight"]).all()


RAISED = {
    "in a shortcut, before the activation after a sum": ("{b: residual}", {"b.m.bias"}),
    "in branches that are added": (
        "{b: {combine: add, branches: [{n: norm}, {m: norm}]}, r: relu}",
        {"n.bias", "m.bias"},
    ),
    "before a gate": ("{n: norm, b: gate, r: relu}", {"n.bias"}),
    "of a convolution, if a norm restores the scale after the activation": (
        "{c: {op: conv, out: 4, kernel: 1, bias: true}, r: relu, n: norm}",
        {"c.bias"},
    ),
    "of a convolution before an activation alone": ("{c: {op: conv, out: 4, kernel: 1, bias: true}, r: relu}", set()),
    "as a layer of its own": ("{n: {op: batch_norm, affine: false}, s: shift, r: relu}", {"s"}),
}


@pytest.mark.parametrize("name", RAISED)
def test_a_shift_is_raised(name: str) -> None:
    stem, expected = RAISED[name]
    text = f"""
name: t
input: [4, 9, 8]
blocks:
  residual:
    branch: {{c: &c {{op: conv, out: 6, kernel: 1}}, n: norm}}
    shortcut: {{d: *c, m: norm}}
    after: {{r: relu}}
  gate: {{combine: multiply, branch: {{p: global_avg_pool, c: {{op: linear, out: 4}}, s: sigmoid}}}}
stem: {stem}
head: {{p: global_avg_pool}}
"""
    network = loads(text)
    random, conditioned = comparison_weights(network), Case(network).weights()
    assert {path for path in random if conditioned[path].mean() > random[path].mean() + 0.3} == expected


def test_branches_that_are_added_are_divided_by_their_number() -> None:
    text = "{name: t, input: [4, 9, 8], stem: {b: {combine: add, branches: [{n: norm}, {m: norm}, none]}}}"
    network = loads(text)
    random, conditioned = comparison_weights(network), Case(network).weights()
    for name in ("n.weight", "n.bias", "m.weight", "m.bias"):
        np.testing.assert_array_equal(conditioned[name], random[name] / 3)


def test_a_norm_at_the_end_of_a_chain_is_before_the_activation_that_follows_the_chain() -> None:
    text = """
name: t
input: [3, 9, 8]
blocks: {conv_norm: {combine: none, branch: {c: {op: conv, out: 4, kernel: 3}, n: norm}}}
stem: {a: conv_norm, r: relu}
head: {p: global_avg_pool}
"""
    network = loads(text)
    assert (Case(network).weights()["a.n.bias"] > comparison_weights(network)["a.n.weight"]).all()
