"""The parts of the reference that declarations already say, put into the site's pages as it is built."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import MISSING, fields
from importlib import import_module
from importlib.util import find_spec
from inspect import cleandoc
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import yaml

from resnet_spec.bundled import block_files
from resnet_spec.ops import OPS, AtLeast, Below
from resnet_spec.options import Options
from resnet_spec.parity.case import GATES, GROUPS
from resnet_spec.read import BLOCK_KEYS, FORK_KEYS, SPEC_KEYS, STAGE_KEYS

COMPARED = {
    "evaluation": "every part's output, in evaluation",
    "training forward": "every part's output, in training",
    "loss": "the loss",
    "gradient": "the gradient of every parameter and of the input",
    "statistics": "running statistics after one step",
    "weights": "every weight after five steps",
}
MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)

KEYS = {
    "A network": (
        SPEC_KEYS,
        {
            "name": "what it is called: in messages, and in what is written from it",
            "source": "the paper or the code that it follows",
            "takes": "names that a caller may set, each with its value otherwise: `{classes: 1000}`",
            "input": "an image's `[channels, height, width]`",
            "preprocess": "how a photograph becomes such an image: `resize`, `mean`, `std`",
            "options": "what can be asked of any network; the table below",
            "defaults": "arguments of operations for the whole network: `{conv: {bias: true}}`",
            "layers": "names for configured operations; `norm` and `act` are in every network, and setting them swaps every block's",
            "blocks": "the file's own blocks, by name",
            "stem": "layers before the stages",
            "stages": "rows of blocks, by name",
            "head": "layers after the stages",
        },
    ),
    "A block": (
        BLOCK_KEYS,
        {
            "takes": "its arguments, each with its value otherwise, or `required`",
            "combine": "how branch and shortcut are put together: `add`, `multiply` for a gate, or `none` for a plain row",
            "project": "when the shortcut's layers are used: where the branch `changed` channels or size, `always` or `never`",
            "reads": "what the shortcut reads: the block's `input`, or what `before` gave",
            "before": "layers that both the branch and, where it `reads: before`, the shortcut read",
            "branch": "the layers of the block's work",
            "shortcut": "the layers of a projection",
            "after": "layers after both are combined",
        },
    ),
    "A stage": (
        STAGE_KEYS,
        {
            "block": "which block it repeats; a list has one for each",
            "depth": "how many",
            "as": "what they are called: `{index}` counts from 0, `{number}` from 1",
            "project": "as a block's, for this stage's blocks",
            "first": "arguments of the first block alone",
            "last": "arguments of the last block alone",
        },
    ),
    "Branches side by side": (
        FORK_KEYS,
        {
            "branches": "a list of layers for each branch",
            "split": "whether each reads its own piece of the channels, and not all of them",
            "cascade": "whether each adds what the one before gave to what it reads",
            "combine": "`concat`, `add` or `mean`",
        },
    ),
}
"""What each key of the language means. A test compares the names with those that the reader knows."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this with each page. Links out of the folder of pages lead nowhere in a site, so they lose their target."""
    markdown = MARK.sub(lambda found: PARTS[found[1]](), markdown)
    return re.sub(r"\[([^\]]+)\]\(\.\./(?!\w[\w-]*\.md)[^)]*\)", r"\1", markdown)


def keys() -> str:
    """Every key, by what it is a key of."""
    return "\n\n".join(
        f"### {title}\n\n" + _table(("key", "means"), [(f"`{key}`", texts[key]) for key in known])
        for title, (known, texts) in KEYS.items()
    )


def options() -> str:
    """What can be asked of any network."""
    said = attributes(Options)
    return _table(
        ("option", "by default", "does"),
        [(f"`{field.name}`", f"`{field.default}`", said[field.name]) for field in fields(Options)],
    )


def blocks() -> str:
    """The bundled blocks: the first comment of each file, and what it takes."""
    rows = []
    for name, file in block_files().items():
        text = file.read_text(encoding="utf-8")
        taken = (yaml.safe_load(text) or {}).get("takes") or {}
        comment = takewhile(lambda line: line.startswith("#"), text.splitlines())
        says = " ".join(line.lstrip("# ") for line in comment)
        rows.append((f"`{name}`", says, ", ".join(f"`{key}`" for key in taken)))
    return _table(("block", "is", "takes"), rows)


def operations() -> str:
    """Every operation: what it computes, its arguments, their kinds and defaults."""
    return "\n\n".join(_operation(name, kind) for name, kind in sorted(OPS.items()))


def _operation(name: str, kind: type) -> str:
    text = re.sub(r"\s*\n\s*", " ", cleandoc(kind.__doc__ or "").partition("Attributes:")[0].replace("\n\n", "\0"))
    said, hints = attributes(kind), get_type_hints(kind, include_extras=True)
    rows = [
        (
            f"`{field.name}`",
            _values(hints[field.name]),
            "required" if field.default is MISSING else f"`{_yaml(field.default)}`",
            said[field.name],
        )
        for field in fields(kind)
    ]
    table = _table(("argument", "is", "by default", "means"), rows) if rows else "It has no arguments."
    meaning = meanings()[name]
    differs = f"\n\n*Where frameworks differ:* {meaning['differs']}" if "differs" in meaning else ""
    return f"## {name}\n\n{text.replace(chr(0), chr(10) * 2).strip()}\n\n```text\n{meaning['formula']}\n```\n\n{table}{differs}"


def meanings() -> dict[str, dict[str, str]]:
    """Each operation's formula, and where frameworks differ."""
    found: dict[str, dict[str, str]] = yaml.safe_load(
        Path(__file__).with_name("meanings.yaml").read_text(encoding="utf-8")
    )
    return found


def _values(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        kind, *bounds = get_args(hint)
        least = [f"at least {bound.least:g}" for bound in bounds if isinstance(bound, AtLeast)]
        below = [f"below {bound.bound:g}" for bound in bounds if isinstance(bound, Below)]
        return ", ".join([_values(kind), *least, *below])
    if get_origin(hint) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(hint))
    return {int: "a whole number", float: "a number", bool: "`true` or `false`"}[hint]


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def errors() -> str:
    """Every code, with a spec that gives it and that spec mended."""
    if find_spec("resnet_spec.codes") is None:
        return ""
    found = import_module("resnet_spec.codes").codes().values()
    return "\n\n".join(
        f"### {code.code}: {code.title}\n\n{code.says.strip()}\n\n```yaml\n{code.wrong.rstrip()}\n```\n\nMended:\n\n```yaml\n{code.right.rstrip()}\n```"
        for code in found
    )


def gates() -> str:
    """What parity compares at each level, and the largest difference that passes."""
    rows = []
    for level, groups in GROUPS.items():
        for group in groups:
            double, single = (GATES[dtype].get(group) for dtype in ("float64", "float32"))
            texts = [COMPARED[group], *("" if gate is None else f"{gate:.0e}" for gate in (double, single))]
            rows.append((f"`{level}`", *texts))
    return _table(("level", "compared", "float64", "float32"), rows)


def attributes(kind: type) -> dict[str, str]:
    """What a class's docstring says under ``Attributes:``, by name."""
    _, _, listed = cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", listed, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).strip() for name, text in entries}


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


PARTS = {"keys": keys, "options": options, "blocks": blocks, "operations": operations, "errors": errors, "gates": gates}
