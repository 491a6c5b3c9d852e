"""Wrap a PyTorch model that this project did not build, for import and comparison."""

from __future__ import annotations

import copy
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from resnet_spec.importing.foreign import ForeignOutputs, ForeignStep
from resnet_spec.importing.graph import Graph, Refused
from resnet_spec.importing.problems import ImportRefused, is_signal
from resnet_spec.weights.canonical import Array
from resnet_spec_torch.foreign_copy import check_inputs, in_double, prepare_copy
from resnet_spec_torch.functions import HANDLERS
from resnet_spec_torch.trace import is_library, tensors_in, trace
from resnet_spec_torch.weights import to_array

Shape3 = tuple[int, int, int]


class TorchModel:
    """A torch.nn.Module, of which a copy in float64 and in evaluation mode runs."""

    dtype = "float64"
    input_shape: Shape3 | None = None

    def __init__(self, model: object) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"expected a torch.nn.Module, got {type(model).__name__}")
        self.model = prepare_copy(model)
        self.name = type(self.model).__name__
        self.classes = {path: type(module).__name__ for path, module in self.model.named_modules()}

    def graph(self, input_shape: Shape3, until: str = "") -> Graph:
        """Return the graph for images of a shape, up to the output of the module at ``until``."""
        check_inputs(self.model)
        with _refuse_errors(input_shape):
            return trace(self.model, input_shape, HANDLERS, until)

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

        handles = [
            module.register_forward_hook(make_hook(path), prepend=True)
            for path, module in self.model.named_modules()
            if path
        ]
        try:
            with torch.no_grad(), in_double(), _refuse_errors(images.shape[1:]):
                result = self.model(torch.from_numpy(images))
        finally:
            for handle in handles:
                handle.remove()
        modules = {path: array for path, array in outputs.items() if counts[path] == 1}
        if until:  # a module around that one ends later
            parts = {path: array for path, array in modules.items() if not until.startswith(f"{path}.")}
            return ForeignOutputs((modules[until],), parts)
        return ForeignOutputs(tuple(to_array(tensor) for tensor in tensors_in(result)), modules)

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
        try:
            model = copy.deepcopy(self.model).train()
            for tensor in model.parameters():
                tensor.requires_grad_(tensor.is_floating_point())  # what is frozen is trained by the spec's network
            with in_double():
                output, *others = tensors_in(model(torch.from_numpy(images)))
            if others:
                return None
            loss = functional.cross_entropy(output.flatten(1), torch.from_numpy(labels))
            loss.backward()
        except (Exception, SystemExit) as error:  # the model's own code may raise anything
            if isinstance(error, SystemExit) and is_signal(error):
                raise
            return None
        gradients = {
            name: to_array(torch.zeros_like(tensor) if tensor.grad is None else tensor.grad)  # detached from the loss
            for name, tensor in model.named_parameters()
        }
        statistics = {name: to_array(tensor) for name, tensor in model.named_buffers() if tensor.is_floating_point()}
        return ForeignStep(float(loss.detach()), gradients, statistics)


@contextmanager
def _refuse_errors(shape: Sequence[int]) -> Iterator[None]:
    """Raise ImportRefused for what the model's own code raises while the context is active."""
    try:
        yield
    except ImportRefused:
        raise
    except Refused as error:
        raise ImportRefused(str(error)) from error
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and is_signal(error):
            raise
        size = "x".join(map(str, shape))
        message = f"the model fails on images of {size} in float64"
        remedy = "pass the size that it takes as --input, or run it on such images to see why it fails"
        raise ImportRefused(message, [f"{type(error).__name__}: {error}{_place(error)}"], remedy) from error


def _place(error: BaseException) -> str:
    """Return the file and line of the user's code that raised an error."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not is_library(frame.filename)]
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
