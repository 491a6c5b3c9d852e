"""Random networks, each from one integer, that use all operations and blocks, new ones included.

They are well-conditioned by construction, so that a difference above rounding is a mistake: most convolutions are
followed by a norm, and weights preserve the scale of what passes through them.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, TypeAlias

import yaml

from resnet_spec.diagnostics.problems import SpecError
from resnet_spec.language.values import ArgumentType, operation_arguments
from resnet_spec.library import bundled
from resnet_spec.library.load import bundled_block, loads
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf
from resnet_spec.ops import OPS, BatchNorm, Shape, ShapeError
from resnet_spec.syntax.nodes import Scalar

Spec: TypeAlias = dict[str, Any]
Kind: TypeAlias = Literal["convolution", "norm", "activation", "pool", "features"]

CHANNELS = (4, 6, 8, 12)
MAX_TRIES = 40
MAX_MAP_VALUES = 40_000
"""The largest output of an operation for one image, in values: larger ones only take longer."""

MIN_NORM_VALUES = 4
"""The fewest values over which a norm, other than batch norm, takes its statistics.

Of one value the normalised value is its sign, and of two nearly so: its gradient is as steep as a step's. Five training
steps of a network with five norms of two values each left weights that differ by 1e-10. A batch norm gets enough images
instead.
"""


def generate_yaml(seed: int) -> str:
    """Return the YAML of the random network of a seed.

    >>> generate_yaml(7) == generate_yaml(7) != generate_yaml(8)
    True
    """
    generator = _Generator(seed)
    spec = generator.with_extreme_argument(generator.network())
    return yaml.safe_dump(spec, sort_keys=False, default_flow_style=None, width=120)


def generate_network(seed: int) -> Network:
    """Return the random network of a seed."""
    return loads(generate_yaml(seed), f"random {seed}")


@cache
def operations_by_kind() -> Mapping[Kind, tuple[str, ...]]:
    """Return the names of operations by what they do to a map, which is found by trying each of them."""
    names: dict[Kind, list[str]] = {"convolution": [], "norm": [], "activation": [], "pool": [], "features": []}
    for name in OPS:
        kind = _find_kind(name)
        if kind is not None:
            names[kind].append(name)
    return {kind: tuple(of_kind) for kind, of_kind in names.items()}


def _as_arguments(drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Return drawn values as an operation takes them, pairs as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in drawn.items()}


def _find_kind(name: str) -> Kind | None:
    input_shape = (8, 9, 12)
    rng = random.Random(0)
    for _ in range(MAX_TRIES):
        try:
            drawn = _draw_arguments(name, rng)
            op = OPS[name](**_as_arguments(drawn))
            output_shape, weights = op.output_shape(input_shape), op.weights(input_shape)
        except ShapeError:
            continue
        if len(output_shape) == 1:
            return "features"
        if "out" in operation_arguments(name):
            return "convolution"
        if output_shape == input_shape:
            return "norm" if hasattr(op, "values_per_statistic") else "activation"
        return "convolution" if weights else "pool"
    return None


@cache
def block_convolutions() -> tuple[str, ...]:
    """Return the names of operations that can replace a convolution in a block."""
    arguments = {"out", "kernel", "stride", "padding", "groups", "bias"}
    return tuple(name for name in OPS if arguments <= operation_arguments(name).keys())


@cache
def blocks_that_combine(combine: str) -> tuple[str, ...]:
    """Return the names of bundled blocks with a ``combine``: "multiply" for gates, "none" for chains."""
    blocks = ((name, bundled_block(name)) for name in bundled.block_files())
    return tuple(name for name, block in blocks if block is not None and block.combine == combine)


def _draw_arguments(name: str, rng: random.Random, fixed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Draw an operation's arguments within their ranges, about half of them at their defaults."""
    arguments: dict[str, Any] = dict(fixed or {})
    for key, argument in operation_arguments(name).items():
        if key in arguments or (not argument.required and rng.random() < 0.5):
            continue
        if argument.choices:
            arguments[key] = rng.choice(argument.choices)
        elif argument.kind is bool:
            arguments[key] = rng.random() < 0.5
        elif argument.words and rng.random() < 0.4:
            arguments[key] = rng.choice(argument.words)
        elif argument.kind is int:
            least = int(argument.least)
            values = CHANNELS if key == "out" else (least, least + 1, least + 2)
            is_pair = argument.is_pair and rng.random() < 0.3
            arguments[key] = [rng.choice(values), rng.choice(values)] if is_pair else rng.choice(values)
        elif argument.below <= 1.0:
            arguments[key] = rng.choice([0.125, 0.25, 0.5, 0.75])
        elif argument.required or rng.random() < 0.3:
            arguments[key] = rng.choice([0.5, 1.0, 1e-3]) if argument.least <= 0 else rng.choice([1e-6, 1e-5, 1e-3])
    return arguments


def extreme_values(argument: ArgumentType) -> tuple[float, ...]:
    """Return values at the ends of an argument's range, or as far from its usual values as conditioning allows."""
    if argument.kind is int:
        return int(argument.least), 7, int(argument.below) - 1
    if argument.kind is not float:
        return ()
    if argument.below < 1:
        return 0.0, 0.9999999
    return (1e-9, 0.0011, 1.0, 100.0) if argument.least > 0 else (-1.5, 8.0)


def _find_calls(node: Any) -> Iterator[Spec]:
    """Yield the mappings in a spec that call an operation with arguments."""
    if isinstance(node, dict):
        if node.get("op") in OPS:
            yield node
        for value in node.values():
            yield from _find_calls(value)


_MIXED_BLOCKS: Spec = {
    "inverted": {
        "takes": {"out": "required", "wide": "required", "kernel": 3, "stride": 1},
        "project": "drop",
        "branch": {
            "expand": {"op": "linear", "out": "wide"},
            "norm1": "norm",
            "depthwise": {
                "op": "conv",
                "out": "wide",
                "groups": "wide",
                "kernel": "kernel",
                "stride": "stride",
                "padding": "same",
            },
            "norm2": "norm",
            "reduce": {"op": "conv", "out": "out", "kernel": 1},
            "gamma": {"op": "scale", "factor": 0.5},
        },
    },
    "growing": {
        "takes": {"growth": "required"},
        "combine": "concat",
        "branch": {
            "norm": "norm",
            "act": "act",
            "conv": {"op": "conv", "out": "growth", "kernel": 3, "padding": "half"},
        },
    },
    "spatial": {
        "combine": "multiply",
        "branch": {
            "pools": {"combine": "concat", "branches": [{"mean": "channel_avg_pool"}, {"most": "channel_max_pool"}]},
            "conv": {"op": "conv", "out": 1, "kernel": 3, "padding": "half"},
            "gate": "sigmoid",
        },
    },
}
"""Blocks for ``_mixers``."""


def _mixers(rng: random.Random) -> list[Any]:
    """Draw layers in the forms that a network may have beside stages of blocks."""
    pieces = rng.choice([[5, 7], [4, 8], [3, 9]])
    narrow = {"op": "conv", "out": sum(pieces), "kernel": 1}
    row = {"op": "conv", "out": rng.choice(CHANNELS), "kernel": rng.choice([[1, 3], [3, 1]]), "padding": "half"}
    inverted = {"block": "inverted", "depth": 2, "out": rng.choice(CHANNELS), "wide": rng.choice([8, 12])}
    joined = {"combine": rng.choice(["add", "mean", "multiply", "subtract"])}
    left, right = ({f"side{number}": narrow, f"sidenorm{number}": "norm"} for number in range(2))
    return [
        [{**inverted, "stride": rng.choice([1, 2]), "kernel": rng.choice([3, [3, 5]])}, "act"],
        [{"block": "growing", "depth": 2, "growth": rng.choice(CHANNELS)}, "norm"],
        {"narrow": narrow, "norm": "norm", "attend": "spatial"},
        {
            "narrow": narrow,
            "norm": "norm",
            "parts": {"split": pieces, "combine": "concat", "branches": ["none", {"row": row}]},
        },
        {"narrow": narrow, "all": {"collect": {"steps": inverted, "last": row}}, "norm": "norm"},
        {"sides": {**joined, "branches": [left, right]}, "norm": "norm"},
        {
            "sides": {
                "combine": "multiply",
                "resize": "nearest",
                "branches": [left, {"small": {"op": "avg_pool", "kernel": 2, "stride": 2, "padding": "same"}, **right}],
            },
            "norm": "norm",
        },
        {"narrow": narrow, "shuffle": {"op": "channel_shuffle", "groups": rng.choice([2, 3])}, "norm": "norm"},
        {"up": {"op": "upsample", "mode": rng.choice(["nearest", "bilinear"])}, "narrow": narrow, "norm": "norm"},
        {
            "pool": {"op": "adaptive_avg_pool", "size": [4, 6]},
            "tiles": {"op": "space_to_depth", "order": rng.choice(["row_column_channel", "channel_row_column"])},
            "narrow": narrow,
            "norm": "norm",
        },
    ]


class _Generator:
    """Draws the parts of a random network. A change in the order of draws gives other networks for the same seeds."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)

    def network(self) -> Spec:
        rng = self.rng
        height, width = rng.randint(13, 30), rng.randint(13, 30)
        spec: Spec = {"name": f"random_{self.seed}", "input": [rng.randint(1, 4), height, width]}
        spec["layers"] = {"norm": "batch_norm", "act": "relu"}
        spec["blocks"] = {f"own{number}": self.block() for number in range(rng.randint(1, 2))}
        spec["stem"] = {"conv": {"op": "conv", "out": 8, "kernel": 3}, "norm": "norm", "act": "act"}
        spec["stages"], spec["head"] = {}, {"last": "global_avg_pool"}
        for _ in range(MAX_TRIES):
            candidate = {**spec, "layers": self.layers(), "stem": self.stem((spec["input"][0], height, width))}
            if self.is_usable(candidate):
                spec = candidate
                break
        for number in range(rng.randint(1, 3)):
            self.add_stage(spec, f"stage{number}")
        for number in range(rng.randint(0, 2)):
            self.add_mixer(spec, f"mixer{number}")
        if not spec["stages"]:
            del spec["stages"]
        self.add_head(spec)
        return spec

    def with_extreme_argument(self, spec: Spec) -> Spec:
        """Return, for every second seed, the spec with one argument at an end of its range, if that is usable."""
        rng = random.Random(f"{self.seed} extreme")  # its own, so that other draws stay as they are
        if rng.random() < 0.5:
            return spec
        for _ in range(MAX_TRIES):
            changed = copy.deepcopy(spec)
            call = rng.choice(list(_find_calls(changed)))
            known = operation_arguments(call["op"])
            name = rng.choice(list(known))
            values = extreme_values(known[name])
            if not values or name == "out" or not isinstance(call.get(name, 0), int | float):
                continue  # the name of an argument of the block stands there
            call[name] = rng.choice(values)
            if self.is_usable(changed) and _load(changed) != _load(spec):  # otherwise no stage uses the block
                return changed
        return spec

    def layers(self) -> Spec:
        """Draw the norm and the activation of all blocks."""
        rng, input_shape = self.rng, (24, 9, 9)
        if rng.random() < 0.3:
            return {"norm": "batch_norm", "act": "relu"}
        norm = self.operation(rng.choice(operations_by_kind()["norm"]), input_shape) or "batch_norm"
        return {
            "norm": norm,
            "act": self.operation(rng.choice(operations_by_kind()["activation"]), input_shape) or "relu",
        }

    def operation(self, name: str, input_shape: Shape, fixed: Mapping[str, Any] | None = None) -> Any:
        """Draw arguments for an operation that are valid for an input; return None if none are found."""
        for _ in range(MAX_TRIES):
            arguments = _draw_arguments(name, self.rng, fixed)
            try:
                output_shape = OPS[name](**_as_arguments(arguments)).output_shape(input_shape)
            except (ShapeError, TypeError):
                continue
            if math.prod(output_shape) <= MAX_MAP_VALUES:
                return {"op": name, **arguments} if arguments else name
        return None

    def stem(self, input_shape: Shape) -> Spec:
        rng = self.rng
        fixed = {"out": rng.choice(CHANNELS), "kernel": rng.choice([1, 3, 5])}
        convolution = self.operation("conv", input_shape, fixed)
        stem: Spec = {"conv": convolution or {"op": "conv", "out": 8, "kernel": 3, "padding": 1}}
        stem |= {"norm": "norm", "act": "act"} if rng.random() < 0.8 else {"act": "act", "norm": "norm"}
        if rng.random() < 0.6:
            pool = self.operation(rng.choice(operations_by_kind()["pool"]), (8, 12, 11))
            stem |= {"pool": pool} if pool else {}
        return stem

    def block(self) -> Spec:
        """Draw a block of the network's own, whose convolutions are followed by norms and some activations."""
        rng = self.rng
        block: Spec = {"takes": {"out": "required", "stride": 1, "groups": 1, "attention": "none"}}
        if rng.random() < 0.4:
            block["before"] = {"norm0": "norm", "act0": "act"} if rng.random() < 0.7 else {"act0": "act"}
        branch: Spec = {}
        for number in range(1, rng.randint(1, 3) + 1):
            branch[f"conv{number}"] = self.block_convolution(number)
            branch[f"norm{number}"] = rng.choice(["norm", "norm", "batch_norm"])
            if rng.random() < 0.7:
                drawn = self.operation(rng.choice(operations_by_kind()["activation"]), (12, 9, 9)) or "act"
                branch[f"act{number}"] = rng.choice(["act", "act", drawn])
        block["branch"] = {**branch, "gate": "attention"}
        shortcut: Spec = {"proj": {"op": "conv", "out": "out", "kernel": 1, "stride": "stride"}}
        shortcut |= {"projnorm": "norm"} if rng.random() < 0.5 else {}
        block["shortcut"] = shortcut
        if rng.random() < 0.7:
            block["after"] = rng.choice([{"act9": "act"}, {"norm9": "norm", "act9": "act"}])
        if rng.random() < 0.2:
            block["project"] = rng.choice(["always", "first"])
        return block

    def block_convolution(self, number: int) -> Spec:
        """Draw a convolution that keeps height and width, or divides them by the stride if it is the block's first."""
        rng = self.rng
        kernel, dilation = rng.choice([1, 3, 3, 5]), rng.choice([1, 1, 1, 2])
        convolution: Spec = {"op": rng.choice(["conv", *block_convolutions()]), "out": "out", "kernel": kernel}
        if kernel > 1:
            convolution["padding"] = dilation * (kernel // 2)
            if dilation > 1:
                convolution["dilation"] = dilation
        convolution |= {"stride": "stride"} if number == 1 else {"groups": "groups"}
        if rng.random() < 0.3:
            convolution["bias"] = True
        return convolution

    def add_stage(self, spec: Spec, name: str) -> None:
        """Add a stage of a bundled block or of one of the network's own, if one is found that fits."""
        for _ in range(MAX_TRIES):
            stage = self.stage(self.rng.choice([*spec["blocks"], *bundled.block_files()]), spec)
            if self.is_usable({**spec, "stages": {**spec["stages"], name: stage}}):
                spec["stages"][name] = stage
                return

    def add_mixer(self, spec: Spec, name: str) -> None:
        """Add layers with a form of repetition or branches that stages do not draw, if one is found that fits."""
        rng = self.rng
        layers = _mixers(rng)
        rng.shuffle(layers)
        for mixer in layers:
            candidate = {
                **spec,
                "blocks": {**spec["blocks"], **_MIXED_BLOCKS},
                "stages": {**spec["stages"], name: mixer},
            }
            if self.is_usable(candidate):
                spec |= candidate
                return

    def stage(self, block: str, spec: Spec) -> Spec:
        rng = self.rng
        depth = rng.randint(1, 2)
        stage: Spec = {"block": block, "depth": depth}
        for name, default in self.block_defaults(block, spec).items():
            draw = self.find_draw(name, default)
            if draw is not None:
                is_list = depth > 1 and name != "out" and rng.random() < 0.2
                stage[name] = [draw() for _ in range(depth)] if is_list else draw()
        if rng.random() < 0.1:
            stage["project"] = rng.choice(["first", "always"])
        return stage

    def block_defaults(self, block: str, spec: Spec) -> Mapping[str, str]:
        """Return what a block takes, with its defaults as text: "required" if there is none, "layers" for a mapping."""
        if block in spec["blocks"]:
            return {name: str(value) for name, value in spec["blocks"][block]["takes"].items()}
        bundled_one = bundled_block(block)
        assert bundled_one is not None
        defaults = {
            name: value.text if isinstance(value, Scalar) else "layers"
            for name, value in bundled_one.takes.items()
            if value
        }
        return {**dict.fromkeys(bundled_one.takes, "required"), **defaults}

    def find_draw(self, name: str, default: str) -> Callable[[], Any] | None:
        """Return a function that draws a value for what a block takes, or None to leave it at its default."""
        rng = self.rng
        if default == "required":
            return lambda: rng.choice(CHANNELS) if name != "reduced" else rng.choice([2, 3])
        if default == "none":
            return (lambda: self.gate(rng.choice(blocks_that_combine("multiply")))) if rng.random() < 0.4 else None
        if rng.random() < 0.5:
            return None
        if default.isdecimal():
            return lambda: rng.choice([1, 2, 2])
        if default in ("true", "false"):
            return lambda: rng.random() < 0.5
        if default in blocks_that_combine("none"):
            return lambda: rng.choice(blocks_that_combine("none"))
        return None

    def gate(self, block: str) -> Spec:
        gate = bundled_block(block)
        assert gate is not None
        required = (name for name, value in gate.takes.items() if value is None)
        return {"block": block, **{name: self.rng.choice([2, 3]) for name in required}}

    def is_usable(self, spec: Spec) -> bool:
        """Return whether a spec is valid, of a moderate size, and well-conditioned."""
        try:
            network = _load(spec)
        except SpecError:
            return False
        return all(
            math.prod(leaf.output_shape) <= MAX_MAP_VALUES and _is_well_conditioned(leaf) for leaf in network.leaves()
        )

    def add_head(self, spec: Spec) -> None:
        """Add a head that ends in a vector of classes."""
        rng = self.rng
        classes = rng.randint(2, 7)
        pool = self.operation(rng.choice(operations_by_kind()["features"]), (8, 5, 4)) or "global_avg_pool"
        linear = {"op": "linear", "out": classes}
        heads: list[Spec] = [
            {"last": pool, "fc": linear},
            {"last": "global_avg_pool", "drop": {"op": "dropout", "rate": 0.5}, "fc": linear},
            {"lastnorm": "norm", "lastact": "act", "last": pool, "fc": linear},
            {"last": {"op": "avg_pool", "kernel": 2, "stride": 2, "padding": 1}, "flat": "flatten", "fc": linear},
            {
                "last": {"op": "global_avg_pool", "keepdims": True},
                "fc": {"op": "conv", "out": classes, "kernel": 1},
                "flat": "flatten",
            },
        ]
        rng.shuffle(heads)
        for head in [*heads, {"last": "global_avg_pool", "fc": linear}]:
            if self.is_usable({**spec, "head": head}):
                spec["head"] = head
                return


def _load(spec: Spec) -> Network:
    return loads(yaml.safe_dump(spec, sort_keys=False))


def _is_well_conditioned(leaf: Leaf) -> bool:
    values = getattr(leaf.op, "values_per_statistic", None)
    return values is None or isinstance(leaf.op, BatchNorm) or values(leaf.input_shape) >= MIN_NORM_VALUES
