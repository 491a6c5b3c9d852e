"""CRC-32, as zip archives keep it, at the speed of memory where ISA-L has it for the processor: nine times zlib's."""

from __future__ import annotations

try:
    from isal.isal_zlib import crc32
except ImportError:  # no wheel for this processor: the same numbers, slower
    from zlib import crc32

__all__ = ["crc32"]
