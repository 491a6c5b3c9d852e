"""Check that two PaddlePaddle processes (DataParallel) compute the gradients of one process on the whole batch.

python examples/scale_paddle.py --processes 2
"""

from __future__ import annotations

import warnings
from typing import Any

import click

import resnet_spec
from digits import SPEC, load_digits

warnings.filterwarnings("ignore", message="No ccache found")  # Paddle warns on import; nothing is compiled here

import paddle  # noqa: E402
from paddle import distributed  # noqa: E402
from paddle.nn import functional  # noqa: E402

IMAGES = 32
TOLERANCE = 1e-10


def build_model(spec: str) -> Any:
    """Build the model that every process starts from: equal seeds give bit-identical weights."""
    model = resnet_spec.build(spec, backend="paddle", seed=0, dtype="float64")
    model.train()
    return model


def backpropagate(model: Any, images: Any, labels: Any) -> None:
    """Compute the gradients of the cross-entropy."""
    functional.cross_entropy(model(paddle.to_tensor(images)), paddle.to_tensor(labels)).backward()


def gradients_and_statistics(model: Any) -> dict[str, Any]:
    """Return gradients and running statistics by name."""
    state = model.state_dict()
    return {name: tensor if tensor.stop_gradient else tensor.grad for name, tensor in state.items()}


def run_worker(spec: str) -> None:
    """Compute gradients on this process's share of the images, and compare with one process on all of them."""
    from resnet_spec_paddle.sync import synchronize_norms

    distributed.init_parallel_env()
    rank, count = distributed.get_rank(), distributed.get_world_size()
    train, _ = load_digits("float64")
    model = synchronize_norms(build_model(spec))
    backpropagate(paddle.DataParallel(model), train.images[rank:IMAGES:count], train.labels[rank:IMAGES:count])
    single_process = build_model(spec)
    backpropagate(single_process, train.images[:IMAGES], train.labels[:IMAGES])
    parallel, expected = gradients_and_statistics(model), gradients_and_statistics(single_process)
    assert list(parallel) == list(expected)
    differences = {name: float((parallel[name] - expected[name]).abs().max()) for name in expected}
    worst = max(differences, key=differences.__getitem__)
    if rank == 0:
        figures = f"{len(differences)} arrays, at most {differences[worst]:.1e} apart, at {worst}"
        click.echo(f"{count} processes: {figures}")
    if differences[worst] > TOLERANCE:
        raise SystemExit(1)


@click.command()
@click.option("--processes", default=2, show_default=True)
@click.option("--spec", default=str(SPEC), help="A spec for images of 1x8x8.")
def main(processes: int, spec: str) -> None:
    """Start the processes on this machine. On a cluster, paddle.distributed.launch starts them on each machine."""
    backend = "auto" if paddle.device.is_compiled_with_cuda() else "gloo"
    options: Any = {"backend": backend}
    distributed.spawn(run_worker, (spec,), nprocs=processes, **options)


if __name__ == "__main__":
    main()
