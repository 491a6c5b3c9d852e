"""Run a PyTorch model: evaluate it and look into it, or train it one step. NumPy in, NumPy out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from resnet_spec.backend import OUTPUT, SGD, TrainingStep
from resnet_spec.weights.canonical import Array
from resnet_spec_torch.modules import ResNet, run_part
from resnet_spec_torch.weights import array, tensors


def run(
    model: ResNet, images: Array, watch: Collection[str] = (), *, train: bool = False, part: str = ""
) -> dict[str, Array]:
    """Outputs by path, of the parts to watch and of the network, or of a part alone. The model is left as it was."""
    with _mode(model, train), torch.no_grad(), _watched(model, watch) as seen:
        given = run_part(model, part)(_tensor(model, images))
        outputs = () if part else model.network.outputs
        seen |= dict(zip(outputs, given, strict=True)) if outputs else {OUTPUT: given}
    return _arrays(seen)


def step(
    model: ResNet, images: Array, labels: Array, sgd: SGD, optimizer: Any = None, watch: Collection[str] = ()
) -> TrainingStep:
    """One training step: weights and statistics are updated."""
    optimizer = optimizer or torch.optim.SGD(
        model.parameters(), lr=sgd.rate, momentum=sgd.momentum, weight_decay=sgd.weight_decay
    )
    optimizer.zero_grad()
    given = _tensor(model, images).requires_grad_()
    with _mode(model, train=True, keep=False), _watched(model, watch) as seen:
        seen[OUTPUT] = model(given)
        for output in seen.values():
            output.retain_grad()
        loss = functional.cross_entropy(seen[OUTPUT].flatten(1), torch.from_numpy(labels).to(given.device))
        loss.backward()
    gradients = {name: tensor.grad for name, tensor in tensors(model).items() if isinstance(tensor, nn.Parameter)}
    step = TrainingStep(
        loss=float(loss.detach()),
        outputs=_arrays(seen),
        gradients=_arrays(gradients),
        output_gradients=_arrays({"input": given.grad, **{path: output.grad for path, output in seen.items()}}),
        optimizer=optimizer,
    )
    optimizer.step()
    return step


def pull(model: ResNet, part: str, x: Array, slope: Array) -> dict[str, Array]:
    """The gradient of (slope * part(x)).sum() in training, by canonical name and for the input. The model is left as it was."""
    given = _tensor(model, x).requires_grad_()
    parameters = {name: tensor for name, tensor in tensors(model).items() if isinstance(tensor, nn.Parameter)}
    wanted = [given, *parameters.values()]
    with _mode(model, train=True):  # both ways: the way back reads statistics as the way forth left them
        output = run_part(model, part)(given)
        found = torch.autograd.grad(output, wanted, _tensor(model, slope), allow_unused=True)  # other parts' have none
    return _arrays(dict(zip(["input", *parameters], found, strict=True)))


def _tensor(model: ResNet, images: Array) -> Tensor:
    given = torch.from_numpy(images)
    like = next(model.parameters(), given)
    return given.to(like.device, like.dtype)


def _arrays(tensors: Mapping[str, Tensor | None]) -> dict[str, Array]:
    return {name: array(tensor) for name, tensor in tensors.items() if tensor is not None}


@contextmanager
def _mode(model: ResNet, train: bool, *, keep: bool = True) -> Iterator[None]:
    """The model in training or evaluation mode, while the context lasts; its statistics are kept too, unless they are to move."""
    modes = {module: module.training for module in model.modules()}
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()} if train and keep else {}
    model.train(train)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for name, buffer in kept.items():
            model.get_buffer(name).copy_(buffer)


@contextmanager
def _watched(model: ResNet, watch: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """What the modules at these paths give, while the context lasts."""
    seen: dict[str, Tensor] = {}

    def hook(path: str) -> Any:
        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            seen[path] = output

        return keep

    handles = [model.get_submodule(path).register_forward_hook(hook(path)) for path in watch if path]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
