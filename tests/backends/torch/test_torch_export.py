"""Programs of torch.export: loaded again, they compute what the network computes, for any batch and size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_spec import build, load, loads, run
from resnet_spec.backend import ExportOptions, load_backend
from resnet_spec.network.network import Network
from resnet_spec.parity.case import Case
from resnet_spec.weights.canonical import Array
from shared.array_differences import relative_difference
from shared.every_operation import EVERY_OPERATION, MODERN_OPERATIONS
from shared.frameworks import required

required("torch")
torch: Any = pytest.importorskip("torch")

SMALL = """
name: small
input: [3, 24, 32]
stem: {conv: {op: conv, out: 8, kernel: 3, stride: 2, padding: same}, norm: norm, act: hard_swish}
stages: {layer1: {block: basic, depth: 1, out: 16, stride: 2, attention: {block: squeeze_excite, reduced: 4}}}
head:
  peak: {op: max_pool, kernel: 2, stride: 2, ceil: true}
  groups: {op: group_norm, groups: 4}
  pool: global_avg_pool
  fc: {op: linear, out: 5}
"""


def export(network: Network, path: Path, **options: Any) -> Any:
    """Write a program of a network with random weights; return it, loaded again, as a function."""
    model = build(network, backend="torch", weights=Case(network).weights())
    assert load_backend("torch").export(model, path, ExportOptions("pt2", **options)) == [path]
    return torch.export.load(path).module()


def evaluate(program: Any, images: Array) -> Array:
    return np.asarray(program(torch.from_numpy(images)).detach())


def draw_images(batch: int, *shape: int) -> Array:
    return np.random.default_rng(0).standard_normal((batch, *shape)).astype(np.float32)


@pytest.mark.sweep  # PyTorch takes ten seconds and more to trace each
@pytest.mark.parametrize("spec", [EVERY_OPERATION, MODERN_OPERATIONS], ids=["every", "modern"])
def test_an_evaluation_is_that_of_the_network(spec: str, tmp_path: Path) -> None:
    network = loads(spec)
    images = draw_images(2, *network.input)
    actual = evaluate(export(network, tmp_path / "a.pt2", batch=2), images)
    model = build(network, backend="torch", weights=Case(network).weights())
    assert relative_difference(actual, run(model, images)) <= 1e-6


@pytest.mark.parametrize(
    "spec",
    [SMALL, *(pytest.param(name, marks=pytest.mark.sweep) for name in ("resnet18", "timm/tf_mobilenetv3_small_075"))],
    ids=["small", "resnet18", "mobilenet"],
)
@pytest.mark.sweep
def test_batch_height_and_width_may_be_free(spec: str, tmp_path: Path) -> None:
    network = loads(spec) if spec == SMALL else load(spec, input=(3, 64, 64))
    program = export(network, tmp_path / "a.pt2", batch=None, free_size=True)
    model = build(network, backend="torch", weights=Case(network).weights())
    for batch, height, width in ((1, 24, 32), (3, 95, 74)):
        images = draw_images(batch, 3, height, width)
        assert relative_difference(evaluate(program, images), run(model, images)) <= 1e-6


def test_weights_have_the_names_of_the_spec(tmp_path: Path) -> None:
    network = loads(SMALL)
    program = export(network, tmp_path / "a.pt2")
    names = {name for name in program.state_dict() if not name.endswith("num_batches_tracked")}
    assert names == set(network.weights())


def test_a_size_that_a_part_fixes_is_refused(tmp_path: Path) -> None:
    network = loads("{name: n, input: [3, 8, 8], stem: {flat: flatten, fc: {op: linear, out: 4}}}")
    with pytest.raises(ValueError, match=r"^height and width of n cannot be free: flat gives 192 values"):
        export(network, tmp_path / "a.pt2", free_size=True)
    assert not [*tmp_path.iterdir()]


def test_a_model_in_training_mode_is_exported_in_evaluation_and_stays(tmp_path: Path) -> None:
    network = loads(SMALL)
    model = build(network, backend="torch").train()
    load_backend("torch").export(model, tmp_path / "a.pt2", ExportOptions("pt2"))
    assert model.training
    images = draw_images(1, *network.input)
    actual = evaluate(torch.export.load(tmp_path / "a.pt2").module(), images)
    assert relative_difference(actual, run(model.eval(), images)) <= 1e-6
