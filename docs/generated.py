"""Write the generated parts of the reference pages, from the declarations in the code: ``python docs/generated.py``.

A page holds such a part between the lines ``<!-- generated: NAME -->`` and ``<!-- end of NAME -->``; NAME is a key of
``PARTS``, whose function returns the Markdown. The pages are committed, so that they can be read in a checkout, and a
test compares them with what is generated. MkDocs uses this module as a hook.
"""

from __future__ import annotations

import inspect
import json
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING, fields
from inspect import cleandoc
from itertools import takewhile
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import click
import yaml

import resnet_spec
from notebooks import TUTORIALS, notebook_path, write_notebook
from resnet_spec.commands.main import COMMANDS, cli
from resnet_spec.diagnostics.codes import codes
from resnet_spec.language.docstrings import attribute_descriptions
from resnet_spec.language.grammar import BLOCK, BRANCHES, COLLECT, REPEAT, SPEC
from resnet_spec.language.options import Options
from resnet_spec.language.values import format_bound
from resnet_spec.library import bundled
from resnet_spec.library.bundled import block_files
from resnet_spec.ops import OPS, AtLeast, Below, PerAxis
from resnet_spec.parity.case import GATES, GROUPS

GROUP_DESCRIPTIONS = {
    "evaluation": "the output of every part in evaluation mode",
    "training forward": "the output of every part in training mode",
    "inference": "the output of the network in inference mode",
    "loss": "the loss",
    "gradient": "the gradient of every parameter and of the input",
    "slope": "the loss's slope along a random direction: by gradients, and by central differences of the reference",
    "statistics": "running statistics after one step",
    "updates": "every weight after five steps, and NumPy's SGD on the backend's own gradients",
    "weights": "every weight after five steps",
}
GENERATED = re.compile(r"^<!-- generated: (\w+) -->\n(.*?)^<!-- end of \1 -->$", re.MULTILINE | re.DOTALL)
MAX_COLUMNS = 120
ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[([^\]]+)\]\(([^)#:]+)(#[^)]*)?\)")

MAPPINGS = {
    "A network": SPEC,
    "A block": BLOCK,
    "A repeated block": REPEAT,
    "Parallel branches": BRANCHES,
    "Collected layers": COLLECT,
}
"""The mappings of the language that have fixed keys."""


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page whose links to files outside ``docs/`` keep their text only. MkDocs calls this for each page."""
    folder = posixpath.dirname(page.file.src_uri)

    def keep_inside_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2]))
        return link[1] if target.startswith("../") else link[0]

    return LINK.sub(keep_inside_site, markdown)


def fill_page(markdown: str) -> str:
    """Return a page with its generated parts written anew."""
    return GENERATED.sub(
        lambda part: f"<!-- generated: {part[1]} -->\n\n{PARTS[part[1]]()}\n\n<!-- end of {part[1]} -->", markdown
    )


def describe_keys() -> str:
    """Return a table of the keys of each mapping."""
    return "\n\n".join(
        f"### {title}\n\n"
        + _table(("key", "meaning"), [(f"`{name}`", key.description) for name, key in record.keys.items()])
        for title, record in MAPPINGS.items()
    )


def describe_options() -> str:
    """Return a table of the options that every network takes."""
    descriptions = attribute_descriptions(Options)
    return _table(
        ("option", "default", "effect"),
        [(f"`{field.name}`", f"`{_yaml(field.default)}`", descriptions[field.name]) for field in fields(Options)],
    )


def describe_blocks() -> str:
    """Return a table of the bundled blocks: the first comment of each file, and the arguments it takes."""
    rows = []
    for name, file in block_files().items():
        text = file.read_text(encoding="utf-8")
        arguments = (yaml.safe_load(text) or {}).get("takes") or {}
        comments = takewhile(lambda line: line.startswith("#"), text.splitlines())
        summary = " ".join(line.lstrip("# ") for line in comments if not line.startswith("# yaml-language-server"))
        rows.append((f"`{name}`", summary, ", ".join(f"`{argument}`" for argument in arguments)))
    return _table(("block", "description", "arguments"), rows)


def describe_operations() -> str:
    """Return a section for each operation: what it computes, and its arguments with types and defaults."""
    return "\n\n".join(_describe_operation(name, kind) for name, kind in sorted(OPS.items()))


def _describe_operation(name: str, kind: type) -> str:
    text = "\n\n".join(map(_wrap, _paragraphs(cleandoc(kind.__doc__ or "").partition("Attributes:")[0])))
    descriptions, hints = attribute_descriptions(kind), get_type_hints(kind, include_extras=True)
    rows = [
        (
            f"`{field.name}`",
            _describe_type(hints[field.name]),
            "required" if field.default is MISSING else f"`{_yaml(field.default)}`",
            descriptions[field.name],
        )
        for field in fields(kind)
    ]
    table = _table(("argument", "type", "default", "meaning"), rows) if rows else "It has no arguments."
    meaning = operation_meanings()[name]
    differences = "\n\n" + _wrap(f"*Where frameworks differ:* {meaning['differs']}") if "differs" in meaning else ""
    return f"## {name}\n\n{text}\n\n```text\n{meaning['formula']}\n```\n\n{table}{differences}"


def operation_meanings() -> dict[str, dict[str, str]]:
    """Return the formula of each operation, and where frameworks differ, from ``meanings.yaml``."""
    meanings: dict[str, dict[str, str]] = yaml.safe_load(
        Path(__file__).with_name("meanings.yaml").read_text(encoding="utf-8")
    )
    return meanings


def _other_forms(argument: PerAxis) -> list[str]:
    return ["`[height, width]`", *(f"`{word}`" for word in argument.words)]


def _describe_type(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        kind, *bounds = get_args(hint)
        least = [f"at least {bound.least:g}" for bound in bounds if isinstance(bound, AtLeast)]
        below = [f"below {format_bound(bound.bound)}" for bound in bounds if isinstance(bound, Below)]
        name = _describe_type(int if any(isinstance(bound, PerAxis) for bound in bounds) else kind)
        forms = [text for bound in bounds if isinstance(bound, PerAxis) for text in _other_forms(bound)]
        return " or ".join([", ".join([name, *least, *below]), *forms])
    if get_origin(hint) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(hint))
    return {int: "an integer", float: "a number", bool: "`true` or `false`"}[hint]


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def describe_errors() -> str:
    """Return a section for each error code, with a spec that causes it and the corrected spec."""
    return "\n\n".join(
        f"### {code.code}: {code.title}\n\n{_wrap(code.explanation)}\n\n"
        f"```yaml\n{code.wrong.rstrip()}\n```\n\nCorrected:\n\n```yaml\n{code.right.rstrip()}\n```"
        for code in codes().values()
    )


def describe_gates() -> str:
    """Return a table of what parity compares at each level, and the largest difference that passes."""
    rows = []
    for level, groups in GROUPS.items():
        for group in groups:
            gates = (GATES[dtype].get(group) for dtype in ("float64", "float32"))
            texts = ["not compared" if gate is None else f"{gate:.0e}" for gate in gates]
            rows.append((f"`{level}`", GROUP_DESCRIPTIONS[group], *texts))
    return _table(("level", "compared", "gate in float64", "gate in float32"), rows)


def describe_commands() -> str:
    """Return the options of ``resnet-spec``, and a section for each command: its usage, what it does, its options."""
    root = click.Context(cli, info_name="resnet-spec")
    commands = ((name, cli.get_command(root, name)) for name in COMMANDS)
    sections = (
        text for name, command in commands if command is not None for text in _describe_command(root, name, command)
    )
    return "\n\n".join([f"Before the name of a command:\n\n{_options(root)}", *sections])


def _describe_command(parent: click.Context, name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    help = "\n\n".join(map(_wrap, _paragraphs(cleandoc(command.help or ""))))
    heading = f"## {context.command_path.removeprefix('resnet-spec ')}"
    yield "\n\n".join(filter(None, [heading, f"```text\n{usage}\n```", help, _options(context)]))
    if isinstance(command, click.Group):
        for inner_name, inner in command.commands.items():
            yield from _describe_command(context, inner_name, inner)


def _options(context: click.Context) -> str:
    """Return a table of the options of a command; nothing if it has none."""
    options = (parameter for parameter in context.command.params if isinstance(parameter, click.Option))
    records = [option.get_help_record(context) for option in options]
    rows = [(f"`{record[0]}`", _joined(record[1])) for record in records if record is not None]
    return _table(("option", "meaning"), rows) if rows else ""


def describe_python() -> str:
    """Return a section for each name that ``resnet_spec`` exports: functions, then classes and exceptions."""
    exports = [(name, getattr(resnet_spec, name)) for name in sorted(resnet_spec.__all__)]
    functions = [_describe_function(name, value) for name, value in exports if inspect.isfunction(value)]
    classes = [_describe_class(name, value) for name, value in exports if inspect.isclass(value)]
    return "\n\n".join([*functions, *classes])


def _describe_function(name: str, function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    lines = [_describe_parameter(parameter) for parameter in parameters]
    kinds = [parameter.kind for parameter in parameters]
    if inspect.Parameter.KEYWORD_ONLY in kinds:
        lines.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    arguments = "".join(f"    {line},\n" for line in lines)
    code = f"{name}(\n{arguments}) -> {signature.return_annotation}"
    return f"## {name}\n\n```python\n{code}\n```\n\n{_describe_docstring(function.__doc__ or '')}"


def _describe_parameter(parameter: inspect.Parameter) -> str:
    prefixes: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    default = "" if parameter.default is inspect.Parameter.empty else f" = {parameter.default!r}"
    return f"{prefixes.get(parameter.kind, '')}{parameter.name}: {parameter.annotation}{default}"


def _describe_class(name: str, kind: type) -> str:
    members = [
        (f"`{member}`" if isinstance(value, property) else f"`{member}()`", _summary(value.__doc__))
        for member, value in vars(kind).items()
        if not member.startswith("_") and value.__doc__ and (isinstance(value, property) or inspect.isfunction(value))
    ]
    table = f"\n\n{_table(('member', 'meaning'), members)}" if members else ""
    return f"## {name}\n\n{_describe_docstring(kind.__doc__ or '')}{table}"


def _describe_docstring(docstring: str) -> str:
    return "\n\n".join(_describe_paragraph(text) for text in cleandoc(docstring).split("\n\n"))


def _describe_paragraph(text: str) -> str:
    """Return a paragraph of a docstring as Markdown: a section becomes a table, and a doctest a code block."""
    heading, _, body = text.partition("\n")
    if text.startswith(">>>"):
        return f"```python\n{text}\n```"
    if heading in ("Args:", "Raises:", "Attributes:"):
        entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", body, re.MULTILINE)
        column = {"Args:": "argument", "Raises:": "raises", "Attributes:": "attribute"}[heading]
        return _table((column, "meaning"), [(f"`{name}`", _joined(meaning)) for name, meaning in entries])
    return _wrap(text)


def _summary(docstring: str | None) -> str:
    return _joined(cleandoc(docstring or "").split("\n\n")[0])


def _paragraphs(text: str) -> Iterable[str]:
    return [_joined(paragraph) for paragraph in text.split("\n\n") if paragraph.strip()]


def _joined(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _wrap(text: str) -> str:
    """Return a paragraph in lines of the length that all pages have."""
    return fill(_joined(text), MAX_COLUMNS, break_long_words=False, break_on_hyphens=False)


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(map(_escape, line)) + " |" for line in lines)


def _escape(cell: str) -> str:
    """Escape the bars of a table cell, except in code, where Markdown takes them literally."""
    return "".join(part if part.startswith("`") else part.replace("|", "\\|") for part in re.split(r"(`[^`]*`)", cell))


FOLDERS = {
    "timm": "timm",
    "torchvision": "torchvision",
    "paddle": "paddle.vision",
    "paddleclas": "PaddleClas",
    "keras": "Keras",
    "flax": "Flax's ImageNet example",
    "cifar": "CIFAR repositories",
}
"""The folders of bundled networks, with the libraries that these come from."""


def describe_counts() -> str:
    """Return a sentence with the number of bundled networks, in all and by library."""
    counts = Counter(name.partition("/")[0] if "/" in name else "" for name in bundled.names())
    parts = [f"{title} {counts[folder]}" for folder, title in FOLDERS.items()]
    return _wrap(
        f"{counts.total()} networks are bundled, with the weight names of the libraries that they come from: "
        f"{', '.join(parts)}, and {counts['']} in no folder, such as `resnet50`."
    )


def describe_families() -> str:
    """Return a table of the families of convolutional networks beyond residual ones, with how many are bundled."""
    names = set(bundled.names())
    recorded = {
        model: row["family"]
        for file in sorted((ROOT / "tests/data").glob("*cnn*.json"))
        if not file.name.startswith("goldens")
        for model, row in json.loads(file.read_text(encoding="utf-8")).items()
    }
    families: dict[tuple[str, str], list[str]] = {}
    for model, family in recorded.items():
        families.setdefault((model.partition("/")[0], family), []).append(model)
    rows = [
        (FOLDERS[folder], family, f"{sum(model in names for model in models)} of {len(models)}")
        for (folder, family), models in sorted(families.items())
    ]
    return _table(("library", "family", "bundled"), rows)


def describe_conventions() -> str:
    """Return a table of the conventions in which weights are published, and how each is read or refused."""
    path = Path(__file__).parents[1] / "tests" / "data" / "wild_checkpoints.yaml"
    cases: list[dict[str, str]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return _table(
        ("convention", "read", "how"),
        [(case["convention"], "no" if "refused" in case else "yes", _describe_reading(case)) for case in cases],
    )


def _describe_reading(case: dict[str, str]) -> str:
    options = {"outputs": "--until", "under": "--under"}
    given = " ".join(f"{option} {case[key]}" for key, option in options.items() if key in case)
    said = f"refused: {case['refused']}" if "refused" in case else case["read"]
    return "; ".join(filter(None, (f"`{given}`" if given else "", said))) or "as it is"


PARTS: dict[str, Callable[[], str]] = {
    "keys": describe_keys,
    "options": describe_options,
    "blocks": describe_blocks,
    "operations": describe_operations,
    "errors": describe_errors,
    "gates": describe_gates,
    "commands": describe_commands,
    "python": describe_python,
    "counts": describe_counts,
    "families": describe_families,
    "conventions": describe_conventions,
}


def list_pages() -> list[Path]:
    """Return the pages of the site, without the files that packages of npm bring."""
    return sorted(page for page in Path(__file__).parent.rglob("*.md") if "node_modules" not in page.parts)


def list_notebook_pages() -> list[Path]:
    """Return the pages that are notebooks too."""
    return [Path(__file__).parent / "tutorials" / f"{name}.md" for name in TUTORIALS]


def main() -> None:
    """Write the generated parts of all pages, and the notebooks."""
    for page in [ROOT / "README.md", *list_pages()]:
        text = page.read_text(encoding="utf-8")
        page.write_text(fill_page(text), encoding="utf-8")
    for page in list_notebook_pages():
        notebook_path(page).write_text(write_notebook(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
