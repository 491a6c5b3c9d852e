"""Fine-tune a CIFAR-10 network on the digits in Flax: a new head, a frozen stem and stage, decay for some weights.

python examples/finetune_flax.py --weights cifar10
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import jax
import jax.numpy as jnp
import optax
from flax import nnx

import resnet_spec
from digits import batch_indices
from finetuning import build_adapted, is_decayed, list_frozen_layers, load_pictures


def path_of(keys: tuple[Any, ...]) -> str:
    """Return the path of a module as the network has it."""
    return ".".join(map(str, keys))


def make_step(trained: Any) -> Callable[[Any, Any, Any, Any], Any]:
    """Return a function that updates the ``trained`` parameters once, and returns the loss from before."""

    def loss_of(model: Any, images: Any, labels: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    @nnx.jit
    def step(model: Any, optimizer: Any, images: Any, labels: Any) -> Any:
        loss, gradients = nnx.value_and_grad(loss_of, argnums=nnx.DiffState(0, trained))(model, images, labels)
        optimizer.update(model, gradients)
        return loss

    return step


def set_training(model: Any, frozen: set[str]) -> None:
    """Put a model in training mode, but frozen layers in evaluation mode, so that norms keep their statistics."""
    model.train()
    for keys, module in nnx.iter_modules(model):
        if path_of(keys) in frozen:
            module.eval()


def channels_last(images: Any) -> Any:
    """Move the axes of images from (batch, channels, height, width) to (batch, height, width, channels)."""
    return jnp.asarray(images.transpose(0, 2, 3, 1))


@click.command()
@click.option("--weights", default="cifar10", show_default=True, help="The tag of published weights, or a file.")
@click.option("--save", default="finetuned.safetensors", show_default=True, help="The file to write.")
@click.option("--epochs", default=5, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--limit", type=int, help="Train on only the first N pictures.")
def main(weights: str, save: str, epochs: int, seed: int, limit: int | None) -> None:
    """Fine-tune, print the accuracy on the test pictures, and write the weights."""
    train, test = load_pictures(limit)
    model = build_adapted("flax", weights, seed)
    frozen = list_frozen_layers(model.network, stages=1)
    trained = nnx.All(nnx.Param, lambda keys, _: path_of(keys[:-1]) not in frozen)
    decay = optax.add_decayed_weights(5e-4, mask=lambda parameters: jax.tree.map(is_decayed, parameters))
    optimizer = nnx.Optimizer(model, optax.chain(decay, optax.sgd(0.02, momentum=0.9)), wrt=trained)
    step = make_step(trained)
    for epoch in range(epochs):
        set_training(model, frozen)
        for batch in batch_indices(len(train.labels), 64, seed, epoch):
            loss = step(model, optimizer, channels_last(train.images[batch]), jnp.asarray(train.labels[batch]))
        click.echo(f"epoch {epoch + 1}: loss {float(loss):.4f}")
    model.eval()
    correct = model(channels_last(test.images)).argmax(-1) == test.labels
    click.echo(f"test accuracy {100 * float(correct.mean()):.2f} %")
    resnet_spec.save_weights(model, save)


if __name__ == "__main__":
    main()
