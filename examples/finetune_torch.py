"""Fine-tune a CIFAR-10 network on the digits in PyTorch: a new head, a frozen stem and stage, decay for some weights.

python examples/finetune_torch.py --weights cifar10
"""

from __future__ import annotations

from typing import Any

import click
import torch
from torch.nn import functional

import resnet_spec
from digits import batch_indices
from finetuning import build_adapted, is_decayed, list_frozen_layers, load_pictures


def make_optimizer(model: Any, frozen: set[str]) -> torch.optim.Optimizer:
    """Freeze layers, and return an optimizer of the other parameters in two groups."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.rpartition(".")[0] not in frozen)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if is_decayed(parameter)], "weight_decay": 5e-4},
        {"params": [parameter for parameter in trained if not is_decayed(parameter)], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=0.02, momentum=0.9)


def set_training(model: Any, frozen: set[str]) -> None:
    """Put a model in training mode, but frozen layers in evaluation mode, so that norms keep their statistics."""
    model.train()
    for path in frozen:
        model.get_submodule(path).eval()


@click.command()
@click.option("--weights", default="cifar10", show_default=True, help="The tag of published weights, or a file.")
@click.option("--save", default="finetuned.safetensors", show_default=True, help="The file to write.")
@click.option("--epochs", default=5, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--limit", type=int, help="Train on only the first N pictures.")
def main(weights: str, save: str, epochs: int, seed: int, limit: int | None) -> None:
    """Fine-tune, print the accuracy on the test pictures, and write the weights."""
    train, test = load_pictures(limit)
    model = build_adapted("torch", weights, seed)
    frozen = list_frozen_layers(model.network, stages=1)
    optimizer = make_optimizer(model, frozen)
    for epoch in range(epochs):
        set_training(model, frozen)
        for batch in batch_indices(len(train.labels), 64, seed, epoch):
            logits = model(torch.from_numpy(train.images[batch]))
            loss = functional.cross_entropy(logits, torch.from_numpy(train.labels[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        click.echo(f"epoch {epoch + 1}: loss {loss.item():.4f}")
    model.eval()
    with torch.inference_mode():
        correct = model(torch.from_numpy(test.images)).argmax(1).numpy() == test.labels
    click.echo(f"test accuracy {100 * correct.mean():.2f} %")
    resnet_spec.save_weights(model, save)


if __name__ == "__main__":
    main()
