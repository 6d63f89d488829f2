"""Does a point read the same on both faces? Value, quality and time, as each protocol shows them."""

from __future__ import annotations

import struct
from typing import NamedTuple

from flexmap.dlms import classes, cosem_time
from flexmap.dlms.apdu import DataAccessResult
from flexmap.dlms.axdr import Bits
from flexmap.dlms.axdr import Value as CosemValue
from flexmap.faces.mms_client import Reading
from flexmap.mapping import cdc, value
from flexmap.model import Kind, Part, Point, Value, quality

_SIGN = {Part.NET: 1, Part.PLUS: 1, Part.MINUS: -1}
_CLOCK_TICK_MS = 10
"""Resolution of a COSEM date-time: hundredths of a second."""


class CosemReading(NamedTuple):
    """What the DLMS face says about a point."""

    value: Value
    """In the sense of the sample: engineering value; None if it answers with a data-access-result."""
    quality: int | None
    """None where the class has no status."""
    time: int | None
    """Milliseconds since 1970 UTC; of the meter's clock where the class has no capture_time."""
    error: str = ""


def cosem_reading(point: Point, raws: list[CosemValue | DataAccessResult], time: int | None) -> CosemReading:
    """Return the reading of a point from its registers' values and, for class 4, status and capture_time.

    ``raws`` holds, for each register, the value and for class 4 also status and capture_time; ``time`` is the
    meter's clock, for classes without a time of their own.
    """
    extended = point.registers[0].class_id == classes.EXTENDED_REGISTER
    width = 3 if extended else 1
    values = raws[::width]
    value_quality = None
    if extended:
        value_quality, time = _status(raws[1]), _time(raws[2])
    failed = next((item for item in values if isinstance(item, DataAccessResult)), None)
    if failed is not None:
        return CosemReading(None, value_quality, time, failed.name.lower().replace("_", "-"))
    if point.kind is Kind.IDENTITY:
        text = values[0]
        return CosemReading(text.decode(errors="replace") if isinstance(text, bytes) else str(text), None, None)
    return CosemReading(_combine(point, values), value_quality, time)


def _combine(point: Point, values: list[CosemValue | DataAccessResult]) -> Value:
    """Return the value that a point's registers stand for: the net one, or plus less minus."""
    if point.type == "boolean":
        return bool(values[0])
    parts = {register.part: item for register, item in zip(point.registers, values, strict=True)}
    used = [Part.NET] if Part.NET in parts else [Part.PLUS, Part.MINUS]
    raw = 0
    for part in used:
        number = parts[part]
        raw += _SIGN[part] * (number if isinstance(number, int) else 0)
    return value.engineering(point, raw)


def _status(raw: CosemValue | DataAccessResult) -> int | None:
    if not isinstance(raw, Bits) or len(raw) != quality.WIDTH:
        return None
    return quality.from_bits(int(raw + "000", 2).to_bytes(2, "big"))


def _time(raw: CosemValue | DataAccessResult) -> int | None:
    return cosem_time.to_epoch_ms(raw) if isinstance(raw, bytes) else None


def meter_time(raw: CosemValue | DataAccessResult) -> int | None:
    """Return the meter's clock, None if it was never read."""
    return _time(raw)


def same_time(cosem: CosemReading, mms: Reading) -> bool:
    """Tell whether both readings are of the same sample."""
    return (cosem.time or 0) // _CLOCK_TICK_MS == (mms.time or 0) // _CLOCK_TICK_MS


def difference(point: Point, cosem: CosemReading, mms: Reading) -> str:
    """Return in words how two readings of one sample differ; empty if they agree."""
    if mms.error:
        return f"MMS: {mms.error}"
    if point.kind is not Kind.IDENTITY and not same_time(cosem, mms):
        return f"time: DLMS {cosem.time}, MMS {mms.time}"
    if cosem.quality is not None and cosem.quality != mms.quality:
        return f"quality: DLMS {quality.describe(cosem.quality)}, MMS {quality.describe(mms.quality or 0)}"
    if cosem.value is None:
        invalid = mms.quality is not None and quality.validity(mms.quality) == quality.INVALID
        return "" if invalid else f"DLMS: {cosem.error}, but MMS is not invalid"
    return "" if expected(point, cosem.value) == mms.value else f"value: DLMS {cosem.value}, MMS {mms.value}"


def expected(point: Point, number: Value) -> Value:
    """Return what MMS has to show for a point's value."""
    if point.reference.cdc == "DPC":
        return cdc.DPC_ON if number else cdc.DPC_OFF
    if point.kind is Kind.INSTANTANEOUS and isinstance(number, int | float):
        return float(struct.unpack("f", struct.pack("f", number))[0])
    return number
