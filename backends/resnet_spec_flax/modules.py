"""The modules that hold others: the network, a chain, a residual block, parallel branches."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar, TypeAlias, assert_never

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from resnet_spec.network.execution import Holder, ParallelPlan, ResidualSteps, Steps, plan_steps
from resnet_spec.network.network import Network

OutputHook: TypeAlias = Callable[[str, Array], Array]
"""A function called with each part's path and output; what it returns replaces the output."""


class ResNet(nnx.Module):
    """A network as a module: (batch, height, width, channels) -> the output of its last part.

    If the network has ``outputs``, the result is a tuple of those feature maps, in that order.
    """

    resnet_spec_backend: ClassVar[str] = "flax"

    def __init__(self, network: Network) -> None:
        self._network = network  # nnx does not print attributes that begin with an underscore
        self._holder = Holder("", plan_steps("", network.parts))

    @property
    def network(self) -> Network:
        return self._network

    def __call__(self, images: Array, hook: OutputHook | None = None) -> Any:
        self._refuse_channels_first(images)
        if not self._network.outputs:
            return run_steps(self, "", self._holder.steps, images, hook)
        maps: dict[str, Array] = {}
        x = images
        for step in self._holder.steps:
            x = maps[".".join(step[0])] = run_steps(self, "", (step,), x, hook)
        return tuple(maps[path] for path in self._network.outputs)

    def _refuse_channels_first(self, images: Array) -> None:
        """Raise ValueError for images as PyTorch has them, for which Flax's error names neither axis nor remedy.

        Any other shape passes, since a user may replace the first layer by one of other channels.
        """
        channels = self._network.input[0]
        if images.ndim == 4 and images.shape[1] == channels != images.shape[3]:
            raise ValueError(
                f"{self._network.name} takes images (batch, height, width, {channels}) in Flax, not {images.shape}; "
                "use images.transpose(0, 2, 3, 1), or resnet_spec.run, which takes channels first in every framework"
            )


class FrozenModel(nnx.Module):
    """A model that holds a network's weights, and has no modules inside that a user could change."""

    resnet_spec_backend: ClassVar[str] = "flax"

    _network: Network

    @property
    def network(self) -> Network:
        return self._network

    @property
    def is_compiled(self) -> bool:
        """Whether a call runs one compiled function."""
        raise NotImplementedError

    def make_layers(self) -> ResNet:
        """Return the network as modules with variables of their own, which hold the model's arrays."""
        raise NotImplementedError

    def set_layers(self, layers: ResNet) -> None:
        """Set the weights to those of such modules."""
        raise NotImplementedError


def layers_of(model: ResNet | FrozenModel) -> ResNet:
    """Return a model's modules: those that it is made of, or that a frozen one would be made of."""
    return model.make_layers() if isinstance(model, FrozenModel) else model


class MixedResNet(ResNet):
    """A network whose layers compute in a 16-bit type, and whose weights and outputs are in float32."""

    def __call__(self, images: Array, hook: OutputHook | None = None) -> Any:
        return jax.tree.map(lambda x: x.astype(jnp.float32), super().__call__(images, hook))


class Chain(nnx.Module):
    """Parts that run one after another. ``model.layer1[0]`` is the part called 0.

    Replaces nnx.Sequential, which has its parts in an attribute ``layers``, and only by number.
    """

    def __init__(self, path: str, steps: Steps) -> None:
        self._holder = Holder(path, steps)

    def __call__(self, x: Array, hook: OutputHook | None = None) -> Array:
        return run_steps(self, self._holder.path, self._holder.steps, x, hook)

    def __getitem__(self, name: int | str) -> Any:
        return getattr(self, str(name))

    def __setitem__(self, name: int | str, part: Any) -> None:
        setattr(self, str(name), part)


class Numbered(Chain):
    """A chain of parts called 0, 1, 2, ..., which NNX sorts by number, as it does for an nnx.List.

    Sorted as text, 10 comes before 2. XLA orders the operations of a training step by the weights, and in that order
    the step of a resnet152 took a tenth longer.
    """

    _pytree__has_int_keys = True


class Residual(nnx.Module):
    """A residual block: ``after(combine(branch(y), shortcut(z)))`` with y = before(x), and z = y or x."""

    _recomputes: bool = False

    def __init__(self, path: str, steps: ResidualSteps) -> None:
        self._holder = Holder(path, steps)

    def __call__(self, x: Array, hook: OutputHook | None = None) -> Array:
        if self._recomputes and hook is None:  # a hook could not hold what is computed again
            return _run_again(self, x)
        return self._run(x, hook)

    def _run(self, x: Array, hook: OutputHook | None) -> Array:
        """Run the block's sections, and keep what the backward pass needs."""
        path, steps = self._holder.path, self._holder.steps
        y = run_steps(self, path, steps.before, x, hook)
        branch = run_steps(self, path, steps.branch, y, hook)
        shortcut = run_steps(self, path, steps.shortcut, y if steps.shortcut_reads == "before" else x, hook)
        match steps.combine:
            case "add":
                combined = branch + shortcut
            case "multiply":
                combined = shortcut * _add_axes(branch, steps.missing_axes)
            case "concat":
                combined = jnp.concatenate([shortcut, branch], axis=-1)
            case _:
                assert_never(steps.combine)
        return run_steps(self, path, steps.after, combined, hook)


@nnx.remat
def _run_again(block: Residual, x: Array) -> Array:
    """Run a block whose activations are computed again in the backward pass."""
    return block._run(x, None)


def checkpoint_blocks(model: ResNet, paths: Collection[str]) -> None:
    """Have residual blocks keep no activations for the backward pass, which computes them again."""
    for path in paths:
        get_submodule(model, path)._recomputes = True


def _add_axes(x: Array, count: int) -> Array:
    """Return an array with axes of size 1 before the channels: (batch, channels) -> (batch, 1, 1, channels)."""
    return jnp.expand_dims(x, range(1, 1 + count))


@dataclass(frozen=True)
class Parallel:
    """Runs branches on the same input, on pieces of its channels, or one after another, and joins their outputs.

    The branches are an argument of the call, since their layers are registered beside this one.
    """

    plan: ParallelPlan

    def __call__(self, x: Array, branches: Sequence[Callable[[Array], Array] | None]) -> Array:
        plan = self.plan
        ends = list(accumulate(plan.pieces))
        inputs = jnp.split(x, ends[:-1], axis=-1) if ends else [x] * len(branches)
        outputs: list[Array] = []
        for branch, own in zip(branches, inputs, strict=True):
            piece = outputs[-1] if plan.collect and outputs else own
            if branch is not None:
                piece = branch(piece + outputs[-1] if plan.cascade and outputs else piece)
            outputs.append(piece)
        if plan.resize:
            outputs = [outputs[0], *(_resize_like(output, outputs[0]) for output in outputs[1:])]
        return _join(plan, outputs)


def _join(plan: ParallelPlan, outputs: list[Array]) -> Array:
    match plan.combine:
        case "concat":
            return jnp.concatenate(outputs, axis=-1)
        case "add":
            return jnp.stack(outputs).sum(axis=0)
        case "mean":
            return jnp.stack(outputs).mean(axis=0)
        case "multiply":
            factors = [_add_axes(output, count) for output, count in zip(outputs, plan.missing_axes, strict=True)]
            return math.prod(factors[1:], start=factors[0])
        case "subtract":
            return outputs[0] - sum(outputs[1:])
        case _:
            assert_never(plan.combine)


def _resize_like(x: Array, first: Array) -> Array:
    """Return a map with the height and width of another, of the nearest pixels."""
    for axis in (1, 2):
        size = first.shape[axis]
        x = x.take(np.arange(size) * x.shape[axis] // size, axis=axis)
    return x


def is_numbered(steps: Steps) -> bool:
    """Return whether the names of all steps in their holder are numbers, as the elements of a list have."""
    return all(
        len(names) == 1 and names[0].isdecimal() and names[0] == str(int(names[0])) and all(map(is_numbered, branches))
        for names, branches, _ in steps
    )


def run_steps(module: nnx.Module, path: str, steps: Steps, x: Array, hook: OutputHook | None) -> Array:
    """Run parts of a module one after another. They are looked up by name at each call, so a user may replace one."""
    for names, branches, weight in steps:
        holder: Any = module
        for name in names[:-1]:
            holder = getattr(holder, name)
        part = getattr(holder, names[-1])
        if weight:
            x = part(x, getattr(holder, weight)[...])
        else:
            x = part(x, _bind_branches(module, path, branches, hook)) if branches else call_part(part, x, hook)
        if hook is not None:
            own_names = (*names[:-1], weight or names[-1])
            x = hook(".".join([path, *own_names] if path else own_names), x)
    return x


def _bind_branches(
    module: nnx.Module, path: str, branches: Iterable[Steps], hook: OutputHook | None
) -> list[Callable[[Array], Array] | None]:
    """Return parallel branches as functions; None for an empty one, which is the identity."""

    def bind(branch: Steps) -> Callable[[Array], Array]:
        return lambda x: run_steps(module, path, branch, x, hook)

    return [bind(branch) if branch else None for branch in branches]


def run_part(model: ResNet, path: str, x: Array, hook: OutputHook | None) -> Any:
    """Run one part of a model, or the model itself for an empty path."""
    if not path:
        return call_part(model, x, hook)
    # The hook is called for the parts inside, and not for the part itself, whose output the caller has.
    inner = None if hook is None else lambda name, y: y if name == path else hook(name, y)
    return run_steps(model, "", plan_steps("", [model.network.part(path)]), x, inner)


def call_part(part: Any, x: Array, hook: OutputHook | None) -> Any:
    """Call a part; one of this module's classes passes the hook on to the parts inside it."""
    return part(x, hook) if isinstance(part, (ResNet, Chain, Residual)) else part(x)


def get_submodule(module: nnx.Module, path: str) -> Any:
    """Return the part at a path below a module; the module itself for an empty path."""
    part: Any = module
    for name in path.split(".") if path else ():
        part = getattr(part, name)
    return part
