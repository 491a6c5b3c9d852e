"""What can be asked of any network, in its spec under ``options:`` or by whoever loads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from resnet_spec.diagnostics.problems import Problems, SpecError
from resnet_spec.language.spec import Invalid, Word
from resnet_spec.language.values import argument_types, decode
from resnet_spec.ops import Fraction, NonNegative

Pool: TypeAlias = Literal["as_written", "avg", "max", "avg_max", "avg_max_concat"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a network is asked to be, besides what its layers say.

    Attributes:
        output_stride: By how much height and width may shrink at most; a stride that would go further becomes dilation, as in
            timm. 0 leaves all strides as they are.
        drop_path: Stochastic depth: the last block's rate of dropping its branch; it grows evenly from 0 at the first.
        drop_block: The rate of DropBlock in the last two stages, after the norm of each block's first wide convolution.
        dropout: The rate of dropout before the classifier.
        zero_last_gamma: Whether the last norm of each branch starts at zero, so that blocks start as the identity.
        pool: The pooling of the head: mean, maximum, the mean of both, or both one after the other.
    """

    output_stride: NonNegative = 0
    drop_path: Fraction = 0.0
    drop_block: Fraction = 0.0
    dropout: Fraction = 0.0
    zero_last_gamma: bool = False
    pool: Pool = "as_written"


OPTION_NAMES = tuple(field.name for field in fields(Options))


def decode_options(words: Mapping[str, Word | Invalid], problems: Problems) -> Options:
    """Options from what was written for them; what is wrong is added to ``problems``."""
    known = argument_types(Options) if words else {}
    values: dict[str, Any] = {}  # of the declared types
    for name, word in words.items():
        if isinstance(word, Word):
            try:
                values[name] = decode(word, known[name])
            except SpecError as error:
                for problem in error.problems:
                    problems.add(problem)
    return Options(**values)
