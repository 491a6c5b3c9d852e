"""How networks are compared: what is seen, what is said of a backend that fails, what is left after shrinking."""

from __future__ import annotations

import math
import re
import threading
import time
import tracemalloc
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resnet_spec import load, loads
from resnet_spec.backend import OUTPUT
from resnet_spec.library import bundled
from resnet_spec.network.network import Network
from resnet_spec.network.to_yaml import to_yaml
from resnet_spec.ops import BatchNorm, Conv, EvoNormS0, FilterResponseNorm, GroupNorm, LayerNorm
from resnet_spec.parity import processes, random_networks
from resnet_spec.parity.array_files import get, put
from resnet_spec.parity.case import Case, Dtype
from resnet_spec.parity.compare import compared, error
from resnet_spec.parity.examine import examine
from resnet_spec.parity.locate import inputs
from resnet_spec.parity.minimize import shrunk
from resnet_spec.parity.processes import Elsewhere, Failure
from resnet_spec.parity.recorder import Record, built, record
from resnet_spec.transforms.width_reduction import reduce_width
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.frameworks import required

SMALL = "{name: small, input: [3, 9, 8], stem: {c: {op: conv, out: 4, kernel: 3}, n: norm}, head: {p: global_avg_pool}}"

DEPTHWISE = """{name: deep, input: [3, 9, 8], stem: {a: {op: conv, out: 64, kernel: 3}, b: {op: conv, out: 64, kernel: 3, groups: 64},
  c: {op: conv, out: 64, kernel: 1, groups: 2}}, head: {p: global_avg_pool}}"""


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    subject = Elsewhere("numpy", seconds=60)
    yield subject
    subject.close()


# -- comparing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "wanted"),
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
def test_an_error_is_relative_to_the_largest_and_infinite_where_there_is_no_comparing(
    found: np.ndarray | None, wanted: float
) -> None:
    assert error(np.array([1.0, 2.0]), found) == wanted


def test_nothing_compared_is_not_the_same() -> None:
    assert compared(Case(loads(SMALL)), "evaluation", "b", {}, "a", {}).verdict == "differs"


def test_what_only_one_has_is_a_difference() -> None:
    array = np.ones(3)
    finding = compared(Case(loads(SMALL)), "evaluation", "b", {"x": array, "y": array}, "a", {"x": array})
    assert (finding.verdict, finding.where) == ("differs", "y")


def test_a_gradient_is_measured_by_the_largest_in_the_model() -> None:
    wanted = {"big": np.array([1e6]), "zero": np.array([0.0])}
    finding = compared(
        Case(loads(SMALL)), "gradient", "b", {"big": np.array([1e6]), "zero": np.array([1e-9])}, "a", wanted
    )
    assert finding.verdict == "same"
    assert finding.worst == pytest.approx(1e-15)


def test_a_weight_is_measured_by_what_it_was_too() -> None:
    case = Case(loads(SMALL))
    before = case.weights()["n.running_mean"]
    finding = compared(
        case, "weights", "b", {"n.running_mean": before * 0 + 1e-13}, "a", {"n.running_mean": before * 0}
    )
    assert finding.worst == pytest.approx(1e-13 / np.abs(before).max())


def test_every_part_is_compared() -> None:
    network = load("seresnet50", input=(3, 40, 40))
    found = dict(record(required("numpy"), Case(network, level="forward")))
    assert set(found["evaluation"]) == {*(part.path for part in network.nodes()), ""}


def test_the_inputs_of_parts_are_what_the_tree_says() -> None:
    network = loads(random_networks.text(3))
    case = Case(network, level="forward")
    outputs = dict(record(required("numpy"), case))["evaluation"]
    given = inputs(network, case.images(), outputs)
    assert {path: x.shape[1:] for path, x in given.items() if path} == {
        part.path: part.input_shape for part in network.nodes()
    }


# -- what is compared ---------------------------------------------------------------------------------------------


def test_each_norm_in_training_has_enough_values() -> None:
    case = Case(load("resnet18", input=(3, 33, 33)))
    assert (
        min(
            case.batch * leaf.input_shape[1] * leaf.input_shape[2]
            for leaf in case.network.leaves()
            if isinstance(leaf.op, BatchNorm)
        )
        >= 32
    )


def test_a_seed_other_than_none_gives_other_weights_and_images() -> None:
    one, other = Case(loads(SMALL)), Case(loads(SMALL), seed=1)
    assert not np.array_equal(one.images(), other.images())
    assert not any(np.array_equal(array, other.weights()[name]) for name, array in one.weights().items())


def test_random_networks_are_the_same_every_time_and_unlike_each_other() -> None:
    texts = [random_networks.text(seed) for seed in range(20)]
    assert texts == [random_networks.text(seed) for seed in range(20)]
    assert len(set(texts)) == 20


def test_random_networks_draw_every_operation() -> None:
    from resnet_spec.ops import OPS, op_name

    drawn = {op_name(leaf.op) for seed in range(300) for leaf in random_networks.network(seed).leaves()}
    assert drawn == set(OPS)


def test_random_networks_leave_a_norm_of_each_image_enough_numbers() -> None:
    from resnet_spec.ops import OPS

    assert all(hasattr(OPS[norm], "values") for norm in random_networks.kinds()["norm"])
    few = [
        (seed, leaf.path)
        for seed in range(300)
        for leaf in random_networks.network(seed).leaves()
        if isinstance(leaf.op, EvoNormS0 | FilterResponseNorm | GroupNorm | LayerNorm)
        and leaf.op.values(leaf.input_shape) < random_networks.FEWEST
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
def test_a_norm_knows_of_how_many_numbers_it_takes_its_scale(norm: BatchNorm | LayerNorm, values: int) -> None:
    assert norm.values((6, 7, 5)) == values


# -- shrinking ----------------------------------------------------------------------------------------------------


def test_a_network_shrinks_to_what_differs() -> None:
    def differs(network: Network) -> bool:
        return any(isinstance(leaf.op, Conv) and leaf.op.dilation == 2 for leaf in network.leaves())

    seed = next(seed for seed in range(100) if differs(random_networks.network(seed)))
    small = shrunk(random_networks.network(seed), differs)
    assert [leaf.op.dilation for leaf in small.leaves() if isinstance(leaf.op, Conv)] == [2]
    assert len(list(small.leaves())) <= 2
    assert loads(to_yaml(small)) == small


def test_a_network_that_stops_differing_is_left_as_it_was() -> None:
    network = random_networks.network(1)
    assert shrunk(network, lambda candidate: False) == network


def test_shrinking_can_end_in_another_norm() -> None:
    def differs(network: Network) -> bool:
        return any(isinstance(leaf.op, GroupNorm) for leaf in network.leaves())

    seed = next(seed for seed in range(100) if differs(random_networks.network(seed)))
    assert len(list(shrunk(random_networks.network(seed), differs).leaves())) <= 2


# -- arrays ------------------------------------------------------------------------------------------------------


def test_arrays_keep_their_order_types_and_shapes_when_their_file_is_gone(tmp_path: Path) -> None:
    given = {
        "z": np.arange(6.0).reshape(2, 3).T,
        "a b": np.float32(0.1) * np.ones((3, 1), np.float32),
        "none": np.empty((0, 4)),
        "m": np.array(7.0),
        "count": np.array([3]),
    }
    put(tmp_path / "some", given)
    found = get(tmp_path / "some")
    (tmp_path / "some").unlink()
    assert [*found] == [*given]
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_arrays_are_read_when_they_are_wanted(tmp_path: Path) -> None:
    put(tmp_path / "some", {"a": np.zeros(2**20), "b": np.ones(2**20)})
    tracemalloc.start()
    found = get(tmp_path / "some")
    assert found["b"].sum() == 2**20
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_model_has_its_weights_to_itself(dtype: Dtype) -> None:
    case = Case(load("resnet18"), dtype)
    tracemalloc.start()
    model = built(required("numpy"), case)
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    held = (case.network.parameters + case.network.statistics) * np.dtype(dtype).itemsize
    largest = max(math.prod(shape) for shape in case.network.weights().values()) * 8
    assert now < 1.1 * held
    assert peak < 1.1 * held + 2 * largest
    assert {array.dtype for array in model.weights.values()} == {np.dtype(dtype)}


def test_a_group_is_handed_on_before_the_next_is_made() -> None:
    numpy, case = required("numpy"), Case(loads(SMALL), level="forward")
    groups = record(numpy, case)
    evaluation = weakref.ref(next(groups)[1][OUTPUT])
    assert next(groups)[0] == "training forward"
    assert evaluation() is None


# -- processes ----------------------------------------------------------------------------------------------------


def test_a_process_answers_as_this_one_does(elsewhere: Elsewhere) -> None:
    case = Case(loads(SMALL), level="forward")
    here, there = dict(record(required("numpy"), case)), elsewhere.record(case)
    assert here.keys() == there.keys()
    assert all(np.array_equal(here[group][name], there[group][name]) for group in here for name in here[group])


def test_what_a_backend_raises_is_its_answer(elsewhere: Elsewhere) -> None:
    with pytest.raises(Failure, match=re.escape("KeyError: 'no such part'")) as failure:
        elsewhere.alone(Case(loads(SMALL)), False, {"no such part": np.ones(1)})
    assert failure.value.alive


def test_a_process_that_is_killed_is_reported_and_started_again(elsewhere: Elsewhere) -> None:
    case = Case(loads(SMALL), level="forward")
    elsewhere.record(case)
    assert elsewhere._process is not None
    elsewhere._process.kill()
    with pytest.raises(Failure, match="its process was ended by SIGKILL"):
        elsewhere.record(case)
    assert elsewhere.record(case)


def test_a_process_that_hangs_is_ended() -> None:
    subject = Elsewhere("numpy", seconds=60)
    subject.ready()
    subject.seconds = 0.01
    with pytest.raises(Failure, match=r"^no answer in 0\.01 s$"):
        subject.record(Case(load("resnet50"), level="forward"))
    subject.close()


def test_a_process_is_renewed_before_it_holds_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(loads(SMALL), level="forward")
    monkeypatch.setattr(processes, "RENEWED", 2 * sum(1 for _ in case.network.nodes()))
    subject = Elsewhere("numpy")
    started = []
    for _ in range(5):
        assert subject.record(case)
        started.append(subject._process)
    assert started[0] is started[1] is not started[2] is started[3] is not started[4]
    subject.close()


def test_a_process_is_not_kept_after_a_case_that_took_much(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Case(loads(SMALL), level="forward")
    large = replace(small, network=loads(SMALL.replace("9, 8", "900, 800")))
    monkeypatch.setattr(processes, "LARGE", (small.memory + large.memory) / 2)
    subject = Elsewhere("numpy")
    assert subject.record(small)
    kept = subject._process
    assert subject.record(large)["evaluation"][OUTPUT].shape == (2, 4)
    assert kept is not None
    assert kept.poll() is not None
    assert subject.record(small)
    subject.close()


# -- narrow copies ------------------------------------------------------------------------------------------------


def test_narrow_copies_have_the_same_layers_and_classes() -> None:
    for name in bundled.names():
        network = load(name)
        copy = reduce_width(network)
        assert [(leaf.path, type(leaf.op)) for leaf in copy.leaves()] == [
            (leaf.path, type(leaf.op)) for leaf in network.leaves()
        ]
        assert list(copy.weights()) == list(network.weights())
        assert (copy.output_shape, copy.input) == (network.output_shape, network.input)
        assert 3 * copy.parameters < network.parameters, name


def test_a_narrow_gate_keeps_some_channels_or_those_it_had() -> None:
    for name in ("timm/legacy_seresnet18", "timm/skresnet18", "timm/regnety_002", "timm/resnest101e"):
        assert min(leaf.output_shape[0] for leaf in reduce_width(load(name)).leaves()) >= 4, name


def test_a_narrow_depthwise_convolution_stays_one() -> None:
    network = loads(DEPTHWISE)
    assert [leaf.op.groups for leaf in reduce_width(network).leaves() if isinstance(leaf.op, Conv)] == [1, 4, 2]


def test_a_network_without_channels_to_divide_is_its_own_copy() -> None:
    network = loads("{name: plain, input: [3, 9, 8], stem: {n: norm}, head: {p: global_avg_pool}}")
    assert reduce_width(network) == network


# -- whom a backend is compared with ------------------------------------------------------------------------------


class Told:
    """A subject whose gradient is what it is told to be."""

    def __init__(self, name: str, gradient: float | None = None) -> None:
        self.name = name
        self.gradient = gradient

    def record(self, case: Case) -> Record:
        same = {"": np.ones(3)}
        forward: Record = {"evaluation": same, "training forward": same}
        if self.gradient is not None:
            forward["loss"] = same
            forward["gradient"] = {"c.weight": np.full(3, self.gradient)}
        return forward

    def alone(self, case: Case, train: bool, inputs: Mapping[str, Array]) -> dict[str, Array]:
        raise Failure("it is not asked")

    def slopes(self, case: Case) -> dict[str, Array]:
        raise Failure("it is not asked")

    def pulls(self, case: Case, inputs: Mapping[str, Array], slopes: Mapping[str, Array]) -> dict[str, Array]:
        raise Failure("it is not asked")


@pytest.mark.parametrize(
    ("gradients", "off"),
    [
        ({"a": 1.0, "b": 1.0, "c": 1.0}, set()),
        ({"a": 2.0, "b": 1.0, "c": 1.0}, {"a"}),
        ({"a": 1.0, "b": 2.0}, {"a", "b"}),
        ({"a": 1.0, "b": 1.0, "c": 2.0, "d": 2.0}, {"c", "d"}),
        ({"a": 1.0, "a (kept)": 1.0, "b": 2.0, "b (kept)": 2.0}, {"b", "b (kept)"}),
    ],
)
def test_who_agrees_with_one_other_alone_does_not_pass(gradients: dict[str, float], off: set[str]) -> None:
    subjects = [Told(name, gradient) for name, gradient in gradients.items()]
    found = examine(Case(loads(SMALL), level="gradient"), Told("numpy"), subjects, locate=False)
    assert {finding.backend for finding in found if finding.verdict == "differs"} == off
    assert {finding.group for finding in found if finding.verdict == "differs"} <= {"gradient"}


class Counted(Told):
    """A subject that waits until so many compute, and notes how many do."""

    def __init__(self, name: str, enough: threading.Barrier, running: list[str], seen: list[int]) -> None:
        super().__init__(name)
        self.enough, self.running, self.seen = enough, running, seen

    def record(self, case: Case) -> Record:
        self.running.append(self.name)
        self.enough.wait(timeout=30)
        time.sleep(0.1)  # for more than there should be
        self.seen.append(len(self.running))
        self.enough.wait(timeout=30)
        self.running.remove(self.name)
        return super().record(case)


@pytest.mark.parametrize(("times", "most"), [(0.5, 1), (1.5, 1), (2.5, 2), (np.inf, 4)])
def test_as_many_backends_compute_at_a_time_as_memory_holds(times: float, most: int) -> None:
    case, running, seen = Case(loads(SMALL), level="forward"), list[str](), list[int]()
    enough = threading.Barrier(most)
    reference, *subjects = (Counted(name, enough, running, seen) for name in ("numpy", "a", "b", "c"))
    findings = examine(case, reference, subjects, memory=times * case.memory)
    assert [finding.verdict for finding in findings] == ["same"] * 6
    assert seen == [most] * 4


def test_what_a_case_takes_grows_with_its_weights_maps_and_type() -> None:
    case = Case(load("resnet50", input=(3, 40, 40)))
    weights = 8 * (case.network.parameters + case.network.statistics)
    assert 5 * weights < case.memory < 5 * weights + 2**30
    assert replace(case, level="forward").memory < 2 * weights + 2**30
    assert 2 * (replace(case, dtype="float32").memory - 2**29) == case.memory - 2**29
    larger = replace(case, network=load("resnet50", input=(3, 224, 224)))
    assert larger.memory > case.memory


class Rounded(Told):
    """A subject whose outputs in float32 are off by so much."""

    def __init__(self, name: str, off: float) -> None:
        super().__init__(name)
        self.off = off

    def record(self, case: Case) -> Record:
        same = {"": np.full(3, 1 + self.off * (case.dtype == "float32"), case.dtype)}
        return {"evaluation": same, "training forward": same}


@pytest.mark.parametrize(
    ("reference", "off", "verdict"),
    [
        (2e-5, 2e-4, "same"),
        (2e-5, 7e-4, "differs"),
        (0.0, 7e-6, "same"),
        (0.0, 7e-5, "differs"),
        (2e-5, np.nan, "differs"),
    ],
)
def test_in_float32_rounding_may_do_what_it_does_to_the_reference(reference: float, off: float, verdict: str) -> None:
    case = Case(loads(SMALL), "float32", "forward")
    findings = examine(case, Rounded("numpy", reference), [Rounded("a", reference + off)], locate=False)
    assert findings[0].verdict == verdict


def test_an_array_that_rounding_moves_far_excuses_no_other() -> None:
    case = Case(loads(SMALL), "float32", "forward")
    double = {name: np.ones(3) for name in ("c", "n", "p")}
    single = {name: double[name].astype(np.float32) for name in double}
    wanted = single | {"n": single["n"] + np.float32(1e-3)}
    found = wanted | {"n": wanted["n"] + np.float32(5e-3), "p": wanted["p"] + np.float32(1e-3)}

    class Apart(Told):
        def record(self, case: Case) -> Record:
            arrays = double if case.dtype == "float64" else found if self.name == "a" else wanted
            return {"evaluation": arrays, "training forward": wanted}

    (evaluation, training) = examine(case, Apart("numpy"), [Apart("a")], locate=False)
    assert (evaluation.verdict, evaluation.where) == ("differs", "p")
    assert training.verdict == "same"


@pytest.mark.parametrize(("blocks", "damped"), [(2, 8), (64, 8), (65, 16), (130, 32)])
def test_branches_are_the_smaller_the_more_blocks_there_are(blocks: int, damped: int) -> None:
    network = loads(SMALL.replace("head:", f"stages: {{s: {{block: basic, depth: {blocks}, out: 4}}}}, head:"))
    drawn, found = comparison_weights(network), Case(network).weights()
    for name in ("s.1.bn2.weight", "s.1.bn2.bias"):
        np.testing.assert_array_equal(found[name], drawn[name] / damped)
    np.testing.assert_array_equal(found["s.1.bn1.weight"], drawn["s.1.bn1.weight"])


def test_networks_without_batch_norm_have_no_statistics_to_compare() -> None:
    with_, without = loads(SMALL), loads(SMALL.replace("n: norm", "n: {op: group_norm, groups: 2}"))
    assert set(Case(with_).groups) - set(Case(without).groups) == {"statistics"}
