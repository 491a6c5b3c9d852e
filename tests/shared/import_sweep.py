"""Import every bundled network as a model of PyTorch and as an ONNX file, and compare what comes back.

From the repository's root,

    PYTHONPATH=tests python -m shared.import_sweep torch 'timm/*'

prints each network that does not come back equal, with the reason, and the share of each registry. ``onnx`` does the
same with files, ``peers`` with the models of torchvision and timm themselves, and ``measure`` prints how long an import
takes, and how many lines the texts have.

Networks are narrow and their images small; those that are then the same network are imported once. Names may hold
``*``; by default, all networks are imported.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from fnmatch import fnmatch
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeAlias

import numpy as np

from resnet_spec import ImportRefused, Network, SpecError, build, load
from resnet_spec.backend import ExportOptions, load_backend
from resnet_spec.importing.dataflow import dataflow_fingerprint
from resnet_spec.importing.importer import recover_spec
from resnet_spec.importing.sources import Imported, describe, from_torch, import_model
from resnet_spec.library import bundled
from resnet_spec.network.parts import Leaf, Part
from resnet_spec.network.traversal import map_parts
from resnet_spec.ops import (
    AvgPool,
    BatchNorm,
    Conv,
    DropBlock,
    Dropout,
    DropPath,
    Identity,
    Linear,
    MaxPool,
    Op,
    Scale,
    Shape,
    Shift,
    StandardizedConv,
    op_name,
    window_of,
)
from resnet_spec.transforms.width_reduction import reduce_width
from resnet_spec.weights.canonical import comparison_weights

SIDES = (64, 96, 160)
"""The sizes of images that are tried before a network's own."""

Verdict: TypeAlias = Literal["equal", "same numbers", "different", "refused", "crashed"]


def small_network(name: str) -> Network:
    """Return a bundled network with few channels, and the smallest images of ``SIDES`` that it takes."""
    own = load(name)
    channels, height, width = own.input
    for side in SIDES:
        if side < min(height, width):
            try:
                return reduce_width(load(name, input=(channels, side, side)))
            except SpecError:
                continue
    return reduce_width(own)


# -- comparison --------------------------------------------------------------------------------------------------


def evaluated_form(network: Network) -> Network:
    """Return a network with what a file does not hold at its default: initial values, and what only training uses.

    In a file a standardised kernel is a plain one, a linear layer on a map a convolution, a fixed factor one number in
    float32, and a window has the margins that it has at one size.
    """

    def change(part: Part) -> Part:
        return replace(part, op=_evaluated_op(part.op, part.input_shape)) if isinstance(part, Leaf) else part

    return replace(network, parts=map_parts(network.parts, change))


def _evaluated_op(op: Op, shape: Shape) -> Op:
    changes: dict[str, Any] = {}
    match op:
        case Dropout() | DropPath() | DropBlock():
            op = Identity()
        case StandardizedConv():
            op = op.to_conv()
        case Linear() if len(shape) == 3:
            op = Conv(op.out, 1, bias=op.bias)
        case BatchNorm():
            changes = {"decay": 0.9, "variance": "unbiased", "affine": True}
        case Scale(learned=False):
            op = Scale(float(np.float32(op.factor)), "all", False) if op.factor != 1 else Identity()
        case Scale() | Shift():
            changes = {"keepdims": False}
        case MaxPool() | AvgPool():
            plain = [replace(op, padding="same", ceil=False), replace(op, ceil=False)]
            margins = window_of(op).margins(*shape[1:])
            op = next((same for same in plain if window_of(same).margins(*shape[1:]) == margins), op)
    return with_usual_start(replace(op, **changes))


def with_usual_start(op: Op) -> Op:
    """Return an operation without its own distribution of initial values."""
    names = {"init", "gamma", "start"} | ({"factor"} if getattr(op, "learned", False) else set())
    defaults = {item.name: item.default for item in fields(op) if item.name in names}
    changes: dict[str, Any] = defaults
    return replace(op, **changes)


# -- imports -----------------------------------------------------------------------------------------------------


def import_from_torch(network: Network, folder: Path, backends: tuple[str, ...]) -> Imported:
    """Import a network as a model of PyTorch, and prove it in some backends."""
    torch: Any = load_backend("torch")
    model = torch.wrap_model(build(network, backend="torch"))
    return import_model(model, network.input, extends=False, check=False, backends=backends)


def import_from_onnx(network: Network, folder: Path, backends: tuple[str, ...]) -> Imported:
    """Import a network as an ONNX file, and prove it in some backends.

    What is proven is in float64: with random weights, what float32 rounds grows without bounds in some networks.
    """
    onnx: Any = load_backend("onnx")
    path = folder / "network.onnx"
    dtype: Any = "float64" if backends else "float32"
    weights = comparison_weights(network, dtype=dtype)
    onnx.export(build(network, backend="onnx", weights=weights, dtype=dtype), path, ExportOptions("onnx"))
    return import_model(onnx.wrap_model(path), None, extends=False, check=False, backends=backends)


Importer: TypeAlias = Callable[[Network, Path, tuple[str, ...]], Imported]
IMPORTERS: dict[str, Importer] = {"torch": import_from_torch, "onnx": import_from_onnx}


def without_start(network: Network) -> Network:
    """Return a network without its own distributions of initial values: of few values none can be told."""
    parts = map_parts(
        network.parts, lambda part: replace(part, op=with_usual_start(part.op)) if isinstance(part, Leaf) else part
    )
    return replace(network, parts=parts)


def try_round_trip(kind: str, network: Network) -> tuple[Verdict, str]:
    """Return whether a network comes back, and why it does not come back equal."""
    form = evaluated_form if kind == "onnx" else without_start
    with tempfile.TemporaryDirectory() as folder:
        try:
            imported = IMPORTERS[kind](network, Path(folder), ())
            ours, theirs = form(imported.network), form(network)
            if dataflow_fingerprint(ours) == dataflow_fingerprint(theirs):
                return "equal", ""
            reason = first_difference(ours, theirs)
            imported = IMPORTERS[kind](network, Path(folder), ("numpy",))
        except ImportRefused as error:
            return "refused", str(error).replace("\n", " | ")[:300]
    if imported.is_proven:
        return "same numbers", reason
    return "different", "; ".join(describe(line) for line in imported.proof if line.verdict != "same")


def first_difference(ours: Network, theirs: Network) -> str:
    """Return a sentence about the first layers in which networks differ."""
    rows = [[leaf for leaf in network.leaves() if op_name(leaf.op) != "identity"] for network in (ours, theirs)]
    for leaf, other in zip(*rows, strict=False):
        if leaf.op != other.op or (leaf.op.weights(leaf.input_shape) and leaf.path != other.path):
            return f"{leaf.path}: {leaf.op} instead of {other.path}: {other.op}"
    if len(rows[0]) != len(rows[1]):
        return f"{len(rows[0])} layers instead of {len(rows[1])}"
    return "the same layers, otherwise connected"


# -- models of other libraries -----------------------------------------------------------------------------------

PEER_TOLERANCE = 1e-12


def make_peer(name: str) -> Any:
    """Return a model of torchvision or timm, with random statistics and scales: equal ones would hide mistakes."""
    import torch

    library, _, model_name = name.partition("/")
    module: Any = __import__(library, fromlist=["models"])
    torch.manual_seed(0)
    if library == "timm":
        model = module.create_model(model_name)
    else:
        settings = {"init_weights": False} if model_name in ("googlenet", "inception_v3") else {}
        model = module.models.get_model(model_name, weights=None, **settings)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif key.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif tensor.ndim < 2 and tensor.is_floating_point() and tensor.numel() > 1:
                tensor.mul_(torch.empty_like(tensor).uniform_(0.8, 1.2)).add_(torch.empty_like(tensor).normal_(0, 0.05))
    return model


def try_peer(name: str, shape: tuple[int, int, int]) -> tuple[Verdict, str]:
    """Return whether a peer's model is imported with its own names of weights and the same outputs."""
    torch: Any = load_backend("torch")
    model = make_peer(name)
    try:
        imported = import_model(torch.wrap_model(model), shape, extends=False, check=False, backends=("torch",))
    except ImportRefused as error:
        return "refused", str(error).replace("\n", " | ")[:300]
    worst = max(line.worst for line in imported.proof if line.what == "outputs")
    if worst > PEER_TOLERANCE:
        return "different", f"outputs differ by {worst:.1e}"
    own = {key for key in model.state_dict() if not key.endswith("num_batches_tracked")}
    names = set(imported.network.weights())
    if names != own:
        return "same numbers", f"names of weights differ: {sorted(names ^ own)[:4]}"
    return "equal", ""


# -- lengths and times -------------------------------------------------------------------------------------------


def measure(patterns: list[str]) -> None:
    """Print how long an import of resnet50 takes, and how many lines the texts have that are recovered.

    Networks whose bundled spec extends no other are measured, each as a text that extends none either.
    """
    model = build("resnet50", backend="torch")
    start, used = time.monotonic(), time.process_time()
    from_torch(model, (3, 224, 224))
    print(f"resnet50 is imported in {time.monotonic() - start:.1f} s, {time.process_time() - used:.1f} s of one core")
    print(f"resnet152 has {count_lines('resnet152')} lines", flush=True)
    files = bundled.network_files()
    names = [name for name in _matching(patterns) if "\nextends:" not in files[name].read_text(encoding="utf-8")]
    lengths = {name: count_lines(name) for name in names}
    for name, length in sorted(lengths.items(), key=lambda item: item[1]):
        print(f"{length:5} {name}")
    if lengths:
        print(f"{len(lengths)} networks; median {median(lengths.values())} lines")


def count_lines(name: str) -> int:
    """Return how many lines the text has that is recovered from a bundled network."""
    return len(recover_spec(load(name), {}, extends=False, is_ordered=True)[0].splitlines())


# -- the command -------------------------------------------------------------------------------------------------


def _matching(patterns: list[str]) -> list[str]:
    return [name for name in bundled.names() if any(fnmatch(name, pattern) for pattern in patterns or ["*"])]


def sweep(kind: str, patterns: list[str]) -> Iterator[tuple[str, Verdict, str]]:
    """Yield the names of networks, what became of each, and why. Networks that are the same when small share that."""
    names = _matching(patterns)
    if kind == "peers":
        names = [name for name in names if name.startswith(("timm/", "torchvision/"))]
    known: dict[str, tuple[Verdict, str]] = {}
    for name in names:
        network = small_network(name)
        key = f"{kind == 'peers' and name.partition('/')[0]}{network.parts!r}{network.outputs}"
        if key not in known:
            try:
                known[key] = try_peer(name, network.input) if kind == "peers" else try_round_trip(kind, network)
            except Exception as error:  # a sweep goes on, and prints what should not be
                known[key] = "crashed", f"{type(error).__name__}: {error}"
            print(".", end="", file=sys.stderr, flush=True)
        yield name, *known[key]


def main(kind: str, patterns: list[str]) -> int:
    """Sweep, and print what is not equal and the share of each registry; return 1 if less than 95 % are equal."""
    if kind == "measure":
        measure(patterns)
        return 0
    if kind == "peers":
        from shared.torchvision_operators import declare_torchvision_operators

        declare_torchvision_operators()
    shares: dict[str, Counter[Verdict]] = {}
    start = time.monotonic()
    for name, verdict, reason in sweep(kind, patterns):
        shares.setdefault(name.rpartition("/")[0] or "(none)", Counter())[verdict] += 1
        if verdict != "equal":
            print(f"{verdict}: {name}: {reason}", flush=True)
    for registry, counts in shares.items():
        print(f"{registry}: {counts['equal']} of {counts.total()} equal, {counts['same numbers']} the same numbers")
    every = sum(shares.values(), Counter[Verdict]())
    share = every["equal"] / max(1, every.total())
    print(f"{every['equal']} of {every.total()} equal, {share:.1%}, in {time.monotonic() - start:.0f} s")
    return int(share < 0.95 or every["different"] + every["crashed"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
