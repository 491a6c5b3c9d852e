"""Evaluate a PyTorch model, capture its parts' outputs, compute gradients, train one step. Arrays are NumPy's."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from resnet_spec.backend import OUTPUT, SGD, BackendError, TrainingStep
from resnet_spec.network.execution import module_path
from resnet_spec.weights.canonical import Array
from resnet_spec_torch.custom_layers import BiasedBatchNorm2d
from resnet_spec_torch.modules import FrozenModel, Residual, ResNet, run_part
from resnet_spec_torch.weights import named_tensors, to_array


def move(model: nn.Module, device: str) -> None:
    """Move a model to a device. Raises BackendError, without changing the model, if there is none."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise BackendError(f"PyTorch has no device {device!r} here: {reason}") from None
    model.to(device)


def run(
    model: nn.Module, images: Array, capture: Collection[str] = (), *, train: bool = False, part: str = ""
) -> dict[str, Array]:
    """Return by path the outputs of the parts in ``capture`` and of the network, or of one part run on its own.

    The model does not change, not even for other threads while it runs.
    """
    x = _to_tensor(model, images)
    captured: dict[str, Tensor] = {}
    with torch.no_grad(), _exact_arithmetic(x.device):
        if not (train or capture or part or any(module.training for module in model.modules())):
            result = model(x)
        else:
            twin = _make_twin(_layers_to_train(model) if train else _layers_of(model), train)
            captured = _capture_outputs(twin, capture)
            result = run_part(twin, part)(x)
    outputs = () if part else cast("ResNet", model).network.outputs
    return _to_arrays(captured | (dict(zip(outputs, result, strict=True)) if outputs else {OUTPUT: result}))


def step(
    model: nn.Module, images: Array, labels: Array, sgd: SGD, optimizer: Any = None, capture: Collection[str] = ()
) -> TrainingStep:
    """Train one step: update the weights and the running statistics."""
    model = _layers_to_train(model)
    optimizer = optimizer or torch.optim.SGD(
        model.parameters(), lr=sgd.rate, momentum=sgd.momentum, weight_decay=sgd.weight_decay
    )
    optimizer.zero_grad()
    x = _to_tensor(model, images).requires_grad_()
    twin = _make_twin(model, train=True, copies_statistics=False)
    captured = _capture_outputs(twin, capture)
    with _exact_arithmetic(x.device):
        captured[OUTPUT] = twin(x)
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


def vjp(model: nn.Module, part: str, x: Array, cotangent: Array) -> dict[str, Array]:
    """Return the vector-Jacobian product of a part in training, by canonical name and under "input".

    It is the gradient of (cotangent * part(x)).sum(). The model does not change.
    """
    model = _layers_to_train(model)
    x_tensor = _to_tensor(model, x).requires_grad_()
    parameters = {name: tensor for name, tensor in named_tensors(model).items() if isinstance(tensor, nn.Parameter)}
    with _exact_arithmetic(x_tensor.device):
        output = run_part(_make_twin(model, train=True), part)(x_tensor)
        # Parameters of other parts are not used, and have no gradient.
        gradients = torch.autograd.grad(
            output, [x_tensor, *parameters.values()], _to_tensor(model, cotangent), allow_unused=True
        )
    return _to_arrays(dict(zip(["input", *parameters], gradients, strict=True)))


@contextmanager
def _exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Compute in full precision on a GPU, where torch rounds the operands of float32 convolutions to TF32 by default.

    The setting is one of the whole process.
    """
    if device.type != "cuda":
        yield
        return
    places: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = False
    try:
        yield
    finally:
        for place, allowed in zip(places, before, strict=True):
            place.allow_tf32 = allowed


def _layers_to_train(model: nn.Module) -> ResNet:
    if isinstance(model, FrozenModel):
        raise BackendError('a model built with mode="inference" has no training mode; build it with mode="training"')
    return cast("ResNet", model)


def _layers_of(model: nn.Module) -> ResNet:
    return model.make_layers() if isinstance(model, FrozenModel) else cast("ResNet", model)


def _to_tensor(model: nn.Module, array: Array) -> Tensor:
    """Return an array as a tensor with the device and dtype of the model's weights."""
    tensor = torch.from_numpy(array)
    like = model if isinstance(model, FrozenModel) else next(model.parameters(), tensor)
    return tensor.to(like.device, like.dtype)


def _to_arrays(tensors: Mapping[str, Tensor | None]) -> dict[str, Array]:
    return {name: to_array(tensor) for name, tensor in tensors.items() if tensor is not None}


def _capture_outputs(twin: ResNet, paths: Collection[str]) -> dict[str, Tensor]:
    """Return a dict that receives the outputs of the modules at these paths when they run."""
    captured: dict[str, Tensor] = {}

    def make_hook(path: str) -> Any:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            captured[path] = output

        return hook

    for path in paths:
        if path:
            module = twin.get_submodule(module_path(twin.network.part(path)))
            module.register_forward_hook(make_hook(path))
    return captured


def _make_twin(model: ResNet, train: bool, *, copies_statistics: bool = True) -> ResNet:
    """Return modules in training or evaluation mode that hold the same tensors as those of a model.

    Mode and hooks are their own, so the model keeps its own. In training so are the statistics, unless
    ``copies_statistics`` is false.
    """
    twins: dict[nn.Module, nn.Module] = {}
    twin = _copy_module(model, train, copies_statistics and train, twins)
    for copied in twins.values():
        for name, value in copied.__dict__.items():
            if isinstance(value, MethodType) and value.__self__ in twins:  # such as a forward that was set on a module
                copied.__dict__[name] = MethodType(value.__func__, twins[value.__self__])
    twin.train(train)
    if train:
        _check_counts(twin)
    return cast("ResNet", twin)


def _copy_module(module: nn.Module, train: bool, copies_buffers: bool, twins: dict[nn.Module, nn.Module]) -> nn.Module:
    """Return a copy of a module and the modules inside it, without copying parameters; enter each in ``twins``."""
    if "_orig_mod" in module._modules:  # what torch.compile returned
        module = cast("nn.Module", module._modules["_orig_mod"])
    if module in twins:
        return twins[module]
    if module.training != train and _has_fixed_mode(module):
        raise BackendError(
            f"a {type(module).__name__} in the model can run in its own mode only, since it is scripted, or its "
            f"forward is a function that holds a module; call model.train({train}) first"
        )
    if isinstance(module, torch.jit.ScriptModule):
        return module
    twin = twins[module] = object.__new__(type(module))
    twin.__dict__ |= module.__dict__
    twin._compiled_call_impl = None  # it would run the module, not its twin
    if isinstance(twin, Residual):
        twin._recomputes = False  # hooks would be called again
    twin._forward_hooks = module._forward_hooks.copy()
    twin._forward_pre_hooks = module._forward_pre_hooks.copy()
    if copies_buffers:
        twin._buffers = {name: None if x is None else x.clone() for name, x in module._buffers.items()}
    twin._modules = {
        name: None if child is None else _copy_module(child, train, copies_buffers, twins)
        for name, child in module._modules.items()
    }
    return twin


def _has_fixed_mode(module: nn.Module) -> bool:
    """Return whether a copy of a module would still run in that module's mode."""
    forward = module.__dict__.get("forward")
    cells = getattr(forward, "__closure__", None) or ()
    held = [*getattr(forward, "args", ()), *(cell.cell_contents for cell in cells)]
    return isinstance(module, torch.jit.ScriptModule) or any(isinstance(value, nn.Module) for value in held)


def _check_counts(model: nn.Module) -> None:
    """Have batch norms say which of them gets a single value per channel, for which no variance is defined."""

    def make_hook(path: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor]) -> None:
            shape = tuple(inputs[0].shape)
            if math.prod(shape) == shape[1]:
                raise ValueError(
                    f"{path} needs more than one value per channel in training, but its input has shape {shape}; use a "
                    "larger batch or larger images"
                )

        return hook

    for path, module in model.named_modules():
        if type(module) in (nn.BatchNorm2d, BiasedBatchNorm2d):
            module.register_forward_pre_hook(make_hook(path))


def devices() -> list[str]:
    """Return the devices that PyTorch can compute on."""
    gpus = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]
