"""Find a model by the name that a user writes: ``file.py:attribute(args)`` or ``module:attribute(args)``.

Only what the user names is run: the file or the module, and the call.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resnet_spec.importing.problems import is_signal

ALIASES = {"timm": "timm.create_model", "torchvision": "torchvision.models.get_model"}
"""Libraries whose models are made by one function, which takes the name."""


def load_named_model(text: str) -> Any:
    """Return the object that a name stands for; a class or a function is called.

    Raises ValueError for a name of another form, and with the error of the user's code if that fails.

    >>> load_named_model("collections:OrderedDict")
    OrderedDict()
    """
    place, colon, attribute = text.rpartition(":") if "(" not in text else _split(text)
    if not colon or not place or not attribute:
        raise ValueError(f"a model is FILE.py:NAME or MODULE:NAME, as in net.py:make_model, not {text!r}")
    name, arguments, keywords = _parse_call(attribute)
    library, _, function = ALIASES.get(place, "").rpartition(".")
    if library and not _has_attribute(place, name):
        place, arguments, name = library, [name, *arguments], function
        if place.startswith("torchvision"):
            keywords = {"weights": None, **keywords}
    with _import_path(place):
        found = _find(_import(place), name, text)
        if isinstance(found, type) or (callable(found) and not _is_model(found)):
            return _run(lambda: found(*arguments, **keywords), f"calling {attribute} of {place}")
        return found


def _split(text: str) -> tuple[str, str, str]:
    head, bracket, tail = text.partition("(")
    place, colon, name = head.rpartition(":")
    return place, colon, f"{name}{bracket}{tail}"


def _parse_call(text: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Return a name, and the arguments in brackets behind it, which are literals."""
    match = re.fullmatch(r"([\w.]+)(\(.*\))?", text, re.DOTALL)
    if match is None:
        raise ValueError(
            f"expected a name, or a call with literal arguments, as in make_model(classes=10), not {text!r}"
        )
    name, call = match.groups()
    try:
        tree = ast.parse(f"f{call or '()'}", mode="eval").body
        assert isinstance(tree, ast.Call)
        arguments = [ast.literal_eval(item) for item in tree.args]
        return name, arguments, {item.arg or "": ast.literal_eval(item.value) for item in tree.keywords}
    except (SyntaxError, ValueError, AssertionError):
        raise ValueError(f"the arguments of {text!r} are no literals, such as 10 or 'relu'") from None


def _has_attribute(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name.partition(".")[0])
    except ImportError:
        return True


@contextmanager
def _import_path(place: str) -> Iterator[None]:
    """Let code import what lies beside it while the context is active."""
    folder = str(Path(place).resolve().parent if place.endswith(".py") else Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _import(place: str) -> Any:
    if not place.endswith(".py"):
        return _run(lambda: importlib.import_module(place), f"importing {place}")
    path = Path(place)
    if not path.is_file():
        raise FileNotFoundError(f"no file named {place!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{place} is no Python file")
    module = importlib.util.module_from_spec(spec)
    is_new = sys.modules.setdefault(path.stem, module) is module  # dataclasses look their module up
    loader = spec.loader
    try:
        _run(lambda: loader.exec_module(module), f"running {place}")
    except BaseException:
        if is_new:
            del sys.modules[path.stem]
        raise
    return module


def _find(module: Any, name: str, text: str) -> Any:
    for part in name.split("."):
        if not hasattr(module, part):
            raise ValueError(f"there is no {part!r} in {text.partition(':')[0]}")
        module = getattr(module, part)
    return module


def _is_model(value: Any) -> bool:
    return hasattr(value, "state_dict") or hasattr(value, "parameters")


def _run(function: Any, what: str) -> Any:
    """Run the user's code; raise ValueError with its error and its place."""
    try:
        return function()
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and is_signal(error):
            raise
        trace, line = error.__traceback__, ""
        while trace is not None:
            line = f" ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})"
            trace = trace.tb_next
        raise ValueError(f"{what} failed: {type(error).__name__}: {error}{line}") from error
