"""Skip tests of frameworks that are not installed, or fail if RESNET_SPEC_REQUIRE names the framework."""

from __future__ import annotations

import os

import pytest

from resnet_spec.backend import Backend, BackendError, load_backend

REQUIRED = set(os.environ.get("RESNET_SPEC_REQUIRE", "").split())
"""Frameworks and programs that must be installed: tests fail without them."""


def required(name: str) -> Backend:
    """Return a backend, or skip the test if its framework is not installed."""
    try:
        return load_backend(name)
    except BackendError as error:
        if name in REQUIRED:
            raise
        pytest.skip(str(error))
