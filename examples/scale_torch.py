"""One training step on two processes gives the gradients of one process on all images: PyTorch's DDP and FSDP.

torchrun --nproc-per-node 2 examples/scale_torch.py --engine fsdp
"""

from __future__ import annotations

from typing import Any

import click
import torch
from torch import distributed
from torch.distributed.fsdp import fully_shard
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler

import resnet_spec
from digits import SPEC, digits
from resnet_spec_torch.sync import synchronized

IMAGES = 32
GATE = 1e-10


def built(spec: str) -> Any:
    """The model that every process starts from: the same bits, from the seed."""
    return resnet_spec.build(spec, backend="torch", seed=0, dtype="float64").train()


def wrapped(model: Any, engine: str) -> Any:
    """The model under an engine, its norms synchronised first."""
    model = synchronized(model)
    return DistributedDataParallel(model) if engine == "ddp" else fully_shard(model)


def backward(model: Any, images: torch.Tensor, labels: torch.Tensor) -> None:
    functional.cross_entropy(model(images), labels).backward()


def results(model: Any) -> dict[str, torch.Tensor]:
    """Gradients and running statistics by name, whole where they are sharded."""
    inner = getattr(model, "module", model)
    found = {name: parameter.grad for name, parameter in inner.named_parameters()}
    found |= {name: buffer for name, buffer in inner.named_buffers() if not name.endswith("num_batches_tracked")}
    return {name: tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor for name, tensor in found.items()}


@click.command()
@click.option("--engine", default="ddp", show_default=True, type=click.Choice(["ddp", "fsdp"]))
@click.option("--spec", default=str(SPEC), help="A network for images of 8x8 pixels.")
def main(engine: str, spec: str) -> None:
    """Take one step's gradients on every process's share of the images, and compare with one process on all of them."""
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    train, _ = digits("float64")
    images, labels = torch.from_numpy(train.images[:IMAGES]), torch.from_numpy(train.labels[:IMAGES])
    own: list[int] = list(DistributedSampler(range(IMAGES), shuffle=False))  # type: ignore[arg-type]  # it has a length
    model = wrapped(built(spec), engine)
    backward(model, images[own], labels[own])
    found = results(
        model
    )  # gathered here, not last: a thread of gloo that still held a tensor when Python ends would abort
    alone = built(spec)
    backward(alone, images, labels)
    wanted = results(alone)
    assert list(found) == list(wanted)
    apart = {name: float((found[name] - wanted[name]).abs().max()) for name in wanted}
    worst = max(apart, key=apart.__getitem__)
    if distributed.get_rank() == 0:
        count = distributed.get_world_size()
        click.echo(f"{engine} on {count} processes: {len(apart)} arrays, at most {apart[worst]:.1e} apart, at {worst}")
    distributed.destroy_process_group()
    if apart[worst] > GATE:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
