"""Name the classes that a network predicts, by the list that its weights were trained on."""

from __future__ import annotations

from functools import cache

import numpy as np

from resnet_spec.language.values import join_alternatives
from resnet_spec.library import bundled
from resnet_spec.library.published import PublishedWeights
from resnet_spec.weights.canonical import Array

_FOLDER = "labels"
_SUFFIX = ".txt"


class UnknownLabelsError(ValueError):
    """Weights without classes, or with a list of classes whose names are not bundled."""


@cache
def read_labels(name: str) -> tuple[str, ...]:
    """Return the names of a list of classes, such as "imagenet-1k". Raises UnknownLabelsError if it is not bundled.

    >>> read_labels("cifar-10")[:3]
    ('airplane', 'automobile', 'bird')
    """
    folder = bundled.directory() / _FOLDER
    known = sorted(file.name.removesuffix(_SUFFIX) for file in folder.iterdir() if file.name.endswith(_SUFFIX))
    if name not in known:
        raise UnknownLabelsError(f"the names of {name} are not bundled; those of {join_alternatives(known)} are")
    return tuple((folder / f"{name}{_SUFFIX}").read_text(encoding="utf-8").splitlines())


def labels_of_weights(weights: PublishedWeights) -> tuple[str, ...]:
    """Return the names of the classes of published weights, in order. Raises UnknownLabelsError if they have none."""
    if not weights.classes:
        raise UnknownLabelsError(f"the weights {weights.tag} of {weights.spec} have no classifier, so no classes")
    return read_labels(weights.labels)


def top_classes(logits: Array, count: int) -> list[tuple[int, float]]:
    """Return the classes with the largest of the logits (classes,): index and probability, in descending order."""
    odds = np.exp(logits.astype(np.float64) - logits.max())
    probabilities = odds / odds.sum()
    return [(int(index), float(probabilities[index])) for index in np.argsort(-logits, kind="stable")[:count]]
