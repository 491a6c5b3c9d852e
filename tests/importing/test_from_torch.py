"""Models of PyTorch become specs: strangers' are proven, and what the language can't say is refused with its place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resnet_spec import ImportRefused, Network, build, from_torch, load, loads, ops, run
from shared.frameworks import required

required("torch")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from shared.strangers import STRANGERS, Backbone, FunctionalBlock, SharedRelu  # noqa: E402

LINES = {"shared relu": 15, "functional": 15, "squeeze and excitation": 30, "a wrapper": 36}
"""The most lines that the specs of some strangers may have."""


def make_stranger(name: str) -> Any:
    """Return a model whose statistics and scales are random, since equal values would hide mistakes."""
    torch.manual_seed(0)
    model = STRANGERS[name]()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var") or (tensor.ndim == 1 and key.endswith("weight")):
                tensor.uniform_(0.5, 1.5)
            elif key.endswith("running_mean"):
                tensor.normal_(0, 0.1)
    return model.eval()


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_is_proven(name: str) -> None:
    model = make_stranger(name)
    imported = from_torch(model, (3, 32, 32), name="stranger")
    assert imported.is_proven
    assert {line.what for line in imported.proof if line.count} >= {"outputs", "parts"}
    own = {key for key in model.state_dict() if not key.endswith("num_batches_tracked")}
    assert {imported.renamed.get(key, key) for key in imported.weights} == own
    assert loads(imported.spec).parts[0] == imported.network.parts[0]
    assert len(imported.spec.splitlines()) <= LINES.get(name, 40)


@pytest.mark.parametrize("backend", ["torch", "paddle", "flax", "onnx"])
@pytest.mark.parametrize(
    "name",
    ["parameters of its own", *(pytest.param(name, marks=pytest.mark.sweep) for name in ("functional", "a wrapper"))],
)
def test_a_stranger_runs_elsewhere(name: str, backend: str) -> None:
    required(backend)
    model = make_stranger(name)
    network, weights = from_torch(model, (3, 32, 32))
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).numpy()
    actual = run(build(network, backend=backend, weights=weights), images)
    assert np.abs(actual - expected).max() < 1e-4


def test_a_models_state_dict_loads() -> None:
    model = make_stranger("shared relu")
    network, _ = from_torch(model, (3, 64, 64))
    assert isinstance(network, Network)
    images = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    ours = build(network, backend="torch", weights=model.state_dict())
    with torch.no_grad():
        assert np.array_equal(run(ours, images), model(torch.from_numpy(images)).numpy())


def test_importing_changes_no_model() -> None:
    model = make_stranger("functional").train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    from_torch(model, (3, 32, 32))
    assert model.training
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert not torch.nn.modules.module._global_forward_hooks


def test_a_known_network_is_extended() -> None:
    model = build("cifar/resnet20", backend="torch", classes=7)
    imported = from_torch(model, (3, 32, 32), name="mine")
    assert imported.spec.splitlines()[:3] == ["name: mine", "extends: cifar/resnet20", "takes: {classes: 7}"]
    assert imported.network.parts == load("cifar/resnet20", classes=7).parts


def test_a_bundled_block_is_used() -> None:
    imported = from_torch(SharedRelu(), (3, 64, 64), extends=False)
    assert "block: bottleneck, depth: 3, out: 64, width: 16, stride: 2" in imported.spec
    assert "blocks:" not in imported.spec


def test_a_backbone_has_outputs() -> None:
    network, _ = from_torch(Backbone(), (3, 32, 32))
    assert network.outputs == ("layer1", "layer2", "layer3")


def test_until_ends_the_network() -> None:
    imported = from_torch(SharedRelu(), (3, 64, 64), until="layer1")
    assert imported.network.output_shape == (32, 16, 16)
    assert not any(name.startswith(("layer2", "fc")) for name in imported.weights)


class Refuses(nn.Module):
    """Two calls that the language can't say, in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.inner = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Mish())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(self.inner(self.conv(x)), dim=1)


def test_every_refused_call_is_listed_with_its_place() -> None:
    with pytest.raises(ImportRefused) as caught:
        from_torch(Refuses(), (3, 16, 16))
    places = caught.value.places
    assert len(places) == 2
    assert places[0].startswith("inner.1: mish at ")
    assert places[1].startswith("the model: cumsum at test_from_torch.py:")
    assert "--until" in str(caught.value)


class UsedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.relu(self.conv(x)))


class Crossing(nn.Module):
    """Two ways that cross, which is no tree."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(a + x)
        return self.c(a + b) + b + x


class LooksAtNumbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y if y.sum() > 1e9 else functional.relu(y)


class Baked(nn.Module):
    """A window whose size follows from the map's, but is not all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return functional.avg_pool2d(x, x.shape[-1] - 4)


class MixesImages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y - y.mean(0, keepdim=True)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (UsedTwice, "layers with weights are used more than once"),
        (Crossing, "two ways cross"),
        (Baked, "depends on the size of the image"),
        (MixesImages, "it mixes the images of a batch"),
    ],
)
def test_what_no_spec_says_is_refused(model: Any, message: str) -> None:
    with pytest.raises(ImportRefused, match=message):
        from_torch(model(), (3, 32, 32))


def test_control_flow_is_noted() -> None:
    imported = from_torch(LooksAtNumbers(), (3, 16, 16))
    assert "looks at numbers that depend on the images" in imported.notes[0]
    assert "test_from_torch.py:" in imported.notes[0]


class WindowsAsLargeAsTheMap(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = FunctionalBlock(3, 8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x)
        return functional.avg_pool2d(x, x.size()[2:]).flatten(1)


def test_a_pool_as_large_as_the_map_is_global() -> None:
    network, _ = from_torch(WindowsAsLargeAsTheMap(), (3, 32, 32))
    assert "GlobalAvgPool" in str(list(network.leaves())[-2:])


class SamePadding(nn.Module):
    """TensorFlow's padding, computed from the size of the map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        margins: list[int] = []
        for size in (x.shape[3], x.shape[2]):
            missing = max(0, (-(-size // 2) - 1) * 2 + 3 - size)
            margins += [missing // 2, missing - missing // 2]
        return functional.relu(self.conv(functional.pad(x, margins)))


def test_padding_by_the_size_of_the_map_is_same() -> None:
    imported = from_torch(SamePadding(), (3, 32, 32))
    assert "padding: same" in imported.spec
    assert len({line.size for line in imported.proof if line.what == "outputs"}) == 2


class PadsBeforePool(nn.Module):
    """A maximum of windows whose padding, minus infinity, follows from the size of the map."""

    def __init__(self, *after: nn.Module) -> None:
        super().__init__()
        self.conv, self.after = nn.Conv2d(3, 4, 3), nn.Sequential(*after)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        margins = [0, x.shape[3] % 2, 0, x.shape[2] % 2]
        return self.after(functional.pad(x, margins, value=-float("inf")))


def test_padding_with_minus_infinity_belongs_to_a_max_pool() -> None:
    network, _ = from_torch(PadsBeforePool(nn.MaxPool2d(2, 2)), (3, 32, 32))
    assert [leaf.op for leaf in network.leaves()][1:] == [ops.MaxPool(2, 2, "same")]
    with pytest.raises(ImportRefused, match="minus infinity that something else than a max pool reads"):
        from_torch(PadsBeforePool(nn.ReLU(), nn.MaxPool2d(2, 2)), (3, 32, 32))


def test_zeros_below_are_not_same_padding_where_maps_are_odd() -> None:
    halving = "{pad: {op: zero_pad, bottom: 1, right: 1}, conv: {op: conv, out: 4, kernel: 3, stride: 2}}"
    stem = f"{{first: {{op: conv, out: 4, kernel: 3, stride: 2, padding: same}}, second: {halving}}}"
    network = loads(f"{{name: n, input: [3, 64, 64], stem: {stem}}}")
    imported = from_torch(build(network, backend="torch"), network.input, extends=False)
    assert [leaf.op for leaf in imported.network.leaves()] == [leaf.op for leaf in network.leaves()]


def test_same_padding_is_none_at_even_sizes() -> None:
    conv = "{op: conv, out: 4, kernel: 2, stride: 2, padding: same}"
    network = loads(f"{{name: n, input: [3, 64, 64], stem: {{conv: {conv}}}}}")
    imported = from_torch(build(network, backend="torch"), network.input, extends=False)
    assert [leaf.op for leaf in imported.network.leaves()] == [leaf.op for leaf in network.leaves()]


class Functions(nn.Module):
    """Activations by their formulas, in different ways."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.convs[0](x)
        x = self.convs[1](x * torch.sigmoid(x))
        x = self.convs[2](x * functional.relu6(x + 3) / 6)
        x = self.convs[3](0.5 * x * (1 + torch.erf(x / 2**0.5)))
        x = self.convs[4](torch.relu(x) ** 2)
        return functional.leaky_relu(x, 0.2)


def test_functions_are_recognised_by_their_values() -> None:
    network, _ = from_torch(Functions(), (3, 9, 9))
    found = [type(leaf.op).__name__ for leaf in network.leaves() if type(leaf.op).__name__ != "Conv"]
    assert found == ["Silu", "HardSwish", "Gelu", "SquaredRelu", "LeakyRelu"]


class DropsPaths(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        class DropPath(nn.Module):
            drop_prob = 0.1

            def forward(self, x: Tensor) -> Tensor:
                return x

        self.conv, self.drop = nn.Conv2d(3, 3, 3, padding=1), DropPath()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(functional.dropout(self.conv(x), 0.2, self.training))


def test_what_evaluation_hides_is_read_from_modules() -> None:
    network, _ = from_torch(DropsPaths(), (3, 16, 16))
    rates = {type(leaf.op).__name__: leaf.op.rate for leaf in network.leaves() if hasattr(leaf.op, "rate")}
    assert rates == {"Dropout": pytest.approx(0.2), "DropPath": pytest.approx(0.1)}


class StepByStep(nn.Module):
    """A shuffle by views, a leaky ReLU by torch.where, a sum of a stack, and means over one axis after another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        count, channels, height, width = x.size()
        x = x.view(count, 2, channels // 2, height, width).transpose(1, 2).contiguous().view(count, -1, height, width)
        x = torch.where(x > 0, x, 0.1 * x)
        return torch.stack([x, self.other(x)]).sum(0).mean(3).mean(2)


def test_what_is_computed_step_by_step_is_one_operation() -> None:
    network, _ = from_torch(StepByStep(), (3, 17, 15))
    found = sorted(type(leaf.op).__name__ for leaf in network.leaves())
    assert found == ["ChannelShuffle", "Conv", "Conv", "GlobalAvgPool", "LeakyRelu"]


class ChannelsLast(nn.Module):
    """As many channels as rows and columns, normalised with the channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.fc = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.stem(x).permute(0, 2, 3, 1)).mean((1, 2)))


def test_a_square_map_with_channels_last_is_compared() -> None:
    assert from_torch(ChannelsLast(), (3, 32, 32)).is_proven


class Attends(nn.Module):
    """A gate for each pixel, computed on a smaller map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        gate = torch.sigmoid(self.gate(functional.avg_pool2d(x, 2)))
        return y * functional.interpolate(gate, size=y.shape[2:], mode="nearest")


def test_a_map_that_takes_the_size_of_another() -> None:
    imported = from_torch(Attends(), (3, 32, 32))
    assert "resize: nearest" in imported.spec
    assert {line.size for line in imported.proof if line.what == "outputs"} == {"32x32", "33x33"}


class CollectsBeside(nn.Module):
    """As SelecSLS has it: what follows one after another is concatenated with what all of it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.first, self.second, self.third = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        first = self.first(x)
        second = self.second(first)
        return torch.cat([first, second, self.third(second), x], 1)


def test_values_that_lead_to_each_other_are_collected() -> None:
    imported = from_torch(CollectsBeside(), (3, 16, 16))
    assert imported.is_proven
    assert list(imported.weights)[2::2] == ["first.weight", "second.weight", "third.weight"]
    assert "collect:" in imported.spec


class Row(nn.Sequential):
    def __init__(self, inner: int, outer: int, kernel: int, stride: int = 1, *more: nn.Module) -> None:
        conv = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outer), *more)


class BlockOfRows(nn.Module):
    """fastai's style: a row of rows, and a shortcut that is a row with a pool only where the map shrinks."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        width = outer // 2
        self.path = nn.Sequential(
            Row(inner, width, 1, 1, nn.ReLU()), Row(width, width, 3, stride, nn.ReLU()), Row(width, outer, 1)
        )
        pools = [nn.AvgPool2d(2, ceil_mode=True)] if stride > 1 else []
        self.id = nn.Sequential(*pools, *([Row(inner, outer, 1)] if inner != outer else []))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.path(x) + self.id(x))


def test_blocks_that_hold_rows_are_one_block() -> None:
    torch.manual_seed(0)
    widths = [(3, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 48, 2), (48, 48, 1)]
    model = nn.Sequential(*(BlockOfRows(*width) for width in widths), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    imported = from_torch(model, (3, 32, 32))
    assert imported.is_proven
    assert len(imported.spec.splitlines()) <= 24


class Assigns(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y[:, 0] = 0
        return y


class ReturnsBeside(nn.Module):
    """A value of a branch that does not lead to the last output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.side, self.fc = nn.Conv2d(3, 3, 3), nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.conv(x)
        return {"side": self.side(x.mean((2, 3))), "out": self.fc(x.amax((2, 3)))}


@pytest.mark.parametrize(
    ("model", "message"),
    [(Assigns, "an assignment to a part of a tensor"), (ReturnsBeside, "beside the way to its last output")],
)
def test_what_a_trace_could_miss_is_refused(model: Any, message: str) -> None:
    with pytest.raises(ImportRefused, match=message):
        from_torch(model(), (3, 32, 32))
