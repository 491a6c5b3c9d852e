"""Set and read the canonical weights of a Paddle model.

Paddle has other names for running statistics, and transposes the weights of linear layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import ml_dtypes
import paddle
from paddle import Tensor, nn

from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array, collect_weights, match_weights
from resnet_spec_paddle.modules import FrozenModel, ResNet

_PADDLE_NAMES = {"running_mean": "_mean", "running_var": "_variance"}


def fill(model: ResNet, weights: Mapping[str, Array]) -> None:
    """Copy the arrays into a model whose weights have no memory yet."""
    for name, tensor in named_tensors(model).items():
        tensor.set_value(_swap_layout(model, name, weights[name]))


def dump(model: ResNet | FrozenModel) -> dict[str, Array]:
    """Return the canonical weights, bit for bit, as copies."""
    return model.unpack_weights() if isinstance(model, FrozenModel) else to_canonical(model, named_tensors(model))


def load(model: ResNet | FrozenModel, weights: Mapping[str, Array]) -> None:
    """Set all weights. Raises WeightsError, before any is set, if they do not fit."""
    if isinstance(model, FrozenModel):
        old = model.unpack_weights()
        matched = match_weights({name: array.shape for name, array in old.items()}, weights)
        model.pack_weights({name: matched[name].astype(array.dtype) for name, array in old.items()})
        return
    tensors = named_tensors(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    matched = match_weights({name: _swap_shape(model, name, shape) for name, shape in shapes.items()}, weights)
    for name, tensor in tensors.items():
        array = _swap_layout(model, name, matched[name])
        tensor.set_value(paddle.to_tensor(array, dtype=tensor.dtype, place=tensor.place))


def named_tensors(model: ResNet) -> dict[str, Tensor]:
    """Return a model's parameters and running statistics by canonical name, in Paddle's layout.

    Raises WeightsError if one is missing.
    """
    return collect_weights(model.network, partial(_find_tensor, model))


def _find_tensor(model: ResNet, name: str) -> Tensor | None:
    try:
        layer, attribute = _find_owner(model, name)
    except KeyError:
        return None
    tensor = getattr(layer, attribute, None)
    return tensor if isinstance(tensor, Tensor) else None


def to_canonical(model: ResNet, tensors: Mapping[str, Tensor | None]) -> dict[str, Array]:
    """Return weights, or gradients of weights, as arrays in canonical layouts, copied."""
    present = {name: _to_numpy(tensor) for name, tensor in tensors.items() if tensor is not None}
    return {name: _swap_layout(model, name, array).copy() for name, array in present.items()}


def _to_numpy(tensor: Tensor) -> Array:
    """Return a tensor in NumPy; Paddle gives the bits of bfloat16 as uint16."""
    array = tensor.numpy()
    return array.view(ml_dtypes.bfloat16) if tensor.dtype == paddle.bfloat16 else array


def _swap_layout(model: ResNet, name: str, array: Array) -> Array:
    """Convert between Paddle's layout and the canonical one: (in, out) and (out, in) for a linear layer's weight."""
    layer, attribute = _find_owner(model, name)
    return array.T if isinstance(layer, nn.Linear) and attribute == "weight" else array


def _swap_shape(model: ResNet, name: str, shape: Shape) -> Shape:
    """Return a shape after ``_swap_layout``."""
    layer, attribute = _find_owner(model, name)
    return shape[::-1] if isinstance(layer, nn.Linear) and attribute == "weight" else shape


def _find_owner(model: ResNet, name: str) -> tuple[nn.Layer, str]:
    """Return the layer that owns a weight, and the weight's attribute there."""
    path, _, attribute = name.rpartition(".")
    return get_sublayer(model, path), _PADDLE_NAMES.get(attribute, attribute)


def get_sublayer(model: ResNet, path: str) -> nn.Layer:
    """Return the layer at a path; the model itself for an empty one."""
    layer: nn.Layer = model
    for name in path.split(".") if path else ():
        layer = layer._sub_layers[name]
    return layer
