"""Fixtures and options of the tests. Tests of frameworks that are not installed are skipped."""

from __future__ import annotations

import atexit
import gc
import os
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file

from resnet_spec.weights.canonical import Array
from shared import small_network
from shared.browser import open_browser
from shared.frameworks import REQUIRED, required

if "PYTEST_XDIST_WORKER" in os.environ:  # the processes share the cores: one thread each
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")  # compilation takes most of the time
os.environ["JAX_ENABLE_X64"] = "1"  # before JAX is imported: float64 is compared too
# The tests start hundreds of processes. Each would compile the modules of whole frameworks if none may keep the result.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
if "PYTEST_XDIST_WORKER" not in os.environ and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # All processes of a run share what JAX compiles, those that tests start included.
    _compiled = tempfile.mkdtemp(prefix="jax-")
    atexit.register(shutil.rmtree, _compiled, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# What a shell runs in the background may ignore signals, and so would every command that a test starts and interrupts.
# A handler that does nothing ignores them as well, and ends with this program: a command starts with the defaults.
for _number in {signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)}:  # Windows has no SIGHUP
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)

collect_ignore = ["data", "backends/third_party"]  # scripts that record data, and a package to install


@pytest.fixture(scope="module", autouse=True)
def free_memory() -> Iterator[None]:
    """Free what JAX compiled for the tests of a module, which no other module runs, and models in cycles.

    What is left, such as the modules of the frameworks, is not looked through again.
    """
    yield
    if jax := sys.modules.get("jax"):
        jax.clear_caches()
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["numpy", "torch", "paddle", "flax", "onnx"])
def backend_name(request: pytest.FixtureRequest) -> str:
    required(request.param)
    return str(request.param)


def missing_browser() -> str:
    """Return a sentence with the programs that tests of pages need and that are not installed, or ""."""
    programs = {"chromium": "chromium", "chromedriver": "chromium-driver"}
    absent = [package for program, package in programs.items() if shutil.which(program) is None]
    absent += [] if find_spec("selenium") else ["selenium"]
    return f"a page's tests need {' and '.join(absent)}, which is not installed" if absent else ""


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if absent := missing_browser():
        if "chromium" in REQUIRED:
            pytest.fail(absent)
        pytest.skip(absent)
    driver = open_browser(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture(params=["numpy", "torch", "paddle", "flax"])
def training_name(request: pytest.FixtureRequest) -> str:
    required(request.param)
    return str(request.param)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sweep", action="store_true", help="Also run the tests that take long.")
    parser.addoption("--rewrite", action="store_true", help="Rewrite the files of expected results.")


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Return whether the files of expected results are to be rewritten."""
    return bool(request.config.getoption("--rewrite"))


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Drop the parameters of the sweep before tests are made of them, since twenty thousand take half a minute."""
    if metafunc.config.getoption("--sweep"):
        return
    for mark in metafunc.definition.iter_markers("parametrize"):
        values, ids = mark.args[1], mark.kwargs.get("ids")
        if not isinstance(values, list) or not (ids is None or callable(ids) or isinstance(ids, list)):
            continue
        if metafunc.definition.get_closest_marker("sweep"):
            kept = [0]  # pytest deselects it, and says how many of the sweep it leaves out
        else:
            kept = [at for at, value in enumerate(values) if not _is_swept(value)] or [0]
        values[:] = [values[at] for at in kept if values]
        if isinstance(ids, list):
            ids[:] = [ids[at] for at in kept if ids]


def _is_swept(value: object) -> bool:
    """Return whether a parameter is marked for the sweep."""
    return any(mark.name == "sweep" for mark in getattr(value, "marks", ()))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--sweep"):
        return
    deselected = {item: None for item in items if item.get_closest_marker("sweep")}
    numbers = Counter[str]()
    for item in items:
        if item not in deselected and (mark := item.get_closest_marker("share")):
            test = item.nodeid.partition("[")[0]
            if numbers[test] % mark.args[0] != mark.args[0] // 2:
                deselected[item] = None
            numbers[test] += 1
    if deselected:
        config.hook.pytest_deselected(items=[*deselected])
        items[:] = [item for item in items if item not in deselected]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many models of each family have the same parameters, names and shapes as in the other library."""
    failed = {report.nodeid for report in terminalreporter.stats.get("failed", ())}
    families: dict[str, dict[str, bool]] = {}
    for report in [*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())]:
        match = re.search(r"test_zoo\.py::test_(?:parameters|names)_and_\w+\[(.+?): (.+)\]$", report.nodeid)
        if match and report.when == "call":
            title, name = match.groups()
            family = families.setdefault(title, {})
            family[name] = family.get(name, True) and report.nodeid not in failed
    if families:
        terminalreporter.section("the zoo")
        for title, models in families.items():
            terminalreporter.write_line(f"{title}: {sum(models.values())} of {len(models)}")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Array]:
    """Write a small network and its weights to a new working directory, as small.yaml and w.safetensors."""
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(small_network.SMALL)
    save_file(small_network.make_weights(), "w.safetensors")
    return small_network.make_weights()
