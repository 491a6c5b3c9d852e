"""The language as data: which keys there are, what each may hold, and what it is for. The reader and the schema both walk it.

What is said here can be told of one file alone. Whether a name is known, an operation has all it needs and shapes fit is for
``expand.py`` to find.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Literal, TypeAlias, get_args

from resnet_spec.language.docstrings import attribute_descriptions
from resnet_spec.language.options import Options
from resnet_spec.language.spec import Combine, Join, Project
from resnet_spec.language.values import ArgumentType, argument_types

Naming: TypeAlias = Literal["layer", "stage", "own"]
"""What a mapping names: layers, stages, or what is one's own to call for by name: values, blocks, configured layers."""


class Simple(Enum):
    """What needs no more said of it."""

    TEXT = "any text"
    REFERENCE = "the name of an operation, a block, or what the file takes or configures"
    NUMBERING = "how a stage names its blocks: blocks.{index} or b{number}"
    LAYER = "a layer: a name, an operation or a block with arguments, or layers in a row"
    GROUP = "layers in a row: a mapping names them, a list numbers them"
    GIVEN = "what a block is given, or a name stands for: a value, a name or layers"
    DEFAULTS = "a mapping of operations to some of their arguments"
    OPTIONS = "what can be asked of any network"
    BRANCH = "one of the branches of a fork: layers in a row, or the word none"


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a type: written out, or where that may be, the name of one."""

    argument: ArgumentType
    named: bool = True


@dataclass(frozen=True, slots=True)
class PerBlock:
    """One thing for all blocks of a stage, or a list with one for each."""

    each: Form


@dataclass(frozen=True, slots=True)
class Items:
    """A list: of so many, where ``count`` says it; ``like`` says what of."""

    each: Form
    count: int | None = None
    like: str = "a list"
    least: int = 0


@dataclass(frozen=True, slots=True)
class Names:
    """A mapping whose keys are the author's own names."""

    naming: Naming
    each: Form


@dataclass(frozen=True, slots=True)
class Defaults:
    """A mapping of operations to some of their arguments."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a mapping: what it holds, and in a sentence what it is for."""

    form: Form
    says: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A mapping of known keys. ``rest`` is the form of other keys, where there may be any; of ``some`` one must be there."""

    what: str
    keys: Mapping[str, Key]
    rest: Form | None = None
    some: tuple[str, ...] = ()


Form: TypeAlias = Simple | Value | PerBlock | Items | Names | Record

PREDEFINED = {"norm": "batch_norm", "act": "relu", "projection": "conv_projection", "convolution": "conv"}
"""Words that blocks use and networks may give another meaning under ``layers:``."""

COUNT = ArgumentType(int, least=1)
ANY_NUMBER = ArgumentType(float)
POSITIVE = ArgumentType(float, least=1e-6)

FLAG = ArgumentType(bool)


def _choice(words: tuple[str, ...]) -> Value:
    return Value(ArgumentType(str, choices=words), named=False)


PROJECT = Key(
    _choice(get_args(Project)),
    "When a block uses its shortcut's layers, and not x itself: where the branch changes the shape (the default), "
    "in a stage's first block too, always, or never.",
)

PREPROCESS = Record(
    "preprocess",
    {
        "resize": Key(
            Value(COUNT, named=False), "Pixels that an image's shorter side is scaled to, before it is cropped.", True
        ),
        "mean": Key(
            Items(Value(ANY_NUMBER, named=False)), "What is subtracted from each channel, of pixels from 0 to 1.", True
        ),
        "std": Key(Items(Value(POSITIVE, named=False)), "What each channel is then divided by.", True),
    },
)

BRANCHES = Record(
    "a fork",
    {
        "branches": Key(
            Items(Simple.BRANCH, like="a list of branches", least=1),
            "What runs side by side, named beside the fork.",
            True,
        ),
        "split": Key(
            Value(FLAG), "Whether each branch is given a piece of the channels, in order, and not all of them."
        ),
        "cascade": Key(Value(FLAG), "Whether what a branch gives is added to what the next is given."),
        "combine": Key(_choice(get_args(Join)), "How what the branches give becomes one: concat, add or mean.", True),
    },
)

BLOCK = Record(
    "a block",
    {
        "takes": Key(
            Names("own", Simple.GIVEN), "The names that a user of the block may set, with their defaults; or required."
        ),
        "combine": Key(
            _choice(get_args(Combine)),
            "How branch and shortcut become one: add (the default), multiply for a gate, or none for a plain chain.",
        ),
        "project": PROJECT,
        "reads": Key(
            _choice(("input", "before")),
            "What the shortcut reads: the block's input, or what before makes of it. Its layers read the latter by default, and "
            "the identity is the former.",
        ),
        "before": Key(
            Simple.GROUP, "Layers that both the branch and the shortcut's layers read, as in pre-activation."
        ),
        "branch": Key(Simple.GROUP, "The layers whose output is combined with the shortcut.", True),
        "shortcut": Key(
            Simple.GROUP, "The layers beside the branch, where it changes the shape; else the shortcut is x."
        ),
        "after": Key(Simple.GROUP, "Layers that read what is combined."),
    },
)

OVERRIDE = Record(
    "what a block is told",
    {"block": Key(Simple.REFERENCE, "The block that this one is, by name.")},
    rest=Simple.GIVEN,
)

STAGE = Record(
    "a stage",
    {
        "block": Key(PerBlock(Simple.REFERENCE), "The block that is repeated, by name; a list has one for each.", True),
        "depth": Key(Value(COUNT), "How many blocks there are.", True),
        "as": Key(Simple.NUMBERING, 'What blocks are called: "blocks.{index}" counts from 0, "b{number}" from 1.'),
        "project": PROJECT,
        "first": Key(OVERRIDE, "What the first block is told in place of what the stage says."),
        "last": Key(OVERRIDE, "What the last block is told in place of what the stage says."),
    },
    rest=PerBlock(Simple.GIVEN),
)

SPEC = Record(
    "a spec",
    {
        "name": Key(Simple.TEXT, "What the network is called.", True),
        "source": Key(Simple.TEXT, "Where the network comes from: a paper, a library."),
        "extends": Key(
            Simple.TEXT,
            "The spec that this one starts from: a bundled name or a file. Mappings merge, null takes away.",
        ),
        "takes": Key(
            Names("own", Simple.GIVEN), "The names that a caller may set, with their defaults: build(..., classes=10)."
        ),
        "input": Key(
            Items(Value(COUNT, named=False), 3, "[channels, height, width], as in [3, 224, 224]"),
            "The image's channels, height and width, for which shapes are shown.",
            True,
        ),
        "preprocess": Key(PREPROCESS, "What an image goes through before it is given to the network."),
        "options": Key(
            Simple.OPTIONS, "What can be asked of any network, as a caller may too: build(..., output_stride=8)."
        ),
        "defaults": Key(
            Simple.DEFAULTS, "Arguments of operations, for the whole network, where a layer does not say otherwise."
        ),
        "layers": Key(
            Names("own", Simple.LAYER),
            "Names for configured operations; norm, act and projection are known, until set here.",
        ),
        "blocks": Key(Names("own", BLOCK), "Blocks of one's own."),
        "stem": Key(Simple.GROUP, "The layers before the stages."),
        "stages": Key(Names("stage", STAGE), "Blocks repeated, stage by stage."),
        "head": Key(Simple.GROUP, "The layers after the stages."),
    },
    some=("stem", "stages", "head"),
)


@cache
def options_record() -> Record:
    """The keys of ``options_record``, as they are declared."""
    says = attribute_descriptions(Options)
    known = argument_types(Options)
    return Record("options", {name: Key(Value(argument, named=False), says[name]) for name, argument in known.items()})
