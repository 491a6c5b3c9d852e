"""Comparing, random networks, shrinking, worker processes, and the choice of what a backend is compared with."""

from __future__ import annotations

import math
import re
import threading
import time
import tracemalloc
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from resnet_spec import Network, load, loads
from resnet_spec.backend import OUTPUT
from resnet_spec.language.values import operation_arguments
from resnet_spec.library import bundled
from resnet_spec.network.to_yaml import to_yaml
from resnet_spec.ops import BatchNorm, Conv, EvoNormS0, FilterResponseNorm, GroupNorm, LayerNorm, Linear, op_name
from resnet_spec.parity import processes, random_networks, recorder
from resnet_spec.parity.array_files import map_arrays, write_arrays
from resnet_spec.parity.case import Case, Dtype, Group
from resnet_spec.parity.compare import compare_group, relative_error
from resnet_spec.parity.examine import examine
from resnet_spec.parity.locate import compute_part_inputs
from resnet_spec.parity.minimize import shrink_network
from resnet_spec.parity.processes import Failure, WorkerProcess
from resnet_spec.parity.random_networks import extreme_values
from resnet_spec.parity.recorder import Record, build_model, record
from resnet_spec.transforms.norm_folding import fold_norms
from resnet_spec.transforms.width_reduction import reduce_width
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.bundled_networks import bundled_network
from shared.frameworks import required
from shared.local_runner import LocalRunner
from shared.sampling import in_sweep_rows

SMALL = "{name: small, input: [3, 9, 8], stem: {c: {op: conv, out: 4, kernel: 3}, n: norm}, head: {p: global_avg_pool}}"

DEPTHWISE = """
name: deep
input: [3, 9, 8]
stem:
  a: {op: conv, out: 64, kernel: 3}
  b: {op: conv, out: 64, kernel: 3, groups: 64}
  c: {op: conv, out: 64, kernel: 1, groups: 2}
head: {p: global_avg_pool}
"""


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    worker = WorkerProcess("numpy", timeout=60)
    yield worker
    worker.close()


# -- comparing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (np.array([1.0, 2.5]), 0.25),
        (np.array([1.0, np.nan]), np.inf),
        (np.array([1.0, np.inf]), np.inf),
        (np.array([[1.0, 2.0]]), np.inf),
        (np.array([1.0, 2.0], np.float32), np.inf),
        (None, np.inf),
        (np.array([1.0, 2.0]), 0.0),
    ],
)
def test_errors_are_relative_to_the_largest_magnitude_and_infinite_for_unlike_arrays(
    actual: np.ndarray | None, expected: float
) -> None:
    assert relative_error(np.array([1.0, 2.0]), actual) == expected


def test_comparing_no_arrays_is_a_difference() -> None:
    assert compare_group(Case(loads(SMALL)), "evaluation", "b", {}, "a", {}).verdict == "differs"


def test_an_array_that_only_one_backend_has_is_a_difference() -> None:
    array = np.ones(3)
    finding = compare_group(Case(loads(SMALL)), "evaluation", "b", {"x": array, "y": array}, "a", {"x": array})
    assert (finding.verdict, finding.where) == ("differs", "y")


def test_the_error_of_a_gradient_is_relative_to_the_largest_gradient_of_the_model() -> None:
    expected = {"big": np.array([1e6]), "zero": np.array([0.0])}
    finding = compare_group(
        Case(loads(SMALL)), "gradient", "b", {"big": np.array([1e6]), "zero": np.array([1e-9])}, "a", expected
    )
    assert finding.verdict == "same"
    assert finding.worst == pytest.approx(1e-15)


def test_the_error_of_a_weight_is_relative_to_its_magnitude_before_training_too() -> None:
    case = Case(loads(SMALL))
    before = case.weights()["n.running_mean"]
    finding = compare_group(
        case, "weights", "b", {"n.running_mean": before * 0 + 1e-13}, "a", {"n.running_mean": before * 0}
    )
    assert finding.worst == pytest.approx(1e-13 / np.abs(before).max())


def test_every_part_is_compared() -> None:
    network = load("seresnet50", input=(3, 40, 40))
    groups = dict(record(required("numpy"), Case(network, level="forward")))
    assert set(groups["evaluation"]) == {*(part.path for part in network.nodes()), ""}


def test_computed_inputs_of_parts_have_the_inferred_shapes() -> None:
    network = loads(random_networks.generate_yaml(3))
    case = Case(network, level="forward")
    outputs = dict(record(required("numpy"), case))["evaluation"]
    inputs = compute_part_inputs(network, case.images(), outputs)
    assert {path: x.shape[1:] for path, x in inputs.items() if path} == {
        part.path: part.input_shape for part in network.nodes()
    }


# -- what is compared ---------------------------------------------------------------------------------------------


def test_each_batch_norm_in_training_has_enough_values_per_channel() -> None:
    case = Case(load("resnet18", input=(3, 33, 33)))
    assert (
        min(
            case.batch * leaf.input_shape[1] * leaf.input_shape[2]
            for leaf in case.network.leaves()
            if isinstance(leaf.op, BatchNorm)
        )
        >= 32
    )


def test_another_seed_gives_other_weights_and_images() -> None:
    one, other = Case(loads(SMALL)), Case(loads(SMALL), seed=1)
    assert not np.array_equal(one.images(), other.images())
    assert not any(np.array_equal(array, other.weights()[name]) for name, array in one.weights().items())


def test_random_networks_are_reproducible_and_distinct() -> None:
    texts = [random_networks.generate_yaml(seed) for seed in range(6)]
    assert texts == [random_networks.generate_yaml(seed) for seed in range(6)]
    assert len(set(texts)) == 6


SEEDS = 20
USING_EVERY_OPERATION = 80  # the first 75 do


@cache
def random_network(seed: int) -> Network:
    return random_networks.generate_network(seed)


@pytest.mark.parametrize(("seeds", "share"), [(SEEDS, 0.7), *in_sweep_rows((USING_EVERY_OPERATION, 1.0))])
def test_random_networks_use_every_operation(seeds: int, share: float) -> None:
    from resnet_spec.ops import OPS

    used = {op_name(leaf.op) for seed in range(seeds) for leaf in random_network(seed).leaves()}
    assert used <= set(OPS) and len(used) >= share * len(OPS)


def test_random_networks_have_extreme_arguments() -> None:
    found = set()
    for op in (leaf.op for seed in range(SEEDS) for leaf in random_network(seed).leaves()):
        for name, argument in operation_arguments(op_name(op)).items():
            value = getattr(op, name)
            if value in extreme_values(argument) and value not in (0, 1, getattr(type(op), name, None)):
                found.add((op_name(op), name, value))
    assert len(found) >= 8, found
    assert {"epsilon", "kernel", "dilation", "rate"} & {name for _, name, _ in found}


def test_norms_over_single_images_in_random_networks_have_enough_values() -> None:
    from resnet_spec.ops import OPS

    assert all(hasattr(OPS[norm], "values_per_statistic") for norm in random_networks.operations_by_kind()["norm"])
    few = [
        (seed, leaf.path)
        for seed in range(SEEDS)
        for leaf in random_network(seed).leaves()
        if isinstance(leaf.op, EvoNormS0 | FilterResponseNorm | GroupNorm | LayerNorm)
        and leaf.op.values_per_statistic(leaf.input_shape) < random_networks.MIN_NORM_VALUES
    ]
    assert few == []


@pytest.mark.parametrize(
    ("norm", "values"),
    [
        (BatchNorm(), 35),
        (GroupNorm(groups=2), 105),
        (GroupNorm(size=2), 70),
        (LayerNorm(), 6),
        (EvoNormS0(groups=3), 70),
        (FilterResponseNorm(), 35),
    ],
)
def test_a_norm_knows_over_how_many_values_it_takes_its_scale(norm: BatchNorm | LayerNorm, values: int) -> None:
    assert norm.values_per_statistic((6, 7, 5)) == values


# -- shrinking ----------------------------------------------------------------------------------------------------


def test_a_network_shrinks_to_the_operation_that_differs() -> None:
    def differs(network: Network) -> bool:
        return any(isinstance(leaf.op, Conv) and leaf.op.dilation == 2 for leaf in network.leaves())

    seed = next(seed for seed in range(100) if differs(random_networks.generate_network(seed)))
    small = shrink_network(random_networks.generate_network(seed), differs)
    assert [leaf.op.dilation for leaf in small.leaves() if isinstance(leaf.op, Conv)] == [2]
    assert len(list(small.leaves())) <= 2
    assert loads(to_yaml(small)) == small


def test_a_network_is_not_shrunk_if_no_smaller_one_differs() -> None:
    network = random_networks.generate_network(1)
    assert shrink_network(network, lambda candidate: False) == network


def test_shrinking_keeps_a_norm_that_differs() -> None:
    def differs(network: Network) -> bool:
        return any(isinstance(leaf.op, GroupNorm) for leaf in network.leaves())

    seed = next(seed for seed in range(100) if differs(random_networks.generate_network(seed)))
    assert len(list(shrink_network(random_networks.generate_network(seed), differs).leaves())) <= 2


# -- arrays ------------------------------------------------------------------------------------------------------


def test_mapped_arrays_keep_order_types_and_shapes_after_their_file_is_deleted(tmp_path: Path) -> None:
    arrays = {
        "z": np.arange(6.0).reshape(2, 3).T,
        "a b": np.float32(0.1) * np.ones((3, 1), np.float32),
        "none": np.empty((0, 4)),
        "m": np.array(7.0),
        "count": np.array([3]),
    }
    write_arrays(tmp_path / "some", arrays)
    mapped = map_arrays(tmp_path / "some")
    (tmp_path / "some").unlink()
    assert [*mapped] == [*arrays]
    for name, array in arrays.items():
        np.testing.assert_array_equal(mapped[name], array, strict=True)


def test_mapped_arrays_are_not_read_into_memory(tmp_path: Path) -> None:
    write_arrays(tmp_path / "some", {"a": np.zeros(2**20), "b": np.ones(2**20)})
    tracemalloc.start()
    mapped = map_arrays(tmp_path / "some")
    assert mapped["b"].sum() == 2**20
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_building_a_model_holds_its_weights_once(dtype: Dtype) -> None:
    case = Case(load("resnet18"), dtype)
    tracemalloc.start()
    model = build_model(required("numpy"), case)
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    held = (case.network.parameters + case.network.statistics) * np.dtype(dtype).itemsize
    largest = max(math.prod(shape) for shape in case.network.weights().values()) * 8
    assert now < 1.1 * held
    assert peak < 1.1 * held + 2 * largest
    assert {array.dtype for array in model.weights.values()} == {np.dtype(dtype)}


def test_a_group_is_freed_before_the_next_is_computed() -> None:
    numpy, case = required("numpy"), Case(loads(SMALL), level="forward")
    groups = record(numpy, case)
    evaluation = weakref.ref(next(groups)[1][OUTPUT])
    assert next(groups)[0] == "training forward"
    assert evaluation() is None


# -- worker processes -------------------------------------------------------------------------------------------------


def test_a_worker_returns_the_same_record_as_this_process(worker: WorkerProcess) -> None:
    case = Case(loads(SMALL), level="forward")
    here, there = dict(record(required("numpy"), case)), worker.record(case)
    assert here.keys() == there.keys()
    assert all(np.array_equal(here[group][name], there[group][name]) for group in here for name in here[group])


def test_an_exception_in_a_backend_is_a_failure(worker: WorkerProcess) -> None:
    with pytest.raises(Failure, match=re.escape("KeyError: 'no such part'")) as failure:
        worker.run_parts(Case(loads(SMALL)), False, {"no such part": np.ones(1)})
    assert failure.value.alive


def test_a_worker_that_is_killed_is_reported_and_restarted(worker: WorkerProcess) -> None:
    case = Case(loads(SMALL), level="forward")
    worker.record(case)
    assert worker._process is not None
    worker._process.kill()
    with pytest.raises(Failure, match="its process was killed by SIGKILL"):
        worker.record(case)
    assert worker.record(case)


def test_a_worker_that_hangs_is_stopped(worker: WorkerProcess) -> None:
    worker.start()
    worker.timeout = 0.01
    with pytest.raises(Failure, match=r"^no answer within 0\.01 s$"):
        worker.record(Case(load("resnet50"), level="forward"))
    assert worker._process is None


def test_a_worker_is_restarted_after_a_number_of_nodes(worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(loads(SMALL), level="forward")
    monkeypatch.setattr(processes, "MAX_NODES_PER_PROCESS", 2 * sum(1 for _ in case.network.nodes()))
    started = []
    for _ in range(5):
        assert worker.record(case)
        started.append(worker._process)
    assert started[0] is started[1] is not started[2] is started[3] is not started[4]


@pytest.mark.sweep
def test_a_worker_is_restarted_after_a_large_case(worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Case(loads(SMALL), level="forward")
    large = replace(small, network=loads(SMALL.replace("9, 8", "900, 800")))
    monkeypatch.setattr(processes, "LARGE_CASE_BYTES", (small.memory + large.memory) / 2)
    assert worker.record(small)
    first = worker._process
    assert worker.record(large)["evaluation"][OUTPUT].shape == (2, 4)
    assert first is not None
    assert first.poll() is not None
    assert worker.record(small)


# -- narrow copies ------------------------------------------------------------------------------------------------


def test_narrow_copies_have_the_same_layers_and_classes() -> None:
    for name in bundled.names()[::60]:
        network = bundled_network(name)
        copy = reduce_width(network)
        assert [(leaf.path, type(leaf.op)) for leaf in copy.leaves()] == [
            (leaf.path, type(leaf.op)) for leaf in network.leaves()
        ]
        assert list(copy.weights()) == list(network.weights())
        assert copy.input == network.input
        if any(isinstance(leaf.op, Linear) for leaf in network.leaves()):
            assert copy.output_shape == network.output_shape
        assert 2 * copy.parameters < network.parameters or network.parameters < 4_000_000, name


def test_a_narrow_gate_keeps_at_least_four_channels() -> None:
    for name in ("timm/legacy_seresnet18", "timm/skresnet18", "timm/regnety_002", "timm/resnest101e"):
        assert min(leaf.output_shape[0] for leaf in reduce_width(load(name)).leaves()) >= 4, name


def test_a_narrow_depthwise_convolution_stays_depthwise() -> None:
    network = loads(DEPTHWISE)
    assert [leaf.op.groups for leaf in reduce_width(network).leaves() if isinstance(leaf.op, Conv)] == [1, 4, 2]


def test_a_network_that_ends_in_a_block_or_in_two_classifiers_becomes_narrow_too() -> None:
    heads = "[{a: {op: linear, out: 10}}, {b: {op: linear, out: 10}}]"
    classifiers = loads(
        "{name: n, input: [3, 8, 8], stem: {c: {op: conv, out: 64, kernel: 1}, p: global_avg_pool, "
        f"h: {{combine: mean, branches: {heads}}}}}}}"
    )
    assert reduce_width(classifiers).weights() == {
        "c.weight": (4, 3, 1, 1),
        "a.weight": (10, 4),
        "a.bias": (10,),
        "b.weight": (10, 4),
        "b.bias": (10,),
    }
    block = loads("{name: n, input: [3, 8, 8], stages: {s: {block: basic, depth: 2, out: 64}}}")
    assert reduce_width(block).output_shape == (4, 8, 8)


def test_a_network_without_convolutions_is_its_own_narrow_copy() -> None:
    network = loads("{name: plain, input: [3, 9, 8], stem: {n: norm}, head: {p: global_avg_pool}}")
    assert reduce_width(network) == network


# -- what a backend is compared with ------------------------------------------------------------------------------


class FakeRunner:
    """A runner that returns ones for each image and class, and a constant gradient if it is given one."""

    def __init__(self, name: str, gradient: float | None = None) -> None:
        self.name = name
        self.gradient = gradient

    def record(self, case: Case) -> Record:
        ones = {"": np.ones((case.batch, 4))}
        record: Record = {"evaluation": ones, "training forward": ones}
        if self.gradient is not None:
            record["loss"] = {"": np.array([np.log(4)])}
            record["gradient"] = {"c.weight": np.full(3, self.gradient)}
        return record

    def infer(self, case: Case) -> dict[str, Array]:
        return {"": np.ones((case.batch, 4), case.dtype)}

    def run_parts(self, case: Case, train: bool, inputs: Mapping[str, Array]) -> dict[str, Array]:
        raise Failure("not implemented")

    def output_gradients(self, case: Case) -> dict[str, Array]:
        raise Failure("not implemented")

    def vjps(self, case: Case, inputs: Mapping[str, Array], cotangents: Mapping[str, Array]) -> dict[str, Array]:
        raise Failure("not implemented")

    def judge_parts(self, case: Case, group: Group, outputs: Mapping[str, Array]) -> dict[str, Array]:
        raise Failure("not implemented")

    def central_difference(self, case: Case, number: int, step: float) -> float:
        raise Failure("not implemented")


@pytest.mark.parametrize(
    ("gradients", "different"),
    [
        ({"a": 1.0, "b": 1.0, "c": 1.0}, set()),
        ({"a": 2.0, "b": 1.0, "c": 1.0}, {"a"}),
        ({"a": 1.0, "b": 2.0}, {"a", "b"}),
        ({"a": 1.0, "b": 1.0, "c": 2.0, "d": 2.0}, {"c", "d"}),
        ({"a": 1.0, "a (kept)": 1.0, "b": 2.0, "b (kept)": 2.0}, {"b", "b (kept)"}),
    ],
)
def test_a_pair_of_backends_that_agrees_only_with_each_other_differs(
    gradients: dict[str, float], different: set[str]
) -> None:
    runners = [FakeRunner(name, gradient) for name, gradient in gradients.items()]
    findings = examine(Case(loads(SMALL), level="gradient"), FakeRunner("numpy"), runners, locate=False)
    assert {finding.backend for finding in findings if finding.verdict == "differs"} == different
    assert {finding.group for finding in findings if finding.verdict == "differs"} <= {"gradient"}


class CountingRunner(FakeRunner):
    """A runner that waits until a number of runners run, and records how many do."""

    def __init__(self, name: str, barrier: threading.Barrier, running: list[str], counts: list[int]) -> None:
        super().__init__(name)
        self.barrier, self.running, self.counts = barrier, running, counts

    def record(self, case: Case) -> Record:
        self.running.append(self.name)
        self.barrier.wait(timeout=30)
        time.sleep(0.1)  # gives further runners time to start, if there are any
        self.counts.append(len(self.running))
        self.barrier.wait(timeout=30)
        self.running.remove(self.name)
        return super().record(case)


@pytest.mark.parametrize(("multiple", "limit"), [(0.5, 1), (1.5, 1), (2.5, 2), (np.inf, 4)])
def test_as_many_backends_run_at_a_time_as_fit_into_memory(multiple: float, limit: int) -> None:
    case, running, counts = Case(loads(SMALL), level="forward"), list[str](), list[int]()
    barrier = threading.Barrier(limit)
    reference, *runners = (CountingRunner(name, barrier, running, counts) for name in ("numpy", "a", "b", "c"))
    findings = examine(case, reference, runners, memory=multiple * case.memory)
    assert [finding.verdict for finding in findings] == ["same"] * 6
    assert counts == [limit] * 4


def test_the_memory_of_a_case_grows_with_its_weights_maps_and_type() -> None:
    case = Case(load("resnet50", input=(3, 40, 40)))
    weights = 8 * (case.network.parameters + case.network.statistics)
    assert 7 * weights < case.memory < 7 * weights + 2**30
    assert replace(case, level="forward").memory < 2 * weights + 2**30
    assert 2 * (replace(case, dtype="float32").memory - 2**29) == case.memory - 2**29
    larger = replace(case, network=load("resnet50", input=(3, 224, 224)))
    assert larger.memory > case.memory


class RoundingRunner(FakeRunner):
    """A runner whose outputs have a constant error in float32."""

    def __init__(self, name: str, error: float) -> None:
        super().__init__(name)
        self.error = error

    def record(self, case: Case) -> Record:
        outputs = {"": np.full(3, 1 + self.error * (case.dtype == "float32"), case.dtype)}
        return {"evaluation": outputs, "training forward": outputs}


@pytest.mark.parametrize(
    ("reference", "error", "verdict"),
    [
        (2e-5, 2e-4, "same"),
        (2e-5, 7e-4, "differs"),
        (0.0, 7e-6, "same"),
        (0.0, 7e-5, "differs"),
        (2e-5, np.nan, "differs"),
        (2e-4, 3e-3, "ill-conditioned"),
        (2e-4, 5e-6, "same"),
        (2e-4, 5e-3, "differs"),
        (1.0, 0.93, "ill-conditioned"),
    ],
)
def test_the_gate_in_float32_grows_with_the_rounding_error_of_the_reference(
    reference: float, error: float, verdict: str
) -> None:
    case = Case(loads(SMALL), "float32", "forward")
    runners = [RoundingRunner("a", reference + error)]
    findings = examine(case, RoundingRunner("numpy", reference), runners, locate=False)
    assert findings[0].verdict == verdict


def test_a_gate_that_is_widened_for_one_array_stays_for_the_others() -> None:
    case = Case(loads(SMALL), "float32", "forward")
    double = {name: np.ones(3) for name in ("c", "n", "p")}
    single = {name: double[name].astype(np.float32) for name in double}
    expected = single | {"n": single["n"] + np.float32(1e-3)}
    actual = expected | {"n": expected["n"] + np.float32(5e-3), "p": expected["p"] + np.float32(1e-3)}

    class FixedRunner(FakeRunner):
        def record(self, case: Case) -> Record:
            arrays = double if case.dtype == "float64" else actual if self.name == "a" else expected
            return {"evaluation": arrays, "training forward": expected}

    (evaluation, training) = examine(case, FixedRunner("numpy"), [FixedRunner("a")], locate=False)
    assert (evaluation.verdict, evaluation.where) == ("differs", "p")
    assert training.verdict == "same"


class NoResult(FakeRunner):
    """A runner that raises an error, but still answers."""

    def record(self, case: Case) -> Record:
        raise Failure(f"{self.name} is out of order", alive=True)


def test_a_reference_without_a_result_is_a_failure_of_its_own() -> None:
    case = Case(loads(SMALL), level="forward")
    findings = examine(case, NoResult("numpy"), [FakeRunner("a"), FakeRunner("b")])
    assert (findings[0].backend, findings[0].verdict) == ("numpy", "failed")
    assert findings[0].failure == "numpy is out of order"


def test_a_backend_fails_beside_a_reference_that_fails() -> None:
    findings = examine(Case(loads(SMALL), level="forward"), NoResult("numpy"), [NoResult("a"), FakeRunner("b")])
    failures = {(finding.backend, finding.failure) for finding in findings if finding.verdict == "failed"}
    assert failures == {("numpy", "numpy is out of order"), ("a", "a is out of order")}


class NoInference(FakeRunner):
    """A runner whose inference mode ends its process."""

    def infer(self, case: Case) -> dict[str, Array]:
        raise Failure("its process was killed by SIGSEGV")


def test_a_failure_in_inference_mode_leaves_the_other_groups() -> None:
    findings = examine(Case(loads(SMALL), level="inference"), FakeRunner("numpy"), [NoInference("a"), FakeRunner("b")])
    assert [(finding.backend, finding.group, finding.failure or finding.verdict) for finding in findings] == [
        ("a", "evaluation", "same"),
        ("a", "training forward", "same"),
        ("a", "inference", "its process was killed by SIGSEGV"),
        ("b", "evaluation", "same"),
        ("b", "training forward", "same"),
        ("b", "inference", "same"),
    ]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_folding_is_compared_with_the_network_as_it_is_written(dtype: Dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in folding is made for all backends at once, and for the reference too."""

    def fold_wrongly(network: Network, weights: Mapping[str, Array]) -> tuple[Network, dict[str, Array]]:
        smaller, folded = fold_norms(network, weights)
        return smaller, folded | {"c.bias": folded["c.bias"] * folded["c.bias"].dtype.type(1.01)}

    case, numpy = Case(loads(SMALL), dtype, "inference"), required("numpy")
    right = examine(case, LocalRunner("numpy", numpy), [LocalRunner("copy", numpy)])
    monkeypatch.setattr(recorder, "fold_norms", fold_wrongly)
    wrong = examine(case, LocalRunner("numpy", numpy), [LocalRunner("copy", numpy)])
    assert [finding.verdict for finding in right] == ["same"] * 3
    assert [(finding.verdict, finding.reference) for finding in wrong if finding.group == "inference"] == [
        ("differs", "numpy")
    ]


@pytest.mark.parametrize(("blocks", "divisor"), [(2, 8), (64, 8), (65, 16), (130, 32)])
def test_branches_are_scaled_down_by_the_number_of_blocks(blocks: int, divisor: int) -> None:
    network = loads(SMALL.replace("head:", f"stages: {{s: {{block: basic, depth: {blocks}, out: 4}}}}, head:"))
    random, scaled = comparison_weights(network), Case(network).weights()
    for name in ("s.1.bn2.weight", "s.1.bn2.bias"):
        np.testing.assert_array_equal(scaled[name], random[name] / divisor)
    np.testing.assert_array_equal(scaled["s.1.bn1.weight"], random["s.1.bn1.weight"])


def test_networks_without_batch_norm_have_no_statistics_to_compare() -> None:
    with_, without = loads(SMALL), loads(SMALL.replace("n: norm", "n: {op: group_norm, groups: 2}"))
    assert set(Case(with_).groups) - set(Case(without).groups) == {"statistics"}
