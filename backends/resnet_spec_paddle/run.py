"""Run a Paddle model: evaluate it and look into it, or train it one step. NumPy in, NumPy out."""

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
from resnet_spec_paddle.weights import canonical, sublayer, tensors


def run(
    model: ResNet, images: Array, watch: Collection[str] = (), *, train: bool = False, part: str = ""
) -> dict[str, Array]:
    """Outputs by path, of the parts to watch and of the network, or of a part alone. The model is left as it was."""
    with _mode(model, train), paddle.no_grad(), _watched(model, watch) as seen:
        given = run_part(model, part)(_tensor(model, images))
        outputs = () if part else model.network.outputs
        seen |= dict(zip(outputs, given, strict=True)) if outputs else {OUTPUT: given}
    return _arrays(seen)


def step(
    model: ResNet, images: Array, labels: Array, sgd: SGD, optimizer: Any = None, watch: Collection[str] = ()
) -> TrainingStep:
    """One training step: weights and statistics are updated."""
    optimizer = optimizer or _optimizer(model, sgd)
    optimizer.clear_grad(set_to_zero=False)
    given = _tensor(model, images)
    given.stop_gradient = False
    with _mode(model, train=True, keep=False), _watched(model, watch) as seen:
        seen[OUTPUT] = model(given)
        for output in seen.values():
            output.retain_grads()
        loss = functional.cross_entropy(seen[OUTPUT].flatten(1), paddle.to_tensor(labels, place=given.place))
        loss.backward()
    step = TrainingStep(
        loss=float(loss),
        outputs=_arrays(seen),
        gradients=canonical(model, {name: tensor.grad for name, tensor in tensors(model).items()}),
        output_gradients=_arrays({"input": given.grad, **{path: output.grad for path, output in seen.items()}}),
        optimizer=optimizer,
    )
    optimizer.step()
    return step


def pull(model: ResNet, part: str, x: Array, slope: Array) -> dict[str, Array]:
    """The gradient of (slope * part(x)).sum() in training, by canonical name and for the input. The model is left as it was."""
    given = _tensor(model, x)
    given.stop_gradient = False
    parameters = {name: tensor for name, tensor in tensors(model).items() if not tensor.stop_gradient}
    with _mode(model, train=True):
        output = run_part(model, part)(given)
        wanted = [given, *parameters.values()]
        found = paddle.grad([output], wanted, [_tensor(model, slope)], allow_unused=True)  # other parts' have none
    return _arrays({"input": found[0]}) | canonical(model, dict(zip(parameters, found[1:], strict=True)))


def _optimizer(model: ResNet, sgd: SGD) -> Any:
    parameters = model.parameters()
    if sgd.momentum:
        return paddle.optimizer.Momentum(sgd.rate, sgd.momentum, parameters, weight_decay=sgd.weight_decay)
    return paddle.optimizer.SGD(sgd.rate, parameters, sgd.weight_decay)


def _tensor(model: ResNet, images: Array) -> Tensor:
    like = next(iter(model.parameters()), None)
    if like is None:
        return paddle.to_tensor(images)
    return paddle.to_tensor(images, dtype=like.dtype, place=like.place)


def _arrays(tensors: Mapping[str, Tensor | None]) -> dict[str, Array]:
    return {name: tensor.numpy().copy() for name, tensor in tensors.items() if tensor is not None}


@contextmanager
def _mode(model: ResNet, train: bool, *, keep: bool = True) -> Iterator[None]:
    """The model in training or evaluation mode, while the context lasts; its statistics are kept too, unless they are to move."""
    modes = {module: module.training for module in model.sublayers(include_self=True)}
    held = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.stop_gradient]
    kept = [(tensor, tensor.clone()) for tensor in held] if train and keep else []
    model.train() if train else model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for tensor, before in kept:
            tensor.set_value(before)


@contextmanager
def _watched(model: ResNet, watch: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """What the layers at these paths give, while the context lasts."""
    seen: dict[str, Tensor] = {}

    def hook(path: str) -> Any:
        def keep(module: nn.Layer, inputs: object, output: Tensor) -> None:
            seen[path] = output

        return keep

    handles = [sublayer(model, path).register_forward_post_hook(hook(path)) for path in watch if path]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
