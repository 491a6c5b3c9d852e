"""Compare PyTorch models with torchvision's on a GPU. ``gpu.py`` runs this script, which prints JSON lines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from gpu_options import CHECKPOINTS, Options, RowGroup, measure_rows, parse_options
from measure import Case, Comparison, Figure, compare, make_comparison, make_figure, print_records
from torch.nn import functional

from resnet_spec import build

PEER = "torchvision"


@dataclass(frozen=True, slots=True)
class Kind:
    """How a model computes: the type of its weights, the layout of maps, autocast, and the mode of the compiler."""

    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    autocast: bool = False
    compiled: str = ""


def import_torchvision() -> Any:
    """Import torchvision, also where its compiled operators do not load."""
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_library"] = library  # its operators exist as long as it does
        import torchvision
    return torchvision


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def prepare(model: Any, kind: Kind, options: Options) -> Any:
    layout = torch.channels_last if kind.channels_last else torch.contiguous_format
    model = model.to(device=options.device, dtype=kind.dtype, memory_format=layout)
    return torch.compile(model, mode=kind.compiled) if kind.compiled and not options.tiny else model


def make_images(batch: int, kind: Kind, options: Options) -> torch.Tensor:
    layout = torch.channels_last if kind.channels_last else torch.contiguous_format
    x = torch.randn(batch, 3, options.size, options.size, device=options.device, dtype=kind.dtype)
    return x.contiguous(memory_format=layout)


def make_evaluation(model: Any, x: torch.Tensor, device: str) -> Callable[[], None]:
    @torch.no_grad()
    def run() -> None:
        model(x)
        wait(device)

    return run


def make_training_step(model: Any, x: torch.Tensor, kind: Kind, device: str) -> Callable[[], None]:
    labels = torch.arange(x.shape[0], device=x.device) % 10
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.01, momentum=0.9)

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16) if kind.autocast else nullcontext():
            loss = functional.cross_entropy(model(x).float(), labels)
        loss.backward()
        optimizer.step()
        wait(device)

    return run


def compare_evaluation(name: str, batch: int, options: Options) -> Iterator[list[Comparison]]:
    """Yield the rows of evaluation in float32, in bfloat16, and compiled, each measured in turn with their peers."""
    peers = import_torchvision().models
    settings: dict[str, Any] = {"backend": "torch", "device": options.device, "input": (3, options.size, options.size)}
    half = Kind(torch.bfloat16, channels_last=True)
    compiled = Kind(torch.bfloat16, channels_last=True, compiled="reduce-overhead")
    for kind, word in ((Kind(), "float32"), (half, "bfloat16"), (compiled, "bfloat16, compiled")):
        dtype = str(kind.dtype).removeprefix("torch.")
        frozen = build(
            name, mode="inference", dtype=dtype, compile=bool(kind.compiled) and not options.tiny, **settings
        )
        x = make_images(batch, kind, options)
        models = {PEER: prepare(peers.get_model(name.rpartition("/")[2]).eval(), kind, options), "inference": frozen}
        if not kind.compiled:
            models["ours"] = prepare(build(name, **settings), kind, options)
        seconds = options.time({key: make_evaluation(model, x, options.device) for key, model in models.items()})
        rows = [
            ("inference", f"inference mode, {word}"),
            *([("ours", f"evaluation, {word}")] if "ours" in models else []),
        ]
        yield [compare(seconds, own, PEER, Case("torch", name, batch, what)) for own, what in rows]


def compare_training(name: str, batch: int, options: Options) -> Iterator[list[Comparison]]:
    peers = import_torchvision().models
    kinds = {
        "float32": Kind(),
        "AMP, channels last": Kind(channels_last=True, autocast=True),
        "AMP, compiled": Kind(channels_last=True, autocast=True, compiled="default"),
    }
    for word, kind in kinds.items():
        x = make_images(batch, kind, options)
        ours = build(name, backend="torch", device=options.device, input=(3, options.size, options.size))
        models = {PEER: peers.get_model(name), "ours": ours}
        steps = {
            key: make_training_step(prepare(model, kind, options), x, kind, options.device)
            for key, model in models.items()
        }
        yield [compare(options.time(steps), "ours", PEER, Case("torch", name, batch, f"training step, {word}"))]


def measure_activations(model: Any, x: torch.Tensor) -> float:
    """Return the MiB of tensors, other than parameters, that a forward pass keeps for the backward pass."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model.train()(x)
    del output
    return sum(kept.values()) / 2**20


def compare_memory(name: str, batch: int, options: Options) -> Iterator[list[Comparison]]:
    x = make_images(batch, Kind(), options)
    settings: dict[str, Any] = {"backend": "torch", "device": options.device, "input": (3, options.size, options.size)}
    theirs = measure_activations(import_torchvision().models.get_model(name).to(options.device), x)
    for checkpoint in CHECKPOINTS:
        own = measure_activations(build(name, checkpoint=checkpoint, **settings), x)
        word = f', checkpoint="{checkpoint}"' if checkpoint else ""
        case = Case("torch", name, batch, f"activations kept in training{word}")
        yield [make_comparison([own] * 2, [theirs] * 2, PEER, case, "MiB")]


def measure_ceilings(options: Options) -> Iterator[list[Figure]]:
    """Yield the rate of a product in bfloat16, and that of a copy: nothing on this device is faster."""
    size = 256 if options.tiny else 8192
    a, b = (torch.randn(size, size, device=options.device, dtype=torch.bfloat16) for _ in range(2))

    def multiply() -> None:
        torch.mm(a, b)
        wait(options.device)

    def copy() -> None:
        a.clone()
        wait(options.device)

    seconds = options.time({"product": multiply, "copy": copy})
    rates = [2e-12 * size**3 / t for t in seconds["product"]]
    traffic = [2 * a.nbytes / 1e9 / t for t in seconds["copy"]]
    yield [
        make_figure(rates, Case("torch", "", 0, f"product of {size} x {size} in bfloat16"), "TFLOP/s"),
        make_figure(traffic, Case("torch", "", 0, "copy"), "GB/s"),
    ]


def main() -> None:
    options = parse_options()
    card = torch.cuda.get_device_name() if options.device.startswith("cuda") else "no card: a rehearsal on the CPU"
    print(
        json.dumps({"machine": {"card": card, "torch": torch.__version__, "CUDA": torch.version.cuda or ""}}),
        flush=True,
    )
    if options.device.startswith("cuda"):
        torch.backends.cudnn.benchmark = True
    name, large, many = ("resnet18", 2, 2) if options.tiny else ("resnet50", 256, 128)
    groups: list[RowGroup] = [
        lambda: compare_evaluation(name, 1, options),
        lambda: compare_evaluation(name, large, options),
        lambda: compare_training(name, many, options),
        lambda: compare_memory(name, 2 if options.tiny else 32, options),
        lambda: measure_ceilings(options),
        *[lambda name=name: compare_evaluation(name, 1, options) for name in options.others],
    ]
    measure_rows(groups, options, time.monotonic(), print_records)


if __name__ == "__main__":
    main()
