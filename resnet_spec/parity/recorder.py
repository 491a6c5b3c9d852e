"""Run a case in one backend, and return every array that is compared, by group and name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np

from resnet_spec.backend import OUTPUT, SGD, Backend, BackendError
from resnet_spec.parity.case import LEARNING_RATE, MOMENTUM, STEPS, WEIGHT_DECAY, Case, Group, without_randomness
from resnet_spec.transforms.norm_folding import fold_norms
from resnet_spec.weights.canonical import Array

Record: TypeAlias = dict[Group, dict[str, Array]]

PART_ERRORS = (RuntimeError, ValueError, TypeError, AttributeError, IndexError)
"""What frameworks raise if a part can't run on the reference's input, because it is built differently."""


PART_PREFIX = "part:"
"""What names of outputs of parts in inference mode begin with, beside those of the network's outputs."""


def record(backend: Backend, case: Case) -> Iterator[tuple[Group, dict[str, Array]]]:
    """Yield each group of a case as it is computed: evaluation, a training pass, gradients, training steps.

    Groups that the backend can't compute are left out, and inference mode too, which ``infer`` runs. "updates" are the
    weights that NumPy's SGD gives on the backend's own gradients. Slopes are not recorded: they follow from gradients.
    """
    if case.is_mixed and case.dtype not in backend.CAPABILITIES.compute:
        return
    images = case.images().astype(case.storage)
    paths = [part.path for part in case.network.nodes()]
    if "evaluation" in case.groups:
        yield "evaluation", backend.run(build_model(backend, case), images, paths)
    if not backend.CAPABILITIES.training_forward:
        return
    model = build_model(backend, case, training=True)
    trains = backend.CAPABILITIES.gradients and "gradient" in case.groups
    if "training forward" in case.groups and not (case.is_mixed and trains):
        yield "training forward", backend.run(model, images, paths, train=True)
    if trains:
        yield from _train(backend, model, case, images)


def infer(backend: Backend, case: Case) -> dict[str, Array]:
    """Return the outputs of a case's network in inference mode: folded, and built for evaluation alone.

    In 16 bits, also those of each part of the folded network, by its path after ``PART_PREFIX``; nothing if the backend
    does not compute in the type.
    """
    if case.is_mixed and case.dtype not in backend.CAPABILITIES.compute:
        return {}
    network, weights = fold_norms(case.network, case.weights(case.storage))
    try:
        if backend.CAPABILITIES.inference:
            model = backend.build_inference(network, weights, case.dtype, compile=False)
        else:
            model = backend.build(network, weights, case.dtype)
    except BackendError:
        if case.is_mixed:  # on some processors, and in inference mode, a framework has fewer types
            return {}
        raise
    model, images = _place(backend, model, case), case.images().astype(case.storage)
    outputs = dict(backend.run(model, images))
    if case.is_mixed:
        paths = [part.path for part in network.nodes()]
        parts = backend.run(model, images, paths)
        outputs |= {f"{PART_PREFIX}{path}": parts[path] for path in paths}
    return outputs


def build_model(backend: Backend, case: Case, training: bool = False) -> Any:
    """Build a case's network with its weights; for training, without dropout and other random operations."""
    network = without_randomness(case.network) if training else case.network
    weights = case.weights(case.storage)
    if case.is_mixed:
        model = backend.build(network, weights, case.storage, case.dtype)
    else:
        model = backend.build(network, weights, case.dtype)
    return _place(backend, model, case)


def _place(backend: Backend, model: Any, case: Case) -> Any:
    """Move a model to the device of a case, if the backend has devices, and return it."""
    if case.device and backend.CAPABILITIES.devices:
        backend.move(model, case.device)
    return model


def _train(backend: Backend, model: Any, case: Case, images: Array) -> Iterator[tuple[Group, dict[str, Array]]]:
    sgd, labels = SGD(LEARNING_RATE, MOMENTUM, WEIGHT_DECAY), case.labels()
    # In 16 bits a step may round other numbers than a pass without gradients, and is judged by its own outputs.
    paths = [part.path for part in case.network.nodes()] if case.is_mixed else []
    step = backend.step(model, images, labels, sgd, capture=paths)
    if case.is_mixed:
        yield "training forward", dict(step.outputs)
    yield "loss", {OUTPUT: np.array([step.loss])}
    yield "gradient", {**step.gradients, "input": step.output_gradients["input"]}
    statistics = {name for name, weight in case.network.owners() if weight.statistic}
    if "statistics" in case.groups:
        yield "statistics", {name: array for name, array in backend.dump(model).items() if name in statistics}
    if "updates" in case.groups:
        weights = {name: array for name, array in case.weights(case.storage).items() if name not in statistics}
        updates = Momentum(sgd, weights)
        updates.step(step.gradients)
        for _ in range(STEPS - 1):
            step = backend.step(model, images, labels, sgd, step.optimizer)
            updates.step(step.gradients)
        yield "updates", updates.weights
        yield "weights", backend.dump(model)


class Momentum:
    """Stochastic gradient descent in NumPy, as ``SGD`` defines it, on gradients that a backend computes."""

    def __init__(self, sgd: SGD, weights: dict[str, Array]) -> None:
        self.sgd = sgd
        self.weights = weights
        self._velocities = {name: np.zeros_like(array) for name, array in weights.items()}

    def step(self, gradients: Mapping[str, Array]) -> None:
        """Update the weights by gradients under the same names; weights without one stay."""
        for name, gradient in gradients.items():
            weight, velocity = self.weights[name], self._velocities[name]
            velocity *= self.sgd.momentum
            velocity += gradient + self.sgd.weight_decay * weight
            weight -= self.sgd.rate * velocity


def run_parts(backend: Backend, case: Case, train: bool, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run parts, each on its own input, in evaluation or as in training; return outputs by path.

    Parts that can't run on their inputs are left out.
    """
    model = build_model(backend, case, training=train)
    outputs: dict[str, Array] = {}
    for path, x in inputs.items():
        with suppress(*PART_ERRORS):
            outputs[path] = backend.run(model, x, train=train, part=path)[OUTPUT]
    return outputs


def output_gradients(backend: Backend, case: Case) -> dict[str, Array]:
    """Return the gradient of the loss with respect to the output of every part, by path."""
    model = build_model(backend, case, training=True)
    paths = [part.path for part in case.network.nodes()]
    images = case.images().astype(case.storage)
    step = backend.step(model, images, case.labels(), SGD(LEARNING_RATE), capture=paths)
    return dict(step.output_gradients)


def vjps(
    backend: Backend, case: Case, inputs: Mapping[str, Array], cotangents: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the vector-Jacobian products of parts, each at its own input, by ``path:name``.

    ``name`` is a parameter's canonical name, or "input". Parts that can't run on their inputs are left out.
    """
    model = build_model(backend, case, training=True)
    products: dict[str, Array] = {}
    for path, x in inputs.items():
        with suppress(*PART_ERRORS):
            gradients = backend.vjp(model, path, x, cotangents[path])
            products |= {f"{path}:{name}": array for name, array in gradients.items()}
    return products
