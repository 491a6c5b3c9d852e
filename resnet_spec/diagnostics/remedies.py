"""Arguments in errors as the user writes them: as keyword arguments in Python, as options on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# Not a ContextVar: threads that a command starts, such as those of its server, are on the command line too.
_on_command_line = False


@contextmanager
def command_line() -> Iterator[None]:
    """Describe arguments as options of ``resnet-spec`` while the context is active."""
    global _on_command_line
    before, _on_command_line = _on_command_line, True
    try:
        yield
    finally:
        _on_command_line = before


def describe_setting(name: str, value: object) -> str:
    """Return how a setting of a network is written.

    >>> describe_setting("classes", 10)
    'classes=10'
    >>> with command_line():
    ...     describe_setting("classes", 10)
    '--set classes=10'
    """
    return f"--set {name}={value}" if _on_command_line else f"{name}={value}"


def describe_argument(name: str, value: object) -> str:
    """Return how an argument is written that a function and a command share.

    >>> describe_argument("spec", "resnet50")
    'spec="resnet50"'
    >>> with command_line():
    ...     describe_argument("spec", "resnet50")
    '--spec resnet50'
    """
    return f"--{name} {value}" if _on_command_line else f'{name}="{value}"'


def describe_outputs(path: str) -> str:
    """Return how a network is asked for that ends at a part.

    >>> describe_outputs("layer4")
    'outputs=["layer4"]'
    >>> with command_line():
    ...     describe_outputs("layer4")
    '--until layer4'
    """
    return f"--until {path}" if _on_command_line else f'outputs=["{path}"]'


def describe_all(attribute: str) -> str:
    """Return how the rest of a list is seen: as an attribute of the error, or by an option.

    >>> describe_all("problems")
    'error.problems has all'
    >>> with command_line():
    ...     describe_all("problems")
    '--all'
    """
    return "--all" if _on_command_line else f"error.{attribute} has all"
