"""Twelve implementations of residual networks, in the styles in which they are found in the wild. All are small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # as everyone writes it
from torch import Tensor, nn


def conv3x3(i: int, o: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(i, o, 3, stride, 1, bias=False)


class FunctionalBlock(nn.Module):
    """Activations made on the way, a sum in place."""

    def __init__(self, i: int, o: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(i, o, stride), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = conv3x3(o, o), nn.BatchNorm2d(o)
        self.shortcut = nn.Sequential()
        if stride != 1 or i != o:
            self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x: Tensor) -> Tensor:
        out = nn.ReLU()(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return nn.ReLU()(out)


class Functional(nn.Module):
    """kuangliu's style: _make_layer, F.avg_pool2d by a number, view."""

    def __init__(self) -> None:
        super().__init__()
        self.in_planes = 8
        self.conv1, self.bn1 = conv3x3(3, 8), nn.BatchNorm2d(8)
        self.layer1 = self._make_layer(8, 2, 1)
        self.layer2 = self._make_layer(16, 2, 2)
        self.linear = nn.Linear(16, 10)

    def _make_layer(self, planes: int, blocks: int, stride: int) -> nn.Sequential:
        layers = []
        for step in [stride] + [1] * (blocks - 1):
            layers.append(FunctionalBlock(self.in_planes, planes, step))
            self.in_planes = planes
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer2(self.layer1(out))
        out = F.avg_pool2d(out, 16)
        out = out.view(out.size(0), -1)
        return self.linear(out)


class Residual(nn.Module):
    """A shortcut around anything."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def nested_sequential() -> nn.Module:
    """Sequentials in Sequentials, without a class for the network."""

    def unit(width: int) -> nn.Module:
        body = nn.Sequential(
            conv3x3(width, width), nn.BatchNorm2d(width), nn.ReLU(True), conv3x3(width, width), nn.BatchNorm2d(width)
        )
        return nn.Sequential(Residual(body), nn.ReLU(inplace=True))

    return nn.Sequential(
        nn.Sequential(conv3x3(3, 8), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
        nn.Sequential(unit(8), unit(8), unit(8)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)),
    )


class ModuleLists(nn.Module):
    """Loops over ModuleLists."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv3x3(3, 8)
        widths = [8, 16, 24]
        self.convs = nn.ModuleList()
        for i, o in zip([8, *widths], widths, strict=False):
            self.convs.append(nn.ModuleList([FunctionalBlock(i, o, 1 + (i != o)), FunctionalBlock(o, o)]))
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.convs:
            for block in stage:  # type: ignore[attr-defined]
                x = block(x)
        return self.head(x.mean([2, 3]))


class SharedReluBlock(nn.Module):
    """torchvision's style: one ReLU used throughout, and a downsample that may be None."""

    def __init__(self, i: int, o: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o // 4, 1, bias=False), nn.BatchNorm2d(o // 4)
        self.conv2, self.bn2 = conv3x3(o // 4, o // 4, stride), nn.BatchNorm2d(o // 4)
        self.conv3, self.bn3 = nn.Conv2d(o // 4, o, 1, bias=False), nn.BatchNorm2d(o)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class SharedRelu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = self._stage(16, 32, 1)
        self.layer2 = self._stage(32, 64, 2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(64, 10)

    def _stage(self, i: int, o: int, stride: int) -> nn.Sequential:
        projection = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
        return nn.Sequential(SharedReluBlock(i, o, stride, projection), SharedReluBlock(o, o), SharedReluBlock(o, o))

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(x, 1))


class ConvBN(nn.Module):
    """A wrapper with options that its forward looks at."""

    def __init__(self, i: int, o: int, k: int = 1, s: int = 1, act: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(i, o, k, s, k // 2, bias=False)
        self.norm = nn.BatchNorm2d(o, eps=1e-3)
        self.use_act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.silu(x, inplace=True) if self.use_act else x


class WrapperBlock(nn.Module):
    def __init__(self, i: int, o: int, s: int = 1) -> None:
        super().__init__()
        self.cv1, self.cv2 = ConvBN(i, o, 3, s), ConvBN(o, o, 3, act=False)
        self.proj = ConvBN(i, o, 1, s, act=False) if s != 1 or i != o else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.cv2(self.cv1(x)) + self.proj(x))


class Wrapper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvBN(3, 8, 3), WrapperBlock(8, 8), WrapperBlock(8, 16, 2), WrapperBlock(16, 16))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.body(x)).flatten(1))


class DictOfStages(nn.Module):
    """A ModuleDict of stages, and a loop over its items."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(
            {
                "stem": nn.Sequential(conv3x3(3, 8), nn.BatchNorm2d(8), nn.ReLU()),
                "res2": nn.Sequential(FunctionalBlock(8, 8), FunctionalBlock(8, 8)),
                "res3": nn.Sequential(FunctionalBlock(8, 16, 2), FunctionalBlock(16, 16)),
            }
        )
        self.classifier = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages.values():
            x = stage(x)
        return self.classifier(F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1))


class PreactBlock(nn.Module):
    """Pre-activation; the projection reads what is activated."""

    def __init__(self, i: int, o: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(i), conv3x3(i, o, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(o), conv3x3(o, o)
        if stride != 1 or i != o:
            self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        out = self.conv1(out)
        out = self.conv2(F.relu(self.bn2(out)))
        return out + shortcut


class Preact(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv3x3(3, 8)
        self.layer1 = nn.Sequential(PreactBlock(8, 8), PreactBlock(8, 8))
        self.layer2 = nn.Sequential(PreactBlock(8, 16, 2), PreactBlock(16, 16))
        self.bn = nn.BatchNorm2d(16)
        self.linear = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer2(self.layer1(self.conv1(x)))
        out = torch.relu(self.bn(out)).mean(dim=(-1, -2))
        return self.linear(out)


class SEBlock(nn.Module):
    """Squeeze-and-excitation by linear layers, view and expand_as."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.bn = conv3x3(width, width), nn.BatchNorm2d(width)
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(width, width // 4, bias=False),
            nn.ReLU(True),
            nn.Linear(width // 4, width, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn(self.conv(x))
        b, c, _, _ = out.size()
        y = self.avg_pool(out).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return F.relu(out * y.expand_as(out) + x)


class SE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.Sequential(*(SEBlock(16) for _ in range(3)))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.mean(self.blocks(self.stem(x)), dim=[2, 3]))


class TwoLayerHead(nn.Module):
    """A map of fixed size, flattened before a head of two layers with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(conv3x3(3, 8, 2), nn.ReLU(), FunctionalBlock(8, 8), nn.AdaptiveAvgPool2d((2, 2)))
        self.classifier = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), start_dim=1))


class Backbone(nn.Module):
    """A list of maps, one for each stage."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv3x3(3, 8, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.layer1 = nn.Sequential(FunctionalBlock(8, 8), FunctionalBlock(8, 8))
        self.layer2 = nn.Sequential(FunctionalBlock(8, 16, 2), FunctionalBlock(16, 16))
        self.layer3 = nn.Sequential(FunctionalBlock(16, 32, 2), FunctionalBlock(32, 32))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        x = self.stem(x)
        for name in ("layer1", "layer2", "layer3"):
            x = getattr(self, name)(x)
            maps.append(x)
        return maps


class LightningLike(nn.Module):
    """What pytorch_lightning's modules look like: the network is an attribute, beside steps and a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.model = SharedRelu()
        self.loss = nn.CrossEntropyLoss()

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        return self.loss(self(images), labels)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


STRANGERS: dict[str, Callable[[], Any]] = {
    "functional": Functional,
    "nested sequentials": nested_sequential,
    "module lists": ModuleLists,
    "shared relu": SharedRelu,
    "a wrapper": Wrapper,
    "a dict of stages": DictOfStages,
    "pre-activation": Preact,
    "squeeze and excitation": SE,
    "a head of two layers": TwoLayerHead,
    "a backbone": Backbone,
    "lightning": LightningLike,
}
"""A function that makes each model, by what is special about it."""


class Scripted(nn.Module):
    """Shapes and constants computed on the way, and a gate by hand: the twelfth."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3, 3, 3) * 0.2)
        self.gamma = nn.Parameter(torch.full((8,), 0.5))
        self.conv = nn.Conv2d(8, 8, 3, padding="same")
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.weight, padding=1))
        y = self.conv(x)
        x = x + self.gamma.view(1, -1, 1, 1) * (y * torch.sigmoid(y))
        batch, channels = x.shape[:2]
        return self.fc(x.reshape(batch, channels, -1).mean(-1))


STRANGERS["parameters of its own"] = Scripted
