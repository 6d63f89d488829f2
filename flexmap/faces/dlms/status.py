"""Quality as the status of an Extended or Demand register."""

from __future__ import annotations

from functools import lru_cache

from flexmap.dlms import axdr
from flexmap.model import quality


@lru_cache(maxsize=1 << quality.WIDTH)
def status_value(value_quality: int) -> bytes:
    """Return the status attribute: the 13-bit quality of IEC 61850-7-3 as a bit-string."""
    bits = f"{int.from_bytes(quality.to_bits(value_quality), 'big'):016b}"[: quality.WIDTH]
    return axdr.encode("bit-string", bits)
