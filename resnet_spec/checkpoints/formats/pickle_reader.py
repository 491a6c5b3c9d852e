"""Read a pickle as data, with a pickle machine that records calls and can't make them.

``pickle.Unpickler`` runs the functions that a file names. Even if the names are restricted, a file can make it recurse
without end, spend hours on hashing, or allocate as much memory as a number in the file says. Here a dictionary is a
list of pairs, a call is a record, long strings stay in the file, and a budget that follows from the file's size bounds
the number of operations and the memory that their values take.
"""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any, BinaryIO

from resnet_spec.checkpoints.formats.budget import Budget
from resnet_spec.checkpoints.formats.pickle_values import Blob, Call, Global, PairList, PersistentId, Pickle, Value
from resnet_spec.checkpoints.formats.tensors import CheckpointError, quote

MAX_INLINE = 1024
"""The longest text or bytes, in bytes, that are read at once; longer ones stay in the file as a Blob."""

_VALUE_COST, _TUPLE_COST, _RECORD_COST, _MEMO_COST, _ITEM_COST = 36, 72, 128, 72, 32
"""Bytes of memory that a number, a tuple or a list, a dictionary or a call, an entry of the memo and an item take."""
_TEXT_COST, _CHARACTER_COST = 32, 4
"""Bytes of memory that a short text takes, and how many of its characters take more."""

# Opcodes that are followed by one number, and opcodes that are followed by a length and as many bytes.
_FIXED_SIZE = {
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
_LENGTH_PREFIXED = {
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
_COSTS = {
    **dict.fromkeys((pickle.EMPTY_LIST, pickle.EMPTY_SET, pickle.LIST, pickle.MARK, pickle.BINPERSID), _TUPLE_COST),
    **dict.fromkeys((pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.FROZENSET), _TUPLE_COST),
    **dict.fromkeys((pickle.EMPTY_DICT, pickle.DICT, pickle.REDUCE, pickle.NEWOBJ, pickle.NEWOBJ_EX), _RECORD_COST),
    **dict.fromkeys((pickle.GLOBAL, pickle.STACK_GLOBAL), _RECORD_COST),
    **dict.fromkeys((pickle.MEMOIZE, pickle.BINPUT, pickle.LONG_BINPUT), _MEMO_COST),
}
"""What an operation takes of the budget, if it is not ``_VALUE_COST``. Every operation takes some, so it ends."""


def read(path: str, offset: int, end: int, budget: Budget) -> Pickle:
    """Read the pickle at an offset of a file, which must not reach beyond ``end``. Raises CheckpointError."""
    with Path(path).open("rb") as file:
        file.seek(offset)
        machine = _Machine(file, end, budget)
        try:
            return Pickle(machine.run(), machine.persistent_ids, file.tell())
        except (IndexError, KeyError, struct.error):
            raise CheckpointError(f"{path} is damaged: invalid pickle before byte {file.tell():,}") from None
        except _InvalidPickle as error:
            raise CheckpointError(f"{path} is damaged: {error}") from None


class _InvalidPickle(ValueError):
    """A pickle that breaks the protocol, or uses a feature that no checkpoint needs."""


class _Machine:
    """A pickle machine: a stack, outer stacks that MARK has set aside, and a memo of earlier values."""

    def __init__(self, file: BinaryIO, end: int, budget: Budget) -> None:
        self.file = file
        self.end = end
        self.budget = budget
        self.stack: list[Value] = []
        self.outer_stacks: list[list[Value]] = []
        self.memo: dict[int, Value] = {}
        self.persistent_ids: list[PersistentId] = []

    def run(self) -> Value:
        """Run opcodes up to STOP, as many as the budget allows, and return the value of the pickle."""
        while True:
            opcode = self.file.read(1)
            self.budget.spend(_COSTS.get(opcode, _VALUE_COST))
            if opcode == pickle.STOP:
                return self.stack.pop()
            if opcode in _FIXED_SIZE:
                self.apply_number(opcode, self.read_number(_FIXED_SIZE[opcode]))
            elif opcode in _LENGTH_PREFIXED:
                self.push(self.read_sized(opcode, self.read_number(_LENGTH_PREFIXED[opcode])))
            elif not self.run_simple(opcode) and not self.run_compound(opcode):
                raise _InvalidPickle(f"expected a pickle opcode at byte {self.file.tell() - 1:,}, found {opcode!r}")

    def read_number(self, form: str) -> Any:
        (value,) = struct.unpack(form, self.file.read(struct.calcsize(form)))
        return value

    def apply_number(self, opcode: bytes, value: Any) -> None:
        match opcode:
            case pickle.PROTO:
                pass
            case pickle.FRAME:
                if value > self.end - self.file.tell():
                    raise _InvalidPickle(f"expected a frame of {value:,} bytes at {self.file.tell():,}, found fewer")
            case pickle.BINPUT | pickle.LONG_BINPUT:
                self.memo[value] = self.stack[-1]
            case pickle.BINGET | pickle.LONG_BINGET:
                self.push(self.memo[value])
            case _:
                self.push(value)

    def read_sized(self, opcode: bytes, size: int) -> Value:
        offset = self.file.tell()
        if not 0 <= size <= self.end - offset:
            raise _InvalidPickle(f"expected {size:,} bytes at {offset:,}, found {self.end - offset:,}")
        if size > MAX_INLINE:
            if opcode in _INTEGER:
                raise _InvalidPickle(f"an integer of {size:,} bytes at {offset:,}")
            self.file.seek(size, 1)
            return Blob(offset, size, opcode in _TEXT)
        self.budget.spend(_TEXT_COST + _CHARACTER_COST * size)
        data = self.file.read(size)
        if opcode in _TEXT:
            return _decode(data)
        if opcode in _STRING:  # Python 2's str may be text or bytes; Latin-1 keeps every byte
            return data.decode("latin1")
        return int.from_bytes(data, "little", signed=True) if opcode in _INTEGER else data

    def run_simple(self, opcode: bytes) -> bool:
        """Run an opcode that takes no values from the stack to combine; return False if this is not one."""
        match opcode:
            case pickle.NONE:
                self.push(None)
            case pickle.NEWTRUE | pickle.NEWFALSE:
                self.push(opcode == pickle.NEWTRUE)
            case pickle.EMPTY_TUPLE:
                self.push(())
            case pickle.EMPTY_LIST | pickle.EMPTY_SET:
                self.push([])
            case pickle.EMPTY_DICT:
                self.push(PairList())
            case pickle.MARK:
                self.outer_stacks.append(self.stack)
                self.stack = []
            case pickle.POP:
                self.stack.pop()
            case pickle.POP_MARK:
                self.pop_to_mark()
            case pickle.MEMOIZE:
                self.memo[len(self.memo)] = self.stack[-1]
            case pickle.GLOBAL:
                self.push(Global(self.read_line(), self.read_line()))
            case _:
                return False
        return True

    def run_compound(self, opcode: bytes) -> bool:
        """Run an opcode that makes one value of several on the stack; return False if this is not one."""
        match opcode:
            case pickle.TUPLE1 | pickle.TUPLE2 | pickle.TUPLE3:
                self.push(self.pop(b"\x85\x86\x87".index(opcode) + 1))
            case pickle.TUPLE | pickle.FROZENSET:
                self.push(tuple(self.pop_to_mark()))
            case pickle.LIST:
                self.push(self.pop_to_mark())
            case pickle.DICT:
                self.push(PairList(_make_pairs(self.pop_to_mark())))
            case pickle.APPEND | pickle.SETITEM:
                self.add_items(list(self.pop(1 if opcode == pickle.APPEND else 2)), opcode == pickle.SETITEM)
            case pickle.APPENDS | pickle.SETITEMS | pickle.ADDITEMS:
                self.add_items(self.pop_to_mark(), opcode == pickle.SETITEMS)
            case pickle.STACK_GLOBAL:
                module, name = self.pop(2)
                self.push(Global(_require_text(module), _require_text(name)))
            case pickle.REDUCE | pickle.NEWOBJ:
                self.push(Call(*self.pop(2)))
            case pickle.NEWOBJ_EX:
                function, arguments, _ = self.pop(3)
                self.push(Call(function, arguments))
            case pickle.BUILD:
                (state,) = self.pop(1)
                if not isinstance(self.stack[-1], Call):
                    raise _InvalidPickle(f"a state set on a {type(self.stack[-1]).__name__}")
                self.stack[-1].state = state
            case pickle.BINPERSID:
                self.persistent_ids.append(PersistentId(*self.pop(1)))
                self.push(self.persistent_ids[-1])
            case _:
                return False
        return True

    def push(self, value: Value) -> None:
        self.stack.append(value)

    def pop(self, count: int) -> tuple[Value, ...]:
        """Take the last ``count`` values from the stack, the last one pushed at the end."""
        if len(self.stack) < count:
            raise IndexError
        values = tuple(self.stack[-count:])
        del self.stack[-count:]
        return values

    def pop_to_mark(self) -> list[Value]:
        """Take all values since the last MARK."""
        items, self.stack = self.stack, self.outer_stacks.pop()
        return items

    def add_items(self, items: list[Value], are_pairs: bool) -> None:
        """Add items to the list, or pairs to the dictionary, on top of the stack.

        The items of a call's result, such as a deque, are kept as pairs of an index and an item.
        """
        target = self.stack[-1]
        self.budget.spend(_ITEM_COST * len(items))
        match target:
            case PairList() | Call() if are_pairs:
                target.items += _make_pairs(items)
            case list() if not are_pairs:
                target += items
            case Call():
                target.items += enumerate(items, len(target.items))
            case _:
                raise _InvalidPickle(f"items added to a {type(target).__name__}")

    def read_line(self) -> str:
        line = self.file.readline(MAX_INLINE)
        if not line.endswith(b"\n"):
            raise _InvalidPickle(f"expected a name before byte {self.file.tell():,}, found {line[:40]!r}")
        self.budget.spend(_CHARACTER_COST * len(line))
        return _decode(line[:-1])


def _make_pairs(items: list[Value]) -> list[tuple[Value, Value]]:
    if len(items) % 2:
        raise IndexError
    return list(zip(items[::2], items[1::2], strict=True))


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")  # as pickle writes and reads it
    except UnicodeDecodeError:
        raise _InvalidPickle(f"expected text, found {quote(data)}") from None


def _require_text(value: Value) -> str:
    if not isinstance(value, str):
        raise _InvalidPickle(f"the name of a function or class is a {type(value).__name__}, not a string")
    return value
