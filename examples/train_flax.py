"""Train the digits in Flax NNX: optax for the rule and its schedule, Orbax for a checkpoint after each epoch to resume from.

python examples/train_flax.py --folder runs/flax
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
from flax import nnx
from rich.progress import track

import resnet_spec
from digits import SPEC, Digits, batches, digits

BATCH = 64


@nnx.jit
def train_step(model: Any, optimizer: Any, images: Any, labels: Any) -> Any:
    """One step. Gives the loss."""

    def loss_of(model: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    loss, slopes = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, slopes)
    return loss


@nnx.jit
def classed(model: Any, images: Any) -> Any:
    """The likeliest class of each image."""
    return model(images).argmax(axis=-1)


def native(images: Any) -> Any:
    """(batch, channels, height, width) -> (batch, height, width, channels)"""
    return jnp.asarray(images.transpose(0, 2, 3, 1))


def train_epoch(model: Any, optimizer: Any, train: Digits, seed: int, epoch: int) -> float:
    """One pass over the images. Gives the mean loss."""
    model.train()
    losses = []
    chosen = list(batches(len(train.labels), BATCH, seed, epoch))
    for rows in track(chosen, f"epoch {epoch + 1}"):
        losses.append(train_step(model, optimizer, native(train.images[rows]), jnp.asarray(train.labels[rows])))
    return float(jnp.stack(losses).mean())


@click.command()
@click.option("--folder", default="runs/flax", show_default=True, type=click.Path(path_type=Path))
@click.option("--epochs", default=12, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--limit", type=int, help="Train with so many images alone.")
def main(folder: Path, epochs: int, seed: int, limit: int | None) -> None:
    """Train, or go on from the last checkpoint in the folder, and write the weights as safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    train, test = digits()
    train = Digits(train.images[:limit], train.labels[:limit])
    model = resnet_spec.build(SPEC, backend="flax", seed=seed)
    schedule = optax.cosine_decay_schedule(0.0625, epochs * (len(train.labels) // BATCH))
    rule = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(schedule, momentum=0.9))
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)
    with ocp.CheckpointManager((folder / "checkpoints").resolve()) as manager:
        first = 0
        if (last := manager.latest_step()) is not None:
            abstract = nnx.to_pure_dict(nnx.state((model, optimizer)))
            nnx.update((model, optimizer), manager.restore(last, args=ocp.args.StandardRestore(abstract)))
            first = last + 1
            click.echo(f"going on after epoch {first}")
        for epoch in range(first, epochs):
            loss = train_epoch(model, optimizer, train, seed, epoch)
            state = nnx.to_pure_dict(nnx.state((model, optimizer)))
            manager.save(epoch, args=ocp.args.StandardSave(state))
            manager.wait_until_finished()
            click.echo(f"epoch {epoch + 1}: loss {loss:.4f}")
    model.eval()
    right = classed(model, native(test.images)) == test.labels
    click.echo(f"test accuracy {100 * float(right.mean()):.2f} %")
    resnet_spec.save_weights(model, folder / "weights.safetensors")


if __name__ == "__main__":
    main()
