"""What one backend makes of a case: every array that is compared, by group and name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np

from resnet_spec.backend import OUTPUT, SGD, Backend, Trainer, evaluates_only
from resnet_spec.parity.case import MOMENTUM, RATE, STEPS, WEIGHT_DECAY, Case, Group, calm
from resnet_spec.weights.canonical import Array

Record: TypeAlias = dict[Group, dict[str, Array]]

BROKEN = (RuntimeError, ValueError, TypeError, AttributeError, IndexError)
"""What frameworks raise where a part can't be run on what the reference gives it."""


def record(backend: Backend, case: Case) -> Iterator[tuple[Group, dict[str, Array]]]:
    """Run a case in a backend: evaluation, a training pass, gradients, five steps; what it can't do is left out. Each group as it is made."""
    images = case.images().astype(case.dtype)
    watch = [part.path for part in case.network.nodes()]
    if "evaluation" in case.groups:
        yield "evaluation", backend.run(built(backend, case), images, watch)
    if evaluates_only(backend):
        return
    model = built(backend, case, training=True)
    if "training forward" in case.groups:
        yield "training forward", backend.run(model, images, watch, train=True)
    if hasattr(backend, "step") and "gradient" in case.groups:
        yield from _trained(backend, model, case, images)  # type: ignore[arg-type]  # it has a step: it is a Trainer


def built(backend: Backend, case: Case, training: bool = False) -> Any:
    """A case's network with its weights; for training, with nothing left to chance."""
    network = calm(case.network) if training else case.network
    return backend.build(network, case.weights(case.dtype), case.dtype)


def _trained(backend: Trainer, model: Any, case: Case, images: Array) -> Iterator[tuple[Group, dict[str, Array]]]:
    sgd, labels = SGD(RATE, MOMENTUM, WEIGHT_DECAY), case.labels()
    step = backend.step(model, images, labels, sgd)
    of_input = step.output_gradients["input"]
    yield "loss", {OUTPUT: np.array([step.loss])}
    yield "gradient", {**step.gradients, "input": of_input}
    if "statistics" in case.groups:
        statistics = {name for name, weight in case.network.owners() if weight.statistic}
        yield "statistics", {name: array for name, array in backend.dump(model).items() if name in statistics}
    if "weights" in case.groups:
        for _ in range(STEPS - 1):
            step = backend.step(model, images, labels, sgd, step.optimizer)
        yield "weights", backend.dump(model)


def alone(backend: Backend, case: Case, train: bool, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run parts, each on an input of its own, in evaluation or as in training: outputs by path, of those that can be run."""
    model = built(backend, case, training=train)
    found: dict[str, Array] = {}
    for path, x in inputs.items():
        with suppress(*BROKEN):
            found[path] = backend.run(model, x, train=train, part=path)[OUTPUT]
    return found


def slopes(backend: Trainer, case: Case) -> dict[str, Array]:
    """The loss's gradient for the output of every part, by path."""
    model, watch = built(backend, case, training=True), [part.path for part in case.network.nodes()]
    images = case.images().astype(case.dtype)
    step = backend.step(model, images, case.labels(), SGD(RATE), watch=watch)
    return dict(step.output_gradients)


def pulls(backend: Trainer, case: Case, inputs: Mapping[str, Array], slopes: Mapping[str, Array]) -> dict[str, Array]:
    """The gradients of parts alone, each with an input and an output's gradient of its own: by ``path:name``."""
    model = built(backend, case, training=True)
    found: dict[str, Array] = {}
    for path, x in inputs.items():
        with suppress(*BROKEN):
            pulled = backend.pull(model, path, x, slopes[path])
            found |= {f"{path}:{name}": array for name, array in pulled.items()}
    return found
