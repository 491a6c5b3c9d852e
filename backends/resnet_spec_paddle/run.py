"""Evaluate a Paddle model, capture its parts' outputs, compute gradients, train one step. Arrays are NumPy's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from resnet_spec.backend import OUTPUT, SGD, TrainingStep
from resnet_spec.weights.canonical import Array
from resnet_spec_paddle.modules import ResNet, run_part
from resnet_spec_paddle.weights import get_sublayer, named_tensors, to_canonical


def run(
    model: ResNet, images: Array, capture: Collection[str] = (), *, train: bool = False, part: str = ""
) -> dict[str, Array]:
    """Return by path the outputs of the parts in ``capture`` and of the network, or of one part run on its own.

    The model does not change.
    """
    with _temporary_mode(model, train), paddle.no_grad(), _capturing(model, capture) as captured:
        result = run_part(model, part)(_to_tensor(model, images))
        outputs = () if part else model.network.outputs
        captured |= dict(zip(outputs, result, strict=True)) if outputs else {OUTPUT: result}
    return _to_arrays(captured)


def step(
    model: ResNet, images: Array, labels: Array, sgd: SGD, optimizer: Any = None, capture: Collection[str] = ()
) -> TrainingStep:
    """Train one step: update the weights and the running statistics."""
    optimizer = optimizer or _make_optimizer(model, sgd)
    optimizer.clear_grad(set_to_zero=False)
    x = _to_tensor(model, images)
    x.stop_gradient = False
    with _temporary_mode(model, train=True, restore_statistics=False), _capturing(model, capture) as captured:
        captured[OUTPUT] = model(x)
        for output in captured.values():
            output.retain_grads()
        loss = functional.cross_entropy(captured[OUTPUT].flatten(1), paddle.to_tensor(labels, place=x.place))
        loss.backward()
    step = TrainingStep(
        loss=float(loss),
        outputs=_to_arrays(captured),
        gradients=to_canonical(model, {name: tensor.grad for name, tensor in named_tensors(model).items()}),
        output_gradients=_to_arrays({"input": x.grad, **{path: output.grad for path, output in captured.items()}}),
        optimizer=optimizer,
    )
    optimizer.step()
    return step


def vjp(model: ResNet, part: str, x: Array, cotangent: Array) -> dict[str, Array]:
    """Return the vector-Jacobian product of a part in training, by canonical name and under "input".

    It is the gradient of (cotangent * part(x)).sum(). The model does not change.
    """
    x_tensor = _to_tensor(model, x)
    x_tensor.stop_gradient = False
    parameters = {name: tensor for name, tensor in named_tensors(model).items() if not tensor.stop_gradient}
    with _temporary_mode(model, train=True):
        output = run_part(model, part)(x_tensor)
        # Parameters of other parts are not used, and have no gradient.
        of_x, *of_parameters = paddle.grad(
            [output], [x_tensor, *parameters.values()], [_to_tensor(model, cotangent)], allow_unused=True
        )
    return _to_arrays({"input": of_x}) | to_canonical(model, dict(zip(parameters, of_parameters, strict=True)))


def _make_optimizer(model: ResNet, sgd: SGD) -> Any:
    parameters = model.parameters()
    if sgd.momentum:
        return paddle.optimizer.Momentum(sgd.rate, sgd.momentum, parameters, weight_decay=sgd.weight_decay)
    return paddle.optimizer.SGD(sgd.rate, parameters, sgd.weight_decay)


def _to_tensor(model: ResNet, array: Array) -> Tensor:
    """Return an array as a tensor with the place and dtype of the model's parameters."""
    like = next(iter(model.parameters()), None)
    if like is None:
        return paddle.to_tensor(array)
    return paddle.to_tensor(array, dtype=like.dtype, place=like.place)


def _to_arrays(tensors: Mapping[str, Tensor | None]) -> dict[str, Array]:
    return {name: tensor.numpy().copy() for name, tensor in tensors.items() if tensor is not None}


@contextmanager
def _temporary_mode(model: ResNet, train: bool, *, restore_statistics: bool = True) -> Iterator[None]:
    """Put the model in training or evaluation mode; on exit restore each layer's mode, and the running statistics."""
    modes = {module: module.training for module in model.sublayers(include_self=True)}
    statistics = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.stop_gradient]
    saved = [(tensor, tensor.clone()) for tensor in statistics] if train and restore_statistics else []
    model.train() if train else model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for tensor, before in saved:
            tensor.set_value(before)


@contextmanager
def _capturing(model: ResNet, capture: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that receives the outputs of the layers at these paths when they run."""
    captured: dict[str, Tensor] = {}

    def make_hook(path: str) -> Any:
        def hook(module: nn.Layer, inputs: object, output: Tensor) -> None:
            captured[path] = output

        return hook

    handles = [get_sublayer(model, path).register_forward_post_hook(make_hook(path)) for path in capture if path]
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()
