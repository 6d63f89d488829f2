"""The buffer of a buffered report control block (IEC 61850-7-2 clause 17.2.3): entries, overflow.

An :class:`Entry` is what a report tells, apart from the options that a client has set: it becomes a report when
it is sent. Entries are in an :class:`EntryStore` before they are sent, so that whatever a client has got is there
after a restart too, and EntryIDs never come twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from operator import attrgetter
from typing import Protocol

import msgspec

from flexmap.mms import ber, data

_ENTRY_OVERHEAD, _MEMBER_OVERHEAD = 32, 8
"""Octets that count for an entry and each of its members besides the values."""
_number = attrgetter("number")


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One report's contents."""

    number: int
    """EntryID as a number; it rises from entry to entry."""
    time: int
    """TimeOfEntry: milliseconds since 1970-01-01T00:00:00 UTC."""
    members: tuple[tuple[int, int, bytes], ...]
    """Place in the data set, reason, encoded value; in the order of the data set."""

    @property
    def size(self) -> int:
        """Octets that it takes up."""
        return _ENTRY_OVERHEAD + sum(_MEMBER_OVERHEAD + len(value) for _, _, value in self.members)


class Kept(msgspec.Struct, array_like=True):
    """What is kept of a buffered block besides its entries."""

    configured: dict[str, bytes]
    """Settings as the SCL file has them; if it says something else after a restart, it is another block."""
    settings: dict[str, bytes]
    """Settings as clients have left them, encoded, by attribute."""
    members: tuple[tuple[str | None, str], ...]
    """Of its data set."""
    told: dict[int, bytes] = msgspec.field(default_factory=dict)
    """The last value told of each member, of entries that are not there any more."""
    dropped: int = 0
    """Number of the last entry that is not there any more."""


class EntryStore(Protocol):
    """Keeps entries and settings of blocks; what was written is on disk after :meth:`commit`."""

    def load(self) -> Iterable[tuple[str, Kept, list[Entry]]]:
        """Return what is kept: name of the block, settings, entries in their order."""

    def keep(self, block: str, kept: Kept) -> None:
        """Keep a block's settings."""

    def append(self, block: str, entry: Entry) -> None:
        """Keep an entry of a block whose settings are kept."""

    def drop(self, block: str, upto: int) -> None:
        """Forget entries with numbers up to this one."""

    def forget(self, block: str) -> None:
        """Forget a block and all its entries."""

    def commit(self) -> None:
        """Write everything since the last commit, or nothing; raises LocalError and tries again next time."""


class Volatile:
    """Keeps nothing: buffers end with the process."""

    def load(self) -> Iterable[tuple[str, Kept, list[Entry]]]:
        """Return nothing."""
        return ()

    def keep(self, block: str, kept: Kept) -> None:
        """Do nothing."""

    def append(self, block: str, entry: Entry) -> None:
        """Do nothing."""

    def drop(self, block: str, upto: int) -> None:
        """Do nothing."""

    def forget(self, block: str) -> None:
        """Do nothing."""

    def commit(self) -> None:
        """Do nothing."""


class Buffer:
    """The entries of one block, at most so many octets of them."""

    def __init__(self, most: int, entries: list[Entry] | None = None, dropped: int = 0) -> None:
        self._most = most
        self.entries = entries or []
        self._size = sum(entry.size for entry in self.entries)
        self.sent = 0
        """Number of the last entry that the client of now, or the last one, got."""
        self.dropped = dropped
        self.overflowed = False
        """Entries were dropped that no client had got; told with the next report (BufOvfl)."""

    @property
    def last(self) -> Entry | None:
        """The newest entry."""
        return self.entries[-1] if self.entries else None

    def append(self, entry: Entry) -> list[Entry]:
        """Take an entry; return those that had to go, oldest first: some at a time, so that it happens seldom."""
        self.entries.append(entry)
        self._size += entry.size
        gone = 0
        if self._size > self._most:
            while self._size > self._most * 7 // 8 and gone < len(self.entries) - 1:
                self._size -= self.entries[gone].size
                gone += 1
        dropped, self.entries = self.entries[:gone], self.entries[gone:] if gone else self.entries
        if dropped:
            self.dropped = dropped[-1].number
            self.overflowed = self.overflowed or self.dropped > self.sent
        return dropped

    def purge(self) -> None:
        """Forget all entries."""
        if self.entries:
            self.dropped = self.entries[-1].number
        self.entries = []
        self._size = 0
        self.overflowed = False

    def knows(self, number: int) -> bool:
        """Tell whether a client can go on behind an entry: it is there, or the one before the first."""
        at = bisect_right(self.entries, number, key=_number)
        return number in {0, self.dropped} or bool(at and self.entries[at - 1].number == number)

    def unsent(self) -> list[Entry]:
        """Return the entries behind the last one sent."""
        return self.entries[bisect_right(self.entries, self.sent, key=_number) :]


def leaves(value: bytes) -> list[bytes]:
    """Return what stands in a device for an encoded value: headers of structures, leaves, depth first.

    Raises BerError.
    """
    tag, begin, end = ber.element(value, 0, len(value))
    if tag not in {data.STRUCTURE, data.ARRAY}:
        return [value]
    found = [value[:begin]]
    for part in data.parts(value[:end]):
        found += leaves(part)
    return found


def last_told(told: dict[int, bytes], entries: list[Entry]) -> dict[int, bytes]:
    """Return the last value told of each member: by entries, else as it was before them."""
    return told | {index: value for entry in entries for index, _, value in entry.members}


def milliseconds(value: bytes) -> int:
    """Return an encoded time stamp in milliseconds since 1970-01-01T00:00:00 UTC; 0 for any other value."""
    if len(value) != 10 or value[0] != data.UTC_TIME:
        return 0
    seconds, fraction = int.from_bytes(value[2:6], "big"), int.from_bytes(value[6:9], "big")
    return seconds * 1000 + -(-fraction * 1000 >> 24)
