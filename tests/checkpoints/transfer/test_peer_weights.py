"""Peers' own models and ours, by checkpoints: theirs run here in every backend, ours load into theirs strictly.

torchvision and timm are wanted for most of it, and are no dependencies: CONTRIBUTING.md says how to have them. paddle.vision is Paddle's.
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

IMAGES = np.random.default_rng(0).standard_normal((2, 3, 64, 48)).astype(np.float32)
GATE = 1e-5  # of the largest logit

_declared: list[Any] = []


def peer(name: str) -> Any:
    """A peer's package, or a skip. torchvision's compiled part may not load beside this torch; its models need but two of its operators."""
    torch = pytest.importorskip("torch")
    if not _declared:
        library = torch.library.Library("torchvision", "FRAGMENT")
        if not hasattr(torch.ops.torchvision, "nms"):
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    return pytest.importorskip(name, reason=f"{name} is not installed")


def of_torch(package: str, name: str) -> Any:
    module = peer(package)
    return (module.models.get_model(name) if package == "torchvision" else module.create_model(name)).eval()


def of_paddle(package: str, name: str) -> Any:
    required("paddle")
    import paddle

    model = getattr(paddle.vision.models, name)()
    model.eval()
    return model


PEERS: list[tuple[str, str, str, Callable[[str, str], Any], str]] = [
    ("torchvision", "resnet50", "resnet50", of_torch, ".pth"),
    ("timm", "resnet50d", "resnet50d", of_torch, ".pth"),
    ("timm", "seresnet50", "seresnet50", of_torch, ".pth"),
    ("paddle.vision", "resnext50_32x4d", "resnext50_32x4d", of_paddle, ".pdparams"),
]


def drawn(model: Any, ending: str) -> Any:
    """The model's state with every number random, statistics, scales and shifts too: fresh ones would hide a wrong mapping."""
    random = np.random.default_rng(1)

    def like(name: str, tensor: Any) -> Array:
        shape = tuple(tensor.shape)
        if name.endswith(("running_var", "_variance")) or (len(shape) == 1 and name.endswith("weight")):
            return random.uniform(0.5, 1.0, shape).astype(np.float32)
        spread = (
            0.1
            if len(shape) < 2
            else 1 / np.sqrt(shape[0] if len(shape) == 2 and ending == ".pdparams" else np.prod(shape[1:]))
        )
        return (spread * random.standard_normal(shape)).astype(np.float32)

    state = model.state_dict()
    return {name: like(name, tensor) for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def give(model: Any, state: dict[str, Array], ending: str) -> None:
    if ending == ".pth":
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


def logits(model: Any, ending: str) -> Array:
    if ending == ".pth":
        import torch

        with torch.no_grad():
            return model(torch.from_numpy(IMAGES)).numpy()
    import paddle

    return model(paddle.to_tensor(IMAGES)).numpy()


def off(found: Array, wanted: Array) -> float:
    assert found.shape == wanted.shape
    assert np.isfinite(found).all()
    return float(np.abs(found.astype(np.float64) - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize(
    ("package", "name", "spec", "make", "ending"), PEERS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_peers_weights_give_the_peers_outputs_in_every_backend(
    package: str, name: str, spec: str, make: Callable[[str, str], Any], ending: str, tmp_path: Path
) -> None:
    model = make(package, name)
    give(model, drawn(model, ending), ending)
    save(model, tmp_path / f"w{ending}")
    wanted = logits(model, ending)
    found = {}
    for backend in ("torch", "paddle", "flax", "numpy"):
        required(backend)
        ours = build(spec, backend=backend, weights=tmp_path / f"w{ending}", dtype="float32")
        found[backend] = off(run(ours, IMAGES), wanted)
    assert max(found.values()) < GATE, found


@pytest.mark.parametrize(
    ("package", "name", "spec", "make", "ending"), PEERS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_we_write_loads_into_a_peers_model_strictly(
    package: str, name: str, spec: str, make: Callable[[str, str], Any], ending: str, tmp_path: Path
) -> None:
    model = make(package, name)
    weights = {key: array.astype(np.float32) for key, array in comparison_weights(load(spec)).items()}
    save_file(weights, tmp_path / "w.safetensors")
    convert(tmp_path / "w.safetensors", tmp_path / f"there{ending}", spec)
    if ending == ".pth":
        import torch

        model.load_state_dict(torch.load(tmp_path / "there.pth", weights_only=True), strict=True)
    else:
        import paddle

        missing, unexpected = model.set_state_dict(paddle.load(str(tmp_path / "there.pdparams")))
        assert (list(missing), list(unexpected)) == ([], [])
    ours = build(spec, backend="numpy", weights=weights, dtype="float32")
    assert off(run(ours, IMAGES), logits(model, ending)) < GATE
