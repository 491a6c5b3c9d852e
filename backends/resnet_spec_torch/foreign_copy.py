"""Copy a foreign model so that it runs in float64, and keep it there; refuse what can't be copied or run so."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.overrides import TorchFunctionMode

from resnet_spec.importing.problems import ImportRefused

_ROUNDED = ("eps", "epsilon", "variance_epsilon", "negative_slope")
_QUANTISED = ("torch.ao.nn.", "torch.nn.quantized", "torch.nn.intrinsic.quantized")
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_CASTS = ("float", "half", "bfloat16")


def prepare_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a model in evaluation mode and float64, with epsilons rounded to float32 as specs hold them.

    What wraps a model for compilation or for several devices is left out. Raises ImportRefused for a model that has no
    code of Python or no values.
    """
    model = _unwrap(model)
    _check(model)
    try:
        twin = copy.deepcopy(model).to("cpu", torch.float64).eval()
    except Exception as error:  # modules may define what copying does
        message = str(error).strip().splitlines()
        raise ImportRefused(
            f"the model can't be copied in float64: {message[0] if message else type(error).__name__}",
            remedy="remove what computes weights from others first, as torch.nn.utils.remove_weight_norm does",
        ) from error
    for module in twin.modules():
        for name, child in module.named_children():
            if (inner := _unwrap(child)) is not child:
                setattr(module, name, inner)
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor) and value.is_floating_point():  # no buffer, so that it was not converted
                setattr(module, name, value.double())
            elif name in _ROUNDED and isinstance(value, float):
                setattr(module, name, float(np.float32(value)))
    return twin


def _unwrap(model: nn.Module) -> nn.Module:
    """Return the model in what compiles it, or spreads it over devices."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return _unwrap(model.module)
    is_compiled = type(model).__name__ == "OptimizedModule"  # whose package takes seconds to import
    return _unwrap(model.get_submodule("_orig_mod")) if is_compiled else model


def _check(model: nn.Module) -> None:
    """Raise ImportRefused, with all places, for modules without code of Python and for weights without values."""
    places, remedies = [], []
    for path, module in model.named_modules():
        place = path or "the model"
        if isinstance(module, torch.jit.ScriptModule):
            places.append(f"{place}: it is compiled by TorchScript")
            remedies.append("import the module of Python that was scripted or traced")
        elif type(module).__module__.startswith(_QUANTISED):
            places.append(f"{place}: it is quantised ({type(module).__name__})")
            remedies.append("import the model from before its quantisation")
        tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if any(isinstance(tensor, UninitializedParameter | UninitializedBuffer) for tensor in tensors):
            places.append(f"{place}: its weights have no shape before it has run")
            remedies.append("run the model once first")
        elif any(tensor.is_meta for tensor in tensors):
            places.append(f"{place}: its weights are on the device meta, and have no values")
            remedies.append("load its weights first")
    if places:
        raise ImportRefused("the model can't be run and traced as it is", places, "; ".join(dict.fromkeys(remedies)))


def check_inputs(model: nn.Module) -> None:
    """Raise ImportRefused for a model that can't be called with an image alone."""
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None)
    except TypeError as error:
        remedy = "pass a module whose forward takes the image alone, and calls this model"
        raise ImportRefused(
            "a spec has one input, an image, and the model has other inputs",
            [f"{type(model).__name__}.forward{signature}: {error}"],
            remedy,
        ) from error


@contextmanager
def in_double() -> Iterator[None]:
    """Keep numbers in float64 where a model's code casts them to other types or makes new ones."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Double():
            yield
    finally:
        torch.set_default_dtype(before)


class _Double(TorchFunctionMode):
    """Replaces the types of floating-point numbers in calls by float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _CASTS and args:
            return Tensor.double(args[0])
        kwargs = {name: _double(value) for name, value in (kwargs or {}).items()}
        return func(*map(_double, args), **kwargs)


def _double(value: object) -> object:
    return torch.float64 if isinstance(value, torch.dtype) and value in _FLOATS else value
