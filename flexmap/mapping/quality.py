"""Quality rules: from what is known of a reading to a quality and a time quality (both faces use the same)."""

from __future__ import annotations

import msgspec

from flexmap.model import Sample, quality

CLOCK_INVALID = 0x01
CLOCK_DOUBTFUL = 0x02
CLOCK_INVALID_STATUS = 0x08
CLOCK_DAYLIGHT_SAVING = 0x80


def time_quality(clock_status: int) -> int:
    """Return the octet behind a UtcTime for a COSEM clock status (IEC 62056-6-2 clause 4.1.6.1)."""
    if clock_status & (CLOCK_INVALID | CLOCK_INVALID_STATUS):
        return quality.CLOCK_FAILURE | quality.ACCURACY_MILLISECOND
    if clock_status & CLOCK_DOUBTFUL:
        return quality.CLOCK_NOT_SYNCHRONIZED | quality.ACCURACY_MILLISECOND
    return quality.ACCURACY_MILLISECOND


def aged(value_quality: int) -> int:
    """Return the quality of a value older than its limit: good becomes questionable, oldData is set."""
    if quality.validity(value_quality) == quality.GOOD:
        value_quality |= quality.QUESTIONABLE
    return value_quality | quality.OLD_DATA


def age(sample: Sample) -> Sample:
    """Return the sample as it reads once it is older than its source's limit."""
    return msgspec.structs.replace(sample, quality=tuple(map(aged, sample.quality)))


def lose(sample: Sample) -> Sample:
    """Return the sample as it reads once its meter counts as silent: every value invalid with oldData."""
    return msgspec.structs.replace(sample, quality=tuple(map(lost, sample.quality)))


def lost(value_quality: int) -> int:
    """Return the quality of a value of a silent meter: invalid, oldData beside the details there were."""
    return value_quality & ~quality.VALIDITY | quality.INVALID | quality.OLD_DATA


def never_read(meter: str, width: int, *, channel: bool = False, rates: bool = False) -> Sample:
    """Return the sample of a meter that no source has read: every value missing and invalid, time 0."""
    return Sample(meter, 0, (None,) * width, (quality.NEVER_READ,) * width, channel=channel, rates=rates)
