"""Wrap a PyTorch model that this project did not build, for import and comparison."""

from __future__ import annotations

import copy
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from resnet_spec.importing.foreign import ForeignOutputs, ForeignStep
from resnet_spec.importing.graph import Graph
from resnet_spec.importing.problems import ImportRefused
from resnet_spec.weights.canonical import Array
from resnet_spec_torch.functions import HANDLERS
from resnet_spec_torch.trace import is_library, prepare_copy, trace
from resnet_spec_torch.weights import to_array

Shape3 = tuple[int, int, int]


class TorchModel:
    """A torch.nn.Module, of which a copy in float64 and in evaluation mode runs."""

    dtype = "float64"
    input_shape: Shape3 | None = None

    def __init__(self, model: object) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"expected a torch.nn.Module, got {type(model).__name__}")
        self.name = type(model).__name__
        self.model = prepare_copy(model)
        self.classes = {path: type(module).__name__ for path, module in self.model.named_modules()}

    def graph(self, input_shape: Shape3, until: str = "") -> Graph:
        """Return the graph for images of a shape, up to the output of the module at ``until``."""
        try:
            return trace(self.model, input_shape, HANDLERS, until)
        except ImportRefused:
            raise
        except Exception as error:  # the model's own code may raise anything
            size = "x".join(map(str, input_shape))
            message = f"the model fails on images of {size}; pass the size that it takes as --input"
            raise ImportRefused(message, [f"{type(error).__name__}: {error}{_place(error)}"]) from error

    def run(self, images: Array, until: str = "") -> ForeignOutputs:
        """Evaluate the model; modules that ran once stand under their paths."""
        outputs: dict[str, Array] = {}
        counts: Counter[str] = Counter()

        def make_hook(path: str) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: object, output: object) -> None:
                counts[path] += 1
                if isinstance(output, Tensor):
                    outputs[path] = to_array(output)

            return hook

        handles = [module.register_forward_hook(make_hook(path)) for path, module in self.model.named_modules() if path]
        try:
            with torch.no_grad():
                result = self.model(torch.from_numpy(images))
        finally:
            for handle in handles:
                handle.remove()
        modules = {path: array for path, array in outputs.items() if counts[path] == 1}
        if until:
            return ForeignOutputs((modules[until],), modules)
        return ForeignOutputs(tuple(to_array(tensor) for tensor in flatten_output(result)), modules)

    def weights(self) -> dict[str, Array]:
        """Return the model's weights and statistics by its own names."""
        return {
            name: to_array(tensor) for name, tensor in self.model.state_dict().items() if tensor.is_floating_point()
        }

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Set the model's weights by its own names. Raises ValueError if they do not fit."""
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        own = {name for name in self.model.state_dict() if not name.endswith("num_batches_tracked")}
        try:
            self.model.load_state_dict(tensors, strict=False)
        except RuntimeError as error:
            raise ValueError(str(error)) from None
        if missing := sorted(own - set(tensors)):
            raise ValueError(f"the weights lack {', '.join(missing[:5])} of the model")

    def step(self, images: Array, labels: Array) -> ForeignStep | None:
        """Run one training step on a copy, without an update of its weights."""
        model = copy.deepcopy(self.model).train()
        try:
            (output, *others) = flatten_output(model(torch.from_numpy(images)))
            if others:
                return None
            loss = functional.cross_entropy(output.flatten(1), torch.from_numpy(labels))
            loss.backward()
        except Exception:  # the model's own code may raise anything
            return None
        gradients = {
            name: to_array(tensor.grad) for name, tensor in model.named_parameters() if tensor.grad is not None
        }
        statistics = {name: to_array(tensor) for name, tensor in model.named_buffers() if tensor.is_floating_point()}
        return ForeignStep(float(loss.detach()), gradients, statistics)


def _place(error: BaseException) -> str:
    """Return the file and line of the user's code that raised an error."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not is_library(frame.filename)]
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def flatten_output(output: Any) -> list[Tensor]:
    """Return the tensors in a model's output, in order."""
    if isinstance(output, Tensor):
        return [output]
    items = output.values() if isinstance(output, dict) else output if isinstance(output, tuple | list) else ()
    return [tensor for item in items for tensor in flatten_output(item)]
