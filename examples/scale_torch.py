"""Check that two PyTorch processes (DDP or FSDP) compute the gradients of one process on the whole batch.

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
from digits import SPEC, load_digits
from resnet_spec_torch.sync import synchronize_norms

IMAGES = 32
TOLERANCE = 1e-10


def build_model(spec: str) -> Any:
    """Build the model that every process starts from: equal seeds give bit-identical weights."""
    return resnet_spec.build(spec, backend="torch", seed=0, dtype="float64").train()


def parallelize(model: Any, engine: str) -> Any:
    """Synchronise the norms of a model, then wrap it for DDP or FSDP."""
    model = synchronize_norms(model)
    return DistributedDataParallel(model) if engine == "ddp" else fully_shard(model)


def backpropagate(model: Any, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Compute the gradients of the cross-entropy."""
    functional.cross_entropy(model(images), labels).backward()


def gradients_and_statistics(model: Any) -> dict[str, torch.Tensor]:
    """Return gradients and running statistics by name, gathered from all shards."""
    unwrapped = getattr(model, "module", model)  # DDP keeps the model in an attribute
    tensors = {name: parameter.grad for name, parameter in unwrapped.named_parameters()}
    buffers = dict(unwrapped.named_buffers()).items()
    tensors |= {name: buffer for name, buffer in buffers if not name.endswith("num_batches_tracked")}
    return {
        name: tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor for name, tensor in tensors.items()
    }


@click.command()
@click.option("--engine", default="ddp", show_default=True, type=click.Choice(["ddp", "fsdp"]))
@click.option("--spec", default=str(SPEC), help="A spec for images of 1x8x8.")
def main(engine: str, spec: str) -> None:
    """Compute gradients on each process's share of the images, and compare with one process on all of them."""
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    train, _ = load_digits("float64")
    images, labels = torch.from_numpy(train.images[:IMAGES]), torch.from_numpy(train.labels[:IMAGES])
    sampler: Any = DistributedSampler(range(IMAGES), shuffle=False)  # type: ignore[arg-type]  # a range has a length
    share = list(sampler)
    model = parallelize(build_model(spec), engine)
    backpropagate(model, images[share], labels[share])
    # Gathered before the single process runs: a gloo thread that still held a tensor when Python exits would abort.
    parallel = gradients_and_statistics(model)
    single_process = build_model(spec)
    backpropagate(single_process, images, labels)
    expected = gradients_and_statistics(single_process)
    assert list(parallel) == list(expected)
    differences = {name: float((parallel[name] - expected[name]).abs().max()) for name in expected}
    worst = max(differences, key=differences.__getitem__)
    if distributed.get_rank() == 0:
        count = distributed.get_world_size()
        figures = f"{len(differences)} arrays, at most {differences[worst]:.1e} apart, at {worst}"
        click.echo(f"{engine} on {count} processes: {figures}")
    distributed.destroy_process_group()
    if differences[worst] > TOLERANCE:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
