"""A backend that another distribution registers is found and used without a change to this project."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from resnet_spec import build, dump, run
from resnet_spec.backend import registered_backends
from shared.third_party_package import install


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "resnet_spec_shouting", raising=False)


@pytest.mark.usefixtures("installed")
def test_the_backend_is_listed() -> None:
    assert "shouting" in registered_backends()


@pytest.mark.usefixtures("installed")
def test_the_backend_is_used() -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 40, 40))
    third_party = build("resnet18", backend="shouting", classes=3)
    reference = build("resnet18", backend="numpy", classes=3)
    assert np.array_equal(run(third_party, x), -run(reference, x))
    assert list(dump(third_party)) == list(dump(reference))
