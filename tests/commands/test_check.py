"""The commands ``check``, ``explain``, ``new`` and ``schema``, for terminals, editors, code hosts and scripts."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from resnet_spec import load
from resnet_spec.language.json_schema import spec_schema
from resnet_spec.library import bundled
from resnet_spec.network.warnings import find_warnings
from shared.bundled_networks import bundled_network
from shared.command_line import run_cli
from shared.machine_speed import count_calls
from shared.paths import ROOT
from shared.sampling import one_in

WRONG = "name: my\ninput: [3, 8, 8]\nstem: {a: reul}\n"
ODD = "stem: {c: {op: conv, out: 8, kernel: 3, groups: 5}, 中: act}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my.yaml").write_text(WRONG)
    (tmp_path / "odd, 50%.yaml").write_text(f"name: odd\ninput: [3, 8, 8]\n{ODD}", encoding="utf-8")
    return tmp_path


# -- formats ------------------------------------------------------------------------------------------------------


def test_problems_and_correct_specs_are_printed_to_one_stream_in_order(folder: Path) -> None:
    done = run_cli("check", "my.yaml", "resnet18", "no.yaml", folder=folder)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.startswith("error[RS204]: ")
    assert done.stdout.index("error[RS204]: ") < done.stdout.index("resnet18: no problems\n")
    assert done.stdout.index("resnet18: no problems\n") < done.stdout.index("error[RS209]: no file or bundled network")


def test_standard_input_is_checked(folder: Path) -> None:
    """What it extends is found in the working directory, and the same limits hold as for files."""
    command = [sys.executable, "-m", "resnet_spec", "check", "-", "--set", "classes=7"]
    inputs = {
        b"name: a\nextends: resnet18\n": (0, b"-: no problems\n"),
        b"name: a\nextends: my.yaml\n": (2, b" --> my.yaml:3:11"),
        b"name: a\nextends: resnet18\nhaed: {}\n": (2, b" --> <stdin>:3:1"),
        b"name: \xff": (2, b"error[RS105]: not UTF-8 text"),
        b"#" * 2**21: (2, b"error[RS104]: <stdin> has more than 1,048,576 bytes"),
    }
    for text, (status, words) in inputs.items():
        done = subprocess.run(command, input=text, capture_output=True, check=False, cwd=folder)
        assert (done.returncode, done.stderr) == (status, b"")
        assert words in done.stdout


@pytest.mark.parametrize("option", [["--json"], ["--format", "json"]])
def test_json_has_each_problem_and_its_notes(option: list[str], folder: Path) -> None:
    problems = json.loads(run_cli("check", "my.yaml", "odd, 50%.yaml", "no.yaml", *option, folder=folder).stdout)
    keys = ("code", "level", "file", "line", "column", "end")
    assert [tuple(problem[key] for key in keys) for problem in problems] == [
        ("RS204", "error", "my.yaml", 3, 11, 15),
        ("RS401", "error", "odd, 50%.yaml", 3, 49, 50),
        ("RS212", "error", "odd, 50%.yaml", 3, 53, 54),
        ("RS209", "error", "no.yaml", 1, 1, 1),
    ]
    assert problems[0]["help"] == "did you mean 'relu'?"


def test_github_format_has_a_command_for_each_problem(folder: Path) -> None:
    done = run_cli("check", "my.yaml", "odd, 50%.yaml", "--format", "github", folder=folder)
    first, second, _ = done.stdout.splitlines()
    assert first == (
        "::error file=my.yaml,line=3,col=11,endColumn=14,title=RS204%3A no operation or block with this name"
        "::no operation, block or definition named 'reul'%0Ahelp: did you mean 'relu'?"
    )
    assert second.startswith("::error file=odd%2C 50%25.yaml,line=3,col=")


def test_sarif_has_rules_places_and_escaped_names(folder: Path) -> None:
    done = run_cli("check", "my.yaml", "odd, 50%.yaml", "--format", "sarif", folder=folder)
    log = json.loads(done.stdout)
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert (log["version"], run["columnKind"], rules) == ("2.1.0", "unicodeCodePoints", ["RS204", "RS212", "RS401"])
    assert [rules[result["ruleIndex"]] for result in run["results"]] == ["RS204", "RS401", "RS212"]
    place = run["results"][2]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "odd%2C%2050%25.yaml"}
    assert place["region"] == {"startLine": 3, "startColumn": 53, "endColumn": 54}


def test_sarif_without_problems_is_a_log() -> None:
    done = run_cli("check", "resnet18", "--format", "sarif")
    assert (done.returncode, json.loads(done.stdout)["runs"][0]["results"]) == (0, [])


def run_in_terminal(*arguments: str, folder: Path, **environment: str) -> str:
    """Return what a command prints to a terminal."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "resnet_spec", *arguments]
    subprocess.run(command, stdout=follower, stderr=follower, cwd=folder, env=os.environ | environment, check=False)
    os.close(follower)
    text = os.read(leader, 2**16).decode()
    os.close(leader)
    return text


def test_terminal_has_colours_unless_no_color_is_set(folder: Path) -> None:
    coloured = run_in_terminal("check", "my.yaml", folder=folder, TERM="xterm", NO_COLOR="")
    plain = run_in_terminal("check", "my.yaml", folder=folder, TERM="xterm", NO_COLOR="1")
    assert "\x1b[31m" in coloured
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain


# -- levels, places, speed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "status"), [([], 0), (["--strict"], 2)])
def test_strict_fails_on_warnings(options: list[str], status: int) -> None:
    done = run_cli("check", "resnet18", "--input", "3x32x32", *options)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (status, "resnet18: no problems, 1 warning")
    assert "warning[RS404]: layer4.0.bn1 needs more than one value per channel in training" in done.stdout
    assert "use a larger batch or images of at least 3 x 33 x 33" in done.stdout


def test_norm_after_a_global_pool_causes_no_warning(tmp_path: Path) -> None:
    gate = "{p: {op: global_avg_pool, keepdims: true}, n: norm, q: {op: group_norm, groups: 3}}"
    (tmp_path / "my.yaml").write_text(f"name: my\ninput: [3, 8, 8]\nstem: {gate}\n")
    done = run_cli("check", "my.yaml", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "my.yaml: no problems\n", "")


def test_group_norm_of_one_value_has_its_own_message(tmp_path: Path) -> None:
    layers = "{c: {op: conv, out: 4, kernel: 8}, n: {op: group_norm, groups: 4}}"
    (tmp_path / "my.yaml").write_text(f"name: my\ninput: [3, 8, 8]\nstem: {layers}\n")
    done = run_cli("check", "my.yaml", folder=tmp_path)
    assert "n has input (4, 1, 1), which is one value per group, so its output is only its shift" in done.stdout


def test_path_is_relative_if_that_is_shorter(folder: Path) -> None:
    done = run_cli("check", folder / "my.yaml", folder=folder)
    assert " --> my.yaml:3:11" in done.stdout


def test_bundled_networks_pass() -> None:
    names = bundled.names()[::50]
    done = run_cli("check", "--strict", *names)
    assert (done.returncode, done.stdout.count("no problems\n")) == (0, len(names))


@pytest.mark.parametrize("name", one_in(20, bundled.names()))
@pytest.mark.share(3)
def test_no_bundled_network_has_a_warning(name: str) -> None:
    assert find_warnings(bundled_network(name)) == []


def test_checking_a_correct_spec_takes_few_calls() -> None:
    """The calls include those of imports. Their number does not depend on the machine, as processor time does."""
    assert count_calls("check", "resnet50") < 250_000


# -- explain, new, schema, hooks ----------------------------------------------------------------------------------


def test_explain_shows_a_problem_and_the_correction() -> None:
    done = run_cli("explain", "rs401")
    assert done.returncode == 0
    for part in ("RS401: an operation that cannot", "groups: 48", "error[RS401]", "The corrected spec:", "groups: 32"):
        assert part in done.stdout


def test_explain_without_arguments_lists_all_codes() -> None:
    lines = run_cli("explain").stdout.splitlines()
    assert lines[0] == "RS101  the text is not valid YAML"
    assert len(lines) > 20


def test_explain_rejects_unknown_codes() -> None:
    done = run_cli("explain", "RS999")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no error code 'RS999'" in done.stderr


@pytest.mark.parametrize("like", ["resnet18", "resnet50d", "seresnet50", "preact_resnet18_cifar"])
@pytest.mark.share(2)
def test_new_spec_is_the_same_network_with_and_without_comments(like: str, tmp_path: Path) -> None:
    done = run_cli("new", "my net.yaml", "--like", like, folder=tmp_path)
    assert done.returncode == 0
    assert run_cli("check", "my net.yaml", folder=tmp_path).stdout == "my net.yaml: no problems\n"
    path = tmp_path / "my net.yaml"
    assert load(path).weights() == load(like).weights()
    head, comments = path.read_text().split("# input:")
    path.write_text(head + re.sub("^# ", "", f"# input:{comments}", flags=re.MULTILINE))
    assert "\nstages:\n" in path.read_text()
    assert load(path).weights() == load(like).weights()


def test_new_does_not_overwrite_a_file(folder: Path) -> None:
    done = run_cli("new", "my.yaml", "--like", "resnet50", folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "my.yaml exists already, and was not changed" in done.stderr
    assert (folder / "my.yaml").read_text() == WRONG


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["new", "new.yaml", "--like", "resnt50"],
            "no file or bundled network named 'resnt50'; did you mean 'resnet50'?",
        ),
        (["new", "new.yaml", "--like", "my.yaml"], "error[RS204]"),
        (["new", "no/new.yaml"], "error: no such file or directory: no/new.yaml"),
    ],
)
def test_new_writes_nothing_after_an_error(arguments: list[str], message: str, folder: Path) -> None:
    before = sorted(path.name for path in folder.iterdir())
    done = run_cli(*arguments, folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == before


def test_new_extends_a_file_by_its_relative_path(tmp_path: Path) -> None:
    (tmp_path / "bases").mkdir()
    run_cli("new", "bases/mine.yaml", folder=tmp_path)
    assert run_cli("new", "bases/other.yaml", "--like", "bases/mine.yaml", folder=tmp_path).returncode == 0
    assert "extends: mine.yaml\n" in (tmp_path / "bases" / "other.yaml").read_text()


def test_schema_prints_the_schema() -> None:
    assert json.loads(run_cli("schema").stdout) == spec_schema()


def test_the_pre_commit_hook_runs_check(folder: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    command, *arguments = hook["entry"].split()
    assert (command, hook["language"]) == ("resnet-spec", "python")
    assert run_cli(*arguments, "my.yaml", folder=folder).returncode == 2
    assert re.search(hook["files"], "specs/my.yaml")
    assert not re.search(hook["files"], ".github/workflows/ci.yaml")
    assert re.search(hook["exclude"], "specs/blocks/mine.yaml")
