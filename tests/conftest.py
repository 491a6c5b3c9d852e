"""Fixtures: every backend whose framework is here. The rest are skipped, unless RESNET_SPEC_REQUIRE says that they must be here."""

from __future__ import annotations

import os

import pytest

from resnet_spec.backend import BackendError, Trainer, load_backend

os.environ["JAX_ENABLE_X64"] = "1"  # before JAX is imported: float64 is compared too

collect_ignore = ["data", "third_party"]  # what records the peers, and a package to install

REQUIRED = set(os.environ.get("RESNET_SPEC_REQUIRE", "").split())


def required(name: str) -> Trainer:
    """A backend, or a skip that says what the user would be told."""
    try:
        return load_backend(name)
    except BackendError as error:
        if name in REQUIRED:
            raise
        pytest.skip(str(error))


@pytest.fixture(params=["numpy", "torch", "paddle", "flax"])
def backend_name(request: pytest.FixtureRequest) -> str:
    required(request.param)
    return str(request.param)
