"""The contract of a backend, and how one is found by name.

A backend is a module with the functions of ``Backend``, registered as an entry point in the group
``resnet_spec.backends``. All arrays that cross it are NumPy: images (batch, channels, height, width), weights under
canonical names in PyTorch's layouts. Its models have an attribute ``network``, and name their backend in
``resnet_spec_backend``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.network.execution import outermost_blocks
from resnet_spec.network.network import Network
from resnet_spec.ops import round_to_float32

if TYPE_CHECKING:  # NumPy takes longer to import than a spec to expand
    from importlib.metadata import EntryPoint
    from pathlib import Path

    from resnet_spec.weights.canonical import Array

GROUP = "resnet_spec.backends"
REFERENCE = "numpy"
"""The backend that defines what operations mean."""

OUTPUT = ""
"""The path under which a network's own output stands: that of its root."""

Model: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class SGD:
    """Stochastic gradient descent: v = momentum * v + (gradient + weight_decay * weight); weight = weight - rate * v.

    Each number is rounded to float32, as Paddle keeps it.
    """

    rate: float = 0.0625
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        round_to_float32(self, "rate", "momentum", "weight_decay")


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """The results of one training step, computed before the weights are updated.

    Attributes:
        loss: The mean cross-entropy of the batch.
        outputs: The outputs of the captured parts by path; the network's own under "".
        gradients: The gradient of the loss for each parameter, by canonical name.
        output_gradients: The gradient of the loss for each captured output, by path, and for the images under "input".
        optimizer: The framework's own optimizer, to pass to the next step.
    """

    loss: float
    outputs: Mapping[str, Array]
    gradients: Mapping[str, Array]
    output_gradients: Mapping[str, Array] = field(default_factory=dict)
    optimizer: Any = None


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What a program that ``export`` writes takes and computes.

    Attributes:
        format: The format of the file, such as "onnx".
        batch: The number of images; None for any number.
        free_size: Whether it takes images of any height and width.
        training_step: Whether it computes a training step instead of an evaluation.
        opset: The version of ONNX's operators; None for the default.
        calibration: Images, each (1, channels, height, width), from whose maps the ranges of 8-bit integers follow;
            empty for a program in floating-point numbers.
    """

    format: str
    batch: int | None = 1
    free_size: bool = False
    training_step: bool = False
    opset: int | None = None
    calibration: Sequence[Array] = ()


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A format of programs that a backend writes.

    Attributes:
        name: Its name, such as "onnx".
        suffix: The suffix of its files, such as ".onnx".
        options: The names of those ``ExportOptions`` that it takes besides the batch.
    """

    name: str
    suffix: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do besides evaluating a network.

    Attributes:
        training_forward: It runs a network as in training: ``run(..., train=True)``.
        gradients: It has ``step`` and ``vjp``.
        inference: It has ``build_inference``, a faster way to evaluate; without it ``build`` builds a folded network.
        devices: It has ``move`` and ``devices``; without them, models compute on the CPU.
        checkpoints: It has ``checkpoint_blocks``, for training in less memory.
        compute: The 16-bit types in which ``build`` can have convolutions and linear layers computed, while weights
            stay in float32: its argument ``compute``.
        random_state: Its models hold the state of dropout's random numbers, which ``reseed`` sets. Elsewhere they are
            drawn from the framework's own generator, which the user seeds.
        fixed_order: It has ``fix_order``, after which a model computes the same bits on every machine.
        exports: The formats in which its ``export`` writes programs.
    """

    training_forward: bool = False
    gradients: bool = False
    inference: bool = False
    devices: bool = False
    checkpoints: bool = False
    compute: tuple[str, ...] = ()
    random_state: bool = False
    fixed_order: bool = False
    exports: tuple[ExportFormat, ...] = ()


class Backend(Protocol):
    """The functions of a backend's module. Those that ``CAPABILITIES`` does not list need not be there."""

    DTYPE: str
    """The type that it computes in unless asked otherwise: "float32", or "float64" for the reference."""

    CAPABILITIES: Capabilities
    """What it can do; parity compares that and reports the rest as not compared."""

    def build(self, network: Network, weights: dict[str, Array], dtype: str, compute: str | None = None, /) -> Model:
        """Build a native model in evaluation mode, with its weights set.

        With ``compute``, which is passed only if ``CAPABILITIES`` lists that type, convolutions and linear layers
        are computed in that type, and all else in float32 or rounded once to it. ``weights`` fit the network, have the
        dtype, and become the model's own. A framework that copies them may remove each from the dict as it does, so
        that memory holds no array twice.
        """
        ...

    def finds_accelerator(self) -> bool:
        """Return whether the framework can compute on more than the CPU. Needed where ``compute`` lists types."""
        ...

    def dump(self, model: Model) -> dict[str, Array]:
        """Return the canonical weights, bit for bit, as copies."""
        ...

    def load(self, model: Model, weights: Mapping[str, Array]) -> None:
        """Set all weights. Raises WeightsError, before any is set, if they do not fit."""
        ...

    def run(
        self, model: Model, images: Array, capture: Collection[str] = (), *, train: bool = False, part: str = ""
    ) -> dict[str, Array]:
        """Run a model; return its output, and those of the parts at the paths ``capture``, by path.

        The network's own output stands under "", or, if it has ``outputs``, those stand under their paths. With a
        ``part``, that part alone runs, on an input of its own, and its output stands under "". With ``train``, norms
        and dropout work as in training. The model does not change, neither its mode nor its statistics.
        """
        ...

    def step(
        self, model: Model, images: Array, labels: Array, sgd: SGD, optimizer: Any = None, capture: Collection[str] = ()
    ) -> TrainingStep:
        """Train one step: update weights and statistics. ``labels`` are class numbers (batch,)."""
        ...

    def vjp(self, model: Model, part: str, x: Array, cotangent: Array) -> dict[str, Array]:
        """Return the vector-Jacobian product of a part in training: the gradients of (cotangent * part(x)).sum().

        They stand under canonical names, and that of x under "input". The model does not change.
        """
        ...

    def reseed(self, model: Model, seed: int) -> None:
        """Set the state of the random numbers that dropout draws."""
        ...

    def devices(self) -> list[str]:
        """Return what the framework can compute on here, such as "cpu" and "cuda:0 NVIDIA H200". It may be left out."""
        ...

    def move(self, model: Model, device: str) -> None:
        """Move a model to a device, such as "cpu", "cuda" or "cuda:1".

        Raises BackendError, without changing the model, if there is no such device.
        """
        ...

    def checkpoint_blocks(self, model: Model, paths: Collection[str]) -> None:
        """Have the modules at these paths keep no activations for the backward pass, which computes them again."""
        ...

    def build_inference(self, network: Network, weights: dict[str, Array], dtype: str, *, compile: bool) -> Model:
        """Build a native model that evaluates alone, from a folded network, in the framework's fastest layout.

        With ``compile`` the framework's compiler is used too. For "bfloat16" the weights are in float32. Raises
        BackendError.
        """
        ...

    def fix_order(self, model: Model) -> None:
        """Have a model sum in a fixed order and compute functions by itself, so that all machines give the same bits.

        It then takes several times as long.
        """
        ...

    def export(self, model: Model, path: Path, options: ExportOptions) -> list[Path]:
        """Write a program that computes what a model does; return the files, of which ``path`` is one.

        Images are (batch, channels, height, width). The files appear complete or not at all. Raises BackendError or
        ValueError, before anything is written, for what the network or the format does not allow.
        """
        ...

    def run_file(self, path: Path, images: Array, capture: Collection[str]) -> dict[str, Array]:
        """Run a program of a format that takes the option ``calibration``; return the outputs of parts by path."""
        ...


class BackendError(ImportError):
    """A backend does not exist, its framework is not installed, or it cannot do what was requested."""


class SlowTypeWarning(UserWarning):
    """A 16-bit type was asked for on a processor that computes more slowly in it than in float32."""


def registered_backends() -> list[str]:
    """Return the names of the registered backends, whether or not their frameworks are installed."""
    return sorted(_points())


def installed_backends() -> list[str]:
    """Return the backends whose frameworks are installed, importing none; the reference only if there is no other."""
    found = [name for name in registered_backends() if not _missing(name)]
    return [name for name in found if name != REFERENCE] or found


def choose_backends(names: str) -> list[str]:
    """Return the backends of a list such as "torch,flax", each once. Raises BackendError.

    >>> choose_backends("numpy, numpy")
    ['numpy']
    """
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not chosen:
        raise BackendError(f"{names!r} names no backend; there are: {', '.join(registered_backends())}")
    for name in chosen:
        require_backend(name)
    return chosen


def require_backend(name: str) -> None:
    """Raise BackendError if a backend does not exist or its framework is not installed, without importing one."""
    points = _points()
    if name not in points:
        _points_on.cache_clear()  # it may have been installed since, as in a notebook
        points = _points()
    if name not in points:
        raise BackendError(f"no backend named {name!r}; {suggest(name, registered_backends()) or 'none is registered'}")
    missing = _missing(name)
    if missing:
        raise BackendError(_needs(name, missing[0]))


def load_backend(name: str) -> Backend:
    """Import a backend and with it its framework. Raises BackendError."""
    require_backend(name)
    try:
        backend = cast("Backend", _points()[name].load())
    except ModuleNotFoundError as error:
        raise BackendError(_needs(name, str(error.name))) from error
    if not isinstance(getattr(backend, "CAPABILITIES", None), Capabilities):
        raise BackendError(
            f"backend {name!r} does not say what it can do; its module needs CAPABILITIES = Capabilities(...)"
        )
    return backend


def load_inference(name: str, dtype: str, compile: bool) -> Callable[[Network, dict[str, Array], str], Model]:
    """Return the function by which a backend builds models for inference. Raises BackendError for what it cannot do."""
    backend = load_backend(name)
    if backend.CAPABILITIES.inference:
        return partial(backend.build_inference, compile=compile)
    if compile:
        raise BackendError(f"backend {name!r} has no compiler; leave compile out")
    if dtype == "bfloat16":
        raise BackendError(f"backend {name!r} does not compute in bfloat16; it can be float32 or float64")
    return backend.build


def load_exporter(name: str, options: ExportOptions) -> tuple[Backend, ExportFormat]:
    """Return a backend, and its format of the options' name. Raises BackendError if it has none, or not the options."""
    backend = load_backend(name)
    found = {form.name: form for form in backend.CAPABILITIES.exports}
    if options.format not in found:
        written = f"; it writes {', '.join(found)}" if found else ""
        raise BackendError(f"backend {name!r} does not write the format {options.format!r}{written}")
    form = found[options.format]
    for item in fields(ExportOptions):
        if item.name in ("format", "batch", *form.options) or getattr(options, item.name) == item.default:
            continue
        raise BackendError(f"the format {form.name} of backend {name!r} has no option {item.name}; leave it out")
    return backend, form


def load_builder(name: str, compute: str | None) -> Callable[[Network, dict[str, Array], str], Model]:
    """Return the function by which a backend builds models to train, in mixed precision if ``compute`` is a type.

    Raises BackendError for what it cannot do.
    """
    backend = load_backend(name)
    if compute is None:
        return backend.build
    supported = backend.CAPABILITIES.compute
    if compute not in supported:
        can = f"it can be {' or '.join(supported)}" if supported else "leave compute out"
        raise BackendError(f"backend {name!r} does not train with compute {compute!r}; {can}")
    return lambda network, weights, dtype: backend.build(network, weights, dtype, compute)


def backend_of(model: Model) -> Backend:
    """Return the backend that built a model. Raises BackendError."""
    name = getattr(model, "resnet_spec_backend", None)
    if not isinstance(name, str):
        raise BackendError(f"{type(model).__name__} was not made by resnet_spec.build")
    return load_backend(name)


def move_model(model: Model, device: str) -> None:
    """Move a model to a device. Raises BackendError if its backend, or this machine, has no such device."""
    backend = backend_of(model)
    if backend.CAPABILITIES.devices:
        backend.move(model, device)
    elif device != "cpu":
        raise BackendError(f"backend {model.resnet_spec_backend!r} computes on the CPU only; leave device out")


def checkpoint_model(model: Model) -> None:
    """Have a model's residual blocks compute their activations again in the backward pass, instead of keeping them.

    Raises BackendError if its backend cannot, and ValueError if it has no such blocks.
    """
    backend, paths = backend_of(model), tuple(outermost_blocks(model.network.parts))
    if not backend.CAPABILITIES.checkpoints:
        raise BackendError(f"backend {model.resnet_spec_backend!r} trains no models; leave checkpoint out")
    if not paths:
        raise ValueError(f"{model.network.name} has no residual blocks to recompute; leave checkpoint out")
    backend.checkpoint_blocks(model, paths)


def _points() -> dict[str, EntryPoint]:
    return _points_on(tuple(sys.path))


@lru_cache(maxsize=1)
def _points_on(path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Return the registered backends. To scan all installed packages takes some 50 ms, so it is done once."""
    from importlib.metadata import entry_points  # a third of the time that `import resnet_spec` would take

    return {point.name: point for point in entry_points(group=GROUP)}


def required_packages(name: str) -> list[str]:
    """Return the packages that a backend needs besides this one: those of the extra called as the backend."""
    point = _points()[name]
    pattern = rf"([\w.-]+).*;\s*extra\s*==\s*[\"']{re.escape(name)}[\"']"
    lines = (point.dist.requires if point.dist else None) or ()
    return [match[1] for match in (re.match(pattern, line) for line in lines) if match]


def _missing(name: str) -> list[str]:
    """Return the packages that a backend needs and that are not installed."""
    from importlib.metadata import PackageNotFoundError, distribution

    missing = []
    for package in required_packages(name):
        try:
            distribution(package)
        except PackageNotFoundError:
            missing.append(package)
    return missing


def _needs(name: str, package: str) -> str:
    return f"backend {name!r} needs {package}, which is not installed; try: pip install 'resnet-spec[{name}]'"
