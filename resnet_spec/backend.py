"""What a backend promises, and how one is found by name.

A backend is a module, registered as an entry point in the group ``resnet_spec.backends``, with the functions of ``Backend``.
All arrays that cross it are NumPy; images are (batch, channels, height, width); weights have canonical names and layouts. Its models
have a ``network`` and say ``resnet_spec_backend``, the name that their backend is registered by.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.network.network import Network
from resnet_spec.ops import round_to_float32

if TYPE_CHECKING:  # NumPy takes longer to import than a spec to expand
    from importlib.metadata import EntryPoint

    from resnet_spec.weights.canonical import Array

GROUP = "resnet_spec.backends"
REFERENCE = "numpy"
"""The backend that defines what operations mean."""

OUTPUT = ""
"""The path under which a network's own output is given: that of its root."""

Model: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class SGD:
    """Stochastic gradient descent: v = momentum * v + (gradient + weight_decay * weight); weight = weight - rate * v.

    Each number is the nearest float32, as Paddle keeps them.
    """

    rate: float = 0.0625
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        round_to_float32(self, "rate", "momentum", "weight_decay")


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """One step of training, as it was before the weights moved.

    Attributes:
        loss: The mean cross-entropy of the batch.
        outputs: The watched parts' outputs by path; the network's own under "".
        gradients: The loss's gradient for each parameter, by canonical name.
        output_gradients: The same for each watched part's output, by path, and for the images under "input".
        optimizer: The framework's own, to hand to the next step.
    """

    loss: float
    outputs: Mapping[str, Array]
    gradients: Mapping[str, Array]
    output_gradients: Mapping[str, Array] = field(default_factory=dict)
    optimizer: Any = None


class Backend(Protocol):
    """The functions of a backend's module."""

    DTYPE: str
    """What it computes in unless asked otherwise: "float32", or "float64" for the reference."""

    def build(self, network: Network, weights: dict[str, Array], dtype: str) -> Model:
        """A native model in evaluation mode, its weights set. ``weights`` fit, are of the dtype, and become the model's own.

        A framework that copies them may take each out of the dict as it does, so that memory holds no array twice.
        """
        ...

    def dump(self, model: Model) -> dict[str, Array]:
        """The canonical weights, bit for bit, as copies."""
        ...

    def load(self, model: Model, weights: Mapping[str, Array]) -> None:
        """Set all weights. Raises WeightsError, before anything is set, if they do not fit."""
        ...

    def run(
        self, model: Model, images: Array, watch: Collection[str] = (), *, train: bool = False, part: str = ""
    ) -> dict[str, Array]:
        """Outputs by path, of the parts to watch and of the network, in evaluation or as in training.

        The network's own stands under "", or, where it has ``outputs``, those under their paths.

        With a ``part``, that part alone is run, on an input of its own, and its output is given under "". The model is left as it was,
        its mode and its statistics too.
        """
        ...


class Trainer(Backend, Protocol):
    """A backend that can train."""

    def step(
        self, model: Model, images: Array, labels: Array, sgd: SGD, optimizer: Any = None, watch: Collection[str] = ()
    ) -> TrainingStep:
        """One training step: weights and statistics are updated. ``labels`` are class numbers (batch,)."""
        ...

    def pull(self, model: Model, part: str, x: Array, slope: Array) -> dict[str, Array]:
        """The gradient of (slope * part(x)).sum() in training: by canonical name, and for x under "input".

        The model is left as it was.
        """
        ...


class Inference(Trainer, Protocol):
    """A backend that knows a faster way to evaluate. For others a folded network is built as any other."""

    def optimized(self, network: Network, weights: dict[str, Array], dtype: str, *, compile: bool) -> Model:
        """A native model to evaluate alone, of a network that is folded already: as ``build``, in the framework's fastest layout.

        With ``compile`` its compiler is used too. For "bfloat16" the weights are in float32. Raises BackendError.
        """
        ...


class BackendError(ImportError):
    """A backend that isn't there, or whose framework isn't, or that can't do what is asked."""


def evaluates_only(backend: Backend) -> bool:
    """Whether a backend has no training mode: it says so by ``EVALUATES_ONLY = True``, and is compared in evaluation alone."""
    return bool(getattr(backend, "EVALUATES_ONLY", False))


def registered_backends() -> list[str]:
    """The registered backends, whether or not their frameworks are installed."""
    return sorted(_points())


def installed_backends() -> list[str]:
    """The backends whose frameworks are installed, the reference only where there is no other. No framework is imported."""
    found = [name for name, point in sorted(_points().items()) if not _missing(point)]
    return [name for name in found if name != REFERENCE] or found


def require_backend(name: str) -> None:
    """Raises BackendError for a backend that isn't there, or whose framework isn't installed. No framework is imported."""
    points = _points()
    if name not in points:
        raise BackendError(f"no backend named {name!r}; {suggest(name, registered_backends()) or 'none is registered'}")
    missing = _missing(points[name])
    if missing:
        raise BackendError(_needs(name, missing[0]))


def load_backend(name: str) -> Trainer:
    """Import a backend, and with it its framework. Raises BackendError."""
    require_backend(name)
    try:
        return cast("Trainer", _points()[name].load())
    except ModuleNotFoundError as error:
        raise BackendError(_needs(name, str(error.name))) from error


def load_inference(name: str, dtype: str, compile: bool) -> Callable[[Network, dict[str, Array], str], Model]:
    """The function by which a backend makes a model to evaluate alone. Raises BackendError where it can't be as is asked."""
    backend = load_backend(name)
    if hasattr(backend, "optimized"):
        return partial(cast("Inference", backend).optimized, compile=compile)
    if compile:
        raise BackendError(f"backend {name!r} has no compiler; leave compile out")
    if dtype == "bfloat16":
        raise BackendError(f"backend {name!r} does not compute in bfloat16; it can be float32 or float64")
    return backend.build


def backend_of(model: Model) -> Trainer:
    """The backend that built a model. Raises BackendError."""
    name = getattr(model, "resnet_spec_backend", None)
    if not isinstance(name, str):
        raise BackendError(f"{type(model).__name__} is no model that build() made")
    return load_backend(name)


def _points() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # a third of the time that `import resnet_spec` would take

    return {point.name: point for point in entry_points(group=GROUP)}


def _missing(point: EntryPoint) -> list[str]:
    """The packages of a backend's extra, which is called as the backend is, that are not installed."""
    from importlib.metadata import PackageNotFoundError, distribution

    missing = []
    for line in (point.dist.requires if point.dist else None) or ():
        package = re.match(rf"([\w.-]+).*;\s*extra\s*==\s*[\"']{re.escape(point.name)}[\"']", line)
        if package:
            try:
                distribution(package[1])
            except PackageNotFoundError:
                missing.append(package[1])
    return missing


def _needs(name: str, package: str) -> str:
    return f"backend {name!r} needs {package}, which is not installed; try: pip install 'resnet-spec[{name}]'"
