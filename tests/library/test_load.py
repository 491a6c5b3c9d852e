"""What is loaded by a name, and what is suggested if nothing is."""

from __future__ import annotations

import pytest

from resnet_spec import load


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("timm/resnet50.a1_in1k", "did you mean 'timm/resnet50'? Names of weights are not part of it"),
        ("hf-hub:timm/resnet50d.ra2_in1k", "did you mean 'timm/resnet50d'?"),
        ("resnet50.tv_in1k", "did you mean 'resnet50'?"),
        ("resnet19", "did you mean 'resnet18'?"),
        ("timm/resnet50x.a1_in1k", "did you mean 'timm/"),
    ],
)
def test_a_name_of_weights_suggests_their_network(name: str, suggested: str) -> None:
    with pytest.raises(FileNotFoundError) as error:
        load(name)
    assert suggested in str(error.value)


@pytest.mark.parametrize("name", ["cifar/resnet20", "cifar/resnet56", "cifar/resnet20_b"])
def test_the_cifar_networks_of_akamaster_are_normalised_as_imagenet(name: str) -> None:
    preprocess = load(name).preprocess
    assert preprocess is not None
    assert (preprocess.mean, preprocess.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
