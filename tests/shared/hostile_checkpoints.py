"""Make checkpoints that attack their reader, any number in each format, and read them under limits.

A file follows from its format and its number. The first numbers of a format give each of its attacks once, so a few
files try all of them. From the repository's root,

    PYTHONPATH=tests python -m shared.hostile_checkpoints 2000

reads that many of each format, and prints how many were refused and what the worst one took.
"""

from __future__ import annotations

import json
import math
import pickle
import shutil
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from resnet_spec.checkpoints.formats import registry
from resnet_spec.checkpoints.formats.pickle_writer import encode_call, encode_global, encode_text, encode_tuple
from resnet_spec.checkpoints.formats.tensors import Tensor
from shared.file_corruption import (
    STORAGE,
    corrupt,
    draw_count,
    pick,
    wrap_in_torch_legacy,
    wrap_in_torch_zip,
)
from shared.hostile_containers import CONTAINER_ATTACKS
from shared.limited_reader import MAX_CPU_SECONDS, LimitedReader, check_refusal
from shared.machine_speed import scaled

Random: TypeAlias = np.random.Generator
Attack: TypeAlias = Callable[[Random, Path], None]
"""Writes a file or a folder."""


# -- pickles ------------------------------------------------------------------------------------------------------

INTEGERS = [0, 1, -1, 3, 255, 2**15, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63, 2**64, -(2**63), 2**200, 2**8000]
TEXTS = ["", "0", "storage", "a.b", "..", "a\nb", "\x1b[2J", "é" * 40, "w" * 1000, "w" * 3000, "\ud800", "torch.Size"]
GLOBALS = [
    ("torch", "FloatStorage"),
    ("torch", "Float8Storage"),
    ("torch.storage", "UntypedStorage"),
    ("torch", "QInt8Storage"),
    ("torch", "float8_e5m2"),
    ("torch", "Size"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("collections", "OrderedDict"),
    ("os", "system"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_sparse_tensor"),
    ("torch._tensor", "_rebuild_from_type_v2"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
]


def encode_number(number: int) -> bytes:
    data = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    if len(data) < 256:
        return pickle.LONG1 + bytes([len(data)]) + data
    return pickle.LONG4 + struct.pack("<i", len(data)) + data


def encode_any_text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def share(random: Random) -> bytes:
    """Encode a value that holds the one before it twice, and so on: as many as two to the number of levels."""
    levels = int(random.integers(5, 60))
    base = 100 + int(random.integers(100))
    start = pickle.EMPTY_TUPLE + pickle.BINPUT + bytes([base]) + pickle.POP
    last = min(levels, 250 - base)
    for level in range(base, base + last):
        get = pickle.BINGET + bytes([level])
        start += get + get + pickle.TUPLE2 + pickle.BINPUT + bytes([level + 1]) + pickle.POP
    return start + pickle.BINGET + bytes([base + last])


def encode_value(random: Random, depth: int = 0) -> bytes:
    """Encode a value of any kind, most of which have no place in a checkpoint."""
    plain = [
        lambda: pickle.NONE,
        lambda: pickle.NEWTRUE,
        lambda: encode_number(pick(random, INTEGERS)),
        lambda: encode_any_text(pick(random, TEXTS)),
        lambda: pickle.BINFLOAT + struct.pack(">d", pick(random, (0.5, math.nan, math.inf, 1e300))),
        lambda: pickle.BINBYTES + struct.pack("<I", 3) + b"\xff\0a",
        lambda: encode_global(*pick(random, GLOBALS)),
        lambda: pickle.EMPTY_DICT,
        lambda: share(random),
        lambda: pickle.EMPTY_TUPLE + pickle.TUPLE1 * int(random.integers(1, 3000)),
        lambda: pickle.EMPTY_LIST + pickle.BINPUT + b"\x09" + pickle.BINGET + b"\x09" + pickle.APPEND,  # holds itself
    ]
    nested = [
        lambda: encode_tuple(*[encode_value(random, depth + 1) for _ in range(int(random.integers(0, 5)))]),
        lambda: pickle.EMPTY_LIST + pickle.MARK + encode_value(random, depth + 1) + pickle.APPENDS,
        lambda: encode_call(encode_global(*pick(random, GLOBALS)), encode_value(random, depth + 1)),
        lambda: encode_value(random, depth + 1) + pickle.BINPERSID,
        lambda: pickle.EMPTY_DICT + encode_value(random, depth + 1) + encode_value(random, depth + 1) + pickle.SETITEM,
        lambda: encode_tuple(*[encode_number(pick(random, INTEGERS)) for _ in range(int(random.integers(0, 40)))]),
    ]
    return bytes(pick(random, plain if depth > 3 or random.random() < 0.5 else nested)())


def encode_torch_tensor(random: Random, odds: float) -> bytes:
    """Encode a tensor of two numbers, each of whose arguments is replaced by any value with these odds."""
    fields = [STORAGE[:-2] + b"t" + pickle.BINPERSID, b"K\0", b"K\2\x85", b"K\1\x85", pickle.NEWFALSE, pickle.NONE]
    function = pick(random, ("_rebuild_tensor_v2",) * 6 + ("_rebuild_tensor", "_rebuild_tensor_v3", "_rebuild_qtensor"))
    if function == "_rebuild_tensor_v3" or random.random() < 0.2:
        fields.append(encode_global("torch", pick(random, ("float32", "uint16", "float8_e5m2", "bits8", "complex64"))))
    if random.random() < 0.2:
        fields.append(
            pickle.EMPTY_DICT + encode_text(pick(random, ("neg", "conj", "x"))) + pickle.NEWTRUE + pickle.SETITEM
        )
    fields = [encode_value(random) if random.random() < odds else field for field in fields]
    if random.random() < odds:
        fields[0] = encode_storage(random)
    return encode_call(encode_global("torch._utils", function), encode_tuple(*fields))


def encode_storage(random: Random) -> bytes:
    fields = [
        encode_text("storage"),
        encode_global("torch", "FloatStorage"),
        encode_text("0"),
        encode_text("cpu"),
        b"K\4",
    ]
    fields = [encode_value(random) if random.random() < 0.3 else field for field in fields]
    if random.random() < 0.5:
        fields.append(encode_value(random))
    return encode_tuple(*fields) + pickle.BINPERSID


def encode_numpy_array(random: Random, odds: float) -> bytes:
    """Encode an array of two numbers, each of whose fields is replaced by any value with these odds."""
    code = encode_text(pick(random, ("f4", "f4", "f4", "u2", "c16", "O8", "U5", "V4", "M8", "f16")))
    dtype = encode_call(encode_global("numpy", "dtype"), encode_tuple(code, pickle.NEWFALSE, pickle.NEWTRUE))
    order = encode_text(pick(random, ("<", "<", ">", "|", "=", "x")))
    state = encode_tuple(b"K\3", order, *[pickle.NONE] * 3, *[b"J\xff\xff\xff\xff"] * 2, b"K\0")
    data = pickle.BINBYTES + struct.pack("<I", 8) + bytes(8)
    if random.random() < 0.3:
        data = encode_call(
            encode_global("_codecs", "encode"), encode_tuple(encode_any_text("\xff" * 8), encode_text("latin1"))
        )
    fields = [b"K\1", b"K\2\x85", dtype + state + pickle.BUILD, pickle.NEWFALSE, data]
    fields = [encode_value(random) if random.random() < odds else field for field in fields]
    arguments = encode_tuple(encode_global("numpy", "ndarray"), b"K\0\x85", pickle.SHORT_BINBYTES + b"\1b")
    made = encode_call(encode_global("numpy.core.multiarray", "_reconstruct"), arguments)
    return made + encode_tuple(*fields) + pickle.BUILD


Encode: TypeAlias = Callable[[Random, float], bytes]
"""Encodes an array, with the odds of a hostile value in place of each of its fields."""


def encode_dict(items: list[tuple[bytes, bytes]]) -> bytes:
    return pickle.EMPTY_DICT + pickle.MARK + b"".join(key + value for key, value in items) + pickle.SETITEMS


def finish(value: bytes) -> bytes:
    return pickle.PROTO + b"\4" + value + pickle.STOP


def make_fields(random: Random, encode: Encode) -> bytes:
    return finish(encode_dict([(encode_text(f"w{n}"), encode(random, 0.3)) for n in range(int(random.integers(1, 6)))]))


def make_keys(random: Random, encode: Encode) -> bytes:
    return finish(encode_dict([(encode_value(random), encode(random, 0)) for _ in range(int(random.integers(1, 9)))]))


def make_shared_array(random: Random, encode: Encode) -> bytes:
    """One array under many names, each of which is a long text that is in the file once."""
    count = draw_count(random, 16)
    key = encode_text("k" * int(random.integers(1, 1000))) + pickle.BINPUT + b"\1" + pickle.POP
    inner = (pickle.BINGET + b"\1" if random.random() < 0.5 else b"") or encode_text("k")
    items = b"".join(encode_number(n) + encode_dict([(inner, pickle.BINGET + b"\2")]) for n in range(count))
    return finish(key + encode(random, 0) + pickle.BINPUT + b"\2" + pickle.POP + b"}(" + items + b"u")


def make_name_levels(random: Random, encode: Encode) -> bytes:
    """Mappings in mappings: a name holds the names of all the levels above it."""
    levels, count = int(random.integers(2, 40)), draw_count(random, 14)
    length = int(random.integers(1, 1020))
    value = b"}(" + b"".join(encode_number(n) + pickle.BINGET + b"\2" for n in range(count)) + b"u"
    for _ in range(levels):
        value = b"}" + encode_text("g" * length) + value + b"s"
    return finish(encode(random, 0) + pickle.BINPUT + b"\2" + pickle.POP + value)


def make_mapping_levels(random: Random, encode: Encode) -> bytes:
    """Mappings that hold the one before them twice: the number of names doubles with each level."""
    value = encode_dict([(encode_text("w"), encode(random, 0))]) + pickle.BINPUT + b"\1" + pickle.POP
    levels = int(random.integers(3, 90))
    for n in range(1, levels):
        get = pickle.BINGET + bytes([n])
        kind = b"}(" + encode_text("a") + get + encode_text("b") + get + b"u"
        value += (
            (kind if random.random() < 0.7 else b"](" + get + get + b"e") + pickle.BINPUT + bytes([n + 1]) + pickle.POP
        )
    return finish(value + b"}" + encode_text("x") + pickle.BINGET + bytes([levels]) + b"s")


def make_modules(random: Random, encode: Encode) -> bytes:
    """A module in a module, and so on, whose fields hold arrays, the module before it, or any value."""
    fields = ("_parameters", "_buffers", "_modules")
    value = encode(random, 0)
    for level in range(int(random.integers(1, 45))):
        name = pick(random, ("torch.nn.modules.conv", "__torch__.torch.nn", "my.models"))
        made = encode_call(encode_global(name, "Net"), pickle.EMPTY_TUPLE) + pickle.BINPUT + bytes([100 + level])
        items = [
            (encode_text(field), encode_dict([(encode_text("a"), pick(random, (value, encode(random, 0.1), b"}")))]))
            for field in fields
        ]
        if random.random() < 0.1:
            items[2] = (
                encode_text("_modules"),
                encode_dict([(encode_text("me"), pickle.BINGET + bytes([100 + level]))]),
            )
        if random.random() < 0.1:
            items[1] = (encode_text("_buffers"), encode_value(random))
        value = made + encode_dict(items) + pickle.BUILD
    return finish(value)


def make_flood(random: Random, encode: Encode) -> bytes:
    """One operation, or a few, as often as the file has room for."""
    start, step, end = pick(
        random,
        (
            (b"(", b"]", b"l"),
            (b"(", b"}", b"l"),
            (b"", b"(", b""),
            (b")", b"\x94", b""),
            (b")", b"\x85", b""),
            (b"]", b"]a", b""),
            (b"(", b"ca\nb\n", b"l"),
            (b"(", b"ca\nb\n)R", b"l"),
            (b")", b"Q", b""),
            (b")q\0", b"h\0h\0\x86q\0", b""),
            (b"(", b"K\1", b"l"),
            (b"(", b"\x8a\xff" + b"\1" * 255, b"l"),
            (b"(", b"\x8c\4\xf0\x9f\x98\x80", b"l"),
            (b"(", b"X\xff\3\0\0\xf0\x9f\x98\x80" + b"a" * 1019, b"l"),
            (b"", b"\x80\2", b"]"),
            (b"]", b"N0", b""),
            (b"]q\0", b"h\0a", b""),
            (b"}q\0", b"Nh\0s", b""),
            (b"ca\nb\n", b")R", b""),
            (b"ca\nb\n)R", b"}b", b""),
        ),
    )
    count = draw_count(random, 20) // len(step)
    return finish(start + step * count + (end or b"0" * 0))


def make_soup(random: Random, encode: Encode) -> bytes:
    """Values and operations in any order."""
    operations = [
        b"t",
        b"l",
        b"d",
        b"u",
        b"e",
        b"a",
        b"s",
        b"b",
        b"R",
        b"\x81",
        b"\x92",
        b"Q",
        b"\x85",
        b"\x86",
        b"\x87",
        b"0",
    ]
    operations += [
        b"2",
        b"1",
        b"(",
        b"(",
        b"}",
        b"]",
        b"\x94",
        b"h\0",
        b"\x93",
        b"\x91",
        b"\x90",
        b"\x8f",
        b"\x95" + bytes(8),
    ]
    parts = [pick(random, operations) if random.random() < 0.6 else encode_value(random) for _ in range(60)]
    return finish(b"}(" + b"".join(parts))


def make_values(random: Random, encode: Encode) -> bytes:
    return finish(encode_dict([(encode_text(f"v{n}"), encode_value(random)) for n in range(8)]))


def make_corrupted_pickle(random: Random, encode: Encode) -> bytes:
    valid = finish(encode_dict([(encode_text(f"w{n}"), encode(random, 0)) for n in range(20)]))
    return corrupt(random, valid)


def make_many_arrays(random: Random, encode: Encode) -> bytes:
    items = b"".join(encode_text(f"{n}") + encode(random, 0) for n in range(draw_count(random, 12)))
    return finish(b"}(" + items + b"u")


def make_expanded(random: Random, encode: Encode) -> bytes:
    """Views that repeat one number, up to the largest shapes, and all of them of the same storage."""
    items = []
    for index in range(int(random.integers(1, 40))):
        axes = int(random.integers(0, 40))
        sizes = [int(2 ** random.uniform(0, 30 / max(axes, 1))) for _ in range(axes)]
        strides = [int(pick(random, (0, 0, 1, 2**31, 2**70))) for _ in sizes]
        view = [b"K\0", *[encode_tuple(*map(encode_number, numbers)) for numbers in (sizes, strides)], b"\x89", b"N"]
        tensor = encode_call(encode_global("torch._utils", "_rebuild_tensor_v2"), encode_tuple(STORAGE, *view))
        items.append((encode_text(f"w{index}"), tensor))
    return finish(encode_dict(items))


PICKLES = [
    make_fields,
    make_modules,
    make_keys,
    make_shared_array,
    make_name_levels,
    make_mapping_levels,
    make_flood,
    make_soup,
    make_values,
    make_corrupted_pickle,
    make_many_arrays,
    make_expanded,
]


def attack_by_pickle(make: Callable[[Random, Encode], bytes], encode: Encode, wrap: Callable[[bytes], bytes]) -> Attack:
    return lambda random, path: void(path.write_bytes(wrap(make(random, encode))))


def void(_: object) -> None:
    """Return nothing, whatever was returned."""


# -- safetensors --------------------------------------------------------------------------------------------------

JSON_VALUES = [
    "null", "true", "-1", "0", "1e400", "NaN", "1" * 5000, str(2**63), str(2**64), "[]", "{}", '""', '"F32"', '"F4"',
    "[" * 200 + "]" * 200, "[" * 100_000, '"\\ud800"', '"\\u0000"', '"a\\nb"', "[1.5]", "[-1]", "[0, 0]", "[4, 0]",
    f"[{2**62}, 4]", f"[0, {2**62}]", "[" + "1," * 200 + "1]", '{"crc32": null}', '{"crc32": "zz"}', '{"crc32": "00"}',
]  # fmt: skip


def make_header(random: Random, odds: float) -> str:
    """Return a header of arrays of two numbers, each of whose values is replaced by any JSON with these odds."""
    items, at = [], 0
    if random.random() < 0.5:
        items.append(f'"__metadata__": {pick(random, JSON_VALUES) if random.random() < odds else "{}"}')
    for index in range(int(random.integers(1, 6))):
        fields = {"dtype": '"F32"', "shape": "[2]", "data_offsets": f"[{at}, {at + 8}]"}
        at += 8
        fields = {name: pick(random, JSON_VALUES) if random.random() < odds else text for name, text in fields.items()}
        name = pick(random, ('"w"', '"a\\nb"', '"\\ud800"', '"\\u0000"')) if random.random() < odds else f'"w{index}"'
        inner = ", ".join(f'"{key}": {text}' for key, text in fields.items())
        items.append(f"{name}: {{{inner}}}")
    return "{" + ", ".join(items) + "}"


def write_header(path: Path, header: bytes, data: bytes, length: int | None = None) -> None:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)


def attack_values(random: Random, path: Path) -> None:
    write_header(path, make_header(random, 0.2).encode(), bytes(80))


def attack_header_length(random: Random, path: Path) -> None:
    length = int(pick(random, (0, 1, 2, 7, 100, 2**31, 2**40, 2**63, 2**64 - 1)))
    write_header(path, make_header(random, 0).encode(), bytes(80), length)


def attack_header_bytes(random: Random, path: Path) -> None:
    header = corrupt(random, make_header(random, 0).encode() + b" " * 3000)
    write_header(path, header, bytes(80))


def attack_header_size(random: Random, path: Path) -> None:
    """A header of a megabyte: of many arrays, of equal ones, of long names, or of one value."""
    count = draw_count(random, 14)
    item = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    name = pick(random, ("{}", "w", "{}" + "w" * (2**20 // count // 2), "a.{}"))
    header = "{" + ",".join(f'"{name.format(index)}":{item}' for index in range(count)) + "}"
    write_header(path, header.encode()[: 2**21], b"")


def attack_header_nesting(random: Random, path: Path) -> None:
    count = draw_count(random, 20)
    text = pick(
        random, ('{"a":' * count + "1" + "}" * count, "[" * count, '{"w": ' + "[" * count, '{"__metadata__":' * count)
    )
    write_header(path, text.encode()[: 2**20], b"")


def attack_valid_bytes(kind: str) -> Attack:
    def attack(random: Random, path: Path) -> None:
        registry.write(path, kind, make_tensors(), {"spec": "resnet18"})
        path.write_bytes(corrupt(random, path.read_bytes()))

    return attack


def make_tensors() -> dict[str, Tensor]:
    arrays = {f"layer{index}.w": np.full((3, 4), index, np.float32) for index in range(6)}
    return {name: Tensor(array.shape, array.dtype, array.copy) for name, array in arrays.items()}


# -- archives -----------------------------------------------------------------------------------------------------

DESCRIPTIONS = ["'<f4'", "'|O'", "'<U5'", "'|V2'", "'<c16'", "[('a', '<f4')]", "('<f4', (2,))", "1", "None", "'x'"]
SHAPES = ["(2,)", "()", "(0,)", "(-1,)", "(True,)", "(2.0,)", "2", "None", "[2]", f"({2**62},)", f"({2**62}, {2**62})"]
SHAPES += ["(" + "1," * 100 + ")", "(" + "2," * 100 + ")", "(" * 1000 + ")" * 1000, f"({'9' * 3000},)", "(0, 2**70)"]


def make_npy(random: Random, odds: float, data: bytes) -> bytes:
    fields = [pick(random, DESCRIPTIONS), pick(random, ("False", "True", "1", "None")), pick(random, SHAPES)]
    valid = ["'<f4'", "False", f"({len(data) // 4},)"]
    descr, fortran, shape = (bad if random.random() < odds else good for bad, good in zip(fields, valid, strict=True))
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"
    if random.random() < odds / 4:
        header = pick(random, ("(" * 3000, "-" * 3000 + "1", "[" * 3000, "{}", "", "'" * 3, "\0", "é", "lambda: 0"))
    version = pick(random, ((1, 0), (2, 0), (3, 0), (9, 9))) if random.random() < odds / 4 else (1, 0)
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header.encode()))
    return b"\x93NUMPY" + bytes(version) + length + header.encode() + data


def write_archive(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def attack_npy_headers(random: Random, path: Path) -> None:
    method = pick(random, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    write_archive(path, {f"w{n}.npy": make_npy(random, 0.2, bytes(8)) for n in range(4)}, method)


def attack_inflation(random: Random, path: Path) -> None:
    """Zeros compress a thousandfold."""
    data = bytes(draw_count(random, 27))
    write_archive(path, {"w.npy": make_npy(random, 0, data)}, zipfile.ZIP_DEFLATED)
    if random.random() < 0.5:
        path.write_bytes(corrupt(random, path.read_bytes()))


def attack_inflated_size(random: Random, path: Path) -> None:
    """The directory claims another size than the data have."""
    write_archive(path, {"w.npy": make_npy(random, 0, bytes(4000))}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2") + int(pick(random, (16, 20, 24, 42)))
    data[at : at + 4] = struct.pack("<I", int(pick(random, (0, 1, 100, 10_000, 2**26, 2**31, 2**32 - 1))))
    path.write_bytes(data)


def attack_many_entries(random: Random, path: Path) -> None:
    """As many entries as a directory of a megabyte holds, at one place or each at its own."""
    count = draw_count(random, 14)
    apart = random.random() < 0.5
    body = make_npy(random, 0, bytes(8))
    local, central = bytearray(), bytearray()
    for index in range(count):
        name = b"%d.npy" % (index if apart or random.random() < 0.999 else 0)
        sizes = (zlib.crc32(body), len(body), len(body), len(name))
        offset = len(local) if apart else 0
        central += struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 33, *sizes, 0, 0, 0, 0, 0, offset) + name
        if apart or not index:
            local += struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, *sizes, 0) + name + body
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count % 2**16, count % 2**16, len(central), len(local), 0)
    path.write_bytes(bytes(local) + bytes(central) + end)


def attack_zip64(random: Random, path: Path) -> None:
    """The 64-bit record of the directory claims other sizes."""
    write_archive(path, {f"w{n}.npy": make_npy(random, 0, bytes(8)) for n in range(3)})
    data = path.read_bytes()
    numbers = [int(pick(random, (0, 3, 100, 2**31, 2**40, 2**63, 2**64 - 1))) for _ in range(4)]
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, *numbers)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, int(pick(random, (0, len(data) - 22, 2**63))), 1)
    path.write_bytes(data[:-22] + (record if random.random() < 0.8 else b"") + locator + data[-22:])


def attack_entry_names(random: Random, path: Path) -> None:
    names = [
        "w.npy",
        "../w.npy",
        "/w.npy",
        "a/b.npy",
        "w" * 2000 + ".npy",
        "a\nb.npy",
        "é.npy",
        ".npy",
        "w",
        "data.pkl",
    ]
    names += ["x/data.pkl", "y/data.pkl", "x/constants.pkl", "x/byteorder", "x/data/0"]
    chosen = {pick(random, names): make_npy(random, 0, bytes(8)) for _ in range(int(random.integers(1, 5)))}
    write_archive(path, chosen)
    if random.random() < 0.5:
        with zipfile.ZipFile(path, "a") as archive:
            archive.comment = pick(random, (b"{", b"{}", b"[1]", b'{"crc32": 1}', b"x" * 60_000, b"PK\5\6" + bytes(18)))


def attack_torch_members(random: Random, path: Path) -> None:
    """Members beside the pickle that are hostile: the byte order, the storages and the metadata."""
    value = encode_dict([(encode_text("w"), encode_torch_tensor(random, 0))])
    members = {"archive/data.pkl": finish(value), "archive/data/0": bytes(16)}
    members["archive/byteorder"] = pick(random, (b"big", b"little", b"", b"\xff" * 1000, bytes(2**20)))
    members["archive/extra/resnet_spec.json"] = pick(
        random, (b"{", b"[]", b'{"a": 1}', b"[" * 10**6, b"\xff", bytes(2**22))
    )
    write_archive(path, members, pick(random, (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


# -- Orbax --------------------------------------------------------------------------------------------------------

ZARR_VALUES: list[Any] = [
    None, -1, 0, 1, 2**31, 2**62, 2**70, 1.5, "x", "", [], {}, [1], [-1], [2**40], [2**62, 2**62], [1] * 100, [0],
    [2, 2], "<f8", "|O", "float8_e4m3fn", "<U5", [["a", "<f4"]], {"id": "zlib", "level": 1}, {"id": "blosc"},
    {"id": "zstd"}, {"id": "x"}, "F", True,
]  # fmt: skip
NODES: list[Any] = [
    None, 1, "x", [], {}, {"key_metadata": 1}, {"key_metadata": [{"key": "../.."}]}, {"key_metadata": [{"key": 5}, 7]},
    {"key_metadata": [{"key": "a\nb"}], "value_metadata": {"value_type": "np.ndarray"}},
    {"key_metadata": [{"key": ".."}], "value_metadata": {"value_type": "jax.Array"}},
    {"key_metadata": [{"key": "w0"}], "value_metadata": {"value_type": "np.ndarray"}},
    {"key_metadata": [{"key": "w0"}], "value_metadata": {"value_type": "jax.random.key"}},
    {"key_metadata": [{"key": "none"}], "value_metadata": {"value_type": "np.ndarray"}},
    {"key_metadata": [{"key": "k" * 3000}], "value_metadata": {"value_type": "np.ndarray"}},
]  # fmt: skip


def write_folder(random: Random, path: Path) -> None:
    """Write a folder of three arrays, half of the time without their checksums, which refuse most changes."""
    tensors = {f"w{index}": tensor for index, tensor in enumerate(list(make_tensors().values())[:3])}
    registry.write(path, "orbax", tensors, {})
    if random.random() < 0.5:
        (path / "_CHECKPOINT_METADATA").unlink()


def change_json(file: Path, change: Callable[[Any], None]) -> None:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def attack_zarr(random: Random, path: Path) -> None:
    write_folder(random, path)

    def change(data: dict[str, Any]) -> None:
        for _ in range(int(random.integers(1, 3))):
            data[pick(random, list(data))] = pick(random, ZARR_VALUES)

    change_json(path / "w1" / ".zarray", change)


def attack_chunks(random: Random, path: Path) -> None:
    """A chunk of zeros that is far larger than the file, or than the array."""
    write_folder(random, path)
    count = draw_count(random, 25)
    shape = [count] if random.random() < 0.5 else [int(random.integers(1, 5))]
    fields = {"shape": shape, "chunks": [count], "compressor": {"id": "zlib", "level": 9}}
    change_json(path / "w1" / ".zarray", lambda data: data.update(fields))
    (path / "w1" / "0").write_bytes(zlib.compress(bytes(4 * count), 9))


def attack_tree(random: Random, path: Path) -> None:
    write_folder(random, path)

    def change(data: dict[str, Any]) -> None:
        nodes = data["tree_metadata"]
        nodes[pick(random, list(nodes))] = pick(random, NODES)
        if random.random() < 0.3:
            data[pick(random, list(data))] = pick(random, ZARR_VALUES)

    change_json(path / "_METADATA", change)


def attack_tree_text(random: Random, path: Path) -> None:
    write_folder(random, path)
    file = pick(random, sorted(path.glob("_*")))
    count = draw_count(random, 21)
    file.write_text(
        pick(random, ("[" * count, '{"a":' * count, "1" * count, "{}", "", '{"tree_metadata": ' + "1" * count, "nan"))
    )


def attack_files(random: Random, path: Path) -> None:
    write_folder(random, path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    file = pick(random, files)
    match int(random.integers(5)):
        case 0:
            file.unlink()
        case 1:
            file.unlink()
            file.mkdir()
        case 2:
            file.unlink()
            file.symlink_to(pick(random, ("/dev/zero", ".", "missing", str(file))))
        case _:
            file.write_bytes(corrupt(random, file.read_bytes() + bytes(1)))


def attack_many_nodes(random: Random, path: Path) -> None:
    write_folder(random, path)
    count = draw_count(random, 11)

    def change(data: dict[str, Any]) -> None:
        node = next(iter(data["tree_metadata"].values()))
        for index in range(count):
            keys = [{"key": f"{index}"}] if random.random() < 0.999 else node["key_metadata"]
            data["tree_metadata"][f"more{index}"] = {**node, "key_metadata": keys}

    change_json(path / "_METADATA", change)


# -- all formats --------------------------------------------------------------------------------------------------


def _pickles(encode: Encode, wrap: Callable[[bytes], bytes]) -> list[Attack]:
    return [attack_by_pickle(make, encode, wrap) for make in PICKLES]


ATTACKS: Mapping[str, list[Attack]] = {
    "safetensors": [
        attack_values,
        attack_header_length,
        attack_header_bytes,
        attack_header_size,
        attack_header_nesting,
        attack_valid_bytes("safetensors"),
    ],
    "torch": [*_pickles(encode_torch_tensor, wrap_in_torch_zip), attack_torch_members, attack_valid_bytes("torch")],
    "torch of before 1.6": _pickles(encode_torch_tensor, wrap_in_torch_legacy),
    "paddle": [*_pickles(encode_numpy_array, bytes), attack_valid_bytes("paddle")],
    "npz": [
        attack_npy_headers,
        attack_inflation,
        attack_inflated_size,
        attack_many_entries,
        attack_zip64,
        attack_entry_names,
        attack_valid_bytes("npz"),
    ],
    **CONTAINER_ATTACKS,
    "orbax": [attack_zarr, attack_chunks, attack_tree, attack_tree_text, attack_files, attack_many_nodes],
}
"""The attacks by format."""


def write_hostile(kind: str, number: int, path: Path) -> None:
    """Write the hostile file of a format with this number."""
    attacks = ATTACKS[kind]
    attacks[number % len(attacks)](np.random.default_rng([zlib.crc32(kind.encode()), number]), path)


def attack(kind: str, numbers: range, folder: Path, reader: LimitedReader) -> Iterator[tuple[int, Any]]:
    """Read hostile files under limits and yield what came of each. Raises AssertionError with the file's number."""
    for number in numbers:
        path = folder / "w"
        write_hostile(kind, number, path)
        try:
            outcome = reader.read(path)
            if outcome.error:
                check_refusal(path, outcome)
        except AssertionError as error:
            raise AssertionError(f"{kind}, file {number}: {error}") from error
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        yield number, outcome


def main(count: int) -> None:
    """Print a line for each format: how many of its hostile files were refused, and what the worst took."""
    print(f"at most {scaled(MAX_CPU_SECONDS):.0f} s of processor time for a megabyte are allowed on this machine")
    print(f"{'format':20} {'files':>6} {'refused':>8} {'read':>6} {'longest':>9} {'most memory':>12}")
    for kind in ATTACKS:
        reader = LimitedReader()  # a new one, since its memory is the most that it has ever taken
        with tempfile.TemporaryDirectory() as folder:
            outcomes = [outcome for _, outcome in attack(kind, range(count), Path(folder), reader)]
        reader.close()
        refused = sum(bool(outcome.error) for outcome in outcomes)
        seconds, peak = max(o.seconds for o in outcomes), max(o.peak for o in outcomes)
        print(
            f"{kind:20} {count:6} {refused:8} {count - refused:6} {seconds:7.2f} s {peak / 2**20:8.0f} MiB", flush=True
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 200)
