"""Gradients and training steps are compared with the reference too, and not only between backends."""

from __future__ import annotations

import numpy as np
import pytest

from resnet_spec import load, loads
from resnet_spec.parity import slopes
from resnet_spec.parity.case import Case
from resnet_spec.parity.examine import examine
from resnet_spec.parity.locate import compute_part_inputs
from resnet_spec.parity.processes import Failure
from resnet_spec.parity.recorder import Record, record
from resnet_spec.parity.reference import complete_record
from resnet_spec.parity.slopes import central_difference, measure_slopes
from shared.frameworks import required
from shared.local_runner import LocalRunner
from shared.plain_networks import plain_network, vgg_network

BRANCHES = """
name: branches
input: [3, 12, 11]
stem: {c: {op: conv, out: 8, kernel: 3}, n: norm, a: act, p: {op: max_pool, kernel: 2, stride: 2}}
stages: {s: {block: bottleneck, depth: 2, out: 16, width: 8, attention: {block: squeeze_excite, reduced: 4}}}
head: {pool: global_avg_pool, d: {op: dropout, rate: 0.5}, fc: {op: linear, out: 5}}
"""


@pytest.mark.parametrize("text", [plain_network(20), vgg_network(norms=False), BRANCHES], ids=["plain", "vgg", "gates"])
@pytest.mark.parametrize("name", ["torch", "paddle"])
def test_gradients_match_central_differences_of_the_reference(name: str, text: str) -> None:
    case = Case(loads(text), level="gradient")
    gradients = {name: dict(record(required(name), case))["gradient"]}
    difference = LocalRunner("numpy", required("numpy")).central_difference
    found = measure_slopes(case, gradients, lambda *trial: difference(case, *trial), gate=0.0)
    assert found[name].error < 1e-8
    assert abs(found[name].gradient) > 1e-4


def test_a_gradient_that_all_backends_get_wrong_differs() -> None:
    case = Case(loads(plain_network(8)), level="gradient")
    torch = LocalRunner("torch", required("torch"))
    right = torch.record(case)
    wrong = {name: array * (1.001 if name == "c1x1.weight" else 1) for name, array in right["gradient"].items()}

    class Wrong(LocalRunner):
        def _record(self, case: Case) -> Record:
            return right | {"gradient": wrong}

    runners = [Wrong(name, torch.backend) for name in ("a", "b")]
    findings = examine(case, LocalRunner("numpy", required("numpy")), runners, locate=False)
    verdicts = {(finding.backend, finding.group): finding.verdict for finding in findings}
    assert {group for (_, group), verdict in verdicts.items() if verdict != "same"} == {"slope"}
    assert verdicts["a", "slope"] == verdicts["b", "slope"] == "differs"


def test_a_corner_of_the_loss_is_avoided_by_a_smaller_step() -> None:
    case, tried = Case(loads(plain_network(8)), level="gradient"), list[tuple[int, float]]()
    gradients = {"torch": dict(record(required("torch"), case))["gradient"]}

    def difference(number: int, step: float) -> float:
        tried.append((number, step))
        slope = central_difference(required("numpy"), case, number, step)
        return slope + 0.1 if step > 1e-7 else slope

    (slope,) = measure_slopes(case, gradients, difference, gate=1e-6).values()
    assert tried == [(0, 1e-5), (0, 1e-6), (0, 1e-7)]
    assert slope.error < 1e-6


def test_a_wrong_gradient_is_tried_in_every_way_and_differs_in_each() -> None:
    case, tried = Case(loads(plain_network(8)), level="gradient"), list[tuple[int, float]]()
    gradients = {"torch": dict(record(required("torch"), case))["gradient"]}
    gradients["torch"] |= {"input": gradients["torch"]["input"] * 1.5}

    def difference(number: int, step: float) -> float:
        tried.append((number, step))
        return central_difference(required("numpy"), case, number, step)

    (slope,) = measure_slopes(case, gradients, difference, gate=1e-6).values()
    assert tuple(tried) == slopes.TRIALS
    assert slope.error > 1e-4


@pytest.mark.parametrize("what", ["missing", "nan", "misshapen"])
def test_a_gradient_that_is_no_gradient_differs(what: str) -> None:
    case = Case(loads(plain_network(8)), level="gradient")
    right = dict(record(required("torch"), case))

    class Broken(LocalRunner):
        def _record(self, case: Case) -> Record:
            array = right["gradient"]["c1x1.weight"]
            broken = {"nan": array * np.nan, "misshapen": array[:1]}
            rest = {name: array for name, array in right["gradient"].items() if name != "c1x1.weight"}
            return right | {"gradient": rest | ({} if what == "missing" else {"c1x1.weight": broken[what]})}

    findings = examine(case, LocalRunner("numpy", required("numpy")), [Broken("a", required("torch"))], locate=False)
    (slope,) = (finding for finding in findings if finding.group == "slope")
    assert slope.verdict == "differs"


def test_without_a_loss_of_the_reference_nothing_is_the_same() -> None:
    class Silent(LocalRunner):
        def _central_difference(self, case: Case, number: int, step: float) -> float:
            raise Failure("out of memory")

    case = Case(loads(plain_network(8)), level="gradient")
    runners = [LocalRunner("torch", required("torch"))]
    findings = examine(case, Silent("numpy", required("numpy")), runners, locate=False)
    (slope,) = (finding for finding in findings if finding.group == "slope")
    assert (slope.verdict, slope.failure) == ("failed", "no loss of the reference: out of memory")


def test_the_reference_has_a_loss_and_running_statistics() -> None:
    case = Case(load("preact_resnet18_cifar", input=(3, 16, 16)))
    numpy = required("numpy")
    completed = complete_record(case, dict(record(numpy, case)))
    names = {name for name, weight in case.network.owners() if weight.statistic}
    assert set(completed["statistics"]) == names
    outputs = completed["training forward"]
    x = compute_part_inputs(case.network, case.images(), outputs)["layer1.0.bn2"]
    before, after = case.weights()["layer1.0.bn2.running_var"], completed["statistics"]["layer1.0.bn2.running_var"]
    rate = 1 - np.float64(np.float32(0.9))
    np.testing.assert_allclose(after, before + rate * (x.var((0, 2, 3), ddof=1) - before), rtol=1e-13)
    logits = outputs[""]
    chosen = np.exp(logits)[np.arange(len(logits)), case.labels()] / np.exp(logits).sum(1)
    np.testing.assert_allclose(completed["loss"][""], [-np.log(chosen).mean()], rtol=1e-13)
