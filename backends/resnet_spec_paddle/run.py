"""Evaluate a Paddle model, capture its parts' outputs, compute gradients, train one step. Arrays are NumPy's."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MethodType
from typing import Any

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from resnet_spec.backend import OUTPUT, SGD, BackendError, TrainingStep
from resnet_spec.network.execution import module_path
from resnet_spec.weights.canonical import Array
from resnet_spec_paddle.locking import LOCK
from resnet_spec_paddle.modules import FrozenModel, Residual, ResNet, run_part
from resnet_spec_paddle.weights import get_sublayer, named_tensors, to_canonical


def move(model: ResNet | FrozenModel, device: str) -> None:
    """Move a model to a device. Raises BackendError, without changing the model, if there is none."""
    place = device.replace("cuda", "gpu")
    if not re.fullmatch(r"cpu|(gpu|xpu)(:\d+)?", place):
        raise BackendError(f"Paddle has no device {device!r}; it can be cpu, cuda or xpu, such as cuda:1")
    if place.startswith("gpu") and not paddle.device.is_compiled_with_cuda():
        raise BackendError(f"Paddle has no device {device!r} here: this build of it computes on the CPU only")
    try:
        model.to(device=place)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise BackendError(f"Paddle has no device {device!r} here: {reason}") from None


def run(
    model: ResNet | FrozenModel, images: Array, capture: Collection[str] = (), *, train: bool = False, part: str = ""
) -> dict[str, Array]:
    """Return by path the outputs of the parts in ``capture`` and of the network, or of one part run on its own.

    The model does not change, not even for other threads while it runs.
    """
    with LOCK, paddle.no_grad():
        x = _to_tensor(model, images)
        if isinstance(model, FrozenModel) and not (train or part or capture):
            captured, result = {}, model(x)
        else:
            twin = _make_twin(_layers_to_train(model) if train else _layers_of(model), train)
            captured = _capture_outputs(twin, capture)
            result = run_part(twin, part)(x)
        outputs = () if part else model.network.outputs
        captured |= dict(zip(outputs, result, strict=True)) if outputs else {OUTPUT: result}
        return _to_arrays(captured)


def step(
    model: ResNet | FrozenModel,
    images: Array,
    labels: Array,
    sgd: SGD,
    optimizer: Any = None,
    capture: Collection[str] = (),
) -> TrainingStep:
    """Train one step: update the weights and the running statistics."""
    model = _layers_to_train(model)
    optimizer = optimizer or _make_optimizer(model, sgd)
    optimizer.clear_grad(set_to_zero=False)
    with LOCK:
        x = _to_tensor(model, images)
        x.stop_gradient = False
        twin = _make_twin(model, train=True, copies_statistics=False)
        captured = _capture_outputs(twin, capture)
        captured[OUTPUT] = twin(x)
        for output in captured.values():
            output.retain_grads()
        loss = functional.cross_entropy(captured[OUTPUT].flatten(1), paddle.to_tensor(labels, place=x.place))
        loss.backward()
        step = TrainingStep(
            loss=float(loss),
            outputs=_to_arrays(captured),
            gradients=to_canonical(model, {name: tensor.grad for name, tensor in named_tensors(model).items()}),
            output_gradients=_to_arrays({"input": x.grad, **{path: y.grad for path, y in captured.items()}}),
            optimizer=optimizer,
        )
        optimizer.step()
    return step


def vjp(model: ResNet | FrozenModel, part: str, x: Array, cotangent: Array) -> dict[str, Array]:
    """Return the vector-Jacobian product of a part in training, by canonical name and under "input".

    It is the gradient of (cotangent * part(x)).sum(). The model does not change.
    """
    model = _layers_to_train(model)
    parameters = {name: tensor for name, tensor in named_tensors(model).items() if not tensor.stop_gradient}
    with LOCK:
        x_tensor = _to_tensor(model, x)
        x_tensor.stop_gradient = False
        output = run_part(_make_twin(model, train=True), part)(x_tensor)
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


def _layers_of(model: ResNet | FrozenModel) -> ResNet:
    return model.make_layers() if isinstance(model, FrozenModel) else model


def _layers_to_train(model: ResNet | FrozenModel) -> ResNet:
    if isinstance(model, FrozenModel):
        raise BackendError('a model built with mode="inference" has no training mode; build it with mode="training"')
    return model


def _to_tensor(model: ResNet | FrozenModel, array: Array) -> Tensor:
    """Return an array as a tensor with the place and dtype of the model's weights."""
    if isinstance(model, FrozenModel):
        return paddle.to_tensor(array, dtype="float64" if model.dtype == "float64" else "float32")
    like = next(iter(model.parameters()), None)
    if like is None:
        return paddle.to_tensor(array)
    return paddle.to_tensor(array, dtype=like.dtype, place=like.place)


def _to_arrays(tensors: Mapping[str, Tensor | None]) -> dict[str, Array]:
    return {name: tensor.numpy().copy() for name, tensor in tensors.items() if tensor is not None}


def _make_twin(model: ResNet, train: bool, *, copies_statistics: bool = True) -> ResNet:
    """Return layers in training or evaluation mode that hold the same tensors as those of a model.

    Mode and hooks are their own, so the model keeps its own. In training so are the statistics, unless
    ``copies_statistics`` is false.
    """
    twin: ResNet = _copy_layer(model, train, copies_statistics and train, {})
    return twin


def _copy_layer(layer: Any, train: bool, copies_statistics: bool, twins: dict[int, Any]) -> Any:
    """Return a copy of a layer and the layers inside it, without copying parameters; enter each in ``twins`` by id."""
    if id(layer) in twins:
        return twins[id(layer)]
    kind: Any = type(layer)
    twin = twins[id(layer)] = kind.__new__(kind)
    state = vars(twin)
    state.update(vars(layer))
    for name in ("_sub_layers", "_parameters", "_buffers", "_forward_pre_hooks", "_forward_post_hooks"):
        state[name] = state[name].copy()
    state["training"] = train
    if isinstance(twin, Residual):
        state["_recomputes"] = False  # hooks would be called again
    forward = state.get("forward")
    if getattr(forward, "class_instance", None) is layer:  # compiled by to_static for this layer, in this layer's mode
        del state["forward"]
    elif getattr(forward, "__self__", None) is layer:  # a method that the user set
        state["forward"] = MethodType(forward.__func__, twin)
    for name, child in state["_sub_layers"].items():
        if child is not None:
            state["_sub_layers"][name] = _copy_layer(child, train, copies_statistics, twins)
    if copies_statistics:
        for tensors in (state["_parameters"], state["_buffers"]):
            tensors |= {name: x.clone() for name, x in tensors.items() if x is not None and x.stop_gradient}
    return twin


def _capture_outputs(twin: ResNet, paths: Collection[str]) -> dict[str, Tensor]:
    """Return a dict that receives the outputs of the layers at these paths when they run."""
    captured: dict[str, Tensor] = {}

    def make_hook(path: str) -> Any:
        def hook(module: nn.Layer, inputs: object, output: Tensor) -> None:
            captured[path] = output

        return hook

    for path in filter(None, paths):
        layer = get_sublayer(twin, module_path(twin.network.part(path)))
        layer.register_forward_post_hook(make_hook(path))
    return captured


def devices() -> list[str]:
    """Return the devices that Paddle can compute on."""
    gpus = range(paddle.device.cuda.device_count())
    return ["cpu", *(f"gpu:{index} {paddle.device.cuda.get_device_name(index)}" for index in gpus)]
