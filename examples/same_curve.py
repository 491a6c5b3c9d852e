"""Train one network in PyTorch, PaddlePaddle and Flax from the same seed, and compare the three loss curves.

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
from digits import SPEC, batch_indices, cosine_schedule, load_digits

RATE = 0.03125
MOMENTUM, WEIGHT_DECAY = float(np.float32(0.9)), 2.0**-11  # exact in float32, in which Paddle stores them
FRAMEWORKS: tuple[str, ...] = ("torch", "paddle", "flax")
BANDS = {"float64": 1e-8, "float32": 1e-5, "bfloat16": 1e-1}
"""By type, how far losses may differ for frameworks to be on one curve. bfloat16 stands for mixed precision.

In bfloat16 the largest difference that was measured is 3.8e-2, while losses fall from 2.5 to 0.007. It comes in the
first epochs: one framework differs by as much from itself in float32.
"""

EARLY_STEPS = 100
"""Steps over which float64 losses must agree to 1e-8. In any long training, rounding errors grow after that."""


@dataclass(frozen=True)
class Plan:
    """The settings that all frameworks share. With the dtype bfloat16, weights are in float32: mixed precision."""

    dtype: str
    epochs: int
    batch: int = 64
    seed: int = 0


@dataclass(frozen=True)
class Curve:
    """The loss at each step, and the test accuracy after each epoch."""

    losses: list[float]
    accuracies: list[float]


Step = Callable[[Any, Any], float]
"""Takes images and labels, updates the weights, and returns the loss from before the update."""


def make_torch_step(model: Any, rates: Sequence[float]) -> Step:
    """Return a training step in PyTorch."""
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


def make_paddle_step(model: Any, rates: Sequence[float]) -> Step:
    """Return a training step in PaddlePaddle."""
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


def make_flax_step(model: Any, rates: Sequence[float]) -> Step:
    """Return a training step in Flax NNX."""
    import jax.numpy as jnp
    import optax
    from flax import nnx

    table = jnp.asarray(rates)
    rule = optax.chain(optax.add_decayed_weights(WEIGHT_DECAY), optax.sgd(lambda count: table[count], MOMENTUM))
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)

    @nnx.jit
    def update(model: Any, optimizer: Any, images: Any, labels: Any) -> Any:
        def loss_of(model: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

        loss, gradients = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, gradients)
        return loss

    def step(images: Any, labels: Any) -> float:
        model.train()
        return float(update(model, optimizer, jnp.asarray(images.transpose(0, 2, 3, 1)), jnp.asarray(labels)))

    return step


STEP_MAKERS = {"torch": make_torch_step, "paddle": make_paddle_step, "flax": make_flax_step}


def train(framework: str, plan: Plan) -> Curve:
    """Train in one framework. Each runs in its own process, because JAX sets float64 for a whole process."""
    warnings.filterwarnings("ignore", message="No ccache found")  # Paddle warns on import; nothing is compiled here
    os.environ["JAX_ENABLE_X64"] = "1" if plan.dtype == "float64" else "0"
    is_mixed = plan.dtype == "bfloat16"
    dtype, compute = ("float32", "bfloat16") if is_mixed else (plan.dtype, None)
    training, test = load_digits(dtype)
    rates = cosine_schedule(RATE, plan.epochs * (len(training.labels) // plan.batch))
    model = resnet_spec.build(SPEC, backend=framework, seed=plan.seed, dtype=dtype, compute=compute)
    step, curve = STEP_MAKERS[framework](model, rates), Curve([], [])
    for epoch in range(plan.epochs):
        for batch in batch_indices(len(training.labels), plan.batch, plan.seed, epoch):
            curve.losses.append(step(training.images[batch], training.labels[batch]))
        model.eval()
        correct = resnet_spec.run(model, test.images).argmax(axis=1) == test.labels
        curve.accuracies.append(float(correct.mean()))
    return curve


def compare_frameworks(plan: Plan, jobs: int) -> dict[str, Curve]:
    """Train in every framework, print how far the losses differ, and return the curves by framework."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        results = pool.map(train, FRAMEWORKS, [plan] * len(FRAMEWORKS))
        curves: dict[str, Curve] = dict(zip(FRAMEWORKS, results, strict=True))
    losses = np.array([curve.losses for curve in curves.values()])
    accuracies = {name: 100 * curve.accuracies[-1] for name, curve in curves.items()}
    click.echo(f"{plan.dtype}: {losses.shape[1]} steps in {plan.epochs} epochs")
    for first, second in combinations(FRAMEWORKS, 2):
        difference = np.abs(np.subtract(curves[first].losses, curves[second].losses))
        early = f"{difference[:EARLY_STEPS].max():.1e} over the first {len(difference[:EARLY_STEPS])} steps"
        click.echo(f"  losses of {first} and {second}: {early}, {difference.max():.1e} over all")
    spread = np.ptp(losses, axis=0)
    bound = BANDS[plan.dtype]
    click.echo(f"  all three agree to {bound:.0e} for {_steps_within(spread, bound)} steps")
    rows = ", ".join(f"{name} {accuracy:.2f} %" for name, accuracy in accuracies.items())
    click.echo(f"  test accuracy: {rows}; {max(accuracies.values()) - min(accuracies.values()):.2f} apart")
    return curves


def _steps_within(spread: Any, bound: float) -> int:
    """Return how many steps pass before the spread first exceeds the bound."""
    beyond = np.flatnonzero(spread > bound)
    return int(beyond[0]) if len(beyond) else len(spread)


def plot_curves(curves: dict[str, Curve], path: Path) -> None:
    """Plot the three losses, the three accuracies, and the largest difference of the losses at each step."""
    import matplotlib.pyplot as plt

    figure, (losses, accuracies, differences) = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
    lines = [("tab:blue", 6, "-"), ("tab:orange", 3, "-"), ("black", 1, "--")]
    for (name, curve), (color, linewidth, style) in zip(curves.items(), lines, strict=True):
        look = {"color": color, "linewidth": linewidth, "linestyle": style}
        losses.plot(curve.losses, label=name, **look)
        accuracies.plot(range(1, len(curve.accuracies) + 1), [100 * x for x in curve.accuracies], **look)
    spread = np.ptp([curve.losses for curve in curves.values()], axis=0)
    differences.semilogy(np.maximum(spread, 1e-17), color="black", linewidth=1)
    losses.set(xlabel="step", ylabel="loss", yscale="log", title="three losses, over each other")
    accuracies.set(xlabel="epoch", ylabel="test accuracy, %", title="three accuracies")
    differences.set(xlabel="step", title="largest difference of the losses")
    losses.legend()
    figure.savefig(path, dpi=110)


@click.command()
@click.option("--epochs", default=12, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True, help="Seed of the weights and of the order of the images.")
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    type=click.Choice(list(BANDS)),
    default=("float64", "float32"),
    show_default=True,
)
@click.option("--jobs", default=1, show_default=True, help="Frameworks to train at the same time.")
@click.option("--plot", metavar="FILE", type=click.Path(path_type=Path), help="Plot the curves of the first dtype.")
def main(epochs: int, seed: int, dtypes: tuple[str, ...], jobs: int, plot: Path | None) -> None:
    """Train on the digits in three frameworks from one seed, and print how far their losses differ."""
    curves = [compare_frameworks(Plan(dtype, epochs, seed=seed), jobs) for dtype in dtypes]
    if plot is not None:
        plot_curves(curves[0], plot)


if __name__ == "__main__":
    main()
