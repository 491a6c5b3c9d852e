"""Which bundled spec stands for which of the peers' models, family by family."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from resnet_spec import Network, load
from shared.peer_recordings import goldens, models


@dataclass(frozen=True)
class Family:
    """Models of one or more files of a peer, and what stands for one of them here: a bundled name, and its settings."""

    title: str
    registry: str
    files: tuple[str, ...]
    spec: Callable[[str], str | tuple[str, dict[str, Any]]]
    broken: dict[str, str] = field(default_factory=dict)
    """Models that are no target, and why."""

    def rows(self) -> list[str]:
        """The peer's names for its models."""
        return [
            name
            for (registry, name), row in models().items()
            if registry == self.registry and row["file"].endswith(self.files) and name not in self.broken
        ]

    def load(self, name: str) -> Network:
        """What stands for a model of the peer's."""
        found = self.spec(name)
        spec, settings = found if isinstance(found, tuple) else (found, {})
        return load(spec, **settings)


def _akamaster(name: str) -> str:
    """``resnet20 (option B)``"""
    depth, _, option = name.partition(" ")
    return f"cifar/{depth}_b" if option else f"cifar/{depth}"


def _wide(name: str) -> tuple[str, dict[str, Any]]:
    """``WRN-28-10 (100 classes)``"""
    words = re.findall(r"[0-9]+", name)
    return f"cifar/wrn_{words[0]}_{words[1]}", {"classes": int(words[2])}


def _bearpaw(name: str) -> str:
    """``preresnet-164 (bottleneck)``"""
    return f"cifar/bearpaw/{name.partition(' ')[0].replace('-', '')}"


FAMILIES = [
    Family("timm resnet", "timm", ("timm/models/resnet.py",), "timm/{}".format),
    Family("timm resnetv2", "timm", ("timm/models/resnetv2.py",), "timm/{}".format),
    Family("timm regnet", "timm", ("timm/models/regnet.py",), "timm/{}".format),
    Family("timm senet", "timm", ("timm/models/senet.py",), "timm/{}".format),
    Family("timm res2net", "timm", ("timm/models/res2net.py",), "timm/{}".format),
    Family("timm resnest", "timm", ("timm/models/resnest.py",), "timm/{}".format),
    Family("timm sknet", "timm", ("timm/models/sknet.py",), "timm/{}".format),
    Family("torchvision", "torchvision", ("models/resnet.py", "models/regnet.py"), "torchvision/{}".format),
    Family("paddle.vision", "paddle.vision", ("models/resnet.py",), "paddle/{}".format),
    Family(
        "PaddleClas ResNet, ResNeXt and SE",
        "PaddleClas",
        (
            *("/resnet.py", "/resnet_vc.py", "/resnext.py", "/resnext_vd.py", "/resnext101_wsl.py"),
            *("/se_resnet_vd.py", "/se_resnext.py", "/se_resnext_vd.py"),
        ),
        "paddleclas/{}".format,
        {"SE_ResNeXt152_64x4d": "raises upstream"},
    ),
    Family(
        "PaddleClas RegNetX and variants",
        "PaddleClas",
        ("/regnet.py", "/resnet_variant.py"),
        "paddleclas/{}".format,
        {"ResNet50_metabin": "two kinds of normalisation in one, mixed by a gate that training moves"},
    ),
    Family(
        "PaddleClas Res2Net and ResNeSt",
        "PaddleClas",
        ("/res2net.py", "/res2net_vd.py", "/resnest.py"),
        "paddleclas/{}".format,
    ),
    Family("keras.applications", "keras.applications", ("/resnet.py", "/resnet_v2.py"), "keras/{}".format),
    Family(
        "Flax's ImageNet example",
        "google/flax examples",
        ("/models.py",),
        "flax/{}".format,
        {"ResNet18Local": "convolutions that share no weights between pixels"},
    ),
    Family("CIFAR akamaster", "akamaster/pytorch_resnet_cifar10", ("resnet.py",), _akamaster),
    Family("CIFAR kuangliu", "kuangliu/pytorch-cifar", (".py",), "cifar/kuangliu/{}".format),
    Family("CIFAR xternalz", "xternalz/WideResNet-pytorch", ("wideresnet.py",), _wide),
    Family("CIFAR bearpaw", "bearpaw/pytorch-classification", (".py",), _bearpaw),
    Family("CIFAR chenyaofo", "chenyaofo/pytorch-cifar-models", ("resnet.py",), "cifar/chenyaofo/{}".format),
]
CASES = [(family, name) for family in FAMILIES for name in family.rows()]


def recorded() -> list[tuple[str, str]]:
    """The recorded outputs for which something stands, by registry and name as ``goldens`` has them."""
    return [key for key in goldens() if _standing(*key)]


def stands_for(registry: str, name: str) -> Network:
    """What stands for the model of a recorded output. Raises IndexError."""
    family, model = _standing(registry, name)[0]
    return family.load(model)


GOLDEN = {
    "timm/resnetv2": "timm",
    "akamaster (32x32 input)": "akamaster/pytorch_resnet_cifar10",
    "xternalz WRN (32x32 input)": "xternalz/WideResNet-pytorch",
    "kuangliu preact (32x32 input)": "kuangliu/pytorch-cifar",
    "bearpaw preresnet (32x32 input)": "bearpaw/pytorch-classification",
}
"""Registries that recorded outputs call otherwise."""


def _standing(registry: str, name: str) -> list[tuple[Family, str]]:
    """The first of a peer's models that a recorded output is of: ``WRN-40-2`` is ``WRN-40-2 (10 classes)``."""
    return [
        (family, row)
        for family in FAMILIES
        if family.registry == GOLDEN.get(registry, registry)
        for row in family.rows()
        if row == name or row.startswith(f"{name} (")
    ][:1]
