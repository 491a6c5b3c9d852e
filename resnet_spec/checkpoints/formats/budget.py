"""A limit of the memory and the work that a checkpoint's table of contents takes, by the file's size."""

from __future__ import annotations

from resnet_spec.checkpoints.formats.tensors import CheckpointError

_MIN_BYTES = 5 * 2**24
"""What a file of any size may take: enough for the names, shapes and types of 20,000 arrays."""


class Budget:
    """Counts down the bytes of memory that names, shapes and types of a file may still take.

    Work that needs no memory takes some of it too, so that nothing in a file is read without end.
    """

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        self.total = self.left = max(_MIN_BYTES, size // 2)

    def spend(self, count: int) -> None:
        """Take bytes off. Raises CheckpointError if fewer are left."""
        self.left -= count
        if self.left < 0:
            raise CheckpointError(
                f"{self.path} is damaged: its names, shapes and types take more than {self.total:,} bytes of memory, "
                "too much for the file's size"
            )
