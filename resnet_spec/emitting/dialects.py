"""Find the dialect of a framework, in which modules are emitted."""

from __future__ import annotations

from resnet_spec.backend import BackendError, load_backend
from resnet_spec.emitting import flax, paddle, torch
from resnet_spec.emitting.dialect import Dialect


def find_dialect(name: str) -> Dialect:
    """Return the dialect of a backend. No framework is imported for those of this project. Raises BackendError."""
    own: dict[str, Dialect] = {"torch": torch.DIALECT, "paddle": paddle.DIALECT, "flax": flax.DIALECT}
    if name in own:
        return own[name]
    dialect: Dialect | None = getattr(load_backend(name), "DIALECT", None)
    if dialect is None:
        raise BackendError(f"backend {name!r} writes no code; those that do are: {', '.join(own)}")
    return dialect
