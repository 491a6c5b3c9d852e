"""The few pickle operations that checkpoints are written with. What is pickled are names, numbers and bytes; nothing is looked up."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterable


def text(word: str) -> bytes:
    data = word.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def whole(number: int) -> bytes:
    """A whole number that is not negative."""
    if number < 2**31:
        return pickle.BININT + struct.pack("<i", number)
    return pickle.LONG1 + b"\x09" + number.to_bytes(9, "little", signed=True)


def row(*items: bytes) -> bytes:
    """A tuple."""
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def wholes(numbers: Iterable[int]) -> bytes:
    """A tuple of whole numbers."""
    return row(*map(whole, numbers))


def named(module: str, name: str) -> bytes:
    """A function or class, by name."""
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def called(function: bytes, arguments: bytes) -> bytes:
    return function + arguments + pickle.REDUCE


def size_of_bytes(count: int) -> bytes:
    """What comes before so many bytes (protocol 4)."""
    return pickle.BINBYTES8 + struct.pack("<Q", count)
