"""Malicious specs, made to take much time or memory. ``tests/syntax/test_hostile_texts.py`` runs this as a script.

``python -m shared.hostile_texts``, in the folder ``tests``, prints as JSON, for each of them: how many functions are
called, the peak memory of the process so far in MiB, and the codes of the spec's problems.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from shared.machine_speed import limited_calls

MAX_CALLS = 20_000_000
"""Most calls for one text: twice as many as the most expensive one takes, some seconds of processor time."""
HEAD = "name: my\ninput: [3, 32, 32]\n"
MIB = 2**20


def stem(layers: str) -> str:
    return f"{HEAD}stem: {{{layers}}}\n"


def doubling(levels: int) -> str:
    """Return anchors, each of which refers twice to the one before."""
    return "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, levels))


def nested(levels: int, twice: str) -> str:
    """Return blocks, each of which uses the next one twice."""
    blocks = "".join(f"  b{i}: {{branch: {twice.replace('NEXT', f'{{block: b{i + 1}}}')}}}\n" for i in range(levels))
    return f"{HEAD}blocks:\n{blocks}  b{levels}: {{branch: {{x: act}}}}\nstem: {{x: {{block: b0}}}}\n"


TEXTS = {
    "a megabyte of one text": f"{HEAD}source: {'x' * (MIB - 100)}\nstem: {{a: act}}\n",
    "a megabyte of one name": stem(f"{'x' * (MIB - 100)}: act"),
    "a megabyte of one word": stem(f"a: {'x' * (MIB - 100)}"),
    "a megabyte of a number": stem(f"a: {{op: batch_norm, gamma: {'9' * (MIB - 100)}}}"),
    "a megabyte of a whole number": stem(f"a: {{op: conv, kernel: 1, out: {'9' * (MIB - 100)}}}"),
    "a megabyte of underscores": stem(f"a: {{op: conv, kernel: 1, out: 1{'_' * (MIB - 100)}}}"),
    "a megabyte of a numbering": HEAD
    + f"stages: {{a: {{block: basic, depth: 1, out: 3, as: {'a.' * (MIB // 2 - 100)}}}}}\n",
    "a megabyte of comments": "# x\n" * (MIB // 4 - 10),
    "a megabyte of quotes": f"{HEAD}source: '{'a ' * (MIB // 2 - 100)}\n",
    "a megabyte of lines": "\n" * (MIB - 10),
    "a megabyte of brackets": "[" * (MIB - 10),
    "a megabyte of braces": "{a: " * (MIB // 4 - 10),
    "a megabyte of dashes": "- " * (MIB // 2 - 10),
    "a megabyte of questions": "? " * (MIB // 2 - 10),
    "a quarter of questions": "? " * (MIB // 8 - 10),
    "a quarter of tabs and lines": f"{HEAD}source: 'a\t" + "b\n " * (MIB // 12 - 100) + "'\n",
    "a quarter of brackets, and a tab": "\t" + "[" * (MIB // 4 - 10),
    "a megabyte of documents": "---\n" * (MIB // 4 - 10),
    "a megabyte of anchors": "[" + "&a x, " * (MIB // 6 - 10) + "]",
    "a megabyte and more": f"{HEAD}source: {'x' * MIB}\nstem: {{a: act}}\n",
    "aliases that double": f"a0: &a0 [x, x]\n{doubling(60)}",
    "aliases that double mappings": "a0: &a0 {x: y}\n"
    + "".join(f"a{i}: &a{i} {{p: *a{i - 1}, q: *a{i - 1}}}\n" for i in range(1, 60)),
    "aliases that deepen": "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [[[*a{i - 1}]]]\n" for i in range(1, 60)),
    "keys that repeat": HEAD + "stem:\n" + "  a: act\n" * 9_000,
    "keys that are unknown": HEAD + "".join(f"kez{i}: 1\n" for i in range(9_000)),
    "layers that are unknown": HEAD + "stem:\n" + "".join(f"  a{i}: nrom{i}\n" for i in range(9_000)),
    "names to take for an unknown one": HEAD
    + "takes:\n"
    + "".join(f"  abcdefgh{i}: 1\n" for i in range(4_500))
    + "stem:\n"
    + "".join(f"  a{i}: abcdefghi{i}\n" for i in range(4_500)),
    "problems on a long line": HEAD + "stem: {" + ", ".join(f"a{i}: rleu" for i in range(9_000)) + "}\n",
    "a stage of many blocks": f"{HEAD}stages: {{a: {{block: basic, depth: 9007199254740991, out: 3}}}}\n",
    "a stage of blocks that come to nothing": HEAD
    + "blocks: {b: {combine: none, branch: ["
    + ", ".join(["none"] * 9_000)
    + "]}}\nstages: {a: {block: b, depth: 9999}}\n",
    "a stage of blocks that take much": HEAD
    + "blocks: {b: {takes: {"
    + ", ".join(f"t{i}: 1" for i in range(9_000))
    + "}, branch: {x: act}}}\nstages: {a: {block: b, depth: 9999}}\n",
    "a network that takes much": HEAD
    + "takes: {"
    + ", ".join(f"t{i}: 1" for i in range(9_000))
    + "}\nstages: {a: {block: basic, depth: 4000, out: 3}}\n",
    "blocks that double": nested(31, "[NEXT, NEXT]"),
    "blocks that double and are none": nested(31, "{x: none, y: NEXT, z: NEXT}"),
    "names that double": HEAD
    + "layers:\n"
    + "".join(f"  l{i}: [l{i + 1}, l{i + 1}]\n" for i in range(60))
    + "  l60: act\nstem: {a: l0}\n",
    "names in a circle": f"{HEAD}layers: {{p: [q, q], q: [p, p]}}\nstem: {{a: p}}\n",
    "channels beyond counting": stem("a: {op: conv, out: 9007199254740881, kernel: 1, groups: 9007199254740880}"),
    "a kernel beyond counting": stem("a: {op: conv, out: 8, kernel: 9007199254740881, padding: 4503599627370440}"),
    "an image beyond counting": "name: my\ninput: [3, 9007199254740881, 9007199254740881]\n"
    "stem: {a: {op: conv, out: 3, kernel: 3, dilation: 9007199254740881}}\n",
    "layers that fit no image": "name: my\ninput: [3, 8, 8]\nstem:\n"
    + "".join(f"  c{i}: {{op: conv, out: 8, kernel: 3, stride: 2}}\n" for i in range(1_500)),
    "nine thousand windows too wide": "name: my\ninput: [3, 8, 8]\n"
    "blocks: {b: {branch: {c: {op: conv, out: 3, kernel: 9}}, after: {x: act}, combine: none}}\n"
    "stages: {a: {block: b, depth: 3000}}\n",
    "paths of much text": HEAD
    + f"blocks: {{b: {{combine: none, branch: {{{'x' * 100}: {{{'y' * 100}: act}}}}}}}}\n"
    + f"stages: {{{'s' * 100}: {{block: b, depth: 4999}}}}\n",
    "layers as many as may be": f"{HEAD}stem:\n" + "".join(f"  a{i}: act\n" for i in range(9_000)),
}
"""The texts by a description of what they are made of."""

CHAINS = {
    "a chain of large files": [f"name: f\nsource: {'x' * 60_000}\nextends: f{i + 1}\n" for i in range(20)],
    "a chain of many keys": [
        f"name: f\nextends: f{i + 1}\nstem:\n" + "".join(f"  a{i}_{key}: act\n" for key in range(1_000))
        for i in range(15)
    ],
}
"""The texts of chains of files, each of which extends the next."""


def measure(name: str, folder: Path) -> dict[str, object]:
    """Read a malicious spec, and return how many calls that takes, the peak memory, and the codes of its problems."""
    from resnet_spec import SpecError, load

    for i, text in enumerate(CHAINS.get(name) or [TEXTS[name]]):
        (folder / f"f{i}.yaml").write_text(text, encoding="utf-8")
    codes: set[str] = set()
    with limited_calls(MAX_CALLS) as calls:
        try:
            load(folder / "f0.yaml")
        except SpecError as error:
            codes = {problem.code for problem in error.problems}
            str(error)
    return {
        "calls": calls[0],
        "mebibytes": peak_mebibytes(),
        "codes": sorted(codes),
    }


def peak_mebibytes() -> float:
    """Return the peak memory of this process in MiB. On Linux, getrusage would include the process that started it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB
    (line,) = (line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        print(json.dumps({name: measure(name, Path(folder)) for name in json.load(sys.stdin)}))
