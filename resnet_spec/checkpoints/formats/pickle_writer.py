"""Encode values as pickle opcodes: the few that checkpoints need. Functions and classes are written by name."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterable


def encode_text(text: str) -> bytes:
    """Encode a string."""
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def encode_int(number: int) -> bytes:
    """Encode an integer from -2**31 to 2**71 - 1."""
    if number < 2**31:
        return pickle.BININT + struct.pack("<i", number)
    return pickle.LONG1 + b"\x09" + number.to_bytes(9, "little", signed=True)


def encode_tuple(*items: bytes) -> bytes:
    """Encode a tuple of items that are encoded already."""
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def encode_ints(numbers: Iterable[int]) -> bytes:
    """Encode a tuple of integers."""
    return encode_tuple(*map(encode_int, numbers))


def encode_global(module: str, name: str) -> bytes:
    """Encode a reference to a function or class."""
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def encode_call(function: bytes, arguments: bytes) -> bytes:
    """Encode a call of a function with a tuple of arguments, both encoded already."""
    return function + arguments + pickle.REDUCE


def encode_bytes_header(count: int) -> bytes:
    """Encode what precedes ``count`` bytes of data in protocol 4."""
    return pickle.BINBYTES8 + struct.pack("<Q", count)
