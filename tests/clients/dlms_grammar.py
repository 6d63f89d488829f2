"""Whether an APDU is one that a server may send, by the ASN.1 of IEC 62056-5-3; flexmap decodes nothing here."""

from __future__ import annotations

from collections.abc import Callable

_FIXED = {
    0: 0,
    3: 1,
    5: 4,
    6: 4,
    13: 1,
    15: 1,
    16: 2,
    17: 1,
    18: 2,
    20: 8,
    21: 8,
    22: 1,
    23: 4,
    24: 8,
    25: 12,
    26: 5,
    27: 4,
}
"""Tag of an A-XDR type → its octets."""
_RESULTS = frozenset({0, 1, 2, 3, 4, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 250})
"""Data-Access-Result and Action-Result."""
_INITIATE = frozenset({0x08, 0x28, 0x48})


class GrammarError(Exception):
    """No APDU of a server."""


class _Reader:
    def __init__(self, octets: bytes) -> None:
        self.octets, self.at = octets, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.octets):
            raise GrammarError(f"cut off at {self.at}")
        self.at += count
        return self.octets[self.at - count : self.at]

    def octet(self, allowed: frozenset[int] | None = None) -> int:
        found = self.take(1)[0]
        if allowed is not None and found not in allowed:
            raise GrammarError(f"{found} at {self.at - 1}")
        return found

    def length(self) -> int:
        first = self.octet()
        return first if first < 0x80 else int.from_bytes(self.take(first & 0x7F), "big")

    def text(self) -> bytes:
        return self.take(self.length())

    def data(self) -> None:
        """Pass over one value."""
        open_ = 1
        while open_:
            open_ -= 1
            tag = self.octet()
            if tag in (1, 2):
                open_ += self.length()
            elif tag == 4:
                self.take((self.length() + 7) // 8)
            elif tag in (9, 10, 12):
                self.text()
            elif tag in _FIXED:
                self.take(_FIXED[tag])
            else:
                raise GrammarError(f"type {tag} at {self.at - 1}")

    def list_of(self, item: Callable[[], object]) -> None:
        for _ in range(self.length()):
            item()

    def get_result(self) -> None:
        if self.octet(frozenset({0, 1})):
            self.octet(_RESULTS)
        else:
            self.data()

    def action(self) -> None:
        self.octet(_RESULTS)
        if self.octet(frozenset({0, 1})):
            self.get_result()

    def block(self, number: int = 4) -> None:
        self.octet(frozenset({0, 1}))
        self.take(number)
        self.text()

    def end(self) -> None:
        if self.at != len(self.octets):
            raise GrammarError(f"{len(self.octets) - self.at} octets behind the end")


Opener = Callable[[bytes], bytes]


def check(apdu: bytes, opened: Opener | None = None) -> None:
    """Raise GrammarError unless this is an APDU of a server; ``opened`` takes the layers off a ciphered one."""
    reader = _Reader(apdu)
    tag = reader.octet()
    if tag in (0xC4, 0xC5, 0xC7):
        {0xC4: _get, 0xC5: _set, 0xC7: _action}[tag](reader)
    elif tag in (0x61, 0x63):
        reader.text()
    elif tag == 0xD8:
        reader.octet(frozenset({1, 2}))
        if reader.octet(frozenset(range(1, 7))) == 6:
            reader.take(4)
    elif tag == 0x0E:
        reader.octet(frozenset({1, 5, 6}))
        reader.octet(frozenset(range(7)))
        reader.octet()
    elif tag in (0x0C, 0x0D):
        reader.list_of({0x0C: lambda: _read(reader), 0x0D: lambda: _written(reader)}[tag])
    elif tag == 0xDA:
        _access(reader)
    elif tag == 0xE0:
        reader.take(5)
        reader.text()
    elif opened is not None and _ciphered(reader, tag):
        reader.end()
        check(opened(apdu), opened)
    else:
        raise GrammarError(f"tag {tag:02x}")
    reader.end()


def _ciphered(reader: _Reader, tag: int) -> bool:
    if tag in (0xDB, 0xDC):
        reader.text()
        reader.text()
    elif tag in (0xDD, 0xDF):
        for _ in range(5):
            reader.text()
        if tag == 0xDD and reader.octet(frozenset({0, 1})):
            choice = reader.octet(frozenset({0, 1, 2}))
            if choice == 2:  # key agreement: its parameters in an octet string
                reader.text()
            else:
                reader.octet()
            if choice:
                reader.text()
        reader.text()
        if tag == 0xDF:
            reader.text()
    elif tag in (0x2C, 0x2D, 0x4C, 0x4D, 0xCC, 0xCD, 0xCF, 0xD4, 0xD5, 0xD7, *_INITIATE):
        reader.text()
    else:
        return False
    return True


def _get(reader: _Reader) -> None:
    kind, _ = reader.octet(frozenset({1, 2, 3})), reader.octet()
    if kind == 1:
        reader.get_result()
    elif kind == 3:
        reader.list_of(reader.get_result)
    else:
        reader.octet(frozenset({0, 1}))
        reader.take(4)
        if reader.octet(frozenset({0, 1})):
            reader.octet(_RESULTS)
        else:
            reader.text()


def _set(reader: _Reader) -> None:
    kind, _ = reader.octet(frozenset(range(1, 6))), reader.octet()
    if kind in (1, 3):
        reader.octet(_RESULTS)
    elif kind in (4, 5):
        reader.list_of(lambda: reader.octet(_RESULTS))
    if kind in (2, 3, 4):
        reader.take(4)


def _action(reader: _Reader) -> None:
    kind, _ = reader.octet(frozenset(range(1, 5))), reader.octet()
    if kind == 1:
        reader.action()
    elif kind == 3:
        reader.list_of(reader.action)
    elif kind == 2:
        reader.block()
    else:
        reader.take(4)


def _read(reader: _Reader) -> None:
    kind = reader.octet(frozenset(range(5)))
    if kind == 0:
        reader.data()
    elif kind == 1:
        reader.octet(_RESULTS)
    elif kind == 2:
        reader.block(2)
    else:
        reader.take(2)


def _written(reader: _Reader) -> None:
    kind = reader.octet(frozenset({0, 1, 2}))
    if kind:
        reader.take(kind)


def _access(reader: _Reader) -> None:
    reader.take(4)
    reader.text()
    if reader.octet(frozenset({0, 1})):
        reader.list_of(lambda: _specification(reader))
    reader.list_of(reader.data)
    reader.list_of(lambda: (reader.octet(frozenset({1, 2, 3, 4, 5})), reader.octet(_RESULTS)))


def _specification(reader: _Reader) -> None:
    kind = reader.octet(frozenset({1, 2, 3, 4, 5}))
    reader.take(9)
    if kind in (4, 5):
        reader.octet()
        reader.data()
