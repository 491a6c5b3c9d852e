"""PyTorch models with unusual wrappers, types, hooks and weights are proven, or refused in a sentence that says why."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resnet_spec import ImportRefused, from_torch
from resnet_spec.importing.named_models import load_named_model
from shared.frameworks import required

required("torch")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

SHAPE = (3, 16, 16)


class Small(nn.Module):
    """What the other models change."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.fc = nn.Linear(4, 5)
        self.prepare()

    def prepare(self) -> None:
        """Add what a model has beside the layers."""

    def change(self, x: Tensor) -> Tensor:
        """Compute what a model does between the layers."""
        return x

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.change(self.stem(x)).mean((2, 3)))


class OptimizedModule(nn.Module):
    """As torch.compile wraps a model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._orig_mod = model

    def forward(self, x: Tensor) -> Any:
        raise AssertionError("compiled code is not traced")


def scale_output(model: nn.Module) -> nn.Module:
    model.get_submodule("stem.0").register_forward_hook(lambda module, inputs, output: output * 2)
    return model


# -- proven ------------------------------------------------------------------------------------------------------


class CastsToSingle(Small):
    def prepare(self) -> None:
        self.kernel = torch.ones(4, 1, 1)  # no buffer

    def change(self, x: Tensor) -> Tensor:
        return (x.float() * self.kernel).to(torch.float32)


class NamedAsKeys(nn.Module):
    """Names of modules that are keys in specs."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.op = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(self.block(x))


class SumsOverStack(Small):
    def change(self, x: Tensor) -> Tensor:
        return torch.stack([x, torch.add(x.sigmoid(), x, alpha=0.5)], 1).mean(1)


class SumsFromZeros(Small):
    def change(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x) + torch.maximum(x, x.new_zeros(1))


class KernelInAnotherShape(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 27))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.kernel.view(4, 3, 3, 3))


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None


class ReturnsDataclass(Small):
    def forward(self, x: Tensor) -> Output:
        return Output(super().forward(x))


class Decoder(nn.Module):
    """Maps that take the size of another by nearest pixels, and are joined before that one."""

    def __init__(self) -> None:
        super().__init__()
        self.outer, self.inner = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.outer(x)
        y = self.inner(functional.max_pool2d(x, 2))
        return torch.cat([functional.interpolate(y, size=x.shape[2:]), x], 1)


PROVEN: dict[str, Callable[[], Any]] = {
    "data parallel": lambda: nn.DataParallel(Small()),
    "compiled": lambda: OptimizedModule(Small()),
    "half precision": lambda: Small().half(),
    "hooks": lambda: scale_output(Small()),
    "casts": CastsToSingle,
    "names": NamedAsKeys,
    "a stack": SumsOverStack,
    "zeros": SumsFromZeros,
    "a kernel": KernelInAnotherShape,
    "a dataclass": ReturnsDataclass,
    "a decoder": Decoder,
}


@pytest.mark.parametrize("name", PROVEN)
def test_an_unusual_model_is_proven(name: str) -> None:
    torch.manual_seed(0)
    assert from_torch(PROVEN[name](), SHAPE).is_proven


def test_weights_in_wrappers_have_the_models_own_names() -> None:
    assert set(from_torch(nn.DataParallel(Small()), SHAPE).weights) >= {"stem.0.weight", "fc.bias"}


def test_maps_of_odd_size_are_noted() -> None:
    assert "odd height or width" in from_torch(Decoder(), SHAPE).notes[0]


def test_weights_that_evaluation_does_not_use_are_noted() -> None:
    model = Small()
    model.auxiliary = nn.Linear(4, 5)
    assert "auxiliary.weight, auxiliary.bias" in from_torch(model, SHAPE).notes[0]


def test_until_a_layer_of_a_module() -> None:
    assert from_torch(Small(), SHAPE, until="stem.1").network.output_shape == (4, 16, 16)


# -- refused -----------------------------------------------------------------------------------------------------


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class ComputesFactor(Small):
    def prepare(self) -> None:
        self.rate = nn.Parameter(torch.tensor(0.5))

    def change(self, x: Tensor) -> Tensor:
        return x * self.rate.exp()


class MultipliesByBuffer(Small):
    gains: Tensor

    def prepare(self) -> None:
        self.register_buffer("gains", torch.rand(4, 1, 1))

    def change(self, x: Tensor) -> Tensor:
        return x * self.gains


class Detaches(Small):
    def change(self, x: Tensor) -> Tensor:
        return x.detach()


class LeavesTorch(Small):
    def forward(self, x: Tensor) -> Any:
        return torch.from_numpy(super().forward(x).detach().numpy())


class ReturnsObject(Small):
    def forward(self, x: Tensor) -> Any:
        return {"a text": str(super().forward(x).shape)}


class Exits(Small):
    def change(self, x: Tensor) -> Tensor:
        sys.exit(3)


def make_meta() -> nn.Module:
    with torch.device("meta"):
        return Small()


def make_traced() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        return torch.jit.trace(nn.Conv2d(3, 4, 3), torch.randn(1, *SHAPE))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "two inputs": (TwoInputs, "TwoInputs.forward.*missing a required argument: 'y'"),
    "traced": (make_traced, "compiled by TorchScript"),
    "without values": (make_meta, "on the device meta"),
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), "no shape before it has run"),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), "what is computed from param"),
    "a factor": (ComputesFactor, "what is computed from rate"),
    "a buffer": (MultipliesByBuffer, "the buffer gains"),
    "no gradient": (Detaches, "gradient of stem.0.weight"),
    "numpy": (LeavesTorch, "does not depend on its input"),
    "an object": (ReturnsObject, "a value of the type dict, in which no tensor is found"),
    "an exit": (Exits, "SystemExit: 3 at test_unusual_models.py"),
    "nothing": (nn.Identity, "returns the image as it is"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_unusual_model_is_refused_with_the_reason(name: str) -> None:
    make, message = REFUSED[name]
    torch.manual_seed(0)
    with pytest.raises(ImportRefused, match=message):
        from_torch(make(), SHAPE)


def test_a_path_that_is_none_gets_a_suggestion() -> None:
    with pytest.raises(ImportRefused, match="did you mean 'stem'"):
        from_torch(Small(), SHAPE, until="sten")


def test_a_file_that_exits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import sys\nsys.exit(2)\n")
    with pytest.raises(ValueError, match=r"SystemExit: 2 \(net.py:2\)"):
        load_named_model(f"{tmp_path / 'net.py'}:Net")
