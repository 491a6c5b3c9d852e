"""Load networks: from files, by the names of bundled specs, or from text."""

from __future__ import annotations

import errno
import os
import stat
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from operator import index
from os import PathLike
from pathlib import Path
from reprlib import repr as shorten
from typing import BinaryIO

from resnet_spec.diagnostics.problems import Problem, Problems, Source, Span, SpecError, quote
from resnet_spec.diagnostics.remedies import describe_setting
from resnet_spec.diagnostics.suggestions import suggest
from resnet_spec.expansion.expand import expand
from resnet_spec.language.grammar import PREDEFINED
from resnet_spec.language.inheritance import FindSource, resolve_extends
from resnet_spec.language.options import OPTION_NAMES, decode_options
from resnet_spec.language.reader import read_block, read_spec
from resnet_spec.language.spec import Block, Spec
from resnet_spec.language.values import join_alternatives
from resnet_spec.library import bundled
from resnet_spec.network.network import Network
from resnet_spec.syntax.nodes import Mapping as MappingNode
from resnet_spec.syntax.nodes import Scalar, parse
from resnet_spec.syntax.yaml_events import MAX_BYTES
from resnet_spec.transforms.apply_options import OptionError, with_options
from resnet_spec.transforms.feature_outputs import with_feature_outputs

Setting = int | float | str | bool

MAX_PATH_LENGTH = 1000
SUFFIXES = (".yaml", ".yml")
"""Suffixes of the files that a spec may extend."""
EXTENDS_FROM = "RESNET_SPEC_EXTENDS_FROM"
"""The environment variable with folders of files that specs elsewhere may extend, separated as in PATH."""

_HEAD_BYTES = 512


def load(
    spec: str | PathLike[str],
    *,
    input: Sequence[int] | None = None,
    outputs: Sequence[str] | None = None,
    **settings: Setting,
) -> Network:
    """Load a network: read its spec, check it, expand it and infer every shape.

    Args:
        spec: The path of a YAML file, or the name of a bundled network, such as "resnet50". A file takes precedence.
        input: The shape (channels, height, width) of an image, instead of the spec's own.
        outputs: Paths of parts whose feature maps the network outputs, instead of the output of its head. Parts after
            the last of them are left out. ``Network.features`` lists the possible paths.
        settings: Values for arguments that the spec takes, such as ``classes=10``; for options of any network, such as
            ``output_stride=8`` (see ``resnet_spec.language.options``); or for names that layers refer to, such as
            ``act="silu"``.

    Raises:
        SpecError: The spec has problems. ``problems`` holds all of them, and the message shows the place of each.
        FileNotFoundError: There is no such file and no such bundled network.
        ValueError: ``input`` is not a shape, or ``outputs`` has a path that is not possible.

    >>> network = load("resnet50")
    >>> len(network.weights()), network.weights()["fc.weight"]
    (267, (1000, 2048))
    >>> load("resnet50", classes=10, input=(3, 64, 48)).output_shape
    (10,)
    """
    return load_source(find_source(spec), input=input, outputs=outputs, **settings)


def load_source(
    source: Source, *, input: Sequence[int] | None = None, outputs: Sequence[str] | None = None, **settings: Setting
) -> Network:
    """Load a network from a source, whose name is a path; otherwise see ``load``."""
    network = _load(source, settings, input)
    return network if outputs is None else with_feature_outputs(network, outputs)


def loads(text: str, name: str = "<text>", **settings: Setting) -> Network:
    """Load a network from the text of a spec, which messages call ``name``. Raises SpecError.

    >>> loads("{name: tiny, input: [3, 8, 8], stem: {conv1: {op: conv, out: 4, kernel: 3}}}").output_shape
    (4, 6, 6)
    """
    return _load(Source(name, text.removeprefix("\ufeff")), settings, None)


def _load(source: Source, settings: Mapping[str, Setting], input: Sequence[int] | None) -> Network:
    size = None if input is None else check_input(input)
    problems = Problems()
    root = resolve_extends(source, _base_finder(source), problems)
    if root is None:
        raise SpecError(problems)
    spec = apply_settings(read_spec(root, problems), settings, problems)
    options = decode_options(spec.options, problems)
    spec = spec if size is None else replace(spec, input=size)
    network = expand(spec, bundled_block, bundled.block_files(), problems)
    network = replace(network, settings=tuple((name, _write_setting(value)) for name, value in settings.items()))
    try:
        return with_options(network, options)
    except OptionError as error:
        code = "RS401" if error.has_effect else "RS215"
        raise SpecError([Problem(code, str(error), spec.options[error.option].span, error.help)]) from None


def load_document(source: Source) -> MappingNode:
    """Return the root node of a spec, merged with the specs that it extends. Raises SpecError."""
    problems = Problems()
    root = resolve_extends(source, _base_finder(source), problems)
    problems.stop()
    assert root is not None  # otherwise there is a problem
    return root


def find_source(spec: str | PathLike[str]) -> Source:
    """Return the source of a spec, by its path or bundled name.

    Raises FileNotFoundError if there is none, and SpecError if the file is too long or not UTF-8.
    """
    if not isinstance(spec, str | PathLike):
        loaded = ", which is loaded already" * isinstance(spec, Network)
        raise TypeError(f"a spec is the name of a bundled network or the path of a file, not {shorten(spec)}{loaded}")
    path = Path(spec)
    if path.is_file():
        return _read_file(path)
    source = bundled.find(str(spec))
    if source is None:
        raise FileNotFoundError(f"no file or bundled network named {str(spec)!r}; {_suggest_name(str(spec))}")
    return source


def find_sources(source: Source) -> list[Source]:
    """Return a source and the sources that it extends, in order, as far as they can be read."""
    sources, find_base = [source], _base_finder(source)

    def find(name: str, by: Source, span: Span) -> Source:
        sources.append(find_base(name, by, span))
        return sources[-1]

    with suppress(SpecError, OSError):
        resolve_extends(source, find, Problems())
    return sources


def apply_settings(spec: Spec, settings: Mapping[str, Setting], problems: Problems) -> Spec:
    """Return a spec with settings applied to its arguments, its options and the names in its layers."""
    takes, options, layers = dict(spec.takes), dict(spec.options), dict(spec.layers)
    for name, value in settings.items():
        text = _write_setting(value)
        source = Source(describe_setting(name, text), f"{name}={text}", is_setting=True)
        scalar = Scalar(text, True, Span(source, 1, len(name) + 2, len(name) + 2 + max(1, len(text))))
        written = takes.get(name)
        if isinstance(written, Scalar) and written.plain and written.text == text:
            continue  # it has that value, which need not have an effect
        if name in takes:
            takes[name] = scalar
        elif name in OPTION_NAMES:
            options[name] = scalar
        elif name in layers or name in PREDEFINED:
            layers[name] = scalar
        else:
            span, known = Span(source, 1, 1, len(name) + 1), [*takes, *OPTION_NAMES, *layers, *PREDEFINED]
            problems.report("RS205", f"{spec.name} does not take {quote(name)}", span, suggest(name, known))
    return replace(spec, takes=takes, options=options, layers=layers)


def _write_setting(value: Setting) -> str:
    """Return the value of a setting as it is written in a spec."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@cache
def bundled_block(name: str) -> Block | None:
    """Return a bundled block by its name, or None if there is none."""
    path = bundled.block_files().get(name)
    if path is None:
        return None
    return read_block(parse(Source(str(path), path.read_text(encoding="utf-8"))), name)


def _base_finder(root: Source) -> FindSource:
    """Return a function that finds what ``extends`` names in a spec, or in one that it extends."""
    folders = [Path(root.name).parent, Path(str(bundled.directory()))]
    folders += [Path(folder) for folder in os.environ.get(EXTENDS_FROM, "").split(os.pathsep) if folder]
    return partial(_find_base, root=root, folders=[folder.resolve() for folder in folders])


def _find_base(name: str, source: Source, span: Span, *, root: Source, folders: Sequence[Path]) -> Source:
    """Return the spec that ``extends`` names: a file relative to the spec that extends it, or a bundled network.

    Only YAML files below ``folders`` are read, so that a stranger's spec can't bring the text of another file into a
    message, or tell whether a file exists.
    """
    if not name.isprintable() or len(name) > MAX_PATH_LENGTH:
        raise SpecError([Problem("RS212", f"{quote(name)} is not a valid path", span)])
    folder = Path(source.name).parent
    extends_itself = False
    for candidate in (folder / name, folder / f"{name}.yaml"):
        if candidate.suffix not in SUFFIXES:
            continue
        try:
            if not _is_below(candidate, folders):
                where = f"outside of the folder of {Span(root, 1, 1, 1).file}"
                help = f"move it there; or allow its folder by --extends-from, or by the variable {EXTENDS_FROM}"
                raise SpecError([Problem("RS209", f"{quote(name)} is {where}", span, help)])
            if _is_same_file(candidate, source.name):
                extends_itself = True
            elif candidate.is_file():
                return _read_file(candidate)
        except OSError as error:  # no permission, or the name is too long
            raise SpecError([Problem("RS209", f"cannot read {quote(name)}: {error.strerror}", span)]) from None
    base = bundled.find(name)
    if base is not None:
        return base  # a spec may have the name of the bundled one that it extends
    if extends_itself:
        return source  # the caller reports the circle
    message = f"no file or bundled network named {quote(name)} to extend"
    raise SpecError([Problem("RS209", message, span, _suggest_name(name))])


def _is_below(path: Path, folders: Sequence[Path]) -> bool:
    """Return whether a path is in one of some folders, with links followed."""
    resolved = path.resolve()
    return any(resolved.is_relative_to(folder) for folder in folders)


def _suggest_name(name: str) -> str:
    """Return what to write instead of a name that matches no bundled network, or several of them."""
    matches = bundled.match_name(name)
    if matches:
        return f"several match: {', '.join(matches)}"
    bare = name.removesuffix(".yaml")
    architecture = bare.rpartition(":")[2].partition(".")[0]  # hf-hub:timm/resnet50.a1_in1k
    known = bundled.match_name(architecture)
    if known:
        return f"did you mean {join_alternatives(map(repr, known))}? Names of weights are not part of it"
    suggestion = suggest(bare, bundled.names())
    if "/" in bare or suggestion.startswith("did"):
        return suggestion
    suggestion = suggest(bare, dict.fromkeys(known.rpartition("/")[2] for known in bundled.names()))
    return suggestion if suggestion.startswith("did") else "resnet-spec list prints the bundled networks"


def _is_same_file(path: Path, name: str) -> bool:
    """Return whether a path and a name are the same file."""
    other = Path(name)
    return path == other or (other.is_file() and path.exists() and path.samefile(other))


def is_binary(path: str | PathLike[str]) -> bool:
    """Return whether a file starts like no text, as checkpoints do."""
    return _is_binary(read_start(Path(path))[:_HEAD_BYTES])


def _is_binary(head: bytes) -> bool:
    return b"\0" in head and not head.startswith((BOM_UTF16_LE, BOM_UTF16_BE))


def read_start(path: Path) -> bytes:
    """Return the bytes of a file, of one that is too long for a spec only the first. Raises OSError.

    A pipe or a device, which may never end or never begin, is refused.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read(MAX_BYTES + 4)  # a byte order mark has three bytes


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting for a writer if it is a pipe; Windows has no such pipes."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read_file(path: Path) -> Source:
    """Read a file. Raises SpecError if it is binary or too long, without reading the rest, or not UTF-8; or OSError."""
    return decode_source(read_start(path), str(path))


def read_source(file: BinaryIO, name: str) -> Source:
    """Read an open file. Raises SpecError if it is binary or too long, without reading the rest, or not UTF-8."""
    return decode_source(file.read(MAX_BYTES + 4), name)


def decode_source(data: bytes, name: str) -> Source:
    """Return the first bytes of a file as a source. Raises SpecError if they are binary, too many, or not UTF-8."""
    if _is_binary(data[:_HEAD_BYTES]):
        help = "resnet-spec identify tells which network a checkpoint is for"
        raise SpecError([Problem("RS105", f"{name} is not text", Span(Source(name, ""), 1, 1, 1), help)])
    data = data.removeprefix(b"\xef\xbb\xbf")
    if len(data) > MAX_BYTES:
        span = Span(Source(name, ""), 1, 1, 1)
        raise SpecError([Problem("RS104", f"{span.file} has more than {MAX_BYTES:,} bytes", span)])
    try:
        return Source(name, data.decode())
    except UnicodeDecodeError as error:
        before = len(data[: error.start].decode())
        span = Source(name, data.decode(errors="replace")).locate(before)
        help = "write the file as UTF-8"
        raise SpecError([Problem("RS105", f"not UTF-8 text: {error.reason}", span, help)]) from None


def check_input(input: Sequence[int]) -> tuple[int, int, int]:
    """Return the shape (channels, height, width) of an image as integers. Raises ValueError if it is none."""
    try:
        channels, height, width = map(index, input)  # NumPy's integers too
    except (TypeError, ValueError):
        channels = height = width = 0
    if min(channels, height, width) < 1:
        raise ValueError(f"input must be (channels, height, width), such as (3, 224, 224), not {input!r}")
    return channels, height, width
