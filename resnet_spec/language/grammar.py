"""The grammar of the language as data: the keys of each mapping, the form of each value, and a description of each key.

The decoder, the JSON Schema and the reference documentation are derived from it. The grammar covers what can be checked
in one file on its own. The expansion checks that names are defined, that operations have all their arguments, and that
shapes match.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Literal, TypeAlias, get_args

from resnet_spec.language.docstrings import attribute_descriptions
from resnet_spec.language.options import Options
from resnet_spec.language.spec import Combine, Join, Project, Resize
from resnet_spec.language.values import ArgumentType, argument_types

Naming: TypeAlias = Literal["layer", "stage", "identifier"]
"""What the keys of a mapping name: layers, stages, or definitions (values, blocks, layers) to which a file refers."""


class Simple(Enum):
    """A form without parameters."""

    TEXT = "one line of text"
    REFERENCE = "the name of an operation, a block, or a definition under takes or layers"
    NUMBERING = "a pattern for the names of a stage's blocks, such as blocks.{index} or b{number}"
    LAYER = "a layer: a name, an operation or a block with arguments, or a mapping or list of layers"
    GROUP = "layers that run one after another: a mapping names them, a list numbers them"
    ARGUMENT = "an argument: a literal value, a name, or a layer"
    DEFAULTS = "a mapping from operations to default values for some of their arguments"
    OPTIONS = "a mapping with options that every network has"
    BRANCH = "one of several parallel branches: a mapping or list of layers, or the word none"
    STAGE = "a stage: a block with a depth, or layers in any other form"
    SPLIT = "true or false, or a list with the number of channels of each piece"


@dataclass(frozen=True, slots=True)
class Value:
    """A literal value of a type or, if ``accepts_name``, the name of a definition that holds one."""

    argument: ArgumentType
    accepts_name: bool = True


@dataclass(frozen=True, slots=True)
class PerBlock:
    """One value for all of several repeated blocks, or a list with one value for each block."""

    each: Form


@dataclass(frozen=True, slots=True)
class Items:
    """A list: of exactly ``count`` items if that is set, and at least ``min_count``. Messages use the description."""

    each: Form
    count: int | None = None
    description: str = "a list"
    min_count: int = 0


@dataclass(frozen=True, slots=True)
class Names:
    """A mapping whose keys are names that the author chooses."""

    naming: Naming
    each: Form


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a mapping: the form of its value, and a sentence of reference documentation."""

    form: Form
    description: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A mapping with known keys.

    Attributes:
        name: What messages call the mapping.
        keys: The known keys.
        other_keys: The form of the values of any other keys; None if there may be no others.
        at_least_one_of: Keys of which the mapping needs at least one.
    """

    name: str
    keys: Mapping[str, Key]
    other_keys: Form | None = None
    at_least_one_of: tuple[str, ...] = ()


Form: TypeAlias = Simple | Value | PerBlock | Items | Names | Record

PREDEFINED = {"norm": "batch_norm", "act": "relu", "projection": "conv_projection", "convolution": "conv"}
"""Names that the bundled blocks use and that a network can redefine under ``layers``."""

POSITIVE_INTEGER = ArgumentType(int, least=1, below=2**31)
NUMBER = ArgumentType(float)
POSITIVE_NUMBER = ArgumentType(float, least=1e-6)
BOOLEAN = ArgumentType(bool)


def _choice(words: tuple[str, ...]) -> Value:
    return Value(ArgumentType(str, choices=words), accepts_name=False)


PROJECT = Key(
    _choice(get_args(Project)),
    "When a block uses its shortcut layers instead of the identity: changed (the default), if the branch changes the "
    "shape; first, also in the first of several blocks; always; or never. With drop, a block whose branch changes the "
    "shape has no shortcut at all, as in inverted residuals.",
)

PREPROCESS = Record(
    "preprocess",
    {
        "resize": Key(
            Value(POSITIVE_INTEGER, accepts_name=False),
            "Length in pixels to which the shorter side of an image is resized before the centre crop.",
            True,
        ),
        "mean": Key(
            Items(Value(NUMBER, accepts_name=False)),
            "Value subtracted from each channel. Pixel values range from 0 to 1.",
            True,
        ),
        "std": Key(
            Items(Value(POSITIVE_NUMBER, accepts_name=False)),
            "Value by which each channel is divided after mean is subtracted.",
            True,
        ),
    },
)

BRANCHES = Record(
    "a layer with branches",
    {
        "branches": Key(
            Items(Simple.BRANCH, description="a list of branches", min_count=1),
            "Branches that run in parallel, each a mapping or list of layers, or none to pass the input through. Their "
            "layers are named beside this layer, not inside it.",
            True,
        ),
        "split": Key(
            Simple.SPLIT,
            "Whether the channels are divided among the branches, in order: true for equal pieces, or a list with the "
            "number of channels of each. Default false.",
        ),
        "cascade": Key(
            Value(BOOLEAN), "Whether the output of each branch is added to the input of the next. Default false."
        ),
        "combine": Key(
            _choice(get_args(Join)),
            "How the outputs of the branches are combined: concat, add, mean, multiply (all but one may be gates, with "
            "one number per channel or per pixel), or subtract (the others from the first).",
            True,
        ),
        "resize": Key(
            _choice(get_args(Resize)),
            "How maps of another size are resized to the first branch's before they are combined: nearest takes the "
            "nearest pixel. By default, sizes must be equal.",
        ),
    },
)

BLOCK = Record(
    "a block",
    {
        "takes": Key(
            Names("identifier", Simple.ARGUMENT),
            "Arguments of the block with their default values. The value required marks an argument without a default.",
        ),
        "combine": Key(
            _choice(get_args(Combine)),
            "How branch and shortcut are combined: add (the default), multiply (for a gate), concat (the branch's "
            "channels after the shortcut's), or none for a plain chain of layers without a shortcut.",
        ),
        "project": PROJECT,
        "reads": Key(
            _choice(("input", "before")),
            "What the shortcut reads: input, the input of the block, or before, the output of the before layers. By "
            "default, shortcut layers read before, and an identity shortcut reads input.",
        ),
        "before": Key(
            Simple.GROUP, "Layers whose output the branch and the shortcut layers read, as in pre-activation blocks."
        ),
        "branch": Key(Simple.GROUP, "Layers whose output is combined with the shortcut.", True),
        "shortcut": Key(
            Simple.GROUP, "Layers of the shortcut, used when project says so; otherwise the shortcut is the identity."
        ),
        "after": Key(Simple.GROUP, "Layers that run on the combined output of branch and shortcut."),
    },
)

OVERRIDE = Record(
    "a block override",
    {"block": Key(Simple.REFERENCE, "Name of the block to use instead of the stage's.")},
    other_keys=Simple.ARGUMENT,
)

COLLECT = Record(
    "a layer with collect",
    {
        "collect": Key(
            Simple.GROUP,
            "Layers that run one after another; their input and the output of each of them, or of each block of a "
            "repeated block, are concatenated in this order. They are named beside this layer, not inside it.",
            True,
        ),
    },
)

REPEAT = Record(
    "a stage",
    {
        "block": Key(
            PerBlock(Simple.REFERENCE), "Name of the block to repeat, or a list with one name for each block.", True
        ),
        "depth": Key(Value(POSITIVE_INTEGER), "Number of blocks.", True),
        "as": Key(
            Simple.NUMBERING,
            "Pattern for the names of the blocks, where {index} counts from 0 and {number} from 1, as in "
            '"blocks.{index}" or "b{number}". Default "{index}".',
        ),
        "project": PROJECT,
        "first": Key(OVERRIDE, "Arguments for the first block, which override those of the stage."),
        "last": Key(OVERRIDE, "Arguments for the last block, which override those of the stage."),
    },
    other_keys=PerBlock(Simple.ARGUMENT),
)

SPEC = Record(
    "a spec",
    {
        "name": Key(Simple.TEXT, "Name of the network.", True),
        "source": Key(Simple.TEXT, "Where the network comes from, such as a paper or a library."),
        "extends": Key(
            Simple.TEXT,
            "Spec to start from: the name of a bundled network, or a YAML file below the folder of this one. Mappings "
            "are merged, other values are replaced, and null removes a key.",
        ),
        "takes": Key(
            Names("identifier", Simple.ARGUMENT),
            "Arguments of the network with their default values, which callers can set: build(..., classes=10). The "
            "value required marks an argument without a default.",
        ),
        "input": Key(
            Items(Value(POSITIVE_INTEGER, accepts_name=False), 3, "[channels, height, width], as in [3, 224, 224]"),
            "Channels, height and width of the input image, from which the shapes shown are inferred.",
            True,
        ),
        "preprocess": Key(PREPROCESS, "How an image is prepared for the network: resize, centre crop, normalise."),
        "options": Key(
            Simple.OPTIONS, "Options that every network has; callers can set them too: build(..., output_stride=8)."
        ),
        "defaults": Key(
            Simple.DEFAULTS, "Default arguments of operations in this network, used where a layer does not set them."
        ),
        "layers": Key(
            Names("identifier", Simple.LAYER),
            "Definitions of named layers. The names norm, act, projection and convolution are predefined and can be "
            "redefined here.",
        ),
        "blocks": Key(Names("identifier", BLOCK), "Definitions of blocks."),
        "stem": Key(Simple.GROUP, "Layers before the stages."),
        "stages": Key(Names("stage", Simple.STAGE), "Stages, in the order in which they run; most repeat a block."),
        "head": Key(Simple.GROUP, "Layers after the stages."),
    },
    at_least_one_of=("stem", "stages", "head"),
)


@cache
def options_record() -> Record:
    """Return the keys of ``options``, with the types and descriptions that ``Options`` declares."""
    descriptions = attribute_descriptions(Options)
    keys = {
        name: Key(Value(argument, accepts_name=False), descriptions[name])
        for name, argument in argument_types(Options).items()
    }
    return Record("options", keys)
