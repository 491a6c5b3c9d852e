"""Check that two JAX devices compute the gradients of one device on the whole batch, by jax.sharding and by shard_map.

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
from digits import SPEC, load_digits

IMAGES = 32
TOLERANCE = 1e-10


def build_model(spec: str) -> Any:
    """Build the model that every device starts from: equal seeds give bit-identical weights."""
    model = resnet_spec.build(spec, backend="flax", seed=0, dtype="float64")
    model.train()
    return model


def compute_gradients(model: Any, images: Any, labels: Any) -> Any:
    """Return the gradients of the cross-entropy, and update the running statistics."""

    def loss_of(model: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    return nnx.grad(loss_of)(model)


def by_sharding(model: Any, mesh: Any, images: Any, labels: Any) -> Any:
    """Compute gradients with ``jax.sharding``: a mean over the batch is over all devices, so norms are synchronised."""
    replicated, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    nnx.update(model, jax.device_put(nnx.state(model), replicated))
    gradients = nnx.jit(compute_gradients)(model, jax.device_put(images, split), jax.device_put(labels, split))
    return nnx.to_pure_dict(gradients)


def by_axis(model: Any, mesh: Any, images: Any, labels: Any) -> Any:
    """Compute gradients with ``jax.shard_map``: each device sees its own images, so norms need the name of the axis."""
    model.set_attributes(nnx.BatchNorm, axis_name="data")
    graph, state = nnx.split(model)

    def compute_on_device(state: Any, images: Any, labels: Any) -> Any:
        model = nnx.merge(graph, state)
        gradients = jax.lax.pmean(nnx.to_pure_dict(compute_gradients(model, images, labels)), "data")
        return gradients, nnx.state(model, nnx.BatchStat)

    mapped = jax.shard_map(
        compute_on_device, mesh=mesh, in_specs=(P(), P("data"), P("data")), out_specs=P(), check_vma=False
    )
    gradients, statistics = jax.jit(mapped)(state, images, labels)
    nnx.update(model, statistics)
    return gradients


@click.command()
@click.option("--spec", default=str(SPEC), help="A spec for images of 1x8x8.")
def main(spec: str) -> None:
    """Compute gradients on all devices, in both ways, and compare with one device."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    train, _ = load_digits("float64")
    images = jnp.asarray(train.images[:IMAGES].transpose(0, 2, 3, 1))
    labels = jnp.asarray(train.labels[:IMAGES])
    single_device = build_model(spec)
    gradients = nnx.to_pure_dict(nnx.jit(compute_gradients)(single_device, images, labels))
    expected = gradients, nnx.to_pure_dict(nnx.state(single_device, nnx.BatchStat))
    for method in (by_sharding, by_axis):
        model = build_model(spec)
        gradients = method(model, mesh, images, labels)
        computed = gradients, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        pairs = jax.tree.map(lambda a, b: float(jnp.abs(jnp.asarray(a) - b).max()), computed, expected)
        differences = jax.tree.leaves(pairs)
        figures = f"{len(differences)} arrays, at most {max(differences):.1e} apart"
        click.echo(f"{method.__name__} on {len(mesh.devices)} devices: {figures}")
        if max(differences) > TOLERANCE:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
