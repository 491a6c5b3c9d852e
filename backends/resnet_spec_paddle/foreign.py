"""Wrap a Paddle model that this project did not build, for comparison."""

from __future__ import annotations

from collections import Counter
from typing import Any

import paddle
from paddle import nn

from resnet_spec.importing.foreign import ForeignOutputs
from resnet_spec.weights.canonical import Array


class PaddleModel:
    """A paddle.nn.Layer, which runs in evaluation mode and in its own type, and gets its mode back."""

    dtype = "float32"

    def __init__(self, model: object) -> None:
        if not isinstance(model, nn.Layer):
            raise ValueError(f"expected a paddle.nn.Layer, got {type(model).__name__}")
        self.name = type(model).__name__
        self.model = model

    def run(self, images: Array, until: str = "") -> ForeignOutputs:
        """Evaluate the model; sublayers that ran once stand under their paths."""
        outputs: dict[str, Array] = {}
        counts: Counter[str] = Counter()

        def make_hook(path: str) -> Any:
            def hook(layer: nn.Layer, inputs: object, output: object) -> None:
                counts[path] += 1
                if isinstance(output, paddle.Tensor):
                    outputs[path] = output.numpy().astype("float64")

            return hook

        layers = [(path, layer) for path, layer in self.model.named_sublayers() if path]
        handles = [layer.register_forward_post_hook(make_hook(path)) for path, layer in layers]
        modes = [(layer, layer.training) for _, layer in [("", self.model), *layers]]
        self.model.eval()
        try:
            with paddle.no_grad():
                result = self.model(paddle.to_tensor(images.astype(self._type())))
        finally:
            for handle in handles:
                handle.remove()
            for layer, training in modes:
                layer.training = training
        modules = {path: array for path, array in outputs.items() if counts[path] == 1}
        return ForeignOutputs(tuple(tensor.numpy().astype("float64") for tensor in _tensors(result)), modules)

    def weights(self) -> dict[str, Any]:
        """Return the model's own state dict."""
        return dict(self.model.state_dict())

    def _type(self) -> str:
        parameters = self.model.parameters()
        return str(parameters[0].numpy().dtype) if parameters else "float32"


def _tensors(output: Any) -> list[Any]:
    if isinstance(output, paddle.Tensor):
        return [output]
    items = output.values() if isinstance(output, dict) else output if isinstance(output, tuple | list) else ()
    return [tensor for item in items for tensor in _tensors(item)]
