"""Train on the digits in PaddlePaddle: a DataLoader, mixed precision on a GPU, and a checkpoint after each epoch.

python examples/train_paddle.py --folder runs/paddle
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click
from rich.progress import track

import resnet_spec
from digits import SPEC, batch_indices, load_digits

warnings.filterwarnings("ignore", message="No ccache found")  # Paddle warns on import; nothing is compiled here

import paddle  # noqa: E402
from paddle.io import BatchSampler, DataLoader, TensorDataset  # noqa: E402
from paddle.nn import functional  # noqa: E402

GPU = paddle.device.is_compiled_with_cuda()
BATCH = 64


class EpochOrder(BatchSampler):
    """Batches in an order that depends on the seed and the epoch alone: resuming needs no generator state."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def __iter__(self) -> Any:
        return iter(batch.tolist() for batch in batch_indices(self.count, BATCH, self.seed, self.epoch))

    def __len__(self) -> int:
        return self.count // BATCH


def make_dataset(train: bool, limit: int | None = None) -> TensorDataset:
    """Return images and labels."""
    part = load_digits()[0 if train else 1]
    return TensorDataset([paddle.to_tensor(part.images[:limit]), paddle.to_tensor(part.labels[:limit])])


def train_epoch(model: Any, loader: DataLoader, optimizer: Any, scaler: Any, title: str) -> float:
    """Train for one pass over the images, and return the mean loss."""
    model.train()
    losses = []
    for images, labels in track(loader, title):
        with paddle.amp.auto_cast(enable=GPU):
            loss = functional.cross_entropy(model(images), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.clear_grad()
        losses.append(float(loss))
    return sum(losses) / len(losses)


@paddle.no_grad()
def measure_accuracy(model: Any, loader: DataLoader) -> float:
    """Return the fraction of the images that are classified correctly."""
    model.eval()
    correct = [(model(images).argmax(1) == labels).astype("float32") for images, labels in loader]
    return float(paddle.concat(correct).mean())


@click.command()
@click.option("--folder", default="runs/paddle", show_default=True, type=click.Path(path_type=Path))
@click.option("--epochs", default=12, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--limit", type=int, help="Train on only the first N images.")
def main(folder: Path, epochs: int, seed: int, limit: int | None) -> None:
    """Train, or resume from the last checkpoint in the folder, then write the weights as safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    images = make_dataset(True, limit)
    order = EpochOrder(len(images), seed)
    loader = DataLoader(images, batch_sampler=order)
    model = resnet_spec.build(SPEC, backend="paddle", seed=seed)
    schedule = paddle.optimizer.lr.CosineAnnealingDecay(0.0625, T_max=epochs)
    optimizer = paddle.optimizer.Momentum(schedule, 0.9, model.parameters(), weight_decay=5e-4)
    scaler = paddle.amp.GradScaler(enable=GPU)
    start, checkpoint = 0, folder / "checkpoint.pdparams"
    if checkpoint.exists():
        saved = paddle.load(str(checkpoint))
        model.set_state_dict(saved["model"])
        optimizer.set_state_dict(saved["optimizer"])  # includes the state of the schedule
        if GPU:
            scaler.load_state_dict(saved["scaler"])
        start = saved["epoch"] + 1
        click.echo(f"resuming after epoch {start}")
    for epoch in range(start, epochs):
        order.epoch = epoch
        loss = train_epoch(model, loader, optimizer, scaler, f"epoch {epoch + 1}")
        schedule.step()
        states: Any = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        states |= {"scaler": scaler.state_dict(), "epoch": epoch}
        paddle.save(states, str(folder / "checkpoint.part"))
        (folder / "checkpoint.part").replace(checkpoint)  # atomic, so that a kill leaves no partial file
        click.echo(f"epoch {epoch + 1}: loss {loss:.4f}")
    click.echo(
        f"test accuracy {100 * measure_accuracy(model, DataLoader(make_dataset(False), batch_size=BATCH)):.2f} %"
    )
    resnet_spec.save_weights(model, folder / "weights.safetensors")


if __name__ == "__main__":
    main()
