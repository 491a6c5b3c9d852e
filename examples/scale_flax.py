"""One training step on a mesh of devices gives the gradients of one device on all images: jax.sharding, and a named axis.

XLA_FLAGS=--xla_force_host_platform_device_count=2 JAX_ENABLE_X64=1 python examples/scale_flax.py
"""

from __future__ import annotations

from typing import Any

import click
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import resnet_spec
from digits import SPEC, digits

IMAGES = 32
GATE = 1e-10


def built(spec: str) -> Any:
    """The model that every device starts from: the same bits, from the seed."""
    model = resnet_spec.build(spec, backend="flax", seed=0, dtype="float64")
    model.train()
    return model


def gradients(model: Any, images: Any, labels: Any) -> Any:
    def loss_of(model: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    return nnx.grad(loss_of)(model)


def by_sharding(model: Any, mesh: Any, images: Any, labels: Any) -> Any:
    """Arrays say where they lie and XLA does the rest: the mean over a batch is over all of it, so norms are synchronised."""
    whole, parts = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    nnx.update(model, jax.device_put(nnx.state(model), whole))
    return nnx.jit(gradients)(model, jax.device_put(images, parts), jax.device_put(labels, parts))


def by_axis(model: Any, mesh: Any, images: Any, labels: Any) -> Any:
    """Each device runs the program on its own images, so norms are told the axis that they take means over."""
    model.set_attributes(nnx.BatchNorm, axis_name="data")
    graph, state = nnx.split(model)

    def own(state: Any, images: Any, labels: Any) -> Any:
        model = nnx.merge(graph, state)
        slopes = jax.lax.pmean(nnx.to_pure_dict(gradients(model, images, labels)), "data")
        return slopes, nnx.state(model, nnx.BatchStat)

    shared = jax.shard_map(own, mesh=mesh, in_specs=(P(), P("data"), P("data")), out_specs=P(), check_vma=False)
    slopes, statistics = jax.jit(shared)(state, images, labels)
    nnx.update(model, statistics)
    return slopes


@click.command()
@click.option("--spec", default=str(SPEC), help="A network for images of 8x8 pixels.")
def main(spec: str) -> None:
    """Take one step's gradients on all devices, in both ways, and compare with one device."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    train, _ = digits("float64")
    images = jnp.asarray(train.images[:IMAGES].transpose(0, 2, 3, 1))
    labels = jnp.asarray(train.labels[:IMAGES])
    alone = built(spec)
    wanted = (
        nnx.to_pure_dict(nnx.jit(gradients)(alone, images, labels)),
        nnx.to_pure_dict(nnx.state(alone, nnx.BatchStat)),
    )
    for way in (by_sharding, by_axis):
        model = built(spec)
        slopes = way(model, mesh, images, labels)
        slopes = slopes if isinstance(slopes, dict) else nnx.to_pure_dict(slopes)
        found = slopes, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        apart = jax.tree.leaves(jax.tree.map(lambda a, b: float(jnp.abs(jnp.asarray(a) - b).max()), found, wanted))
        click.echo(
            f"{way.__name__} on {len(mesh.devices)} devices: {len(apart)} arrays, at most {max(apart):.1e} apart"
        )
        if max(apart) > GATE:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
