"""Derive from the reference's forward passes what it does not compute itself, so that no group lacks a definition."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from resnet_spec.backend import OUTPUT
from resnet_spec.network.parts import Leaf, Part
from resnet_spec.ops import BatchNorm
from resnet_spec.parity.case import Case
from resnet_spec.parity.locate import visit_part_inputs
from resnet_spec.parity.recorder import Record
from resnet_spec.parity.slopes import cross_entropy
from resnet_spec.weights.canonical import Array


def complete_record(case: Case, record: Record) -> Record:
    """Return the reference's record with the loss, and the running statistics after one training step.

    What inference mode must give is what the network as written gives in evaluation, so that folding is compared too.
    """
    completed = dict(record)
    if "inference" in case.groups and "evaluation" in record:
        completed["inference"] = network_outputs(case, record["evaluation"])
    training = record.get("training forward")
    if training is not None and "loss" in case.groups:
        completed["loss"] = {OUTPUT: np.array([cross_entropy(training[OUTPUT], case.labels())])}
    if training is not None and "statistics" in case.groups:
        completed["statistics"], _ = compute_statistics(case, training)
    return completed


def network_outputs(case: Case, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the outputs of the network itself, from those of all parts."""
    return {path: outputs[path] for path in case.network.outputs or (OUTPUT,)}


def compute_statistics(case: Case, outputs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the running statistics after one training step, from the outputs of all parts in training.

    The second result is how far each moves if every input of its norm moves by a share of itself, for a share of 1.
    """
    before = case.weights(case.storage)
    statistics: dict[str, Array] = {}
    sensitivities: dict[str, Array] = {}

    def visit(part: Part, x: Array) -> None:
        if isinstance(part, Leaf) and isinstance(part.op, BatchNorm):
            axes, count = (0, *range(2, x.ndim)), x.size // x.shape[1]
            correction = count / (count - 1) if part.op.variance == "unbiased" else 1.0
            new = 1 - part.op.decay
            batch = {"running_mean": x.mean(axes), "running_var": x.var(axes) * correction}
            moves = {
                "running_mean": abs(x).mean(axes),
                "running_var": 2 * abs(x * (x - x.mean(axes, keepdims=True))).mean(axes),
            }
            for name, value in batch.items():
                old = before[f"{part.path}.{name}"]
                statistics[f"{part.path}.{name}"] = part.op.decay * old + new * value
                sensitivities[f"{part.path}.{name}"] = new * moves[name]

    visit_part_inputs(case.network, case.images().astype(case.storage), outputs, visit)
    names = [name for name, weight in case.network.owners() if weight.statistic]
    return {name: statistics[name] for name in names}, {name: sensitivities[name] for name in names}
