"""Random networks from one integer: drawn from the declarations of operations and blocks, so a new one is drawn too.

Each is well-conditioned by construction: a norm follows most convolutions, and weights keep the scale of what goes through them, so that a
difference above rounding is a mistake.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, TypeAlias

import yaml

from resnet_spec.diagnostics.problems import SpecError
from resnet_spec.language.spec import Word
from resnet_spec.language.values import operation_arguments
from resnet_spec.library import bundled
from resnet_spec.library.load import bundled_block, loads
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf
from resnet_spec.ops import OPS, BatchNorm, Op, Shape, ShapeError

Spec: TypeAlias = dict[str, Any]
Kind: TypeAlias = Literal["convolution", "norm", "activation", "pool", "features"]

CHANNELS = (4, 6, 8, 12)
TRIES = 40
LARGEST = 40_000  # numbers in one image's map: more would only take longer
FEWEST = 4
"""The fewest numbers that a norm of each image has to itself. What divides a number by its own size is a sign, as steep as a cliff: five steps of
training with five norms of two numbers each left weights 1e-10 apart. Of a batch's norms the images are as many as it takes."""


def text(seed: int) -> str:
    """The YAML of the random network of this seed.

    >>> text(7) == text(7) != text(8)
    True
    """
    return yaml.safe_dump(_Generator(seed).spec(), sort_keys=False, default_flow_style=None, width=120)


def network(seed: int) -> Network:
    """The random network of this seed."""
    return loads(text(seed), f"random {seed}")


@cache
def kinds() -> Mapping[Kind, tuple[str, ...]]:
    """Operations by what they do to a map, found by trying them: no list to keep in step with the declarations."""
    found: dict[Kind, list[str]] = {"convolution": [], "norm": [], "activation": [], "pool": [], "features": []}
    for name in OPS:
        kind = _kind(name)
        if kind is not None:
            found[kind].append(name)
    return {kind: tuple(names) for kind, names in found.items()}


def _kind(name: str) -> Kind | None:
    input_shape = (8, 9, 12)
    dice = random.Random(0)
    for _ in range(TRIES):
        try:
            op = _op(name, _arguments(name, dice))
            output_shape, weights = op.output_shape(input_shape), op.weights(input_shape)
        except ShapeError:
            continue
        if len(output_shape) == 1:
            return "features"
        if output_shape == input_shape:
            if any(weight.name == "weight" and len(weight.shape) == 4 for weight in weights):
                return "convolution"
            return "norm" if weights else "activation"
        return "convolution" if weights else "pool"
    return None


@cache
def convolutions() -> tuple[str, ...]:
    """Operations that can take a convolution's place in a block."""
    return tuple(
        name
        for name in OPS
        if {"out", "kernel", "stride", "padding", "groups", "bias"} <= operation_arguments(name).keys()
    )


@cache
def blocks(combine: str) -> tuple[str, ...]:
    """The bundled blocks that combine so: gates multiply, and plain chains, as projections are, combine nothing."""
    found = ((name, bundled_block(name)) for name in bundled.block_files())
    return tuple(name for name, block in found if block is not None and block.combine == combine)


def _op(name: str, arguments: Mapping[str, Any]) -> Op:
    return OPS[name](**arguments)


def _arguments(name: str, dice: random.Random, fixed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Arguments of an operation within their ranges, about half of them at their defaults."""
    arguments: dict[str, Any] = dict(fixed or {})
    for key, argument in operation_arguments(name).items():
        if key in arguments or (not argument.required and dice.random() < 0.5):
            continue
        if argument.choices:
            arguments[key] = dice.choice(argument.choices)
        elif argument.kind is bool:
            arguments[key] = dice.random() < 0.5
        elif argument.kind is int:
            least = int(argument.least)
            arguments[key] = dice.choice(CHANNELS) if key == "out" else dice.choice([least, least + 1, least + 2])
        elif argument.below == 1.0:
            arguments[key] = dice.choice([0.125, 0.25, 0.5, 0.75])
        elif argument.required or dice.random() < 0.3:
            arguments[key] = dice.choice([0.5, 1.0, 1e-3]) if argument.least <= 0 else dice.choice([1e-6, 1e-5, 1e-3])
    return arguments


class _Generator:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.dice = random.Random(seed)

    def spec(self) -> Spec:
        dice = self.dice
        height, width = dice.randint(13, 30), dice.randint(13, 30)
        spec: Spec = {"name": f"random_{self.seed}", "input": [dice.randint(1, 4), height, width]}
        spec["layers"] = {"norm": "batch_norm", "act": "relu"}
        spec["blocks"] = {f"own{number}": self.block() for number in range(dice.randint(1, 2))}
        spec["stem"] = {"conv": {"op": "conv", "out": 8, "kernel": 3}, "norm": "norm", "act": "act"}
        spec["stages"], spec["head"] = {}, {"last": "global_avg_pool"}
        for _ in range(TRIES):
            started = {**spec, "layers": self.layers(), "stem": self.stem((spec["input"][0], height, width))}
            if self.fits(started):
                spec = started
                break
        for number in range(dice.randint(1, 3)):
            self.extend(spec, f"stage{number}")
        if not spec["stages"]:
            del spec["stages"]
        self.finish(spec)
        return spec

    def layers(self) -> Spec:
        """What every block's norm and activation are."""
        dice, input_shape = self.dice, (24, 9, 9)
        if dice.random() < 0.3:
            return {"norm": "batch_norm", "act": "relu"}
        norm = self.layer(dice.choice(kinds()["norm"]), input_shape) or "batch_norm"
        return {"norm": norm, "act": self.layer(dice.choice(kinds()["activation"]), input_shape) or "relu"}

    def layer(self, name: str, input_shape: Shape, fixed: Mapping[str, Any] | None = None) -> Any:
        """An operation with arguments that suit what it is given, or None."""
        for _ in range(TRIES):
            arguments = _arguments(name, self.dice, fixed)
            try:
                output_shape = _op(name, arguments).output_shape(input_shape)
            except (ShapeError, TypeError):
                continue
            if _size(output_shape) <= LARGEST:
                return {"op": name, **arguments} if arguments else name
        return None

    def stem(self, input_shape: Shape) -> Spec:
        convolution = self.layer(
            "conv", input_shape, {"out": self.dice.choice(CHANNELS), "kernel": self.dice.choice([1, 3, 5])}
        )
        stem: Spec = {"conv": convolution or {"op": "conv", "out": 8, "kernel": 3, "padding": 1}}
        stem |= {"norm": "norm", "act": "act"} if self.dice.random() < 0.8 else {"act": "act", "norm": "norm"}
        if self.dice.random() < 0.6:
            pool = self.layer(self.dice.choice(kinds()["pool"]), (8, 12, 11))
            stem |= {"pool": pool} if pool else {}
        return stem

    def block(self) -> Spec:
        """A block of one's own: convolutions that keep to what the stride makes of the map, in any order with norms and activations."""
        dice = self.dice
        block: Spec = {"takes": {"out": "required", "stride": 1, "groups": 1, "attention": "none"}}
        if dice.random() < 0.4:
            block["before"] = {"norm0": "norm", "act0": "act"} if dice.random() < 0.7 else {"act0": "act"}
        branch: Spec = {}
        for number in range(1, dice.randint(1, 3) + 1):
            kernel, dilation = dice.choice([1, 3, 3, 5]), dice.choice([1, 1, 1, 2])
            convolution: Spec = {
                "op": dice.choice(["conv", *convolutions()]),
                "out": "out",
                "kernel": kernel,
                "padding": dilation * (kernel // 2),
            }
            convolution |= {"dilation": dilation} if dilation > 1 and kernel > 1 else {}
            convolution |= {"stride": "stride"} if number == 1 else {}
            convolution |= {"groups": "groups"} if number > 1 else {}
            convolution |= {"bias": True} if dice.random() < 0.3 else {}
            if kernel == 1:
                convolution.pop("padding")
            branch |= {f"conv{number}": convolution, f"norm{number}": dice.choice(["norm", "norm", "batch_norm"])}
            branch |= (
                {
                    f"act{number}": dice.choice(
                        ["act", "act", self.layer(dice.choice(kinds()["activation"]), (12, 9, 9)) or "act"]
                    )
                }
                if dice.random() < 0.7
                else {}
            )
        block["branch"] = {**branch, "gate": "attention"}
        shortcut: Spec = {"proj": {"op": "conv", "out": "out", "kernel": 1, "stride": "stride"}}
        shortcut |= {"projnorm": "norm"} if dice.random() < 0.5 else {}
        block["shortcut"] = shortcut
        if dice.random() < 0.7:
            block["after"] = dice.choice([{"act9": "act"}, {"norm9": "norm", "act9": "act"}])
        if dice.random() < 0.2:
            block["project"] = dice.choice(["always", "first"])
        return block

    def extend(self, spec: Spec, name: str) -> None:
        """Add a stage of a bundled block or of one's own, if one can be found that fits."""
        for _ in range(TRIES):
            stage = self.stage(self.dice.choice([*spec["blocks"], *bundled.block_files()]), spec)
            if stage is not None and self.fits({**spec, "stages": {**spec["stages"], name: stage}}):
                spec["stages"][name] = stage
                return

    def stage(self, block: str, spec: Spec) -> Spec | None:
        dice = self.dice
        depth = dice.randint(1, 2)
        stage: Spec = {"block": block, "depth": depth}
        for name, default in self.takes(block, spec).items():
            draw = self.argument(name, default)
            if draw is not None:
                several = depth > 1 and name != "out" and dice.random() < 0.2
                stage[name] = [draw() for _ in range(depth)] if several else draw()
        if dice.random() < 0.1:
            stage["project"] = dice.choice(["first", "always"])
        return stage

    def takes(self, block: str, spec: Spec) -> Mapping[str, str]:
        if block in spec["blocks"]:
            return {name: str(value) for name, value in spec["blocks"][block]["takes"].items()}
        found = bundled_block(block)
        assert found is not None
        words = {
            name: value.text if isinstance(value, Word) else "layers" for name, value in found.takes.items() if value
        }
        return {**dict.fromkeys(found.takes, "required"), **words}

    def argument(self, name: str, default: str) -> Callable[[], Any] | None:
        """How to draw what a block takes, from its default; None leaves it at that."""
        dice = self.dice
        if default == "required":
            return lambda: dice.choice(CHANNELS) if name != "reduced" else dice.choice([2, 3])
        if default == "none":
            return (lambda: self.gate(dice.choice(blocks("multiply")))) if dice.random() < 0.4 else None
        if dice.random() < 0.5:
            return None
        if default.isdecimal():
            return lambda: dice.choice([1, 2, 2])
        if default in ("true", "false"):
            return lambda: dice.random() < 0.5
        if default in blocks("none"):
            return lambda: dice.choice(blocks("none"))
        return None

    def gate(self, block: str) -> Spec:
        found = bundled_block(block)
        assert found is not None
        return {
            "block": block,
            **{name: self.dice.choice([2, 3]) for name, value in found.takes.items() if value is None},
        }

    def fits(self, spec: Spec) -> bool:
        try:
            found = loads(yaml.safe_dump(spec, sort_keys=False))
        except SpecError:
            return False
        return all(_size(leaf.output_shape) <= LARGEST and _calm(leaf) for leaf in found.leaves())

    def finish(self, spec: Spec) -> None:
        """A head that ends in classes."""
        dice = self.dice
        classes = dice.randint(2, 7)
        pool = self.layer(dice.choice(kinds()["features"]), (8, 5, 4)) or "global_avg_pool"
        heads: list[Spec] = [
            {"last": pool, "fc": {"op": "linear", "out": classes}},
            {"last": "global_avg_pool", "drop": {"op": "dropout", "rate": 0.5}, "fc": {"op": "linear", "out": classes}},
            {"lastnorm": "norm", "lastact": "act", "last": pool, "fc": {"op": "linear", "out": classes}},
            {
                "last": {"op": "avg_pool", "kernel": 2, "stride": 2, "padding": 1},
                "flat": "flatten",
                "fc": {"op": "linear", "out": classes},
            },
            {
                "last": {"op": "global_avg_pool", "keepdims": True},
                "fc": {"op": "conv", "out": classes, "kernel": 1},
                "flat": "flatten",
            },
        ]
        dice.shuffle(heads)
        for head in [*heads, {"last": "global_avg_pool", "fc": {"op": "linear", "out": classes}}]:
            if self.fits({**spec, "head": head}):
                spec["head"] = head
                return


def _calm(leaf: Leaf) -> bool:
    values = getattr(leaf.op, "values", None)
    return values is None or isinstance(leaf.op, BatchNorm) or values(leaf.input_shape) >= FEWEST


def _size(shape: Shape) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
