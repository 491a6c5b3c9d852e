"""The same network trained in PyTorch, PaddlePaddle and Flax from one seed: three loss curves that lie on each other.

python examples/same_curve.py --plot same_curve.png
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np

import resnet_spec
from digits import SPEC, batches, cosine, digits

RATE = 0.03125
MOMENTUM, WEIGHT_DECAY = float(np.float32(0.9)), 2.0**-11  # float32 holds them, as Paddle needs
FRAMEWORKS: tuple[str, ...] = ("torch", "paddle", "flax")
EARLY = 100
"""Steps over which float64 is to agree to 1e-8; rounding then grows from step to step, as it does in any long training."""


@dataclass(frozen=True)
class Plan:
    """What is the same in all three."""

    dtype: str
    epochs: int
    batch: int = 64
    seed: int = 0


@dataclass(frozen=True)
class Curve:
    """The loss at each step, the test accuracy after each epoch."""

    losses: list[float]
    accuracies: list[float]


Step = Callable[[Any, Any], float]
"""Takes images and labels, moves the weights, and gives the loss as it was before."""


def torch_step(model: Any, rates: Sequence[float]) -> Step:
    import torch

    optimizer = torch.optim.SGD(model.parameters(), 1.0, MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rates.__getitem__)

    def step(images: Any, labels: Any) -> float:
        model.train()
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(images)), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss.item()

    return step


def paddle_step(model: Any, rates: Sequence[float]) -> Step:
    import paddle

    schedule = paddle.optimizer.lr.LambdaDecay(1.0, rates.__getitem__)
    optimizer = paddle.optimizer.Momentum(schedule, MOMENTUM, model.parameters(), weight_decay=WEIGHT_DECAY)

    def step(images: Any, labels: Any) -> float:
        model.train()
        loss = paddle.nn.functional.cross_entropy(model(paddle.to_tensor(images)), paddle.to_tensor(labels))
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        schedule.step()
        return float(loss)

    return step


def flax_step(model: Any, rates: Sequence[float]) -> Step:
    import jax.numpy as jnp
    import optax
    from flax import nnx

    table = jnp.asarray(rates)
    rule = optax.chain(optax.add_decayed_weights(WEIGHT_DECAY), optax.sgd(lambda count: table[count], MOMENTUM))
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)

    @nnx.jit
    def moved(model: Any, optimizer: Any, images: Any, labels: Any) -> Any:
        def loss_of(model: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

        loss, slopes = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, slopes)
        return loss

    def step(images: Any, labels: Any) -> float:
        model.train()
        return float(moved(model, optimizer, jnp.asarray(images.transpose(0, 2, 3, 1)), jnp.asarray(labels)))

    return step


STEPS = {"torch": torch_step, "paddle": paddle_step, "flax": flax_step}


def trained(framework: str, plan: Plan) -> Curve:
    """Train in one framework. Each is given a process of its own: JAX's float64 is set for a whole one."""
    warnings.filterwarnings("ignore", message="No ccache found")  # Paddle's, where nothing is to be compiled
    os.environ["JAX_ENABLE_X64"] = "1" if plan.dtype == "float64" else "0"
    train, test = digits(plan.dtype)
    rates = cosine(RATE, plan.epochs * (len(train.labels) // plan.batch))
    model = resnet_spec.build(SPEC, backend=framework, seed=plan.seed, dtype=plan.dtype)
    step, curve = STEPS[framework](model, rates), Curve([], [])
    for epoch in range(plan.epochs):
        for chosen in batches(len(train.labels), plan.batch, plan.seed, epoch):
            curve.losses.append(step(train.images[chosen], train.labels[chosen]))
        model.eval()
        right = resnet_spec.run(model, test.images).argmax(axis=1) == test.labels
        curve.accuracies.append(float(right.mean()))
    return curve


def compared(plan: Plan, jobs: int) -> dict[str, Curve]:
    """The curve of each framework, and what is worth saying about their differences, printed."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        found: dict[str, Curve] = dict(
            zip(FRAMEWORKS, pool.map(trained, FRAMEWORKS, [plan] * len(FRAMEWORKS)), strict=True)
        )
    losses = np.array([curve.losses for curve in found.values()])
    accuracies = {name: 100 * curve.accuracies[-1] for name, curve in found.items()}
    click.echo(f"{plan.dtype}: {losses.shape[1]} steps in {plan.epochs} epochs")
    for first, second in combinations(FRAMEWORKS, 2):
        apart = np.abs(np.subtract(found[first].losses, found[second].losses))
        early = f"{apart[:EARLY].max():.1e} over the first {len(apart[:EARLY])} steps"
        click.echo(f"  losses of {first} and {second}: {early}, {apart.max():.1e} over all")
    spread = np.ptp(losses, axis=0)
    bound = 1e-8 if plan.dtype == "float64" else 1e-5
    click.echo(f"  all three agree to {bound:.0e} for {_steps_within(spread, bound)} steps")
    rows = ", ".join(f"{name} {accuracy:.2f} %" for name, accuracy in accuracies.items())
    click.echo(f"  test accuracy: {rows}; {max(accuracies.values()) - min(accuracies.values()):.2f} apart")
    return found


def _steps_within(spread: Any, bound: float) -> int:
    beyond = np.flatnonzero(spread > bound)
    return int(beyond[0]) if len(beyond) else len(spread)


def drawn(found: dict[str, Curve], path: Path) -> None:
    """Loss and accuracy of all three over each other, and beside them how far the losses are apart."""
    import matplotlib.pyplot as plt

    figure, (losses, accuracies, apart) = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
    lines = [("tab:blue", 6, "-"), ("tab:orange", 3, "-"), ("black", 1, "--")]
    for (name, curve), (color, linewidth, style) in zip(found.items(), lines, strict=True):
        look = {"color": color, "linewidth": linewidth, "linestyle": style}
        losses.plot(curve.losses, label=name, **look)
        accuracies.plot(range(1, len(curve.accuracies) + 1), [100 * x for x in curve.accuracies], **look)
    spread = np.ptp([curve.losses for curve in found.values()], axis=0)
    apart.semilogy(np.maximum(spread, 1e-17), color="black", linewidth=1)
    losses.set(xlabel="step", ylabel="loss", yscale="log", title="three losses, over each other")
    accuracies.set(xlabel="epoch", ylabel="test accuracy, %", title="three accuracies")
    apart.set(xlabel="step", title="largest difference of the losses")
    losses.legend()
    figure.savefig(path, dpi=110)


@click.command()
@click.option("--epochs", default=12, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True, help="Of the weights, and of the order of the images.")
@click.option("--dtype", "dtypes", multiple=True, default=("float64", "float32"), show_default=True)
@click.option("--jobs", default=1, show_default=True, help="How many frameworks at a time.")
@click.option("--plot", metavar="FILE", type=click.Path(path_type=Path), help="Draw the first type's curves.")
def main(epochs: int, seed: int, dtypes: tuple[str, ...], jobs: int, plot: Path | None) -> None:
    """Train the digits in three frameworks from one seed, and print how far their losses are apart."""
    found = [compared(Plan(dtype, epochs, seed=seed), jobs) for dtype in dtypes]
    if plot is not None:
        drawn(found[0], plot)


if __name__ == "__main__":
    main()
