"""Compare outputs in 16 bits with the reference, part by part, each on the inputs that the part had in the backend.

Rounding in 16 bits grows with depth beyond any gate that would still show a mistake. So each part is judged alone: the
reference computes in float64 what the part should give for the inputs that the backend recorded, and the gate of each
number follows from that: how far it may be off if the operation is computed in float32 and rounded to the type.

With u the unit of the type, u32 that of float32, n the number of operands and S the sum of their magnitudes:

- a convolution, a linear layer or a PReLU: (u + n u32) S for its rounded weights and its sum, and two roundings: of the
  result, and of the result without its bias
- another operation: what rounding in float32 explains of it, which grows with the root of n, and one rounding of the
  result
- a sum, a product or a concatenation of branches: one rounding for each branch

A compiler may compute a norm twice, once for what is recorded and once, in another order, inside of what follows. Where
float32 does not decide to which of two numbers of the type a result is rounded, what follows may have read the other.

In inference mode norms are folded, and all weights have the type. There the convolutions and linear layers of the
folded network are judged so, one by one. What runs is a program of fused operations, whose outputs alone are seen:
their gate is ``OUTPUT_FACTOR`` times the most that rounding the result of each part does to the reference's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

from resnet_spec.backend import OUTPUT, Backend
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Parallel, Part
from resnet_spec.network.traversal import Rules, propagate
from resnet_spec.ops import ChannelConv, Conv, Linear, Prelu, StandardizedConv
from resnet_spec.parity.case import ROUNDING_FACTOR, UNITS, Case, Dtype, Group, without_randomness
from resnet_spec.parity.compare import describe_mismatch, relative_error
from resnet_spec.parity.locate import combine_outputs, join_outputs, split_input
from resnet_spec.parity.recorder import PART_PREFIX
from resnet_spec.transforms.norm_folding import fold_norms
from resnet_spec.weights.canonical import Array

SINGLE_UNIT = 2.0**-24
"""The unit of rounding of float32."""

SUM_FACTOR = 4.0
"""How far a sum in float32 may be off, in units of rounding times the root of the number of its operands.

The root, and not the number, since roundings add up as a random walk does (Higham and Mary 2019). torch's batch norm of
49,280 values in bfloat16 is off by half as much as this allows.
"""

OUTPUT_FACTOR, ROUNDED_RUNS = 3.0, 4
"""How far an output in inference mode may be off, in units of what rounding each part does to the reference's.

That is the most that it does in a number of runs. Torch's outputs are those of the first run in most random networks,
to the last digit. A network may have four outputs, and other backends round elsewhere, so more runs are taken, in which
each number is rounded up or down at random.
"""

_PRODUCTS = Conv | StandardizedConv | ChannelConv | Linear | Prelu

_SMALLEST: dict[Dtype, float] = {"bfloat16": 2.0**-134, "float16": 2.0**-25}
"""Half of the smallest positive number of each type."""


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a part should give for an input, in float64, and how far each number may be from it.

    ``error`` is how far it may be off before it is rounded, unless it is a product, whose operands are rounded too.
    ``scale`` is the largest magnitude of the input, of which the result may be a difference that is nearly zero.
    """

    y: Array
    bound: Array
    error: float = 0.0
    scale: float = 0.0


def round_to_type(x: Array, dtype: Dtype) -> Array:
    """Round an array to a 16-bit type, and return it in its own type."""
    rounded: Array = x.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float16).astype(x.dtype)
    return rounded


def judge_parts(reference: Backend, case: Case, group: Group, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return, by the name of each output of a group, the largest error of a backend's, and its gate.

    Both are relative to the largest magnitude of the part's input and of its expected output; the error is that of the
    number which is worst in proportion to its own gate. It is infinite if there is none, and the gate if the type
    cannot hold what is expected.
    """
    if group == "inference":
        return _judge_inference(reference, case, outputs)
    train = group == "training forward"
    network = without_randomness(case.network) if train else case.network
    return _Judge(reference, case, network, case.weights("float32"), train, outputs).judge()


def _judge_inference(reference: Backend, case: Case, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Judge the products of the folded network, each on its own input, and the outputs of the program."""
    weights = case.weights("float32")
    folded, folded_weights = fold_norms(case.network, weights)
    parts = {name.removeprefix(PART_PREFIX): array for name, array in outputs.items() if name.startswith(PART_PREFIX)}
    judged = _Judge(reference, case, folded, folded_weights, False, parts).judge()
    products = [leaf.path for leaf in folded.leaves() if isinstance(leaf.op, _PRODUCTS)]
    double = {name: array.astype(np.float64) for name, array in weights.items()}
    exact = reference.run(reference.build(case.network, double, "float64"), case.images())
    rng = np.random.default_rng(case.seed)
    rounded = [
        _run_rounded(reference, case, network, own, random)
        for random in (None, *[rng] * (ROUNDED_RUNS // 2))
        for network, own in ((case.network, weights), (folded, folded_weights))
    ]
    program = {name: _judge_program_output(name, exact, rounded, outputs.get(name), case.dtype) for name in exact}
    return program | {f"{PART_PREFIX}{path}": judged[path] for path in products}


def _judge_program_output(
    name: str, exact: Mapping[str, Array], rounded: Sequence[Mapping[str, Array]], actual: Array | None, dtype: Dtype
) -> Array:
    y = exact[name]
    errors = [relative_error(y, one[name]) for one in rounded]
    gate = OUTPUT_FACTOR * max(*errors, UNITS[dtype])
    if not math.isfinite(gate):  # the type cannot hold what is computed
        return np.array([0.0, math.inf])
    return np.array([relative_error(y, None if actual is None else actual.astype(np.float64)), gate])


def _run_rounded(
    reference: Backend,
    case: Case,
    network: Network,
    weights: Mapping[str, Array],
    random: np.random.Generator | None,
) -> dict[str, Array]:
    """Return the outputs of the reference with weights and the result of each part rounded to the case's type.

    Weights are rounded to the nearest number, and results too, or up or down at ``random``.
    """
    dtype = case.dtype
    own = {name: round_to_type(array.astype(np.float64), dtype) for name, array in weights.items()}
    model = reference.build(network, own, "float64")
    outputs: dict[str, Array] = {}

    def round_result(y: Array) -> Array:
        shift = 0.0 if random is None else random.uniform(-1, 1, y.shape) * half_spacing(np.abs(y), dtype)
        return round_to_type(y + shift, dtype)

    def leave(part: Part, x: Array, y: Array) -> tuple[Part, Array]:
        outputs[part.path] = round_result(y)
        return part, outputs[part.path]

    rules: Rules[Array] = Rules(
        leaf=lambda leaf, x: (leaf, reference.run(model, x, part=leaf.path)[OUTPUT]),
        combine=combine_outputs,
        join=lambda part, x, branches: join_outputs(part, branches),
        split=split_input,
        cascade=lambda part, index, piece, previous: round_result(piece + previous),
        leave=leave,
    )
    with np.errstate(over="ignore", invalid="ignore"):
        _, last = propagate(network.parts, case.images(), rules)
    return {path: outputs[path] for path in network.outputs} if network.outputs else {OUTPUT: last}


class _Judge:
    def __init__(
        self,
        reference: Backend,
        case: Case,
        network: Network,
        single: Mapping[str, Array],
        train: bool,
        outputs: Mapping[str, Array],
    ) -> None:
        self.reference, self.case, self.train, self.outputs = reference, case, train, outputs
        double = {name: array.astype(np.float64) for name, array in single.items()}
        self.models = {
            "double": reference.build(network, dict(double), "float64"),
            "single": reference.build(network, dict(single), "float32"),
            "magnitude": reference.build(network, {name: abs(array) for name, array in double.items()}, "float64"),
        }
        self.weights = double
        self.network = network
        self.expected: dict[str, list[_Expected]] = {}
        self.judged: dict[str, Array] = {}

    def judge(self) -> dict[str, Array]:
        dtype = self.case.dtype

        def with_rounded(combine: Callable[..., Array], part: Part, *alternatives: list[Array]) -> list[Array]:
            exact = [combine(part, *sides) for sides in _align(alternatives)]
            return [*exact, *(round_to_type(y, dtype) for y in exact)]

        rules: Rules[list[Array]] = Rules(
            leaf=self._expect_leaf,
            combine=lambda part, *values: with_rounded(combine_outputs, part, *values),
            join=lambda part, x, branches: [join_outputs(part, sides) for sides in _align(branches)],
            split=lambda part, x: _split_alternatives(part, x),
            cascade=lambda part, index, piece, previous: with_rounded(lambda _, a, b: a + b, part, piece, previous),
            leave=self._leave,
        )
        _, (last, *_) = propagate(self.network.parts, [self.case.images()], rules)
        if not self.network.outputs:
            self._judge_output(OUTPUT, [self._expect_rounded(last, 1)])
        return self.judged

    def _leave(self, part: Part, x: list[Array], y: list[Array]) -> tuple[Part, list[Array]]:
        roundings = max(1, len(part.branches)) if isinstance(part, Parallel) else 1
        expected = self.expected.pop(part.path, None) or [self._expect_rounded(one, roundings) for one in y]
        self._judge_output(part.path, expected)
        actual = self.outputs.get(part.path)
        if actual is None or actual.shape != y[0].shape or not np.isfinite(actual).all():
            return part, y[:1]
        return part, _with_other_rounding(np.asarray(actual, np.float64), expected[0], self.case.dtype)

    def _judge_output(self, path: str, expected: list[_Expected]) -> None:
        self.judged[path] = _judge_array(expected, self.outputs.get(path), self.case.dtype)

    def _expect_leaf(self, leaf: Leaf, alternatives: list[Array]) -> tuple[Part, list[Array]]:
        expected = [replace(self._expect(leaf, x), scale=float(np.abs(x).max(initial=0.0))) for x in alternatives]
        self.expected[leaf.path] = expected
        return leaf, [one.y for one in expected]

    def _expect(self, leaf: Leaf, x: Array) -> _Expected:
        is_product = isinstance(leaf.op, _PRODUCTS)
        x = round_to_type(x, self.case.dtype) if is_product else x
        y = self._run("double", leaf, x)
        if is_product:
            magnitude, operands = self._magnitude(leaf, x), _count_operands(leaf)
            error = (UNITS[self.case.dtype] + operands * SINGLE_UNIT) * magnitude
            bias = np.abs(self.weights.get(f"{leaf.path}.bias", np.zeros(1))).max()
            before_bias = half_spacing(np.abs(y) + error + bias, self.case.dtype)
            return self._expect_rounded(y, 1, error + before_bias)  # Flax and torch may round both
        single = self._run("single", leaf, x.astype(np.float32))
        measured = ROUNDING_FACTOR * float(np.abs(single - y).max(initial=0.0))
        granted = sum_error(x.size // x.shape[1]) * float(np.abs(y).max(initial=0.0))
        error = max(measured, granted)
        return replace(self._expect_rounded(y, 1, error), error=error)

    def _expect_rounded(self, y: Array, roundings: int, error: Array | float = 0.0) -> _Expected:
        """Return what is expected where a result with an error is rounded to the type a number of times."""
        return _Expected(y, roundings * half_spacing(np.abs(y) + error, self.case.dtype) + error)

    def _magnitude(self, leaf: Leaf, x: Array) -> Array | float:
        """Return the sum of the magnitudes of the products, and of the bias, of which each output is the sum."""
        if isinstance(leaf.op, StandardizedConv):  # the norm of a standardised filter is the root of its size
            gain = self.weights.get(f"{leaf.path}.gain", np.ones(1)) * leaf.op.fan_in_factor(leaf.input_shape)
            bias = self.weights.get(f"{leaf.path}.bias", np.zeros(1))
            scale = float(abs(gain).max()) if leaf.op.scaled else 1.0
            return _count_operands(leaf) * scale * float(np.abs(x).max()) + float(np.abs(bias).max())
        return self._run("magnitude", leaf, np.abs(x))

    def _run(self, model: str, leaf: Leaf, x: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):  # in float32, of what the type can't hold either
            return self.reference.run(self.models[model], x, train=self.train, part=leaf.path)[OUTPUT]


def sum_error(count: int) -> float:
    """Return how far a sum of some numbers in float32 may be off, relative to their magnitude."""
    return SUM_FACTOR * math.sqrt(max(count, 16)) * SINGLE_UNIT


def _with_other_rounding(actual: Array, expected: _Expected, dtype: Dtype) -> list[Array]:
    """Return an array, and, if it differs, one with the other numbers to which it may have been rounded elsewhere."""
    low, high = (round_to_type(expected.y + sign * expected.error, dtype) for sign in (-1, 1))
    other = np.where(actual == low, high, np.where(actual == high, low, actual))
    return [actual] if (other == actual).all() else [actual, other]


def _align(sides: Sequence[list[Array]]) -> Iterator[list[Array]]:
    """Yield the first alternatives of all sides, the second ones, and so on; a side with fewer repeats its last."""
    for index in range(max(map(len, sides))):
        yield [alternatives[min(index, len(alternatives) - 1)] for alternatives in sides]


def _split_alternatives(part: Parallel, alternatives: list[Array]) -> list[list[Array]]:
    return [list(pieces) for pieces in zip(*(split_input(part, x) for x in alternatives), strict=True)]


def _count_operands(leaf: Leaf) -> int:
    kernel = next(weight for weight in leaf.op.weights(leaf.input_shape) if weight.name == "weight")
    return math.prod(kernel.shape[1:]) + 1


def half_spacing(magnitude: Array, dtype: Dtype) -> Array:
    """Return half of the distance between neighbouring numbers of a type at some magnitudes.

    >>> half_spacing(np.array([1.0, 3.0]), "bfloat16").tolist()
    [0.00390625, 0.0078125]
    """
    _, exponents = np.frexp(magnitude)
    return np.maximum(np.ldexp(UNITS[dtype], exponents - 1), _SMALLEST[dtype])


def _judge_array(alternatives: Sequence[_Expected], actual: Array | None, dtype: Dtype) -> Array:
    """Return the error and the gate of an array, as ``judge_parts`` does; each number may be of any alternative."""
    expected = alternatives[0]
    largest = float(np.abs(expected.y).max(initial=0.0))
    gate = float(expected.bound.max(initial=0.0)) / (max(largest, expected.scale) or 1.0)
    if largest > float(ml_dtypes.finfo(dtype).max):
        return np.array([0.0, math.inf])
    if actual is None or describe_mismatch(expected.y, np.asarray(actual, np.float64)):
        return np.array([math.inf, gate])
    worst = np.min([np.abs(actual - one.y) / one.bound for one in alternatives], axis=0).max()
    return np.array([float(worst) * gate, gate])
