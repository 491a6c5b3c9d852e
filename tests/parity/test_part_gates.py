"""In 16 bits, each part has a gate of its own: rounding passes it, and mistakes do not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

from resnet_spec import loads
from resnet_spec.backend import OUTPUT
from resnet_spec.commands.main import cli
from resnet_spec.parity.case import UNITS, Case, Dtype
from resnet_spec.parity.compare import Finding
from resnet_spec.parity.examine import examine
from resnet_spec.parity.part_gates import half_spacing, judge_parts, round_to_type
from resnet_spec.parity.random_networks import generate_network
from shared.frameworks import required
from shared.local_runner import LocalRunner
from shared.small_network import SMALL

pytest.importorskip("torch", reason="the mistakes are made in torch")

from shared.modern_mutants import MODERN_MUTANTS
from shared.parity_mutants import MUTANTS as RESIDUAL_MUTANTS
from shared.parity_mutants import Mutant, inject
from shared.sampling import in_sweep

UNSEEN = ("inference mode: epsilon left out of folding", "inference mode: activation lost in fusion")
"""Mistakes that rounding to bfloat16 hides.

The first moves weights by 5e-6, and the unit of bfloat16 is 4e-3. The second is one of the fused program, of which
outputs alone are seen, and moves them by less than rounding does.
"""

MUTANTS = [mutant for mutant in [*RESIDUAL_MUTANTS, *MODERN_MUTANTS] if mutant.name not in UNSEEN]

SHARE = (
    "epsilon of one norm 1e-5 -> 1e-3",
    "biased running variance",
    "unbiased variance in normalisation",
    "tanh approximation of GELU",
    "one ReLU leaky, with slope 0.01",
    "gradient of one layer halved",
    "inference mode: shift of a folded norm dropped",
    "inference mode: norm folded into the wrong channels",
    "no weight decay for norms and biases",
)
"""The mistakes that show least, and that are made without ``--sweep`` too."""

TABLE: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Print the mistakes that were found: run ``pytest --sweep -s tests/parity/test_part_gates.py``."""
    yield
    print("", *TABLE, sep="\n")


@cache
def clean_runner(name: str) -> LocalRunner:
    return LocalRunner(name, required(name))


@cache
def network_case(spec: str, dtype: Dtype, level: str) -> Case:
    return Case(loads(spec), dtype, level)  # type: ignore[arg-type]  # one of LEVELS


def find_mistake(mutant: Mutant, dtype: Dtype) -> Finding | None:
    """Return the first finding that shows a mistake; the levels are run one after another, since most show at once."""
    torch = required("torch")
    runners = [LocalRunner("mutant", inject(torch, mutant)), clean_runner("torch")]
    for level in ("forward", "inference", "training"):
        findings = examine(network_case(mutant.spec, dtype, level), clean_runner("numpy"), runners)
        for finding in findings:
            if finding.backend == "mutant" and finding.verdict in ("differs", "failed"):
                return finding
    return None


@pytest.mark.parametrize(
    "mutant",
    [pytest.param(one, id=one.name, marks=() if one.name in SHARE else pytest.mark.sweep) for one in MUTANTS],
)
@pytest.mark.share(2)
def test_a_mistake_is_found_in_bfloat16(mutant: Mutant) -> None:
    finding = find_mistake(mutant, "bfloat16")
    assert finding is not None, "every gate is passed"
    TABLE.append(f"| {mutant.name} | {finding.group} | {finding.worst:.0e} | {finding.gate or 0:.0e} |")
    if mutant.name in SHARE and mutant.blame:
        assert set(mutant.blame) <= set(finding.blame) or set(finding.blame) <= set(mutant.blame)


def test_nearly_all_mistakes_are_found_in_bfloat16() -> None:
    assert len(MUTANTS) >= 0.95 * len([*RESIDUAL_MUTANTS, *MODERN_MUTANTS])


def test_a_wrong_output_in_inference_mode_is_found() -> None:
    case = network_case(SMALL, "bfloat16", "inference")
    outputs = dict(clean_runner("torch").infer(case))
    judged = judge_parts(clean_runner("numpy").backend, case, "inference", {**outputs, OUTPUT: outputs[OUTPUT] * 1.2})
    assert [path for path, (error, gate) in judged.items() if not error <= gate] == [OUTPUT]


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.sweep)])
@pytest.mark.parametrize("spec", sorted({mutant.spec for mutant in MUTANTS}), ids=["modern", "residual"])
@pytest.mark.share(2)
def test_without_a_mistake_every_part_passes(spec: str, dtype: Dtype) -> None:
    case = network_case(spec, dtype, "training")
    other = LocalRunner("other", required("torch"))
    findings = examine(case, clean_runner("numpy"), [clean_runner("torch"), other])
    of_one = [finding for finding in findings if finding.backend == "torch"]
    expected = ("evaluation", "training forward", "inference", "loss", "gradient", "statistics", "updates")
    assert [(finding.group, finding.verdict) for finding in of_one] == [(group, "same") for group in expected]
    assert all(finding.count > 0 and finding.gates.keys() == finding.errors.keys() for finding in of_one)


def check_random_networks(backends: list[str], seeds: range, dtype: Dtype) -> None:
    """Check that no network differs, and that gates are small enough to compare nearly all of them.

    Paddle computes in bfloat16 in inference mode on some processors alone.
    """
    runners = [clean_runner(name) for name in backends]
    unknown: dict[str, set[int]] = {"evaluation": set(), "training forward": set(), "inference": set()}
    for seed in seeds:
        case = Case(generate_network(seed), dtype, "inference")
        for finding in examine(case, clean_runner("numpy"), runners):
            passing = {"same", "ill-conditioned", *["alone"] * (finding.group == "inference")}
            assert finding.verdict in passing, (seed, finding.backend, finding.where, finding.worst, finding.gate)
            if finding.verdict == "ill-conditioned":
                unknown[finding.group].add(seed)
    assert len(unknown["evaluation"] | unknown["training forward"]) <= 0.02 * len(seeds), unknown
    assert len(unknown["inference"]) <= 0.2 * len(seeds), unknown


@pytest.mark.parametrize("dtype", ["bfloat16", *in_sweep("float16")])
def test_random_networks_raise_no_false_alarm(dtype: Dtype) -> None:
    check_random_networks(["torch", "paddle"], range(1, 7), dtype)


@pytest.mark.sweep
@pytest.mark.parametrize("start", range(1, 1001, 100))
def test_a_thousand_random_networks_raise_no_false_alarm(start: int) -> None:
    check_random_networks(["torch", "paddle"], range(start, start + 100), "bfloat16")


def test_a_backend_without_mixed_precision_is_not_compared() -> None:
    (first, *_) = examine(network_case(SMALL, "bfloat16", "forward"), clean_runner("numpy"), [clean_runner("numpy")])
    assert (first.verdict, first.failure) == ("alone", "numpy does not compute in bfloat16")


def test_a_backend_without_inference_mode_in_the_type_is_not_compared_there() -> None:
    runner = LocalRunner("torch", required("torch"))
    runner.infer = lambda case: {}  # type: ignore[method-assign]
    findings = examine(network_case(SMALL, "bfloat16", "inference"), clean_runner("numpy"), [runner])
    verdicts = {finding.group: (finding.verdict, finding.failure) for finding in findings}
    assert verdicts == {
        "evaluation": ("same", ""),
        "training forward": ("same", ""),
        "inference": ("alone", "torch has no inference mode in bfloat16"),
    }


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_a_spacing_is_what_rounding_to_nearest_is_off_by(dtype: Dtype) -> None:
    x = np.abs(np.random.default_rng(0).standard_normal(10_000)) * 2.0 ** np.arange(-5, 5).repeat(1000)
    error, bound = np.abs(round_to_type(x, dtype) - x), half_spacing(x, dtype)
    assert (error <= bound).all()
    assert error.max() > 0.95 * bound.max()
    finfo = ml_dtypes.finfo(dtype)
    assert UNITS[dtype] == float(finfo.eps) / 2


def test_an_output_that_the_type_cannot_hold_is_ill_conditioned() -> None:
    network = loads("{name: n, input: [1, 4, 4], stem: {a: &a {op: scale, factor: 1e4, learned: false}, b: *a}}")
    case = Case(network, "float16", "forward")
    with np.errstate(over="ignore"):
        findings = examine(case, clean_runner("numpy"), [clean_runner("torch")])
    assert {finding.verdict for finding in findings} == {"ill-conditioned"}


def test_one_wrong_number_of_one_part_is_found() -> None:
    case = network_case(SMALL, "bfloat16", "forward")
    outputs = dict(clean_runner("torch").record(case)["evaluation"])
    spoilt = outputs["layer2.0.bn1"].copy()
    spoilt.flat[7] *= 1 + 2.0**-6
    judged = judge_parts(clean_runner("numpy").backend, case, "evaluation", {**outputs, "layer2.0.bn1": spoilt})
    failing = [path for path, (error, gate) in judged.items() if not error <= gate]
    assert failing[0] == "layer2.0.bn1"


@pytest.mark.parametrize(("is_near", "failing"), [(True, []), (False, ["n", "r"])])
def test_a_norm_may_be_rounded_otherwise_inside_of_what_follows(is_near: bool, failing: list[str]) -> None:
    """A compiler may compute a norm twice, in two orders. That explains another number near a boundary alone."""
    network = loads("{name: n, input: [3, 32, 32], stem: {c: {op: conv, out: 8, kernel: 3}, n: norm, r: relu}}")
    case = Case(network, "float16", "forward")
    outputs = dict(clean_runner("torch").record(case)["evaluation"])
    reference = clean_runner("numpy").backend
    model = reference.build(network, case.weights("float64"), "float64")
    exact = reference.run(model, outputs["c"].astype(float), part="n")[OUTPUT]
    recorded = outputs["n"].astype(float)
    off, half = exact - recorded, half_spacing(outputs["n"].astype(float), "float16")
    index = np.argmin(np.where(recorded > 1, half - abs(off) if is_near else abs(off), np.inf))
    other = recorded.copy()
    other.flat[index] += 2 * half.flat[index] * np.sign(off.flat[index])
    judged = judge_parts(reference, case, "evaluation", {**outputs, "n": other.astype(outputs["n"].dtype)})
    assert [path for path, (error, gate) in judged.items() if not error <= gate] == failing


def test_the_command_takes_types_in_a_list_and_refuses_others() -> None:
    runner = CliRunner()
    refused = runner.invoke(cli, ["parity", "resnet18", "--dtype", "bfloat16,int8"])
    assert refused.exit_code == 2
    assert "'int8' is not one of float64, float32, bfloat16, float16" in refused.output


@pytest.mark.sweep
def test_the_command_compares_flax_in_a_process_that_rounds_each_result(tmp_path: Path) -> None:
    required("flax")
    spec = tmp_path / "small.yaml"
    spec.write_text(SMALL, encoding="utf-8")
    options = ["--backend", "flax", "--dtype", "bfloat16", "--level", "forward", "--json"]
    command = [sys.executable, "-m", "resnet_spec", "parity", str(spec), "--size", "32x28", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    findings = json.loads(done.stdout)
    assert [(row["group"], row["verdict"]) for row in findings] == [
        ("evaluation", "same"),
        ("training forward", "same"),
    ]
    assert all(row["errors"][name] <= gate for row in findings for name, gate in row["gates"].items())
