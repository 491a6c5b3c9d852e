"""Fine-tune a CIFAR-10 network on the digits in Paddle: a new head, a frozen stem and stage, decay for some weights.

python examples/finetune_paddle.py --weights cifar10
"""

from __future__ import annotations

import warnings
from typing import Any

import click

import resnet_spec
from digits import batch_indices
from finetuning import build_adapted, is_decayed, list_frozen_layers, load_pictures

warnings.filterwarnings("ignore", message="No ccache found")  # Paddle warns on import; nothing is compiled here

import paddle  # noqa: E402
from paddle.nn import functional  # noqa: E402


def make_optimizer(model: Any, frozen: set[str]) -> Any:
    """Freeze layers, and return an optimizer of the other parameters in two groups."""
    for name, parameter in model.named_parameters():
        parameter.stop_gradient = name.rpartition(".")[0] in frozen
    trained = [parameter for parameter in model.parameters() if not parameter.stop_gradient]
    groups: Any = [
        {"params": [parameter for parameter in trained if is_decayed(parameter)], "weight_decay": 5e-4},
        {"params": [parameter for parameter in trained if not is_decayed(parameter)], "weight_decay": 0.0},
    ]
    return paddle.optimizer.Momentum(0.02, 0.9, groups)


def set_training(model: Any, frozen: set[str]) -> None:
    """Put a model in training mode, but frozen layers in evaluation mode, so that norms keep their statistics."""
    model.train()
    for path, layer in model.named_sublayers():
        if path in frozen:
            layer.eval()


@click.command()
@click.option("--weights", default="cifar10", show_default=True, help="The tag of published weights, or a file.")
@click.option("--save", default="finetuned.safetensors", show_default=True, help="The file to write.")
@click.option("--epochs", default=5, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--limit", type=int, help="Train on only the first N pictures.")
def main(weights: str, save: str, epochs: int, seed: int, limit: int | None) -> None:
    """Fine-tune, print the accuracy on the test pictures, and write the weights."""
    train, test = load_pictures(limit)
    model = build_adapted("paddle", weights, seed)
    frozen = list_frozen_layers(model.network, stages=1)
    optimizer = make_optimizer(model, frozen)
    for epoch in range(epochs):
        set_training(model, frozen)
        for batch in batch_indices(len(train.labels), 64, seed, epoch):
            logits = model(paddle.to_tensor(train.images[batch]))
            loss = functional.cross_entropy(logits, paddle.to_tensor(train.labels[batch]))
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
        click.echo(f"epoch {epoch + 1}: loss {float(loss):.4f}")
    model.eval()
    with paddle.no_grad():
        correct = model(paddle.to_tensor(test.images)).argmax(1).numpy() == test.labels
    click.echo(f"test accuracy {100 * correct.mean():.2f} %")
    resnet_spec.save_weights(model, save)


if __name__ == "__main__":
    main()
