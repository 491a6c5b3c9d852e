"""One training step on two processes gives the gradients of one process on all images: Paddle's DataParallel.

python examples/scale_paddle.py --processes 2
"""

from __future__ import annotations

import warnings
from typing import Any

import click

import resnet_spec
from digits import SPEC, digits

warnings.filterwarnings("ignore", message="No ccache found")  # Paddle's, where nothing is to be compiled

import paddle  # noqa: E402
from paddle import distributed  # noqa: E402
from paddle.nn import functional  # noqa: E402

IMAGES = 32
GATE = 1e-10


def built(spec: str) -> Any:
    """The model that every process starts from: the same bits, from the seed."""
    model = resnet_spec.build(spec, backend="paddle", seed=0, dtype="float64")
    model.train()
    return model


def backward(model: Any, images: Any, labels: Any) -> None:
    functional.cross_entropy(model(paddle.to_tensor(images)), paddle.to_tensor(labels)).backward()


def results(model: Any) -> dict[str, Any]:
    """Gradients and running statistics by name."""
    state = model.state_dict()
    return {name: tensor if tensor.stop_gradient else tensor.grad for name, tensor in state.items()}


def worker(spec: str) -> None:
    """One step's gradients on this process's share of the images, compared with one process on all of them."""
    from resnet_spec_paddle.sync import synchronized

    distributed.init_parallel_env()
    rank, count = distributed.get_rank(), distributed.get_world_size()
    train, _ = digits("float64")
    model = synchronized(built(spec))
    backward(paddle.DataParallel(model), train.images[rank:IMAGES:count], train.labels[rank:IMAGES:count])
    alone = built(spec)
    backward(alone, train.images[:IMAGES], train.labels[:IMAGES])
    found, wanted = results(model), results(alone)
    assert list(found) == list(wanted)
    apart = {name: float((found[name] - wanted[name]).abs().max()) for name in wanted}
    worst = max(apart, key=apart.__getitem__)
    if rank == 0:
        click.echo(f"{count} processes: {len(apart)} arrays, at most {apart[worst]:.1e} apart, at {worst}")
    if apart[worst] > GATE:
        raise SystemExit(1)


@click.command()
@click.option("--processes", default=2, show_default=True)
@click.option("--spec", default=str(SPEC), help="A network for images of 8x8 pixels.")
def main(processes: int, spec: str) -> None:
    """Start the processes, as paddle.distributed.launch does on each machine of a cluster."""
    backend = "auto" if paddle.device.is_compiled_with_cuda() else "gloo"
    options: Any = {"backend": backend}
    distributed.spawn(worker, (spec,), nprocs=processes, **options)


if __name__ == "__main__":
    main()
