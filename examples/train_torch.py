"""Train on the digits in PyTorch: a DataLoader, mixed precision on a GPU, and a checkpoint after each epoch.

python examples/train_torch.py --folder runs/torch
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import torch
from rich.progress import track
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import resnet_spec
from digits import SPEC, load_digits

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def make_loader(train: bool, seed: int, limit: int | None = None) -> tuple[DataLoader[Any], torch.Generator]:
    """Return batches of images and labels, and the generator that orders them."""
    part = load_digits()[0 if train else 1]
    dataset = TensorDataset(torch.from_numpy(part.images[:limit]), torch.from_numpy(part.labels[:limit]))
    order = torch.Generator().manual_seed(seed)
    return DataLoader(dataset, batch_size=64, shuffle=train, drop_last=train, generator=order), order


def train_epoch(model: Any, batches: DataLoader[Any], optimizer: Any, scaler: Any, title: str) -> float:
    """Train for one pass over the images, and return the mean loss."""
    model.train()
    losses = []
    for images, labels in track(batches, title):
        with torch.autocast(DEVICE, enabled=DEVICE == "cuda"):
            loss = functional.cross_entropy(model(images.to(DEVICE)), labels.to(DEVICE))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.inference_mode()
def measure_accuracy(model: Any, batches: DataLoader[Any]) -> float:
    """Return the fraction of the images that are classified correctly."""
    model.eval()
    correct = [(model(images.to(DEVICE)).argmax(1).cpu() == labels).float() for images, labels in batches]
    return float(torch.cat(correct).mean())


@click.command()
@click.option("--folder", default="runs/torch", show_default=True, type=click.Path(path_type=Path))
@click.option("--epochs", default=12, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--limit", type=int, help="Train on only the first N images.")
def main(folder: Path, epochs: int, seed: int, limit: int | None) -> None:
    """Train, or resume from the last checkpoint in the folder, then write the weights as safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    batches, order = make_loader(True, seed, limit)
    model = resnet_spec.build(SPEC, backend="torch", seed=seed).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0625, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    scaler = torch.amp.GradScaler(DEVICE, enabled=DEVICE == "cuda")
    stateful = {"model": model, "optimizer": optimizer, "schedule": schedule, "scaler": scaler}
    start, checkpoint = 0, folder / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        for name, part in stateful.items():
            part.load_state_dict(saved[name])
        order.set_state(saved["order"])
        start = saved["epoch"] + 1
        click.echo(f"resuming after epoch {start}")
    for epoch in range(start, epochs):
        loss = train_epoch(model, batches, optimizer, scaler, f"epoch {epoch + 1}")
        schedule.step()
        states = {name: part.state_dict() for name, part in stateful.items()}
        torch.save({**states, "order": order.get_state(), "epoch": epoch}, folder / "checkpoint.part")
        (folder / "checkpoint.part").replace(checkpoint)  # atomic, so that a kill leaves no partial file
        click.echo(f"epoch {epoch + 1}: loss {loss:.4f}")
    click.echo(f"test accuracy {100 * measure_accuracy(model, make_loader(False, seed)[0]):.2f} %")
    resnet_spec.save_weights(model, folder / "weights.safetensors")


if __name__ == "__main__":
    main()
