"""What parity is used through: the command line's files, records of other machines, the pytest plug-in, and who is wrong about a gradient."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from conftest import required
from resnet_spec import loads
from resnet_spec.parity.case import Case
from resnet_spec.parity.compare import compared
from resnet_spec.parity.record import record
from resnet_spec.parity.settle import settled
from third import install

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


def ran(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def parity(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return ran(folder, "resnet_spec", "parity", "small.yaml", *arguments)


def test_each_report_holds_every_finding(folder: Path) -> None:
    files = ("--json", "out.json", "--junit", "out.xml", "--report", "out.html", "--seeds", "2")
    assert parity(folder, "--backend", "numpy", *FORWARD, *files).returncode == 0
    findings = json.loads((folder / "out.json").read_text())
    suites = ElementTree.parse(folder / "out.xml").getroot()
    page = (folder / "out.html").read_text()
    embedded = json.loads(re.findall(r"const data = (.*);\n", page)[0].replace("<\\/", "</"))
    assert len(findings) == len(suites.findall("testsuite/testcase")) == len(embedded["findings"]) == 4
    assert not re.search(r"(src|href)=", page)


def test_records_of_two_machines_are_compared_on_a_third(folder: Path) -> None:
    required("torch")
    assert parity(folder, "--backend", "torch", "--save", "records", *FORWARD).returncode == 0
    done = parity(folder, "--against", "records", *FORWARD, "--json")
    assert {(row["backend"], row["verdict"]) for row in json.loads(done.stdout)} == {
        ("torch (kept)", "same"),
        ("numpy (kept)", "same"),
    }


def test_a_record_of_another_network_is_refused(folder: Path) -> None:
    parity(folder, "--backend", "numpy", "--save", "records", *FORWARD)
    (folder / "small.yaml").write_text(SPEC.replace("kernel: 3", "kernel: 1"), encoding="utf-8")
    done = parity(folder, "--against", "records", *FORWARD)
    assert done.returncode == 1
    assert "the record in records is of another network of this name" in done.stdout


def test_records_that_are_not_there_are_an_error(folder: Path) -> None:
    done = parity(folder, "--against", "nothing")
    assert (done.returncode, done.stderr) == (
        2,
        "error: no records of parity in 'nothing'; parity --save writes them\n",
    )


def test_what_differs_is_shrunk_and_can_be_seen_again(folder: Path) -> None:
    install(folder)
    done = parity(folder, "--backend", "shouting", *FORWARD)
    assert done.returncode == 1
    (path,) = (folder / "parity-failures").iterdir()
    assert path.name == "small-shouting-evaluation.yaml"
    first, command, *_ = path.read_text().splitlines()
    assert first.startswith("# shouting differs from numpy in evaluation: ")
    again = ran(folder, "resnet_spec", *command.removeprefix("# resnet-spec ").split(), "--shrink", "0")
    assert again.returncode == 1
    assert "differs first at" in again.stdout


def test_the_plugin_collects_a_test_for_each_backend_and_group(folder: Path) -> None:
    options = ("--resnet-spec-backend", "numpy", "--resnet-spec-level", "forward", "--resnet-spec", "small.yaml")
    done = ran(folder, "pytest", "-v", "-p", "no:cacheprovider", *PLUGIN, *options)
    assert done.returncode == 0, done.stdout
    assert "numpy evaluation PASSED" in done.stdout
    assert "2 passed" in done.stdout


def test_the_plugin_shows_where_it_differs(folder: Path) -> None:
    install(folder)
    options = ("--resnet-spec-backend", "shouting", "--resnet-spec-level", "forward", "--resnet-spec", "small.yaml")
    done = ran(folder, "pytest", "-p", "no:cacheprovider", *PLUGIN, *options)
    assert done.returncode == 1
    assert "differs first at c; at fault: c" in done.stdout
    assert "to see it again: resnet-spec parity small.yaml --backend shouting" in done.stdout


def test_differences_of_the_reference_settle_who_is_wrong_about_a_gradient() -> None:
    torch = required("torch")
    case = Case(loads(SPEC), level="gradient")
    right = record(torch, case)["gradient"]
    wrong = {name: array.copy() for name, array in right.items()}
    wrong["c.weight"] *= 1.001
    assert compared(case, "gradient", "a", wrong, "b", right).verdict == "differs"
    settlement = settled(case, "c.weight", {"a": wrong["c.weight"], "b": right["c.weight"]})
    assert settlement.wrong == "a"
    assert settlement.difference == pytest.approx(right["c.weight"][settlement.index], rel=1e-6)


def test_what_differences_can_not_tell_is_left_open() -> None:
    torch = required("torch")
    case = Case(loads(SPEC), level="gradient")
    right = record(torch, case)["gradient"]["c.weight"]
    assert settled(case, "c.weight", {"a": right + 1e-12 * np.abs(right).max(), "b": right}).wrong == ""
