"""Mistakes to inject into the torch backend, each as people have made it: parity must catch every one, and blame the right part."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from resnet_spec.backend import SGD, Trainer, TrainingStep
from resnet_spec.network.network import Network
from resnet_spec.parity import recorder
from resnet_spec.parity.case import Case
from resnet_spec.parity.processes import Failure
from resnet_spec.weights.canonical import Array

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
    """A mistake: what it is called, the parts that must be blamed for it, and how it is made in a built model."""

    name: str
    blame: tuple[str, ...]
    make: Callable[[Any], None]
    step: Callable[..., TrainingStep] | None = None


class Here:
    """A backend in this process, with a mistake made in every model that it builds."""

    def __init__(self, name: str, backend: Trainer, mutant: Mutant | None = None) -> None:
        self.name = name
        self.backend: Any = backend if mutant is None else _tampered(backend, mutant)

    def record(self, case: Case) -> recorder.Record:
        try:
            return dict(recorder.record(self.backend, case))
        except recorder.BROKEN as error:
            raise Failure(str(error), alive=True) from None

    def alone(self, case: Case, train: bool, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return recorder.alone(self.backend, case, train, inputs)

    def slopes(self, case: Case) -> dict[str, Array]:
        return recorder.slopes(self.backend, case)

    def pulls(self, case: Case, inputs: Mapping[str, Array], slopes: Mapping[str, Array]) -> dict[str, Array]:
        return recorder.pulls(self.backend, case, inputs, slopes)


def _tampered(backend: Trainer, mutant: Mutant) -> Any:
    def build(network: Network, weights: dict[str, Array], dtype: str) -> Any:
        model = backend.build(network, weights, dtype)
        with torch.no_grad():
            mutant.make(model)
        return model

    names = ("dump", "load", "run", "step", "pull")
    functions = {name: getattr(backend, name) for name in names}
    if mutant.step is not None:
        functions["step"] = mutant.step
    return SimpleNamespace(DTYPE="float32", build=build, **functions)


# -- how each is made ---------------------------------------------------------------------------------------------


def at(path: str, change: Callable[[Any], None]) -> Callable[[Any], None]:
    """Change the module at a path."""
    return lambda model: change(model.get_submodule(path))


def instead(path: str, forward: Callable[[Any, Tensor], Tensor]) -> Callable[[Any], None]:
    """Compute something else at a path: a function of the module and its input."""

    def change(module: Any) -> None:
        module.forward = lambda x: forward(module, x)

    return at(path, change)


def norms(change: Callable[[Any], None]) -> Callable[[Any], None]:
    """Change every batch norm."""

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


def _swap(one: str, other: str) -> Callable[[Any], None]:
    def change(module: Any) -> None:
        first, second = getattr(module, one), getattr(module, other)
        kept = first.clone()
        first.copy_(second)
        second.copy_(kept)

    return change


def _swap_statistics(model: Any) -> None:
    one, other = model.get_submodule("layer1.0.bn1"), model.get_submodule("layer1.1.bn1")
    for name in ("running_mean", "running_var"):
        kept = getattr(one, name).clone()
        getattr(one, name).copy_(getattr(other, name))
        getattr(other, name).copy_(kept)


def _reweigh(change: Callable[[Tensor], Tensor]) -> Callable[[Any], None]:
    def make(module: Any) -> None:
        module.weight.copy_(change(module.weight.clone()))

    return make


def _stride_on_the_first(model: Any) -> None:
    block = model.get_submodule("layer3.0")
    block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)


def _squeeze_before_the_last_norm(model: Any) -> None:
    block = model.get_submodule("layer1.0")
    *first, norm, gate = block._branch
    block._branch = (*first, gate, norm)


def _reversed_channels(model: Any) -> None:
    model.register_forward_pre_hook(lambda module, inputs: (inputs[0].flip(1),))


def _own_variance(module: Any, x: Tensor) -> Tensor:
    """The unbiased variance where the biased one belongs."""
    if not module.training:
        return nn.BatchNorm2d.forward(module, x)
    scale = (x.numel() / x.shape[1] - 1) / (x.numel() / x.shape[1])
    y = functional.batch_norm(x, module.running_mean, module.running_var, None, None, True, 0.1, module.eps)
    return y * scale**0.5 * module.weight[:, None, None] + module.bias[:, None, None]


def _frozen(module: Any, x: Tensor) -> Tensor:
    return functional.batch_norm(
        x, module.running_mean, module.running_var, module.weight, module.bias, False, 0.0, module.eps
    )


def _no_decay_for_vectors(
    model: Any, images: Array, labels: Array, sgd: SGD, optimizer: Any = None, watch: Collection[str] = ()
) -> TrainingStep:
    from resnet_spec_torch import step

    if optimizer is None:
        groups = [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": sgd.weight_decay},
            {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.SGD(groups, lr=sgd.rate, momentum=sgd.momentum)
    return step(model, images, labels, sgd, optimizer, watch)


def _nesterov(
    model: Any, images: Array, labels: Array, sgd: SGD, optimizer: Any = None, watch: Collection[str] = ()
) -> TrainingStep:
    from resnet_spec_torch import step

    optimizer = optimizer or torch.optim.SGD(
        model.parameters(), lr=sgd.rate, momentum=sgd.momentum, weight_decay=sgd.weight_decay, nesterov=True
    )
    return step(model, images, labels, sgd, optimizer, watch)


def _nothing(model: Any) -> None:
    pass


def _conv(module: Any, x: Tensor, **changed: Any) -> Tensor:
    arguments = {"stride": module.stride, "padding": module.padding, "groups": module.groups}
    return functional.conv2d(x, module.weight, module.bias, **(arguments | changed))


def _added(block: Any, x: Tensor) -> Tensor:
    from resnet_spec_torch.modules import run_steps

    return x + run_steps(block, block._branch, x)[..., :1, :1]


def _after_activation(block: Any, x: Tensor) -> Tensor:
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
    Mutant("epsilon of one norm 1e-5 -> 1e-3", ("layer1.0.bn2",), at("layer1.0.bn2", _set(eps=1e-3))),
    Mutant("epsilon of every norm 1e-5 -> 1e-3", NORMS, norms(_set(eps=1e-3))),
    Mutant("decay inverted", NORMS, norms(_set(momentum=0.9))),
    Mutant("biased running variance", NORMS, norms(_set(variance="biased"))),
    Mutant("unbiased variance in normalising", ("layer2.0.norm1",), instead("layer2.0.norm1", _own_variance)),
    Mutant("gamma and beta swapped", ("layer1.0.bn1",), at("layer1.0.bn1", _swap("weight", "bias"))),
    Mutant("mean and variance swapped", ("bn1",), at("bn1", _swap("running_mean", "running_var"))),
    Mutant("statistics of two layers swapped", ("layer1.0.bn1", "layer1.1.bn1"), _swap_statistics),
    Mutant(
        "leaky slope 0.01 for one ReLU",
        ("layer1.1.relu2",),
        instead("layer1.1.relu2", lambda module, x: functional.leaky_relu(x, 0.01)),
    ),
    Mutant("stem kernel mirrored", ("conv1",), at("conv1", _reweigh(lambda w: w.flip(3)))),
    Mutant("kernel height and width transposed", ("layer1.0.conv2",), at("layer1.0.conv2", _reweigh(lambda w: w.mT))),
    Mutant(
        "SAME-like stem padding",
        ("conv1",),
        instead("conv1", lambda module, x: _conv(module, functional.pad(x, (0, 2, 0, 2)), padding=0)),
    ),
    Mutant("stride on the first 1x1", ("layer3.0.conv1", "layer3.0.conv2"), _stride_on_the_first),
    Mutant("groups in another order", ("layer1.0.conv2",), at("layer1.0.conv2", _reweigh(lambda w: w.roll(4, 0)))),
    Mutant(
        "missing projection norm", ("layer1.0.downsample.1",), instead("layer1.0.downsample.1", lambda module, x: x)
    ),
    Mutant("shortcut taken after the activation", ("layer2.1",), instead("layer2.1", _after_activation)),
    Mutant("shortcut forgotten", ("layer1.1",), instead("layer1.1", _no_shortcut)),
    Mutant("gate added, not multiplied", ("layer1.1.se",), instead("layer1.1.se", _added)),
    Mutant("GELU by tanh", ("gelu",), at("gelu", _set(approximate="tanh"))),
    Mutant("padding counted in a mean", ("avgpool",), at("avgpool", _set(count_include_pad=True))),
    Mutant(
        "pool padded with zeros",
        ("maxpool",),
        instead("maxpool", lambda module, x: functional.max_pool2d(functional.pad(x, (1, 1, 1, 1)), 2, 2)),
    ),
    Mutant(
        "ceil keeps a window that starts in the padding",
        ("lastpool",),
        instead("lastpool", lambda module, x: functional.pad(module.__class__.forward(module, x), (0, 1, 0, 1))),
    ),
    Mutant("square linear transposed", ("fc1",), at("fc1", _reweigh(lambda w: w.T))),
    Mutant(
        "flatten in another order", ("flatten",), instead("flatten", lambda module, x: x.permute(0, 2, 3, 1).flatten(1))
    ),
    Mutant("input channels reversed", ("",), _reversed_channels),
    Mutant("squeeze before the last norm", ("layer1.0",), _squeeze_before_the_last_norm),
    Mutant("dropout active in evaluation", ("drop",), instead("drop", lambda module, x: functional.dropout(x, 0.5))),
    Mutant("statistics frozen in training", ("layer2.0.norm0",), at("layer2.0.norm0", _set(momentum=0.0))),
    Mutant("norm in evaluation mode while training", ("layer2.0.norm0",), instead("layer2.0.norm0", _frozen)),
    Mutant(
        "gradient of one layer stopped",
        ("layer2.0.conv2",),
        instead(
            "layer2.0.conv2", lambda module, x: functional.conv2d(x, module.weight.detach(), module.bias, padding=1)
        ),
    ),
    Mutant(
        "gradient halved on its way back",
        ("layer2.1.act1",),
        instead("layer2.1.act1", lambda module, x: functional.leaky_relu((x + x.detach()) / 2, module.negative_slope)),
    ),
    Mutant("bias dropped", ("conv1",), at("conv1", lambda module: module.bias.zero_())),
    Mutant(
        "float32 computed where float64 was asked",
        ("layer1.0.conv3",),
        instead("layer1.0.conv3", lambda module, x: functional.conv2d(x.float(), module.weight.float()).double()),
    ),
    Mutant("no weight decay for vectors", (), _nothing, _no_decay_for_vectors),
    Mutant("another kind of momentum", (), _nothing, _nesterov),
]
