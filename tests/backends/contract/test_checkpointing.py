"""Blocks that compute their activations again in the backward pass give the same gradients and statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resnet_spec import BackendError, build, dump, loads
from resnet_spec.weights.canonical import Array
from shared.frameworks import required

NETWORK = """
name: blocks
input: [3, 8, 8]
stem: {conv: {op: conv, out: 4, kernel: 3, padding: 1}, norm: batch_norm, act: relu}
stages: {a: {block: basic, depth: 2, out: 4}, b: {block: bottleneck, depth: 1, out: 8, width: 4}}
head: {pool: global_avg_pool, fc: {op: linear, out: 5}}
"""
IMAGES = np.random.default_rng(0).standard_normal((4, 3, 8, 8), np.float32)


def train_torch(model: Any) -> tuple[float, Array, list[str]]:
    import torch

    calls: list[str] = []
    model.get_submodule("a.0.conv1").register_forward_hook(lambda *_: calls.append("conv1"))
    loss = (model.train()(torch.from_numpy(IMAGES)) ** 2).sum()
    loss.backward()
    return loss.item(), model.conv.weight.grad.numpy(), calls


def train_paddle(model: Any) -> tuple[float, Array, list[str]]:
    import paddle

    calls: list[str] = []
    model.train()
    model.a[0].conv1.register_forward_post_hook(lambda *_: calls.append("conv1"))
    loss = (model(paddle.to_tensor(IMAGES)) ** 2).sum()
    loss.backward()
    return float(loss), model.conv.weight.grad.numpy(), calls


def train_flax(model: Any) -> tuple[float, Array, list[str]]:
    import jax
    from flax import nnx

    def compute_loss(model: Any) -> Any:
        return (model(IMAGES.transpose(0, 2, 3, 1)) ** 2).sum()

    model.train()
    graph, state = nnx.split(model)
    program = str(jax.make_jaxpr(jax.grad(lambda s: compute_loss(nnx.merge(graph, s, copy=True))))(state))
    loss, gradients = nnx.jit(nnx.value_and_grad(compute_loss))(model)
    kernel = np.asarray(gradients["conv"]["kernel"].get_value()).transpose(3, 2, 0, 1)
    return float(loss), kernel, ["conv1"] * (2 if "remat" in program or "checkpoint" in program else 1)


TRAIN = {"torch": train_torch, "paddle": train_paddle, "flax": train_flax}


@pytest.mark.parametrize("name", TRAIN)
def test_gradients_and_statistics_are_the_same(name: str) -> None:
    required(name)
    plain = build(loads(NETWORK), backend=name)
    saving = build(loads(NETWORK), backend=name, checkpoint="blocks")
    loss, gradient, calls = TRAIN[name](plain)
    own_loss, own_gradient, own_calls = TRAIN[name](saving)
    assert own_loss == pytest.approx(loss, rel=1e-6)
    assert np.abs(own_gradient - gradient).max() <= 1e-5 * np.abs(gradient).max()
    assert (calls, own_calls) == (["conv1"], ["conv1"] * 2)
    expected = dump(plain)
    for key, array in dump(saving).items():
        assert np.allclose(array, expected[key], rtol=1e-5, atol=1e-6), key


def test_what_cannot_be_recomputed_is_refused() -> None:
    with pytest.raises(BackendError, match=r"backend 'numpy' trains no models; leave checkpoint out"):
        build(loads(NETWORK), backend="numpy", checkpoint="blocks")
    required("torch")
    plain = loads("{name: plain, input: [3, 8, 8], stem: {conv: {op: conv, out: 4, kernel: 3}}}")
    with pytest.raises(ValueError, match=r"plain has no residual blocks to recompute; leave checkpoint out"):
        build(plain, backend="torch", checkpoint="blocks")
    with pytest.raises(ValueError, match=r"checkpoint is 'all'; it can be 'blocks', or be left out"):
        build(plain, backend="torch", checkpoint="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"checkpoint is for training"):
        build(plain, backend="torch", checkpoint="blocks", mode="inference")
