"""A pickle, read as data: a small machine that builds values and writes down calls, and has no means to make one.

``pickle.Unpickler`` runs what a file names, and even with its names restricted a file can make it recurse, hash for ever, or
allocate what a number in the file says. Here a dictionary is a list of pairs, a call is a record, large bytes stay in the file, and the
work is bounded by the file's size.
"""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any, BinaryIO

from resnet_spec.checkpoints.formats.pickle_values import Blob, Called, Named, Outside, Pairs, Pickle, Value
from resnet_spec.checkpoints.formats.tensors import CheckpointError

LARGE = 1024
"""Text and bytes longer than this stay in the file."""

_FEWEST, _PER = 700_000, 100
"""Operations allowed: so many, 35 for each of 20,000 arrays, or one for so many bytes of the file."""

_FIXED = {
    pickle.PROTO: "<B",
    pickle.FRAME: "<Q",
    pickle.BININT: "<i",
    pickle.BININT1: "<B",
    pickle.BININT2: "<H",
    pickle.BINFLOAT: ">d",
    pickle.BINPUT: "<B",
    pickle.LONG_BINPUT: "<I",
    pickle.BINGET: "<B",
    pickle.LONG_BINGET: "<I",
}
_COUNTED = {
    pickle.SHORT_BINUNICODE: "<B",
    pickle.BINUNICODE: "<I",
    pickle.BINUNICODE8: "<Q",
    pickle.SHORT_BINBYTES: "<B",
    pickle.BINBYTES: "<I",
    pickle.BINBYTES8: "<Q",
    pickle.BYTEARRAY8: "<Q",
    pickle.SHORT_BINSTRING: "<B",
    pickle.BINSTRING: "<i",
    pickle.LONG1: "<B",
    pickle.LONG4: "<i",
}
_TEXT = {pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.BINUNICODE8}
_STRING = {pickle.SHORT_BINSTRING, pickle.BINSTRING}
_INTEGER = {pickle.LONG1, pickle.LONG4}


def read(path: str, offset: int, end: int) -> Pickle:
    """The pickle at an offset of a file, which does not reach beyond ``end``. Raises CheckpointError."""
    with Path(path).open("rb") as file:
        file.seek(offset)
        most = max(_FEWEST, os.fstat(file.fileno()).st_size // _PER)
        machine = _Machine(file, end)
        try:
            return Pickle(machine.run(most), machine.outside, file.tell())
        except (IndexError, KeyError, struct.error):
            raise CheckpointError(
                f"{path} is damaged: a pickle that makes no sense before byte {file.tell():,}"
            ) from None
        except _Damaged as error:
            raise CheckpointError(f"{path} is damaged: {error}") from None


class _Damaged(ValueError):
    """A pickle that does not follow the rules, or uses what no checkpoint needs."""


class _Machine:
    def __init__(self, file: BinaryIO, end: int) -> None:
        self.file = file
        self.end = end
        self.stack: list[Value] = []
        self.marks: list[list[Value]] = []
        self.memo: dict[int, Value] = {}
        self.outside: list[Outside] = []

    def run(self, most: int) -> Value:
        for _ in range(most):
            code = self.file.read(1)
            if code == pickle.STOP:
                return self.stack.pop()
            if code in _FIXED:
                self.fixed(code, self.number(_FIXED[code]))
            elif code in _COUNTED:
                self.push(self.counted(code, self.number(_COUNTED[code])))
            elif not self.plain(code) and not self.built(code):
                raise _Damaged(f"expected a pickle's operation at byte {self.file.tell() - 1:,}, found {code!r}")
        raise _Damaged(f"a pickle of more than {most:,} operations, too many for its size")

    def number(self, form: str) -> Any:
        (value,) = struct.unpack(form, self.file.read(struct.calcsize(form)))
        return value

    def fixed(self, code: bytes, value: Any) -> None:
        match code:
            case pickle.PROTO | pickle.FRAME:
                pass
            case pickle.BINPUT | pickle.LONG_BINPUT:
                self.memo[value] = self.stack[-1]
            case pickle.BINGET | pickle.LONG_BINGET:
                self.push(self.memo[value])
            case _:
                self.push(value)

    def counted(self, code: bytes, count: int) -> Value:
        offset = self.file.tell()
        if not 0 <= count <= self.end - offset:
            raise _Damaged(f"expected {count:,} bytes at {offset:,}, found {self.end - offset:,}")
        if count > LARGE:
            if code in _INTEGER:
                raise _Damaged(f"a whole number of {count:,} bytes at {offset:,}")
            self.file.seek(count, 1)
            return Blob(offset, count, code in _TEXT)
        data = self.file.read(count)
        if code in _TEXT:
            return data.decode("utf-8", "replace")
        if code in _STRING:  # of Python 2: text, or bytes that look like it
            return data.decode("latin1")
        return int.from_bytes(data, "little", signed=True) if code in _INTEGER else data

    def plain(self, code: bytes) -> bool:
        """Operations that need nothing from the stack but what lies on top."""
        match code:
            case pickle.NONE:
                self.push(None)
            case pickle.NEWTRUE | pickle.NEWFALSE:
                self.push(code == pickle.NEWTRUE)
            case pickle.EMPTY_TUPLE:
                self.push(())
            case pickle.EMPTY_LIST | pickle.EMPTY_SET:
                self.push([])
            case pickle.EMPTY_DICT:
                self.push(Pairs())
            case pickle.MARK:
                self.marks.append(self.stack)
                self.stack = []
            case pickle.POP:
                self.stack.pop()
            case pickle.POP_MARK:
                self.marked()
            case pickle.MEMOIZE:
                self.memo[len(self.memo)] = self.stack[-1]
            case pickle.GLOBAL:
                self.push(Named(self.line(), self.line()))
            case _:
                return False
        return True

    def built(self, code: bytes) -> bool:
        """Operations that make one value of several."""
        match code:
            case pickle.TUPLE1 | pickle.TUPLE2 | pickle.TUPLE3:
                self.push(self.top(b"\x85\x86\x87".index(code) + 1))
            case pickle.TUPLE | pickle.FROZENSET:
                self.push(tuple(self.marked()))
            case pickle.LIST:
                self.push(self.marked())
            case pickle.DICT:
                self.push(Pairs(_paired(self.marked())))
            case pickle.APPEND | pickle.SETITEM:
                self.put(list(self.top(1 if code == pickle.APPEND else 2)), pairs=code == pickle.SETITEM)
            case pickle.APPENDS | pickle.SETITEMS | pickle.ADDITEMS:
                self.put(self.marked(), pairs=code == pickle.SETITEMS)
            case pickle.STACK_GLOBAL:
                module, name = self.top(2)
                self.push(Named(_word(module), _word(name)))
            case pickle.REDUCE | pickle.NEWOBJ:
                self.push(Called(*self.top(2)))
            case pickle.NEWOBJ_EX:
                function, arguments, _ = self.top(3)
                self.push(Called(function, arguments))
            case pickle.BUILD:
                (state,) = self.top(1)
                if isinstance(self.stack[-1], Called):
                    self.stack[-1].state = state
            case pickle.BINPERSID:
                self.outside.append(Outside(*self.top(1)))
                self.push(self.outside[-1])
            case _:
                return False
        return True

    def push(self, value: Value) -> None:
        self.stack.append(value)

    def top(self, count: int) -> tuple[Value, ...]:
        if len(self.stack) < count:
            raise IndexError
        taken = tuple(self.stack[-count:])
        del self.stack[-count:]
        return taken

    def marked(self) -> list[Value]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def put(self, items: list[Value], pairs: bool) -> None:
        target = self.stack[-1]
        match target:
            case Pairs() | Called() if pairs:
                target.items += _paired(items)
            case list() if not pairs:
                target += items

    def line(self) -> str:
        line = self.file.readline(LARGE)
        if not line.endswith(b"\n"):
            raise _Damaged(f"expected a name before byte {self.file.tell():,}, found {line[:40]!r}")
        return line[:-1].decode("utf-8", "replace")


def _paired(items: list[Value]) -> list[tuple[Value, Value]]:
    if len(items) % 2:
        raise IndexError
    return list(zip(items[::2], items[1::2], strict=True))


def _word(value: Value) -> str:
    if not isinstance(value, str):
        raise _Damaged("a name that is no text")
    return value
