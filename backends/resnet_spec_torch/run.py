"""Evaluate a PyTorch model, capture its parts' outputs, compute gradients, train one step. Arrays are NumPy's."""

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
from resnet_spec_torch.weights import named_tensors, to_array


def run(
    model: ResNet, images: Array, capture: Collection[str] = (), *, train: bool = False, part: str = ""
) -> dict[str, Array]:
    """Return by path the outputs of the parts in ``capture`` and of the network, or of one part run on its own.

    The model does not change.
    """
    with _temporary_mode(model, train), torch.no_grad(), _capturing(model, capture) as captured:
        result = run_part(model, part)(_to_tensor(model, images))
        outputs = () if part else model.network.outputs
        captured |= dict(zip(outputs, result, strict=True)) if outputs else {OUTPUT: result}
    return _to_arrays(captured)


def step(
    model: ResNet, images: Array, labels: Array, sgd: SGD, optimizer: Any = None, capture: Collection[str] = ()
) -> TrainingStep:
    """Train one step: update the weights and the running statistics."""
    optimizer = optimizer or torch.optim.SGD(
        model.parameters(), lr=sgd.rate, momentum=sgd.momentum, weight_decay=sgd.weight_decay
    )
    optimizer.zero_grad()
    x = _to_tensor(model, images).requires_grad_()
    with _temporary_mode(model, train=True, restore_statistics=False), _capturing(model, capture) as captured:
        captured[OUTPUT] = model(x)
        for output in captured.values():
            output.retain_grad()
        loss = functional.cross_entropy(captured[OUTPUT].flatten(1), torch.from_numpy(labels).to(x.device))
        loss.backward()
    gradients = {name: tensor.grad for name, tensor in named_tensors(model).items() if isinstance(tensor, nn.Parameter)}
    step = TrainingStep(
        loss=float(loss.detach()),
        outputs=_to_arrays(captured),
        gradients=_to_arrays(gradients),
        output_gradients=_to_arrays({"input": x.grad, **{path: output.grad for path, output in captured.items()}}),
        optimizer=optimizer,
    )
    optimizer.step()
    return step


def vjp(model: ResNet, part: str, x: Array, cotangent: Array) -> dict[str, Array]:
    """Return the vector-Jacobian product of a part in training, by canonical name and under "input".

    It is the gradient of (cotangent * part(x)).sum(). The model does not change.
    """
    x_tensor = _to_tensor(model, x).requires_grad_()
    parameters = {name: tensor for name, tensor in named_tensors(model).items() if isinstance(tensor, nn.Parameter)}
    # The backward pass is inside the context too: it reads the statistics as the forward pass left them.
    with _temporary_mode(model, train=True):
        output = run_part(model, part)(x_tensor)
        # Parameters of other parts are not used, and have no gradient.
        gradients = torch.autograd.grad(
            output, [x_tensor, *parameters.values()], _to_tensor(model, cotangent), allow_unused=True
        )
    return _to_arrays(dict(zip(["input", *parameters], gradients, strict=True)))


def _to_tensor(model: ResNet, array: Array) -> Tensor:
    """Return an array as a tensor with the device and dtype of the model's parameters."""
    tensor = torch.from_numpy(array)
    like = next(model.parameters(), tensor)
    return tensor.to(like.device, like.dtype)


def _to_arrays(tensors: Mapping[str, Tensor | None]) -> dict[str, Array]:
    return {name: to_array(tensor) for name, tensor in tensors.items() if tensor is not None}


@contextmanager
def _temporary_mode(model: ResNet, train: bool, *, restore_statistics: bool = True) -> Iterator[None]:
    """Put the model in training or evaluation mode; on exit restore each module's mode, and the running statistics."""
    modes = {module: module.training for module in model.modules()}
    saved = {name: buffer.clone() for name, buffer in model.named_buffers()} if train and restore_statistics else {}
    model.train(train)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for name, buffer in saved.items():
            model.get_buffer(name).copy_(buffer)


@contextmanager
def _capturing(model: ResNet, capture: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that receives the outputs of the modules at these paths when they run."""
    captured: dict[str, Tensor] = {}

    def make_hook(path: str) -> Any:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            captured[path] = output

        return hook

    handles = [model.get_submodule(path).register_forward_hook(make_hook(path)) for path in capture if path]
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()
