"""Train on the digits in Flax NNX: optax for the optimizer and its schedule, Orbax for a checkpoint after each epoch.

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
from digits import SPEC, Digits, batch_indices, load_digits

BATCH = 64


@nnx.jit
def train_step(model: Any, optimizer: Any, images: Any, labels: Any) -> Any:
    """Update the weights once, and return the loss from before the update."""

    def loss_of(model: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    loss, gradients = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, gradients)
    return loss


@nnx.jit
def predict(model: Any, images: Any) -> Any:
    """Return the most likely class of each image."""
    return model(images).argmax(axis=-1)


def channels_last(images: Any) -> Any:
    """Move the axes of images from (batch, channels, height, width) to (batch, height, width, channels)."""
    return jnp.asarray(images.transpose(0, 2, 3, 1))


def train_epoch(model: Any, optimizer: Any, train: Digits, seed: int, epoch: int) -> float:
    """Train for one pass over the images, and return the mean loss."""
    model.train()
    losses = []
    order = list(batch_indices(len(train.labels), BATCH, seed, epoch))
    for batch in track(order, f"epoch {epoch + 1}"):
        images, labels = channels_last(train.images[batch]), jnp.asarray(train.labels[batch])
        losses.append(train_step(model, optimizer, images, labels))
    return float(jnp.stack(losses).mean())


@click.command()
@click.option("--folder", default="runs/flax", show_default=True, type=click.Path(path_type=Path))
@click.option("--epochs", default=12, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--limit", type=int, help="Train on only the first N images.")
def main(folder: Path, epochs: int, seed: int, limit: int | None) -> None:
    """Train, or resume from the last checkpoint in the folder, then write the weights as safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    train, test = load_digits()
    train = Digits(train.images[:limit], train.labels[:limit])
    model = resnet_spec.build(SPEC, backend="flax", seed=seed)
    schedule = optax.cosine_decay_schedule(0.0625, epochs * (len(train.labels) // BATCH))
    rule = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(schedule, momentum=0.9))
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)
    with ocp.CheckpointManager((folder / "checkpoints").resolve()) as manager:
        start = 0
        if (last := manager.latest_step()) is not None:
            abstract = nnx.to_pure_dict(nnx.state((model, optimizer)))
            nnx.update((model, optimizer), manager.restore(last, args=ocp.args.StandardRestore(abstract)))
            start = last + 1
            click.echo(f"resuming after epoch {start}")
        for epoch in range(start, epochs):
            loss = train_epoch(model, optimizer, train, seed, epoch)
            state = nnx.to_pure_dict(nnx.state((model, optimizer)))
            manager.save(epoch, args=ocp.args.StandardSave(state))
            manager.wait_until_finished()
            click.echo(f"epoch {epoch + 1}: loss {loss:.4f}")
    model.eval()
    correct = predict(model, channels_last(test.images)) == test.labels
    click.echo(f"test accuracy {100 * float(correct.mean()):.2f} %")
    resnet_spec.save_weights(model, folder / "weights.safetensors")


if __name__ == "__main__":
    main()
