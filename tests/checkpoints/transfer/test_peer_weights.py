"""Exchange checkpoints with the models of other libraries, strictly, and compare the outputs.

Most tests need torchvision and timm, which are not dependencies; CONTRIBUTING.md says how to install them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from resnet_spec import build, convert, load, run
from resnet_spec.weights.canonical import Array, comparison_weights
from shared.frameworks import required
from shared.torchvision_operators import declare_torchvision_operators

IMAGES = np.random.default_rng(0).standard_normal((2, 3, 64, 48)).astype(np.float32)
TOLERANCE = 1e-5  # relative to the largest logit


def import_package(name: str) -> Any:
    """Import a library, or skip the test if it is not installed."""
    declare_torchvision_operators()
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    return pytest.importorskip(name, reason=f"{name} is not installed")


def make_torch_model(package: str, name: str) -> Any:
    module = import_package(package)
    return (module.models.get_model(name) if package == "torchvision" else module.create_model(name)).eval()


def make_paddle_model(package: str, name: str) -> Any:
    required("paddle")
    import paddle

    model = getattr(paddle.vision.models, name)()
    model.eval()
    return model


PEERS: list[tuple[str, str, str, Callable[[str, str], Any], str]] = [
    ("torchvision", "resnet50", "resnet50", make_torch_model, ".pth"),
    ("timm", "resnet50d", "resnet50d", make_torch_model, ".pth"),
    ("timm", "seresnet50", "seresnet50", make_torch_model, ".pth"),
    ("paddle.vision", "resnext50_32x4d", "resnext50_32x4d", make_paddle_model, ".pdparams"),
]


def draw_state(model: Any, suffix: str) -> Any:
    """Return random values for all of a model's state: with initial values, a wrong mapping could go unnoticed."""
    random = np.random.default_rng(1)

    def draw(name: str, shape: tuple[int, ...]) -> Array:
        if name.endswith(("running_var", "_variance")) or (len(shape) == 1 and name.endswith("weight")):
            return random.uniform(0.5, 1.0, shape).astype(np.float32)
        fan_in = shape[0] if len(shape) == 2 and suffix == ".pdparams" else np.prod(shape[1:])
        scale = 0.1 if len(shape) < 2 else 1 / np.sqrt(fan_in)
        return (scale * random.standard_normal(shape)).astype(np.float32)

    state = model.state_dict()
    return {
        name: draw(name, tuple(tensor.shape))
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }


def load_state(model: Any, state: dict[str, Array], suffix: str) -> None:
    if suffix == ".pth":
        import torch

        model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=True)
    else:
        missing, unexpected = model.set_state_dict(state)
        assert (list(missing), list(unexpected)) == ([], [])


def save(model: Any, path: Path) -> None:
    if path.suffix == ".pth":
        import torch

        torch.save(model.state_dict(), path)
    else:
        import paddle

        paddle.save(model.state_dict(), str(path))


def compute_logits(model: Any, suffix: str) -> Array:
    if suffix == ".pth":
        import torch

        with torch.no_grad():
            return model(torch.from_numpy(IMAGES)).numpy()
    import paddle

    return model(paddle.to_tensor(IMAGES)).numpy()


def relative_error(actual: Array, expected: Array) -> float:
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    return float(np.abs(actual.astype(np.float64) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    ("package", "name", "spec", "make", "suffix"), PEERS, ids=lambda value: value if isinstance(value, str) else ""
)
@pytest.mark.share(2)
def test_every_backend_computes_the_outputs_of_another_librarys_model(
    package: str, name: str, spec: str, make: Callable[[str, str], Any], suffix: str, tmp_path: Path
) -> None:
    model = make(package, name)
    load_state(model, draw_state(model, suffix), suffix)
    save(model, tmp_path / f"w{suffix}")
    expected = compute_logits(model, suffix)
    errors = {}
    for backend in ("torch", "paddle", "flax", "numpy"):
        required(backend)
        own_model = build(spec, backend=backend, weights=tmp_path / f"w{suffix}", dtype="float32")
        errors[backend] = relative_error(run(own_model, IMAGES), expected)
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize(
    ("package", "name", "spec", "make", "suffix"), PEERS, ids=lambda value: value if isinstance(value, str) else ""
)
@pytest.mark.share(2)
def test_another_librarys_model_loads_written_file_strictly(
    package: str, name: str, spec: str, make: Callable[[str, str], Any], suffix: str, tmp_path: Path
) -> None:
    model = make(package, name)
    weights = {key: array.astype(np.float32) for key, array in comparison_weights(load(spec)).items()}
    save_file(weights, tmp_path / "w.safetensors")
    convert(tmp_path / "w.safetensors", tmp_path / f"there{suffix}", spec)
    if suffix == ".pth":
        import torch

        model.load_state_dict(torch.load(tmp_path / "there.pth", weights_only=True), strict=True)
    else:
        import paddle

        missing, unexpected = model.set_state_dict(paddle.load(str(tmp_path / "there.pdparams")))
        assert (list(missing), list(unexpected)) == ([], [])
    own_model = build(spec, backend="numpy", weights=weights, dtype="float32")
    assert relative_error(run(own_model, IMAGES), compute_logits(model, suffix)) < TOLERANCE
