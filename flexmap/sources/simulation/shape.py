"""From the average of a row to its seconds, without changing the average.

Energy is integrated from row averages, so the seconds of a row must add up to the average times the row's
length: exactly, in integers. Within the row the power runs in two straight lines, from the border with the row
before over the middle to the border with the row after; the middle is set so that the average holds, and a
border is never more than twice a row's own average, so that the power does not change its sign.
"""

from __future__ import annotations

from collections.abc import Sequence


def spread(before: int, here: int, after: int, ripple: Sequence[float]) -> list[int]:
    """Return one integer for each factor of ``ripple``, with sum exactly ``here * len(ripple)``.

    ``before`` and ``after`` are the averages of the neighbouring rows; ``ripple`` holds factors around 1.
    """
    count = len(ripple)
    start, end = _border(before, here), _border(here, after)
    middle = 2 * here - (start + end) / 2
    half = count / 2
    line = [
        (start + (middle - start) * (position + 0.5) / half)
        if position + 0.5 <= half
        else (middle + (end - middle) * (position + 0.5 - half) / half)
        for position in range(count)
    ]
    rippled = [value * factor for value, factor in zip(line, ripple, strict=True)]
    total = sum(rippled)
    if not total:
        return [here] * count
    scale = here * count / total
    seconds = [round(value * scale) for value in rippled]
    return _settle(seconds, here)


def _border(one: int, other: int) -> float:
    if one * other <= 0:
        return 0.0
    sign = 1 if one > 0 else -1
    return sign * min(abs(one + other) / 2, 2 * abs(one), 2 * abs(other))


def _settle(seconds: list[int], here: int) -> list[int]:
    """Give what rounding has left over to the largest second; hold the average if that one is too small."""
    rest = here * len(seconds) - sum(seconds)
    largest = max(range(len(seconds)), key=lambda position: abs(seconds[position]))
    if abs(rest) > abs(seconds[largest]):
        return [here] * len(seconds)
    seconds[largest] += rest
    return seconds
