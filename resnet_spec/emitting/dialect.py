"""What differs between the frameworks in which modules are emitted: the contract of a dialect."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import Protocol

from resnet_spec.backend import BackendError
from resnet_spec.emitting.expressions import Call, Constant, Raw
from resnet_spec.emitting.formatting import Statement
from resnet_spec.network.parts import Leaf
from resnet_spec.ops import Shape, shortest_decimal


@dataclass(frozen=True, slots=True)
class Layer:
    """The layer of an operation in a framework.

    Attributes:
        call: The expression that makes the layer or, of a factor or a summand, its weight; None for a function alone.
        apply: The expression that applies it: ``{x}`` stands for the input and ``{f}`` for the layer.
        note: With the framework's own layers, what differs from the specification; "" if nothing does.
        module: The layer in a row of layers, where ``apply`` can't stand; None if ``call`` is one.
    """

    call: Call | None
    apply: str = "{f}({x})"
    note: str = ""
    module: Call | Raw | None = None


@dataclass(frozen=True, slots=True)
class Syntax:
    """The words of a framework.

    Attributes:
        title: The framework's name.
        module: The class of all modules.
        tensor: The type of the values that pass through modules.
        forward: The name of the method that runs a module.
        superclass_call: The first statement of a constructor; "" if none is needed.
        sequential: The class of layers that run one after another under their numbers.
        module_list: The class of modules in a list.
        module_dict: The class of modules under names.
        list_base: ``module_list`` as the base of a class.
        parameter_dict: The class of weights under names.
        identity: The expression of a layer that returns its input.
        identity_function: The same for an attribute that can only hold a function, as in Flax.
        layer_type: The type of a layer that may also be the identity.
        extra_parameter: A parameter that every constructor has; "" if there is none.
        extra_argument: How it is passed on.
        has_channels_last: Whether the channels are the last axis.
        concat: The concatenation along the channels; ``{items}`` stands for a list.
        split: The pieces of ``{x}`` whose numbers of channels are ``{sizes}``, or which end there.
        chunk: ``{count}`` equal pieces of ``{x}``.
        splits_at_ends: Whether ``split`` takes the ends of the pieces instead of their sizes.
        expand: A gate ``{x}`` with one number per channel, with the axes of a map.
        resize: The map ``{x}`` in the size of ``{y}``.
        imports: Statements that the module begins with, each with a pattern that is found where it is needed; an empty
            statement divides groups.
        evaluate: The statements by which ``build`` makes a model, ``{call}``, and returns it in evaluation mode.
        build_parameter: A parameter of ``build``; "" if there is none.
        build_argument: The last argument with which it makes a model; "" if there is none.
        reserved: Names that no class may have.
    """

    title: str
    module: str
    tensor: str
    forward: str
    superclass_call: str
    sequential: str
    module_list: str
    module_dict: str
    list_base: str
    parameter_dict: str
    identity: str
    identity_function: str
    layer_type: str
    extra_parameter: str
    extra_argument: str
    has_channels_last: bool
    concat: str
    split: str
    chunk: str
    splits_at_ends: bool
    expand: str
    resize: str
    imports: tuple[tuple[str, str], ...]
    evaluate: tuple[str, ...]
    build_parameter: str
    build_argument: str
    reserved: frozenset[str]


class Dialect(Protocol):
    """How a network is written in a framework. A backend that offers one has it as ``DIALECT``."""

    syntax: Syntax

    def layer(self, leaf: Leaf, native: bool) -> Layer:
        """Return the layer of an operation; with ``native`` the framework's own where that differs little."""
        ...

    def helpers(self) -> str:
        """Return the source of the classes and functions that modules may need; those used are copied from it."""
        ...

    def initialization(self, leaves: list[Leaf]) -> list[Statement]:
        """Return the statements that initialise a model as its specification says, where the framework does not."""
        ...

    def main(self, shape: Shape) -> list[str]:
        """Return the statements that print a summary of ``model`` and run it on one image."""
        ...


def read_helpers(package: str) -> str:
    """Return the source of ``emitted_layers`` in a backend's package, without importing the package's framework."""
    spec = find_spec(package)
    inner = PathFinder.find_spec("emitted_layers", spec.submodule_search_locations) if spec else None
    source = inner.loader.get_source("emitted_layers") if inner and inner.loader else None  # type: ignore[attr-defined]
    if source is None:
        raise BackendError(f"{package} is not installed as a whole: it has no emitted_layers.py")
    return str(source)


def exactly(value: float, name: str) -> float | Constant:
    """Return a number that float32 rounds: itself if it is short, otherwise a constant, so that float64 agrees too."""
    return value if shortest_decimal(value) == value else Constant(name, value)


SPELLINGS = (
    (r"(?<![A-Za-z])(x?)((?:se)?)resne([xs])t", lambda one: f"{one[1].title()}{one[2].title()}ResNe{one[3].upper()}t"),
    (r"convnext", "ConvNeXt"),
    (r"vgg", "VGG"),
    (r"(?<=[a-z])resnet", "ResNet"),
    (r"(?<=[a-z])(net|former)(?=v?\d|[xyz]?(?:[^A-Za-z]|$))", lambda found: found[1].title()),
    (r"(?<=Net|eXt|eSt)([vxyz])(?=\d|_|$)", lambda found: found[1].upper()),
)
"""How the words of names that are written in small letters are spelled in the names of classes."""


def class_name(text: str) -> str:
    """Return a name as that of a class.

    >>> class_name("resnet18_biased_shortcut"), class_name("timm/mobilenetv2_100"), class_name("seresnext50_32x4d")
    ('ResNet18BiasedShortcut', 'MobileNetV2100', 'SeResNeXt5032x4d')
    """
    spelled = text.rpartition("/")[2]
    for pattern, replacement in SPELLINGS:
        spelled = re.sub(pattern, replacement, spelled)
    words = re.split(r"[^0-9A-Za-z]+", spelled)
    joined = "".join(word[:1].upper() + word[1:] for word in words)
    return joined if joined[:1].isalpha() else f"Network{joined}"
