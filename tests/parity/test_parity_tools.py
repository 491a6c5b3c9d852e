"""The parity command and its files, saved records, the pytest plug-in, and the check of gradients."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TypeAlias
from xml.etree import ElementTree

import numpy as np
import pytest

from resnet_spec import loads, pytest_plugin
from resnet_spec.parity import processes, sweep
from resnet_spec.parity.case import Case
from resnet_spec.parity.compare import compare_group
from resnet_spec.parity.gradient_check import check_gradient
from resnet_spec.parity.recorder import record
from shared.command_line import run_here
from shared.frameworks import required
from shared.local_runner import LocalWorker
from shared.plain_networks import plain_network
from shared.sampling import in_sweep
from shared.third_party_package import install

SPEC = """
name: small
input: [3, 9, 8]
stem: {c: {op: conv, out: 4, kernel: 3}, n: norm, a: act}
head: {p: global_avg_pool, fc: {op: linear, out: 3}}
"""
PLUGIN = () if metadata.entry_points(group="pytest11", name="resnet-spec") else ("-p", "resnet_spec.pytest_plugin")
FORWARD = ("--dtype", "float64", "--level", "forward")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SPEC, encoding="utf-8")
    return tmp_path


BROKEN = """
import os, time
import numpy as np, resnet_spec_numpy
from resnet_spec_numpy import *
from resnet_spec_numpy import build as _build, dump, load
DTYPE = "float64"

def build(network, weights, dtype):
    model = _build(network, weights, dtype)
    model.resnet_spec_backend = {name!r}
    return model

def run(model, images, capture=(), *, train=False):
    outputs = resnet_spec_numpy.run(model, images, capture, train=train)
    {does}
    return outputs
"""
FAULTS = {
    "whole": ("pass", "same"),
    "killed": (
        "os.kill(os.getpid(), 9)",
        "failed: its process was killed by SIGKILL, perhaps because the system is out of memory",
    ),
    "crashed": ("raise ArithmeticError('the\\nend')", "failed: ArithmeticError: the end"),
    "hanging": ("time.sleep(1000)", "failed: no answer within 20 s"),
    "nan": ("outputs['n'][0] = np.nan", "differs first at n, which holds NaN"),
    "clipped": ("outputs['a'] = outputs['a'][1:]", "differs first at a, which has shape "),
    "single": ("outputs['n'] = outputs['n'].astype(np.float32)", "differs first at n, which is float32, not float64"),
}


def install_broken_backends(folder: Path) -> None:
    """Install a distribution with one backend for each of FAULTS."""
    for name, (does, _) in FAULTS.items():
        (folder / f"broken_{name}.py").write_text(BROKEN.format(name=name, does=does), encoding="utf-8")
    info = folder / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    points = [f"{name} = broken_{name}" for name in FAULTS]
    (info / "entry_points.txt").write_text("\n".join(["[resnet_spec.backends]", *points]) + "\n")


INFERENCE_MODE = """
import os
from resnet_spec.backend import Capabilities
CAPABILITIES = Capabilities(inference=True)

def build_inference(network, weights, dtype, *, compile):
    os.abort()
"""


def run_python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def parity(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_python(folder, "resnet_spec", "parity", "small.yaml", *arguments)


ParityHere: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def parity_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ParityHere:
    """Return a function that compares small.yaml without other processes, which is ten times as fast."""
    monkeypatch.setattr(sweep, "WorkerProcess", LocalWorker)
    return lambda *arguments: run_here("parity", "small.yaml", *arguments, folder=folder)


def test_every_report_format_holds_every_finding(folder: Path) -> None:
    install_broken_backends(folder)
    files = ("--json", "out.json", "--junit", "out.xml", "--report", "out.html", "--seeds", "2")
    assert parity(folder, "--backend", "numpy,whole", *FORWARD, *files).returncode == 0
    findings = json.loads((folder / "out.json").read_text())
    suites = ElementTree.parse(folder / "out.xml").getroot()
    page = (folder / "out.html").read_text()
    embedded = json.loads(re.findall(r"const data = (.*);\n", page)[0].replace("<\\/", "</"))
    assert len(findings) == len(suites.findall("testsuite/testcase")) == len(embedded["findings"]) == 8
    assert not re.search(r"(src|href)=", page)


def test_saved_records_are_compared_with_each_other_and_with_the_reference(parity_here: ParityHere) -> None:
    required("torch")
    assert parity_here("--backend", "torch", "--save", "records", *FORWARD).returncode == 0
    done = parity_here("--against", "records", *FORWARD, "--json")
    assert {(row["backend"], row["verdict"]) for row in json.loads(done.stdout)} == {
        ("torch (kept)", "same"),
        ("numpy (kept)", "same"),
    }


def test_records_are_compared_in_the_types_and_groups_that_were_saved(folder: Path) -> None:
    install_broken_backends(folder)
    assert parity(folder, "--backend", "whole", "--save", "records", *FORWARD).returncode == 0
    done = parity(folder, "--against", "records", "--json")
    assert done.returncode == 0, done.stdout
    findings = json.loads(done.stdout)
    assert {row["dtype"] for row in findings} == {"float64"}
    verdicts = {(row["group"], row["verdict"], row["failure"]) for row in findings if row["backend"] == "whole (kept)"}
    assert verdicts >= {("evaluation", "same", ""), ("gradient", "alone", "the saved record lacks it")}
    asked = parity(folder, "--against", "records", "--dtype", "float32")
    assert asked.returncode == 1
    assert "failed: records has no record of this case" in asked.stdout


def test_records_of_one_backend_from_two_machines_are_both_compared(folder: Path, parity_here: ParityHere) -> None:
    parity_here("--backend", "numpy", "--save", "one", *FORWARD)
    shutil.copytree(folder / "one", folder / "two")
    done = parity_here("--against", "one", "--against", "two", "--against", "one", *FORWARD, "--json")
    assert [row["backend"] for row in json.loads(done.stdout)] == ["numpy (one)"] * 2 + ["numpy (two)"] * 2


def test_a_backend_that_is_named_twice_is_compared_once(folder: Path) -> None:
    install_broken_backends(folder)
    done = parity(folder, "--backend", "whole, whole,", *FORWARD, "--json")
    assert [row["backend"] for row in json.loads(done.stdout)] == ["whole", "whole"]
    assert {row["group"] for row in json.loads(done.stdout)} == {"evaluation", "training forward"}
    done = parity(folder, "--backend", ",", *FORWARD)
    assert done.returncode == 2
    assert "names no backend; there are: " in done.stderr


def test_a_networks_name_stays_within_the_folder_of_files(folder: Path) -> None:
    install(folder)
    (folder / "small.yaml").write_text(SPEC.replace("name: small", f"name: ../../up/{'x' * 300}"), encoding="utf-8")
    done = parity(folder, "--backend", "shouting", "--save", "records", "--shrink", "1", *FORWARD)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    written = [path.relative_to(folder).parts[0] for path in folder.rglob("*") if ".._up" in path.name]
    assert sorted(written) == ["parity-failures"] + ["records"] * 4


def test_comparing_a_single_backend_is_an_error(parity_here: ParityHere) -> None:
    done = parity_here("--backend", "numpy", *FORWARD)
    assert (done.returncode, done.stderr) == (1, "nothing was compared\n")


def test_a_record_of_a_different_network_is_a_failure(folder: Path, parity_here: ParityHere) -> None:
    parity_here("--backend", "numpy", "--save", "records", *FORWARD)
    (folder / "small.yaml").write_text(SPEC.replace("kernel: 3", "kernel: 1"), encoding="utf-8")
    done = parity_here("--against", "records", *FORWARD)
    assert done.returncode == 1
    assert "the record in records is of a different network of the same name" in done.stdout


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def flip_a_bit(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])


def empty_the_json(path: Path) -> None:
    path.with_suffix(".json").write_text("{}", encoding="utf-8")


def truncate_the_json(path: Path) -> None:
    path.with_suffix(".json").write_text('{"netw', encoding="utf-8")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty_the_json, truncate_the_json])
def test_a_damaged_record_is_a_failure_of_its_backend(
    damage: Callable[[Path], None], folder: Path, parity_here: ParityHere
) -> None:
    parity_here("--backend", "numpy", "--save", "records", *FORWARD)
    (path,) = (folder / "records").rglob("*.safetensors")
    damage(path)
    done = parity_here("--against", "records", *FORWARD)
    assert done.returncode == 1
    assert "the record in records is damaged" in done.stdout
    assert "Traceback" not in done.stderr


def test_missing_records_are_an_error(parity_here: ParityHere) -> None:
    done = parity_here("--against", "nothing")
    assert (done.returncode, done.stderr) == (
        2,
        "error: no parity records in 'nothing'; resnet-spec parity --save writes them\n",
    )


def test_a_network_that_differs_is_shrunk_and_can_be_reproduced(folder: Path) -> None:
    install(folder)
    done = parity(folder, "--backend", "shouting", *FORWARD)
    assert done.returncode == 1
    (path,) = (folder / "parity-failures").iterdir()
    assert path.name == "small-shouting-evaluation.yaml"
    first, command, *_ = path.read_text().splitlines()
    assert first.startswith("# shouting differs from numpy in evaluation: ")
    again = run_python(folder, "resnet_spec", *command.removeprefix("# resnet-spec ").split(), "--shrink", "0")
    assert again.returncode == 1
    assert "differs first at" in again.stdout


@pytest.mark.parametrize("prefix", ["--", *in_sweep("--resnet-spec-")])
def test_the_plugin_collects_a_test_for_each_spec_backend_and_level(folder: Path, prefix: str) -> None:
    (folder / "other.yaml").write_text(SPEC.replace("small", "other"), encoding="utf-8")
    install_broken_backends(folder)
    options = ("--resnet-spec", "small.yaml", "other.yaml", f"{prefix}backend", "whole", f"{prefix}level=forward")
    done = run_python(folder, "pytest", "-v", "-p", "no:cacheprovider", *PLUGIN, *options)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("whole forward PASSED") == 2
    assert "2 passed" in done.stdout


def test_the_plugin_shows_the_first_difference(folder: Path) -> None:
    install(folder)
    options = ("--resnet-spec", "small.yaml", "--backend", "shouting", "--level", "forward")
    done = run_python(folder, "pytest", "-p", "no:cacheprovider", *PLUGIN, *options)
    assert done.returncode == 1
    assert "evaluation: differs first at c; at fault: c" in done.stdout
    assert "to reproduce: resnet-spec parity small.yaml --backend shouting" in done.stdout


def test_the_plugin_reports_a_backend_that_fails_where_there_is_no_gate(folder: Path) -> None:
    install_broken_backends(folder)
    wide = SPEC.replace("out: 4", "out: 4000")  # in float32, more than MAX_GATED_PARAMETERS have no gate
    (folder / "small.yaml").write_text(wide, encoding="utf-8")
    options = ("--resnet-spec", "small.yaml", "--backend", "crashed", "--level", "forward", "--dtype", "float32")
    done = run_python(folder, "pytest", "-p", "no:cacheprovider", *PLUGIN, *options)
    assert done.returncode == 1
    assert "training forward: failed: ArithmeticError: the end" in done.stdout
    assert "TypeError" not in done.stdout


def test_the_plugin_keeps_one_worker_for_each_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make(name: str) -> object:
        made.append(name)
        return object()

    monkeypatch.setattr(processes, "WorkerProcess", make)
    specs = object.__new__(pytest_plugin._Specs)
    specs.workers = {}
    assert specs.worker("torch") is specs.worker("torch") is not specs.worker("flax")
    assert made == ["torch", "flax"]


def test_the_plugin_shows_the_problems_of_a_spec_without_a_traceback(folder: Path) -> None:
    (folder / "small.yaml").write_text(SPEC.replace("op: conv", "op: cnov"), encoding="utf-8")
    options = ("--resnet-spec", "small.yaml", "nothing.yaml", "--backend", "numpy", "--level", "forward")
    done = run_python(folder, "pytest", "-p", "no:cacheprovider", *PLUGIN, *options)
    assert done.returncode == 1
    assert "did you mean 'conv'?" in done.stdout
    assert "no file or bundled network named 'nothing.yaml'" in done.stdout
    assert "pytest_plugin.py" not in done.stdout


@pytest.mark.parametrize(("names", "message"), [("numpy,nupmy", "did you mean 'numpy'?"), ("", "names no backend")])
@pytest.mark.share(2)
def test_the_plugin_names_a_backend_that_does_not_exist(names: str, message: str, folder: Path) -> None:
    done = run_python(folder, "pytest", *PLUGIN, "--resnet-spec", "small.yaml", f"--resnet-spec-backend={names}")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.sweep
def test_broken_backends_are_reported_and_the_others_complete(folder: Path) -> None:
    install_broken_backends(folder)
    names = ",".join(["numpy", *FAULTS])
    done = parity(folder, "--backend", names, *FORWARD, "--timeout", "20", "--shrink", "0", "--junit", "out.xml")
    assert done.returncode == 1
    for name, (_, message) in FAULTS.items():
        row, sentence = rf"{name} +float64 +evaluation ", rf"{name}, float64, evaluation: .*{re.escape(message)}"
        assert re.search(rf"same +{row}" if message == "same" else sentence, done.stdout), done.stdout
    assert len(re.findall("same +(?:numpy|whole) +float64 ", done.stdout)) == 4
    suite = ElementTree.parse(folder / "out.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("16", "6", "6")


def test_a_crash_in_inference_mode_is_a_failure_of_that_mode(folder: Path) -> None:
    install_broken_backends(folder)
    with (folder / "broken_whole.py").open("a", encoding="utf-8") as file:
        file.write(INFERENCE_MODE)
    done = parity(folder, "--backend", "whole", "--dtype", "float64", "--level", "inference")
    assert done.returncode == 1
    assert re.search(r"same +whole +float64 +evaluation ", done.stdout), done.stdout
    assert "whole, float64, inference: failed: its process was killed by SIGABRT" in done.stdout, done.stdout


def test_random_networks_run_in_inference_mode_in_both_types(folder: Path) -> None:
    install_broken_backends(folder)
    options = ("--count", "2", "--backend", "whole", "--level", "inference", "--json")
    done = run_python(folder, "resnet_spec", "fuzz", *options)
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["networks"], summary["differ"], summary["ill-conditioned"]) == (0, 2, 0, 0)
    assert summary["worst"]["float64"]["inference"] < 1e-12
    assert 1e-9 < summary["worst"]["float32"]["inference"] < 1e-3


def test_central_differences_show_which_gradient_is_wrong() -> None:
    torch = required("torch")
    case = Case(loads(SPEC), level="gradient")
    right = dict(record(torch, case))["gradient"]
    wrong = {name: array.copy() for name, array in right.items()}
    wrong["c.weight"] *= 1.001
    assert compare_group(case, "gradient", "a", wrong, "b", right).verdict == "differs"
    check = check_gradient(case, "c.weight", {"a": wrong["c.weight"], "b": right["c.weight"]})
    assert check.wrong == "a"
    assert check.difference == pytest.approx(right["c.weight"][check.index], rel=1e-6)


def test_central_differences_do_not_judge_errors_below_their_accuracy() -> None:
    torch = required("torch")
    case = Case(loads(SPEC), level="gradient")
    right = dict(record(torch, case))["gradient"]["c.weight"]
    assert check_gradient(case, "c.weight", {"a": right + 1e-12 * np.abs(right).max(), "b": right}).wrong == ""


@pytest.mark.sweep
def test_a_network_that_is_not_comparable_does_not_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    required("torch")
    monkeypatch.setattr(sweep, "WorkerProcess", LocalWorker)
    (folder / "deep.yaml").write_text(plain_network(56, order="can"), encoding="utf-8")
    options = ("--backend", "torch", "--level", "forward", "--dtype", "float32")
    files = ("--junit", "out.xml", "--json", "out.json", "--report", "out.html")
    done = run_here("parity", "deep.yaml", *options, *files, folder=folder)
    assert done.returncode == 3
    assert "ill-conditioned: not comparable in float32, first at " in done.stdout
    verdicts = [row["verdict"] for row in json.loads((folder / "out.json").read_text())]
    assert verdicts == ["same", "ill-conditioned"]
    suite = ElementTree.parse(folder / "out.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "0", "1")
    assert not (folder / "parity-failures").exists()
    tests = run_python(folder, "pytest", "-p", "no:cacheprovider", *PLUGIN, "--resnet-spec", "deep.yaml", *options)
    assert tests.returncode == 1
    assert "training forward: ill-conditioned: not comparable in float32" in tests.stdout
