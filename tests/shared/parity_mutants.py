"""Mistakes to inject into the torch backend, as people have made them: parity must find each, and the part at fault."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from types import MethodType, SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from resnet_spec import ops
from resnet_spec.backend import SGD, Backend, TrainingStep
from resnet_spec.network.network import Network
from resnet_spec.network.parts import Leaf, Part
from resnet_spec.network.traversal import map_parts
from resnet_spec.weights.canonical import Array
from resnet_spec_torch.custom_layers import BiasedBatchNorm2d

SPEC = """
name: target
input: [3, 22, 19]
blocks:
  preact:
    takes: {out: required, stride: 1}
    before: {norm0: norm, act0: act}
    branch:
      conv1: {op: conv, out: out, kernel: 3, stride: stride, padding: 1}
      norm1: norm
      act1: leaky_relu
      conv2: {op: conv, out: out, kernel: 3, padding: 1, bias: true}
    shortcut:
      proj: {op: conv, out: out, kernel: 1, stride: stride}
stem:
  conv1: {op: conv, out: 8, kernel: 3, stride: 2, padding: 1, bias: true}
  maxpool: {op: max_pool, kernel: 2, stride: 2, padding: 1}
  bn1: norm
  relu: act
stages:
  layer1: {block: bottleneck, depth: 2, out: 12, width: 8, groups: 2, attention: {block: squeeze_excite, reduced: 4}}
  layer2: {block: preact, depth: 2, out: 16}
  layer3: {block: bottleneck, depth: 1, out: 16, width: 6, stride: 2}
head:
  gelu: gelu
  avgpool: {op: avg_pool, kernel: 2, stride: 2, padding: 1, ceil: true}
  lastpool: {op: max_pool, kernel: 2, stride: 2, padding: 1, ceil: true}
  flatten: flatten
  drop: {op: dropout, rate: 0.5}
  fc1: {op: linear, out: in}
  fc: {op: linear, out: 7}
""".replace("out: in}", "out: 64}")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mistake.

    Attributes:
        name: What it is called in docs/reference/parity.md.
        blame: The parts that parity must find at fault; none if it can only be seen in the weights after training, or
            in inference mode.
        make: Makes the mistake in a model.
        step: Replaces the backend's training step.
        mode: The mode of the models in which the mistake is made.
        spec: The network in which the mistake is made.
    """

    name: str
    blame: tuple[str, ...]
    make: Callable[[Any], None]
    step: Callable[..., TrainingStep] | None = None
    mode: Literal["training", "inference"] = "training"
    spec: str = SPEC


def inject(backend: Backend, mutant: Mutant) -> Any:
    """Return a backend that makes a mistake in every model."""

    def build(network: Network, weights: dict[str, Array], dtype: str, compute: str | None = None) -> Any:
        model = backend.build(network, weights, dtype, compute)
        return _make(mutant, "training", model)

    def build_inference(network: Network, weights: dict[str, Array], dtype: str, *, compile: bool) -> Any:
        model = backend.build_inference(network, weights, dtype, compile=compile)
        return _make(mutant, "inference", model)

    names = ("dump", "load", "run", "step", "vjp")
    functions = {name: getattr(backend, name) for name in names}
    if mutant.step is not None:
        functions["step"] = mutant.step
    builders = {"build": build, "build_inference": build_inference}
    return SimpleNamespace(DTYPE="float32", CAPABILITIES=backend.CAPABILITIES, **builders, **functions)


def _make(mutant: Mutant, mode: str, model: Any) -> Any:
    if mode == mutant.mode:
        with torch.no_grad():
            mutant.make(model)
    return model


# -- how to make a mistake ---------------------------------------------------------------------------------------------


def change_module(path: str, change: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a function that changes the module at a path of a model."""
    return lambda model: change(model.get_submodule(path))


def change_packed_weight(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Any], None]:
    """Return a function that changes a weight of a model that is built for inference."""

    def make(model: Any) -> None:
        weights = model.unpack_weights()
        model.pack_weights({**weights, name: change(weights[name])})

    return make


def _lose_activation(path: str) -> Callable[[Any], None]:
    """Return a function that removes an activation from what a model built for inference runs."""

    def lose(part: Part) -> Part:
        return replace(part, op=ops.Identity()) if isinstance(part, Leaf) and part.path == path else part

    def make(model: Any) -> None:
        parts = map_parts(model.network.parts, lose)
        vars(model)["network"] = replace(model.network, parts=parts)
        model.pack_weights(model.unpack_weights())

    return make


def replace_forward(path: str, forward: Callable[[Any, Tensor], Tensor]) -> Callable[[Any], None]:
    """Return a function that makes the module at a path compute ``forward(module, x)``."""

    def change(module: Any) -> None:
        module.forward = MethodType(forward, module)

    return change_module(path, change)


def change_norms(change: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a function that changes every batch norm of a model."""

    def make(model: Any) -> None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                change(module)

    return make


def _set(**attributes: Any) -> Callable[[Any], None]:
    def change(module: Any) -> None:
        for name, value in attributes.items():
            setattr(module, name, value)

    return change


def _swap(first: str, second: str) -> Callable[[Any], None]:
    def change(module: Any) -> None:
        _swap_tensors(getattr(module, first), getattr(module, second))

    return change


def _swap_statistics(model: Any) -> None:
    first, second = model.get_submodule("layer1.0.bn1"), model.get_submodule("layer1.1.bn1")
    for name in ("running_mean", "running_var"):
        _swap_tensors(getattr(first, name), getattr(second, name))


def _swap_tensors(first: Tensor, second: Tensor) -> None:
    old = first.clone()
    first.copy_(second)
    second.copy_(old)


def _map_weight(change: Callable[[Tensor], Tensor]) -> Callable[[Any], None]:
    def change_weight(module: Any) -> None:
        module.weight.copy_(change(module.weight.clone()))

    return change_weight


def _stride_on_first_convolution(model: Any) -> None:
    block = model.get_submodule("layer3.0")
    block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)


def _squeeze_before_last_norm(model: Any) -> None:
    block = model.get_submodule("layer1.0")
    *first, norm, gate = block._branch
    block._branch = (*first, gate, norm)


def _reverse_channels(model: Any) -> None:
    model.register_forward_pre_hook(lambda module, inputs: (inputs[0].flip(1),))


def _unbiased_normalization(module: Any, x: Tensor) -> Tensor:
    """Normalise by the unbiased variance in training, instead of the biased one."""
    if not module.training:
        return nn.BatchNorm2d.forward(module, x)
    scale = (x.numel() / x.shape[1] - 1) / (x.numel() / x.shape[1])
    y = functional.batch_norm(x, module.running_mean, module.running_var, None, None, True, 0.1, module.eps)
    return y * scale**0.5 * module.weight[:, None, None] + module.bias[:, None, None]


def _evaluation_norm(module: Any, x: Tensor) -> Tensor:
    return functional.batch_norm(
        x, module.running_mean, module.running_var, module.weight, module.bias, False, 0.0, module.eps
    )


def _no_decay_for_vectors(
    model: Any, images: Array, labels: Array, sgd: SGD, optimizer: Any = None, capture: Collection[str] = ()
) -> TrainingStep:
    from resnet_spec_torch import step

    if optimizer is None:
        groups = [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": sgd.weight_decay},
            {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.SGD(groups, lr=sgd.rate, momentum=sgd.momentum)
    return step(model, images, labels, sgd, optimizer, capture)


def _nesterov(
    model: Any, images: Array, labels: Array, sgd: SGD, optimizer: Any = None, capture: Collection[str] = ()
) -> TrainingStep:
    from resnet_spec_torch import step

    optimizer = optimizer or torch.optim.SGD(
        model.parameters(), lr=sgd.rate, momentum=sgd.momentum, weight_decay=sgd.weight_decay, nesterov=True
    )
    return step(model, images, labels, sgd, optimizer, capture)


def _no_change(model: Any) -> None:
    pass


def _conv(module: Any, x: Tensor, **changed: Any) -> Tensor:
    arguments = {"stride": module.stride, "padding": module.padding, "groups": module.groups}
    return functional.conv2d(x, module.weight, module.bias, **(arguments | changed))


def _add_gate(block: Any, x: Tensor) -> Tensor:
    from resnet_spec_torch.modules import run_steps

    return x + run_steps(block, block._branch, x)[..., :1, :1]


def _shortcut_after_activation(block: Any, x: Tensor) -> Tensor:
    from resnet_spec_torch.modules import run_steps

    y = run_steps(block, block._before, x)
    return y + run_steps(block, block._branch, y)


def _no_shortcut(block: Any, x: Tensor) -> Tensor:
    from resnet_spec_torch.modules import run_steps

    return run_steps(block, block._after, run_steps(block, block._branch, x))


NORMS = (
    "bn1",
    "layer1.0.bn1",
    "layer1.0.bn2",
    "layer1.0.bn3",
    "layer1.0.downsample.1",
    "layer1.1.bn1",
    "layer1.1.bn2",
    "layer1.1.bn3",
    "layer2.0.norm0",
    "layer2.0.norm1",
    "layer2.1.norm0",
    "layer2.1.norm1",
    "layer3.0.bn1",
    "layer3.0.bn2",
    "layer3.0.bn3",
    "layer3.0.downsample.1",
)

MUTANTS = [
    Mutant("epsilon of one norm 1e-5 -> 1e-3", ("layer1.0.bn2",), change_module("layer1.0.bn2", _set(eps=1e-3))),
    Mutant("epsilon of every norm 1e-5 -> 1e-3", NORMS, change_norms(_set(eps=1e-3))),
    Mutant("decay inverted", NORMS, change_norms(_set(momentum=0.9))),
    Mutant("biased running variance", NORMS, change_norms(_set(__class__=BiasedBatchNorm2d))),
    Mutant(
        "unbiased variance in normalisation",
        ("layer2.0.norm1",),
        replace_forward("layer2.0.norm1", _unbiased_normalization),
    ),
    Mutant("gamma and beta swapped", ("layer1.0.bn1",), change_module("layer1.0.bn1", _swap("weight", "bias"))),
    Mutant("mean and variance swapped", ("bn1",), change_module("bn1", _swap("running_mean", "running_var"))),
    Mutant("statistics of two layers swapped", ("layer1.0.bn1", "layer1.1.bn1"), _swap_statistics),
    Mutant(
        "one ReLU leaky, with slope 0.01",
        ("layer1.1.relu2",),
        replace_forward("layer1.1.relu2", lambda module, x: functional.leaky_relu(x, 0.01)),
    ),
    Mutant("stem kernel mirrored", ("conv1",), change_module("conv1", _map_weight(lambda w: w.flip(3)))),
    Mutant(
        "kernel height and width transposed",
        ("layer1.0.conv2",),
        change_module("layer1.0.conv2", _map_weight(lambda w: w.mT)),
    ),
    Mutant(
        "SAME-like stem padding",
        ("conv1",),
        replace_forward("conv1", lambda module, x: _conv(module, functional.pad(x, (0, 2, 0, 2)), padding=0)),
    ),
    Mutant("stride on the first 1x1", ("layer3.0.conv1", "layer3.0.conv2"), _stride_on_first_convolution),
    Mutant(
        "groups reordered", ("layer1.0.conv2",), change_module("layer1.0.conv2", _map_weight(lambda w: w.roll(4, 0)))
    ),
    Mutant(
        "missing projection norm",
        ("layer1.0.downsample.1",),
        replace_forward("layer1.0.downsample.1", lambda module, x: x),
    ),
    Mutant(
        "shortcut taken after the activation", ("layer2.1",), replace_forward("layer2.1", _shortcut_after_activation)
    ),
    Mutant("missing shortcut", ("layer1.1",), replace_forward("layer1.1", _no_shortcut)),
    Mutant("gate added instead of multiplied", ("layer1.1.se",), replace_forward("layer1.1.se", _add_gate)),
    Mutant("tanh approximation of GELU", ("gelu",), change_module("gelu", _set(approximate="tanh"))),
    Mutant("padding counted in average pooling", ("avgpool",), change_module("avgpool", _set(count_include_pad=True))),
    Mutant(
        "max pooling padded with zeros",
        ("maxpool",),
        replace_forward("maxpool", lambda module, x: functional.max_pool2d(functional.pad(x, (1, 1, 1, 1)), 2, 2)),
    ),
    Mutant(
        "ceil mode keeps a window that starts in the padding",
        ("lastpool",),
        replace_forward(
            "lastpool", lambda module, x: functional.pad(module.__class__.forward(module, x), (0, 1, 0, 1))
        ),
    ),
    Mutant("weight of a square linear layer transposed", ("fc1",), change_module("fc1", _map_weight(lambda w: w.T))),
    Mutant(
        "flatten in channels-last order",
        ("flatten",),
        replace_forward("flatten", lambda module, x: x.permute(0, 2, 3, 1).flatten(1)),
    ),
    Mutant("input channels reversed", ("",), _reverse_channels),
    Mutant("squeeze before the last norm", ("layer1.0",), _squeeze_before_last_norm),
    Mutant(
        "dropout active in evaluation", ("drop",), replace_forward("drop", lambda module, x: functional.dropout(x, 0.5))
    ),
    Mutant("statistics frozen in training", ("layer2.0.norm0",), change_module("layer2.0.norm0", _set(momentum=0.0))),
    Mutant(
        "norm in evaluation mode while training",
        ("layer2.0.norm0",),
        replace_forward("layer2.0.norm0", _evaluation_norm),
    ),
    Mutant(
        "gradient of one layer stopped",
        ("layer2.0.conv2",),
        replace_forward(
            "layer2.0.conv2", lambda module, x: functional.conv2d(x, module.weight.detach(), module.bias, padding=1)
        ),
    ),
    Mutant(
        "gradient of one layer halved",
        ("layer2.1.act1",),
        replace_forward(
            "layer2.1.act1", lambda module, x: functional.leaky_relu((x + x.detach()) / 2, module.negative_slope)
        ),
    ),
    Mutant("bias dropped", ("conv1",), change_module("conv1", lambda module: module.bias.zero_())),
    Mutant(
        "float32 in a float64 network",
        ("layer1.0.conv3",),
        replace_forward(
            "layer1.0.conv3", lambda module, x: functional.conv2d(x.float(), module.weight.float()).double()
        ),
    ),
    Mutant("no weight decay for norms and biases", (), _no_change, _no_decay_for_vectors),
    Mutant("Nesterov momentum", (), _no_change, _nesterov),
    Mutant(
        "inference mode: shift of a folded norm dropped",
        (),
        change_packed_weight("layer1.0.conv1.bias", torch.zeros_like),
        mode="inference",
    ),
    Mutant(
        "inference mode: norm folded into the wrong channels",
        (),
        change_packed_weight("layer1.0.conv2.bias", lambda bias: bias.roll(1)),
        mode="inference",
    ),
    Mutant(
        "inference mode: epsilon left out of folding",
        (),
        change_packed_weight("layer3.0.conv1.weight", lambda w: w * (1 + 5e-6)),
        mode="inference",
    ),
    Mutant(
        "inference mode: activation lost in fusion",
        (),
        _lose_activation("layer1.1.relu1"),
        mode="inference",
    ),
]
