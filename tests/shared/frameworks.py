"""Which frameworks are installed: a missing one skips its tests, or fails them where RESNET_SPEC_REQUIRE names it."""

from __future__ import annotations

import os

import pytest

from resnet_spec.backend import Backend, BackendError, load_backend

REQUIRED = set(os.environ.get("RESNET_SPEC_REQUIRE", "").split())
"""What must be installed: its absence is a failure, not a skip."""


def required(name: str) -> Backend:
    """Return a backend, or skip the test with the sentence that a user would read."""
    try:
        return load_backend(name)
    except BackendError as error:
        if name in REQUIRED:
            raise
        pytest.skip(str(error))
