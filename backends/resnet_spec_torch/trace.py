"""Trace a PyTorch model: run it once, and record every call of a function as an operation of ours.

A real forward pass runs whatever code the model has: branches, loops, functional calls and modules made on the way.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.overrides import TorchFunctionMode

from resnet_spec import importing
from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.importing.graph import Builder, Graph, Index, Refused, Site, Value
from resnet_spec.importing.problems import ImportRefused
from resnet_spec.ops import Shape
from resnet_spec.weights.canonical import Array
from resnet_spec_torch.custom_layers import BiasedBatchNorm2d
from resnet_spec_torch.foreign_copy import in_double
from resnet_spec_torch.weights import to_array

BATCH = 2
"""Images in a batch: more than one, so that an axis of size one is not taken for the batch."""

_LIBRARY = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent)
_IMPORTING = str(Path(importing.__file__).parent)
_UNREAD = {
    *("zeros_like", "ones_like", "full_like", "empty_like"),
    *("new_zeros", "new_ones", "new_full", "new_tensor", "new_empty"),
}
"""Functions that look at a tensor's shape and type alone."""
_RESHAPING = {"to", "type_as", "expand_as", "view_as", "reshape_as"}
"""Functions whose first argument is the one that has values."""

Handler = Callable[..., Any]


def trace(model: nn.Module, input_shape: Shape, handlers: Mapping[str, Handler], until: str = "") -> Graph:
    """Return the graph of a model on images of a shape. With ``until``, it ends at the output of the module there.

    ``handlers`` say what to record for a call, by the function's name.

    Calls that the language can't say are nodes of the kind "refused". The model is one that ``prepare_copy`` returned.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, *input_shape, generator=generator, dtype=torch.float64)
    tracer = Tracer(model, images, handlers, until)
    with torch.no_grad(), tracer.follow_modules(), tracer, in_double():
        try:
            output = model(images)
        except _Reached as reached:
            output = reached.output
    return tracer.graph(output)


class _Reached(BaseException):
    """Ends a forward pass at the module that the trace ends with."""

    def __init__(self, output: object) -> None:
        self.output = output


class Tracer(TorchFunctionMode):
    """Records the calls of functions on tensors that depend on the images.

    Attributes:
        names: The names of parameters and buffers, and of their views, by the tensors' identity.
        computed: The names of the weights from which other tensors are computed, by the tensors' identity.
        stack: The modules that are running, with their paths.
        stacks: What was stacked along the batch axis, by the identity of the node that stands for it.
    """

    def __init__(self, model: nn.Module, images: Tensor, handlers: Mapping[str, Handler], until: str = "") -> None:
        super().__init__()
        self.handlers = handlers
        self.model = model
        self.builder = Builder(tuple(images.shape[1:]))
        self.values: dict[int, Value] = {}
        self.kept: list[Tensor] = []
        self.stale: set[int] = set()
        self.by_storage: dict[int, list[Tensor]] = {}
        self.names: dict[int, str] = {}
        self.computed: dict[int, tuple[str, ...]] = {}
        self.weights: dict[str, Array] = {}
        self.stack: list[tuple[str, nn.Module]] = []
        self.paths = {id(module): path for path, module in model.named_modules()}
        self.until = until
        if until and until not in dict(model.named_modules()):
            hint = suggest(until, [path for path, _ in model.named_modules() if path])
            raise ImportRefused(f"the model has no module at {until!r}", remedy=hint)
        self.control_flow: list[str] = []
        self.site = Site()
        self.stacks: dict[int, list[Value]] = {}
        named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        for name, tensor in named:
            self.names.setdefault(id(tensor), name)
            self.kept.append(tensor)
        self.tensors = dict(named)
        self.buffers = {name for name, _ in model.named_buffers()}
        self.bind(images, Value(self.builder.input))

    def graph(self, output: object) -> Graph:
        """Return the graph whose outputs are those of the model."""
        tensors = [*tensors_in(output)]
        if not tensors:
            raise Refused(
                f"the model returns a value of the type {type(output).__name__}, in which no tensor is found; make it"
                " return a tensor, or a tuple, list, dict or dataclass of tensors"
            )
        if any(id(tensor) not in self.values for tensor in tensors):
            which = "the model's output" if len(tensors) == 1 else "one of the model's outputs"
            raise Refused(f"{which} does not depend on its input by any call that PyTorch lets others see")
        nodes = tuple(self.builder.node_of(self.values[id(tensor)], self.site) for tensor in tensors)
        order = tuple(self.tensors)
        control_flow = tuple(dict.fromkeys(self.control_flow))
        graph = Graph(self.builder.input, nodes, self.weights, order, control_flow, self._describe_unused())
        for node in graph.nodes():
            if node.reason:  # what only some calls may read, and others did
                node.kind = "refused"
        return graph

    def _describe_unused(self) -> tuple[str, ...]:
        """Return a sentence on parameters that no operation has, unless the trace ended early."""
        own = {self.names[id(tensor)] for _, tensor in self.model.named_parameters()}
        unused = [name for name in self.tensors if name in own and name not in self.weights]
        if not unused or self.until:
            return ()
        shown = ", ".join(unused[:5]) + (", ..." if len(unused) > 5 else "")
        return (f"the model's evaluation does not use {len(unused)} of its weights, which the spec lacks: {shown}",)

    # -- tensors -------------------------------------------------------------------------------------------------

    def bind(self, tensor: Tensor, value: Value) -> None:
        """Record that a tensor holds a value."""
        self.values[id(tensor)] = value
        self.stale.discard(id(tensor))
        self.kept.append(tensor)  # so that its identity is not used again
        self.by_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append(tensor)

    def value(self, tensor: object) -> Value:
        """Return the value of a tensor. Raises Refused for a constant, or for one that was changed behind a view."""
        if not isinstance(tensor, Tensor) or id(tensor) not in self.values:
            raise Refused(self._describe_constant(tensor))
        if id(tensor) in self.stale:
            raise Refused("it reads a tensor that was changed in place through a view of it")
        return self.values[id(tensor)]

    def _describe_constant(self, tensor: object) -> str:
        """Return why a tensor that depends on no image can't be read."""
        if id(tensor) in self.names:
            name = self.names[id(tensor)]
            kind = "buffer" if name in self.buffers else "weight"
            return f"it reads the {kind} {name} in a way that no operation of the language does"
        if id(tensor) in self.computed:
            names = ", ".join(self.computed[id(tensor)])
            return (
                f"it reads what is computed from {names} while the model runs; make that one weight first, as"
                " torch.nn.utils.parametrize.remove_parametrizations does"
            )
        return "it reads a tensor of constants, which is no weight"

    def is_constant(self, tensor: Tensor) -> bool:
        """Return whether a tensor depends neither on the images nor on parameters."""
        sources = self.computed.get(id(tensor), (self.names.get(id(tensor), ""),))
        return not self.is_traced(tensor) and all(name in self.buffers or not name for name in sources)

    def is_traced(self, tensor: object) -> bool:
        """Return whether a tensor depends on the images."""
        return isinstance(tensor, Tensor) and id(tensor) in self.values

    def weight(self, tensor: Tensor, shape: Sequence[int] | None = None) -> str:
        """Return the name of a weight, and record its array in a shape, by default the tensor's. Raises Refused."""
        name = self.names.get(id(tensor))
        if name is None:
            raise Refused(self._describe_constant(tensor))
        self.weights[name] = to_array(self.tensors[name]).reshape(tuple(tensor.shape if shape is None else shape))
        return name

    def weights_of(self, **tensors: Tensor | None) -> dict[str, str]:
        """Return the names of an operation's weights, without those that are None."""
        return {own: self.weight(tensor) for own, tensor in tensors.items() if tensor is not None}

    # -- calls ---------------------------------------------------------------------------------------------------

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", str(func))
        operands = [*tensors_in((args, kwargs))]
        is_read = self.is_traced(args[0]) if name in _RESHAPING and args else name not in _UNREAD
        if not is_read or not any(map(self.is_traced, operands)):
            self._follow_weight(operands, result)
            return result
        if name == "__get__" and isinstance(result, Tensor):
            name = "alias"
        if name == "__setitem__":  # which returns nothing
            self._record(name, args, kwargs, args[0])
            return result
        if not [*tensors_in(result)]:
            if name in _NUMBERS:
                self.control_flow.append(str(self._site(name)))
            return result
        return self._record(name, args, kwargs, result)

    def _record(self, name: str, args: Any, kwargs: Any, result: Any) -> Any:
        in_place = isinstance(result, Tensor) and (
            result is kwargs.get("out") or (args and result is args[0] and _is_in_place(name))
        )
        if not in_place:
            result = _alias_inputs(result, {id(tensor) for tensor in tensors_in((args, kwargs))})
        site = self.site = self._site(name)
        outputs = [*tensors_in(result)]
        handler: Handler | None = None
        try:
            if kwargs.get("out") is not None:
                raise Refused("it writes to a tensor that exists (out=)")
            handler = self.handlers.get(_plain_name(name))
            if handler is None:
                raise Refused("no operation of the language is this function")
            values = handler(
                self, *args, **{key: value for key, value in kwargs.items() if key not in ("out", "inplace")}
            )
        except (Refused, TypeError, RuntimeError, ValueError, IndexError) as error:
            known = isinstance(error, Refused)
            reason = str(error) if known else f"it is called in a way that is not known here ({error})"
            if handler is not None and self._reads_refused((args, kwargs)):
                reason = ""  # a consequence
            values = self.refused(outputs, (args, kwargs), site, reason)
        if in_place:
            shared = self.by_storage.get(outputs[0].untyped_storage().data_ptr(), [])
            self.stale |= {id(tensor) for tensor in shared if tensor is not outputs[0]}
        for tensor, value in zip(outputs, values if isinstance(values, list | tuple) else [values], strict=False):
            if value is not None:
                self.bind(tensor, value)
        return result

    def _reads_refused(self, arguments: object) -> bool:
        values = [self.values[id(tensor)] for tensor in tensors_in(arguments) if id(tensor) in self.values]
        return any(value.node.kind == "refused" for value in values)

    def refused(self, outputs: Sequence[Tensor], arguments: object, site: Site, reason: str) -> list[Value]:
        """Return values of a call that the language can't say."""
        inputs = [self.values[id(tensor)] for tensor in tensors_in(arguments) if id(tensor) in self.values]
        return [self.builder.refuse(inputs, tuple(tensor.shape[1:]), site, reason) for tensor in outputs]

    def _follow_weight(self, operands: Sequence[Tensor], result: object) -> None:
        """Record a view of a weight under the weight's name, and what is computed from weights."""
        names = [name for tensor in operands for name in self._sources(tensor)]
        for tensor in tensors_in(result) if names else ():
            source = operands[0]
            is_view = tensor.numel() == source.numel() and tensor.data_ptr() == source.data_ptr()
            if id(tensor) in self.names:
                continue
            if len(operands) == 1 and is_view and tensor.is_contiguous() and id(source) in self.names:
                self.names[id(tensor)] = self.names[id(source)]
            else:
                self.computed[id(tensor)] = tuple(dict.fromkeys(names))
            self.kept.append(tensor)

    def _sources(self, tensor: Tensor) -> tuple[str, ...]:
        """Return the names of the weights from which a tensor is computed."""
        name = self.names.get(id(tensor))
        return (name,) if name is not None else self.computed.get(id(tensor), ())

    def rearranged(self, function: Callable[[Tensor], Any], tensor: Tensor) -> Any:
        """Return what a function that only rearranges elements makes of a value, by what it does to their positions."""
        value = self.value(tensor)
        size = int(np.prod(value.shape))
        whole = torch.arange(BATCH * size).reshape(BATCH, *value.shape)
        moved = function(whole)
        if isinstance(moved, Tensor):
            return self.builder.rearrange(value, _without_batch(moved, size), self.site)
        return [self.builder.rearrange(value, _without_batch(piece, size), self.site) for piece in moved]

    def axis(self, axis: int, ndim: int) -> int:
        """Return an axis without the batch's. Raises Refused for the batch's own."""
        if axis % ndim == 0:
            raise Refused("it mixes the images of a batch")
        return axis % ndim - 1

    def scope(self) -> str:
        """Return the path of the innermost module that is running."""
        return self.stack[-1][0] if self.stack else ""

    # -- modules -------------------------------------------------------------------------------------------------

    @contextmanager
    def follow_modules(self) -> Iterator[None]:
        """Keep track of the modules that run while the context is active."""
        handles = [
            torch_module.register_module_forward_pre_hook(self._enter),
            torch_module.register_module_forward_hook(self._leave),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        self.stack.append((self.paths.get(id(module), self.scope()), module))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> Any:
        from resnet_spec_torch.hypotheses import replace_output

        path, _ = self.stack[-1]
        with torch._C.DisableTorchFunction():
            changed = replace_output(self, module, args, output) if id(module) in self.paths else None
        self.stack.pop()
        if self.until and path == self.until and id(module) in self.paths:
            raise _Reached(output if changed is None else changed)
        return changed

    def layer_site(self, operation: str) -> Site:
        """Return the site of the innermost module as a whole."""
        path, _ = self.stack[-1]
        caller = self.stack[-2][0] if len(self.stack) > 1 else ""
        return Site(caller, _name_below(path, caller), _source_line(), operation, is_layer=bool(path))

    def _site(self, operation: str) -> Site:
        if self.stack and not self.stack[-1][1]._modules and id(self.stack[-1][1]) in self.paths:
            return self.layer_site(operation)
        return Site(self.scope(), "", _source_line(), operation)


def _name_below(path: str, caller: str) -> str:
    """Return the name of a module relative to the one that calls it, or its last name if that is not above it."""
    prefix = f"{caller}." if caller else ""
    return path.removeprefix(prefix) if path.startswith(prefix) else path.rpartition(".")[2]


def _source_line() -> str:
    """Return the file and line of the innermost code that is neither PyTorch's nor this package's."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not is_library(name):
            return f"{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def is_library(file_name: str) -> bool:
    """Return whether code belongs to PyTorch or to this project, and not to the user."""
    return file_name.startswith((_LIBRARY, _HERE, _IMPORTING, "<"))


def tensors_in(tree: object) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists, mappings and dataclasses, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, tuple | list):
        for item in tree:
            yield from tensors_in(item)
    elif isinstance(tree, Mapping):
        yield from tensors_in([*tree.values()])
    elif is_dataclass(tree) and not isinstance(tree, type):
        yield from tensors_in([getattr(tree, field.name) for field in fields(tree)])


def _alias_inputs(result: Any, inputs: set[int]) -> Any:
    """Return what a function returned, with another tensor in place of an argument, which is a value of its own."""
    if isinstance(result, Tensor):
        return result.view(result.shape) if id(result) in inputs and result.is_contiguous() else result
    return result


def _is_in_place(name: str) -> bool:
    is_method = name.endswith("_") and not name.startswith("__")
    return is_method or name.startswith("__i") or name == "__setitem__" or name in _MAYBE_IN_PLACE


_NUMBERS = ("__bool__", "item", "tolist", "__int__", "__float__", "__index__", "numpy", "__array__")
"""Functions that take numbers out of tensors, where the trace does not see what becomes of them."""

_MAYBE_IN_PLACE = {"relu", "relu6", "silu", "hardswish", "hardsigmoid", "elu", "leaky_relu", "dropout", "dropout2d"}
"""Functions with an argument ``inplace``."""


def _plain_name(name: str) -> str:
    """Return the name of a function without what says that it works in place or is an operator."""
    if name.startswith("__"):
        name = name.strip("_")
        return name[1:] if name in ("iadd", "isub", "imul", "itruediv", "radd", "rmul", "ipow") else name
    return name.rstrip("_")


def _without_batch(index: Tensor, size: int) -> Index:
    """Return the indices for one image. Raises Refused if images do not stay apart."""
    whole = index.numpy()
    if whole.ndim == 0 or len(whole) != BATCH or not np.array_equal(whole[1], whole[0] + size):
        raise Refused("it mixes the images of a batch, or merges the batch axis with others")
    return whole[0]


def is_biased(module: nn.Module) -> bool:
    """Return whether a batch normalisation keeps the biased variance, by training a copy of it for one step."""
    if type(module) in (nn.BatchNorm2d, nn.SyncBatchNorm) or not isinstance(module, nn.BatchNorm2d):
        return False
    if isinstance(module, BiasedBatchNorm2d):
        return True
    twin = copy.deepcopy(module).train()
    twin.momentum = 1.0
    x = torch.arange(2.0, dtype=torch.float64).repeat(module.num_features, 1).T[:, :, None, None]
    twin(x)
    return bool(torch.allclose(twin.running_var, torch.full_like(twin.running_var, 0.25)))  # type: ignore[arg-type]
