"""Options that every network has, set in its spec under ``options`` or by the caller who loads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from resnet_spec.diagnostics.problems import Problems, SpecError
from resnet_spec.language.spec import Invalid
from resnet_spec.language.values import argument_types, decode
from resnet_spec.ops import Fraction, NonNegative
from resnet_spec.syntax.nodes import Scalar

Pool: TypeAlias = Literal["as_written", "avg", "max", "avg_max", "avg_max_concat"]


@dataclass(frozen=True, slots=True)
class Options:
    """Changes to a network beyond what its layers say.

    Attributes:
        output_stride: The largest factor by which height and width may shrink, one of those of the feature maps; 0
            keeps all strides. A stride that would exceed it becomes dilation, as in timm.
        drop_path: Stochastic depth: the rate of dropping the branch of the last block. The rate grows linearly from 0
            at the first block.
        drop_block: The rate of DropBlock in the last two stages, after the norm that follows each block's first
            convolution larger than 1 x 1.
        dropout: The rate of dropout before the classifier. 0 keeps what the layers say.
        zero_last_gamma: Whether the scale of each branch's last norm starts at zero, so that blocks start as the
            identity.
        pool: The pooling in the head: as_written, avg, max, avg_max (the mean of both), or avg_max_concat (both,
            concatenated).
    """

    output_stride: NonNegative = 0
    drop_path: Fraction = 0.0
    drop_block: Fraction = 0.0
    dropout: Fraction = 0.0
    zero_last_gamma: bool = False
    pool: Pool = "as_written"


OPTION_NAMES = tuple(field.name for field in fields(Options))


def decode_options(written: Mapping[str, Scalar | Invalid], problems: Problems) -> Options:
    """Return the options from their written values; invalid ones keep their defaults and are added to ``problems``."""
    known = argument_types(Options) if written else {}
    values: dict[str, Any] = {}  # the types that Options declares
    for name, value in written.items():
        if isinstance(value, Scalar):
            try:
                values[name] = decode(value, known[name])
            except SpecError as error:
                for problem in error.problems:
                    problems.add(problem)
    return Options(**values)
