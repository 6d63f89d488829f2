"""Layout of a block: samples of one meter, column by column (layout version 1).

A block is the zlib stream (level 1) of a msgpack array::

    [1, times, clock, values, quality]

    times    column of capture times in ms
    clock    column of clock status
    values   one column for each point of the block's layout (table ``layout`` in the store)
    quality  0 if all are good, else one column for each point

A column is one of::

    [0, value]                   all the same
    [1, first, [deltas]]         integers
    [2, places, first, [deltas]] floats that are integers / 10^places, exactly
    [3, [values]]                anything else

Values come back equal and of the same Python type.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import accumulate
from operator import sub
from typing import Any

import msgspec

from flexmap.model import LocalError, Sample

VERSION = 1

_SAME, _INTEGERS, _DECIMALS, _ANY = range(4)
_PLACES = (0, 1, 2, 3)
_LARGEST = 2**53


def pack(samples: Sequence[Sample]) -> bytes:
    """Return the block of samples that all have the same points; at least one."""
    quality: int | list[Any] = 0
    if any(any(sample.quality) for sample in samples):
        quality = [_column(column) for column in zip(*(sample.quality for sample in samples), strict=True)]
    block = [
        VERSION,
        _column([sample.time for sample in samples]),
        _column([sample.clock_status for sample in samples]),
        [_column(column) for column in zip(*(sample.values for sample in samples), strict=True)],
        quality,
    ]
    return zlib.compress(msgspec.msgpack.encode(block), 1)


def unpack(meter: str, block: bytes) -> list[Sample]:
    """Return the samples of a block.

    Raises LocalError if the block is damaged or of a layout that this version does not know.
    """
    try:
        version, times, clock, columns, quality = msgspec.msgpack.decode(zlib.decompress(block))
        if version != VERSION:
            raise LocalError(f"block layout {version} is not known; read it with a newer flexmap")
        count = _length(times)
        values = list(zip(*(_values(column, count) for column in columns), strict=True)) or [()] * count
        marks: Sequence[tuple[int, ...]] = [(0,) * len(columns)] * count
        if quality:
            marks = list(zip(*(_values(column, count) for column in quality), strict=True))
        rows = zip(_values(times, count), values, marks, _values(clock, count), strict=True)
        return [Sample(meter, *row) for row in rows]
    except (zlib.error, msgspec.DecodeError, ValueError, TypeError, IndexError) as error:
        raise LocalError(f"a stored block of meter '{meter}' is damaged: {error}") from error


def _column(values: Sequence[Any]) -> list[Any]:
    first = values[0]
    kinds = set(map(type, values))
    if len(kinds) != 1:
        return [_ANY, values]
    # One value only: the times of a single sample still tell the count.
    if len(values) > 1 and values.count(first) == len(values):
        return [_SAME, first]
    kind = kinds.pop()
    if kind is int and min(values) > -_LARGEST and max(values) < _LARGEST:
        return [_INTEGERS, first, _deltas(values)]
    if kind is float:
        return _decimals(values)
    return [_ANY, values]


def _decimals(values: Sequence[Any]) -> list[Any]:
    if max(map(abs, values)) < _LARGEST // 1000:  # false for NaN and infinity
        for places in _PLACES:
            scale = 10**places
            integers = [round(value * scale) for value in values]
            if all(integer / scale == value for integer, value in zip(integers, values, strict=True)):
                return [_DECIMALS, places, integers[0], _deltas(integers)]
    return [_ANY, values]


def _deltas(values: Sequence[Any]) -> list[int]:
    return list(map(sub, values[1:], values))


def _length(times: Sequence[Any]) -> int:
    if times[0] == _INTEGERS:
        return 1 + len(times[2])
    raise ValueError("times do not count up")


def _values(column: Sequence[Any], count: int) -> list[Any]:
    kind = column[0]
    if kind == _SAME:
        return [column[1]] * count
    if kind == _INTEGERS:
        return list(accumulate(column[2], initial=column[1]))
    if kind == _DECIMALS:
        scale = 10 ** column[1]
        return [integer / scale for integer in accumulate(column[3], initial=column[2])]
    if kind == _ANY:
        return list(column[1])
    raise ValueError(f"column of kind {kind}")
