"""A network by the name of a bundled spec, or from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from os import PathLike
from pathlib import Path

from resnet_spec.diagnostics.problems import Problem, Problems, Source, Span, SpecError, quote
from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.expansion.expand import expand
from resnet_spec.language.grammar import PREDEFINED
from resnet_spec.language.inheritance import resolve_extends
from resnet_spec.language.options import OPTION_NAMES, decode_options
from resnet_spec.language.reader import read_block, read_spec
from resnet_spec.language.spec import Block, Spec, Word
from resnet_spec.library import bundled
from resnet_spec.network.network import Network
from resnet_spec.ops import ShapeError
from resnet_spec.syntax.nodes import Mapping as Nodes
from resnet_spec.syntax.nodes import parse
from resnet_spec.syntax.yaml_events import MAX_CHARACTERS
from resnet_spec.transforms.apply_options import with_options
from resnet_spec.transforms.feature_outputs import with_feature_outputs

Setting = int | float | str | bool

LONGEST_PATH = 1000


def load(
    spec: str | PathLike[str],
    *,
    input: Sequence[int] | None = None,
    outputs: Sequence[str] | None = None,
    **settings: Setting,
) -> Network:
    """Load a network: read its spec, expand it, work out every shape.

    Args:
        spec: The path of a YAML file, or the name of a bundled network, as in "resnet50" or "resnet50.yaml". A file wins.
        input: The image's (channels, height, width) for which shapes are shown, in place of the spec's.
        outputs: Paths of parts whose maps the network gives, in place of what its head would make of them; what comes behind
            the last of them is left out. ``features()`` lists what can be asked for.
        settings: Values for the names that the spec takes, as in ``classes=10``; for the options of any network, as in
            ``output_stride=8`` (see ``resnet_spec.language.options``); or for words that its layers use, as in ``act="silu"``.

    Raises:
        SpecError: The spec has problems; ``problems`` holds them all, and the message points at each.
        FileNotFoundError: There is no such spec.
        ValueError: The network can't give an output that is asked for.

    >>> network = load("resnet50")
    >>> len(network.weights()), network.weights()["fc.weight"]
    (267, (1000, 2048))
    >>> load("resnet50", classes=10, input=(3, 64, 48)).output_shape
    (10,)
    """
    network = _network(find_source(spec), settings, input)
    return network if outputs is None else with_feature_outputs(network, outputs)


def loads(text: str, name: str = "<text>", **settings: Setting) -> Network:
    """Load a network from the text of a spec, which ``name`` stands for in messages. Raises SpecError.

    >>> loads("{name: tiny, input: [3, 8, 8], stem: {conv1: {op: conv, out: 4, kernel: 3}}}").output_shape
    (4, 6, 6)
    """
    return _network(Source(name, text.removeprefix("\ufeff")), settings, None)


def _network(source: Source, settings: Mapping[str, Setting], input: Sequence[int] | None) -> Network:
    size = None if input is None else _shape(input)
    problems = Problems()
    root = resolve_extends(source, _base, problems)
    if root is None:
        raise SpecError(problems.found.values())
    spec = apply_settings(read_spec(root, problems), settings, problems)
    options = decode_options(spec.options, problems)
    spec = spec if size is None else replace(spec, input=size)
    network = expand(spec, bundled_block, bundled.block_files(), problems)
    try:
        return with_options(network, options)
    except ShapeError as error:
        at = next(iter(spec.options.values())).at
        raise SpecError([Problem("RS401", f"{spec.name} can't be as its options ask: {error}", at)]) from None


def load_document(source: Source) -> Nodes:
    """The keys and values of a spec, extends followed. Raises SpecError."""
    problems = Problems()
    root = resolve_extends(source, _base, problems)
    problems.stop()
    assert root is not None  # or there is a problem
    return root


def find_source(spec: str | PathLike[str]) -> Source:
    """The text that a path or a bundled name means. Raises FileNotFoundError and SpecError."""
    path = Path(spec)
    if path.is_file():
        return _file(path)
    found = bundled.find(str(spec))
    if found is None:
        raise FileNotFoundError(f"no file or bundled network named {str(spec)!r}; {_advice(str(spec))}")
    return found


def find_sources(source: Source) -> list[Source]:
    """A source and all that it extends, one after another, as far as they can be read."""
    found = [source]

    def find(name: str, by: Source, at: Span) -> Source:
        found.append(_base(name, by, at))
        return found[-1]

    with suppress(SpecError, OSError):
        resolve_extends(source, find, Problems())
    return found


def apply_settings(spec: Spec, settings: Mapping[str, Setting], problems: Problems) -> Spec:
    """A spec with names that it takes set by a caller."""
    takes, options, layers = dict(spec.takes), dict(spec.options), dict(spec.layers)
    for name, value in settings.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        place = Source(f"--set {name}={text}", f"{name}={text}")
        word = Word(text, True, Span(place, 1, len(name) + 2, len(name) + 2 + max(1, len(text))))
        if name in takes:
            takes[name] = word
        elif name in OPTION_NAMES:
            options[name] = word
        elif name in layers or name in PREDEFINED:
            layers[name] = word
        else:
            at, known = Span(place, 1, 1, len(name) + 1), [*takes, *OPTION_NAMES, *layers, *PREDEFINED]
            problems.report("RS205", f"{spec.name} does not take {quote(name)}", at, suggest(name, known))
    return replace(spec, takes=takes, options=options, layers=layers)


@cache
def bundled_block(name: str) -> Block | None:
    """A bundled block by name, or None."""
    path = bundled.block_files().get(name)
    if path is None:
        return None
    return read_block(parse(Source(str(path), path.read_text(encoding="utf-8"))), name)


def _base(name: str, source: Source, at: Span) -> Source:
    """What ``extends`` names: a file beside the one that says so, or a bundled network."""
    if not name.isprintable() or len(name) > LONGEST_PATH:
        raise SpecError([Problem("RS209", f"no file can be called {quote(name)}", at)])
    beside = Path(source.name).parent
    itself = False
    try:
        for path in (beside / name, beside / f"{name}.yaml"):
            if _is(path, source.name):
                itself = True
            elif path.is_file():
                return _file(path)
    except OSError as error:  # it may not be read, or its name is too long
        raise SpecError([Problem("RS209", f"{quote(name)} can't be read: {error.strerror}", at)]) from None
    found = bundled.find(name)
    if found is not None:
        return found
    if itself:
        return source  # and so goes in a circle
    raise SpecError([Problem("RS209", f"no file or bundled network named {quote(name)} to extend", at, _advice(name))])


def _advice(name: str) -> str:
    """What to write in place of a name that no network has, or several have."""
    several = bundled.meant(name)
    if several:
        return f"there are {', '.join(several)}"
    bare = name.removesuffix(".yaml")
    near = suggest(bare, bundled.names())
    if "/" in bare or near.startswith("did"):
        return near
    ends = suggest(bare, dict.fromkeys(known.rpartition("/")[2] for known in bundled.names()))
    return ends if ends.startswith("did") else "resnet-spec list names them"


def _is(path: Path, name: str) -> bool:
    """Whether a path is the file of that name: a spec named as the bundled one it extends does not mean itself."""
    other = Path(name)
    return path == other or (other.is_file() and path.exists() and path.samefile(other))


def _file(path: Path) -> Source:
    """A file's text. Of one that is too long, no more is read than shows it."""
    with path.open("rb") as file:
        data = file.read(MAX_CHARACTERS + 1).removeprefix(b"\xef\xbb\xbf")
    if len(data) > MAX_CHARACTERS:
        at = Span(Source(str(path), ""), 1, 1, 1)
        raise SpecError([Problem("RS104", f"{at.file} has more than {MAX_CHARACTERS:,} bytes", at)])
    try:
        return Source(str(path), data.decode())
    except UnicodeDecodeError as error:
        before = len(data[: error.start].decode())
        at = Source(str(path), data.decode(errors="replace")).at(before)
        help = "write the file as UTF-8"
        raise SpecError([Problem("RS105", f"not UTF-8 text: {error.reason}", at, help)]) from None


def _shape(input: Sequence[int]) -> tuple[int, int, int]:
    if len(input) != 3 or not all(isinstance(size, int) and size > 0 for size in input):
        raise ValueError(f"input is (channels, height, width), as in (3, 224, 224), not {tuple(input)!r}")
    channels, height, width = input
    return channels, height, width
