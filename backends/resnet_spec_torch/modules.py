"""The modules that hold others: the network, a chain, a residual block, parallel branches."""

# Annotations are not postponed in this file: a traced model has those of ``ResNet.forward``, and torch.jit.script needs
# them as types, not as text.

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, ClassVar, Literal, assert_never, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks
from torch.utils.checkpoint import checkpoint

from resnet_spec.network.execution import ParallelPlan, ResidualSteps, Step, Steps, plan_steps
from resnet_spec.network.network import Network


class ResNet(nn.Module):
    """A network as a module: (batch, channels, height, width) -> the output of its last part.

    If the network has ``outputs``, the result is a tuple of those feature maps, in that order.
    """

    resnet_spec_backend: ClassVar[str] = "torch"

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self._steps = plan_steps("", network.parts)

    def forward(self, images: Tensor) -> Any:
        if not self.network.outputs:
            return run_steps(self, self._steps, images)
        maps: dict[str, Tensor] = {}
        x = images
        for step in self._steps:
            x = maps[".".join(step[0])] = run_steps(self, (step,), x)
        return tuple(maps[path] for path in self.network.outputs)

    def _run_alone(self, steps: Steps, x: Tensor) -> Tensor:
        """Run some parts of the model on an input of their own."""
        return run_steps(self, steps, x)

    def __prepare_scriptable__(self) -> torch.fx.GraphModule:
        """Return what torch.jit.script compiles instead: it cannot follow a look-up of parts by name."""
        graph = _LayerTracer().trace(self)
        return torch.fx.GraphModule(self, graph, type(self).__name__)


class FrozenModel(nn.Module):
    """A model that runs packed weights, and has no modules or parameters that a user could change."""

    resnet_spec_backend: ClassVar[str] = "torch"

    network: Network
    dtype: torch.dtype
    device: torch.device

    def pack_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Set all weights, by canonical name, and make anew what runs them."""
        raise NotImplementedError

    def unpack_weights(self) -> dict[str, Tensor]:
        """Return the weights by canonical name, in torch's own layout, as copies."""
        raise NotImplementedError

    def make_layers(self) -> ResNet:
        """Return the network as modules, with copies of the weights."""
        raise NotImplementedError


class _LayerTracer(torch.fx.Tracer):
    """A tracer that keeps each layer as a module, so that it still depends on the mode."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not isinstance(m, nn.Sequential | Chain | Residual | Parallel)


class Chain(nn.Module):
    """A chain that nn.Sequential cannot hold, since a part has a dotted name or parallel branches."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return run_steps(self, self._steps, x)


class Residual(nn.Module):
    """A residual block: ``after(combine(branch(y), shortcut(z)))`` with y = before(x), and z = y or x."""

    def __init__(self, steps: ResidualSteps) -> None:
        super().__init__()
        self._before = steps.before
        self._branch = steps.branch
        self._shortcut = steps.shortcut
        self._after = steps.after
        self._combine = steps.combine
        self._reads = steps.shortcut_reads
        self._missing_axes = steps.missing_axes
        self._recomputes = False

    def forward(self, x: Tensor) -> Tensor:
        if self._recomputes and torch.is_grad_enabled():
            return checkpoint(self._run, x, use_reentrant=False, context_fn=self._make_contexts)
        return self._run(x)

    def _make_contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Return contexts for the forward pass and for computing it again, which must not update statistics twice."""
        return nullcontext(), _keep_buffers(self)

    def _run(self, x: Tensor) -> Tensor:
        y = run_steps(self, self._before, x)
        # The outputs of branch and shortcut have no names here: a name would keep their memory while ``after`` runs.
        combined = _combine(
            self._combine,
            run_steps(self, self._branch, y),
            run_steps(self, self._shortcut, y if self._reads == "before" else x),
            self._missing_axes,
            overwrite=bool(self._branch) and _overwrites(y) and _makes_tensor(self, self._branch[-1]),
        )
        del y
        return run_steps(self, self._after, combined, is_own=True)

    def extra_repr(self) -> str:
        return "" if self._combine == "add" else f"combine={self._combine}"


@contextmanager
def _keep_buffers(module: nn.Module) -> Iterator[None]:
    """Restore a module's statistics afterwards."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, old in before:
                buffer.copy_(old)


def checkpoint_blocks(model: nn.Module, paths: Collection[str]) -> None:
    """Have residual blocks keep no activations for the backward pass, which computes them again."""
    for path in paths:
        cast("Residual", model.get_submodule(path))._recomputes = True


def _combine(
    combine: Literal["add", "multiply", "concat"],
    branch: Tensor,
    shortcut: Tensor,
    missing_axes: int,
    *,
    overwrite: bool,
) -> Tensor:
    """Return what a block makes of the outputs of its branch and shortcut. ``overwrite`` may reuse the former."""
    match combine:
        case "add":
            same = overwrite and branch.shape == shortcut.shape and branch.dtype == shortcut.dtype
            return branch.add_(shortcut) if same else branch + shortcut
        case "multiply":
            return shortcut * _add_axes(branch, missing_axes)
        case "concat":
            return torch.cat((shortcut, branch), dim=1)
        case _:
            assert_never(combine)


def _add_axes(x: Tensor, count: int) -> Tensor:
    """Return a tensor with trailing axes of size 1: (batch, channels) -> (batch, channels, 1, 1)."""
    for _ in range(count):
        x = x.unsqueeze(-1)
    return x


class Parallel(nn.Module):
    """Runs branches on the same input, on pieces of its channels, or one after another, and joins their outputs.

    The branches are arguments of ``forward``, since their layers are registered beside this module.
    """

    def __init__(self, plan: ParallelPlan) -> None:
        super().__init__()
        self._plan = plan

    def forward(self, x: Tensor, branches: Sequence[Callable[[Tensor], Tensor] | None]) -> Tensor:
        plan = self._plan
        inputs = x.split(plan.pieces, dim=1) if plan.pieces else [x] * len(branches)
        outputs: list[Tensor] = []
        for index, branch in enumerate(branches):  # a tracer cannot iterate over the inputs
            piece = outputs[-1] if plan.collect and outputs else inputs[index]
            if branch is not None:
                piece = branch(piece + outputs[-1] if plan.cascade and outputs else piece)
            outputs.append(piece)
        if plan.resize:
            outputs = [outputs[0], *(_resize_like(output, outputs[0]) for output in outputs[1:])]
        return _join(plan, outputs)

    def extra_repr(self) -> str:
        plan = self._plan
        names = ("pieces", "cascade", "collect", "resize")
        settings = [f"{name}={getattr(plan, name)}" for name in names if getattr(plan, name)]
        return ", ".join([f"combine={plan.combine}", *settings])


def _join(plan: ParallelPlan, outputs: list[Tensor]) -> Tensor:
    match plan.combine:
        case "concat":
            return torch.cat(outputs, dim=1)
        case "add":
            return torch.stack(outputs).sum(dim=0)
        case "mean":
            return torch.stack(outputs).mean(dim=0)
        case "multiply":
            factors = [_add_axes(output, count) for output, count in zip(outputs, plan.missing_axes, strict=True)]
            return math.prod(factors[1:], start=factors[0])
        case "subtract":
            return outputs[0] - sum(outputs[1:])
        case _:
            assert_never(plan.combine)


def _resize_like(x: Tensor, first: Tensor) -> Tensor:
    """Return a map with the height and width of another, of the nearest pixels.

    Replaces functional.interpolate, which finds the nearest pixel in float32.
    """
    rows = torch.arange(first.shape[2], device=x.device) * x.shape[2] // first.shape[2]
    columns = torch.arange(first.shape[3], device=x.device) * x.shape[3] // first.shape[3]
    return x.index_select(2, rows).index_select(3, columns)


def run_part(model: ResNet, path: str) -> Callable[[Tensor], Any]:
    """Return one part of a model as a function of its input, or the model itself for an empty path."""
    return partial(model._run_alone, plan_steps("", [model.network.part(path)])) if path else model


def run_steps(module: nn.Module, steps: Steps, x: Tensor, *, is_own: bool = False) -> Tensor:
    """Run parts of a module one after another. They are looked up by name at each call, so a user may replace one.

    Without gradients a rectifier overwrites a tensor that nobody else holds: to allocate its output takes longer than
    to compute it where batches are small. ``is_own`` says that nobody else holds ``x``.
    """
    overwrites = _overwrites(x)
    for names, branches, weight in steps:
        holder: Any = module
        for name in names[:-1]:
            holder = holder._modules[name]
        part = holder._modules[names[-1]]
        if overwrites and is_own and type(part) is nn.ReLU and _is_plain(part):
            x = torch.relu_(x)
            continue
        if weight:
            x = part(x, holder._parameters[weight])
        else:
            x = part(x, _bind_branches(module, branches)) if branches else part(x)
        is_own = type(part) in _ALLOCATING_LAYERS and _is_plain(part)
    return x


_ALLOCATING_LAYERS = frozenset({nn.Conv2d, nn.BatchNorm2d})
"""Layers whose output is a new tensor, which they do not keep."""


def _overwrites(x: Tensor) -> bool:
    """Return whether tensors that are needed no more may be overwritten: without gradients, outside of tracers."""
    return type(x) is Tensor and not torch.is_grad_enabled() and not _global_forward_hooks


def _is_plain(module: nn.Module) -> bool:
    """Return whether a layer is as torch made it: nothing that a user attached sees its input or output."""
    return not (module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__)


def _makes_tensor(holder: Any, step: Step) -> bool:
    """Return whether the output of a step is a new tensor that nobody else holds."""
    for name in step[0]:
        holder = holder._modules[name]
    return type(holder) in _ALLOCATING_LAYERS and _is_plain(holder)


def _bind_branches(module: nn.Module, branches: tuple[Steps, ...]) -> list[Callable[[Tensor], Tensor] | None]:
    """Return parallel branches as functions; None for an empty one, which is the identity."""
    return [partial(run_steps, module, branch) if branch else None for branch in branches]
