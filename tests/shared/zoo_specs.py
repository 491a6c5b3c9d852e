"""The bundled specs that are equivalent to models of other libraries, by family."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from resnet_spec import Network, load
from shared.bundled_networks import bundled_network
from shared.peer_recordings import goldens, peer_models


@dataclass(frozen=True)
class Family:
    """Models of a library, and a function from a model's name to the equivalent spec, with or without settings."""

    title: str
    registry: str
    files: tuple[str, ...]
    spec: Callable[[str], str | tuple[str, dict[str, Any]]]
    excluded: dict[str, str] = field(default_factory=dict)
    """Models without an equivalent, with the reason."""

    def names(self) -> list[str]:
        """Return the library's names of its models."""
        return [
            name
            for (registry, name), row in peer_models().items()
            if registry == self.registry and row["file"].endswith(self.files) and name not in self.excluded
        ]

    def load(self, name: str) -> Network:
        """Return the network that is equivalent to a model."""
        equivalent = self.spec(name)
        spec, settings = equivalent if isinstance(equivalent, tuple) else (equivalent, {})
        return _load(spec, tuple(settings.items())) if settings else bundled_network(spec)


@cache
def _load(spec: str, settings: tuple[tuple[str, Any], ...]) -> Network:
    """Return a network, loaded once for all tests of a process."""
    return load(spec, input=None, outputs=None, **dict(settings))


def _akamaster(name: str) -> str:
    # name is, for example, "resnet20 (option B)"
    depth, _, option = name.partition(" ")
    return f"cifar/{depth}_b" if option else f"cifar/{depth}"


def _wide(name: str) -> tuple[str, dict[str, Any]]:
    # name is, for example, "WRN-28-10 (100 classes)"
    depth, width, classes = re.findall(r"[0-9]+", name)
    return f"cifar/wrn_{depth}_{width}", {"classes": int(classes)}


def _bearpaw(name: str) -> str:
    # name is, for example, "preresnet-164 (bottleneck)"
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
        {"ResNet50_metabin": "a mixture of two kinds of normalisation by a learned gate"},
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
CASES = [(family, name) for family in FAMILIES for name in family.names()]


def recorded_models() -> list[tuple[str, str]]:
    """Return the registry and name of each recorded output that has an equivalent spec, as in ``goldens``."""
    return [key for key in goldens() if _find_family(*key)]


def equivalent_network(registry: str, name: str) -> Network:
    """Return the network that is equivalent to the model of a recorded output. Raises IndexError if there is none."""
    family, model = _find_family(registry, name)[0]
    return family.load(model)


def recorded_parameters(registry: str, name: str) -> int:
    """Return how many parameters the model of a recorded output has."""
    family, model = _find_family(registry, name)[0]
    return int(peer_models()[family.registry, model]["params"])


GOLDEN_REGISTRIES = {
    "timm/resnetv2": "timm",
    "akamaster (32x32 input)": "akamaster/pytorch_resnet_cifar10",
    "xternalz WRN (32x32 input)": "xternalz/WideResNet-pytorch",
    "kuangliu preact (32x32 input)": "kuangliu/pytorch-cifar",
    "bearpaw preresnet (32x32 input)": "bearpaw/pytorch-classification",
}
"""Registries in the inventory, by their names in recorded outputs where those differ."""


def _find_family(registry: str, name: str) -> list[tuple[Family, str]]:
    """Return the first model that a recorded output can be from: ``WRN-40-2`` is from ``WRN-40-2 (10 classes)``."""
    return [
        (family, row)
        for family in FAMILIES
        if family.registry == GOLDEN_REGISTRIES.get(registry, registry)
        for row in family.names()
        if row == name or row.startswith(f"{name} (")
    ][:1]
