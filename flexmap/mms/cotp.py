"""TPKT and COTP class 0 (RFC 1006, ISO/IEC 8073): transport service data units out of a TCP stream and back.

Only the data path of class 0 is there, as RFC 1006 wants it: connection request and confirm, data, disconnect. A
TPDU whose frame ends before or behind it is a protocol error, as is one that never ends.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import msgspec

from flexmap.model.error import RemoteError

_TPKT = 4
_DATA_HEADER = b"\x02\xf0"
_END = 0x80
_CR, _CC, _DR, _DT, _ER = 0xE0, 0xD0, 0x80, 0xF0, 0x70
_TPDU_SIZE, _CALLING, _CALLED, _ALTERNATIVES = 0xC0, 0xC1, 0xC2, 0xC7
_SMALLEST, _LARGEST = 7, 13
"""Powers of two a TPDU size may be: 128 to 8192 octets."""
_DEFAULT_SIZE = 65531
"""Without negotiation RFC 1006 takes as much as a TPKT holds."""
_NEGOTIATION_FAILED, _ADDRESS_UNKNOWN = 0x82, 3
_MAX_CONTROL = 128
"""Octets of a connection request; each parameter is small."""


class TransportError(RemoteError):
    """The stream is out of step: the connection must be closed."""


class Negotiated(msgspec.Struct, frozen=True):
    """What a connection request and its confirm settled."""

    size: int
    """Octets of the largest TPDU, header included."""
    calling: bytes
    """The client's transport selector."""
    called: bytes


class State(enum.Enum):
    """Where a transport connection is."""

    IDLE = 0
    OPEN = 1
    CLOSED = 2


Accept = Callable[[bytes], bool]
"""Tells whether a called transport selector is one of ours."""


class Transport:
    """The server's side of one transport connection.

    ``receive`` returns the service data units that are complete; what is to be sent for the protocol's own sake
    stands in ``out`` afterwards.
    """

    __slots__ = ("_accept", "_limit", "_parts", "_rest", "_size", "negotiated", "out", "state")

    def __init__(self, limit: int, accept: Accept = lambda _: True) -> None:
        """Make a connection that takes service data units of up to ``limit`` octets."""
        self._limit = limit
        self._accept = accept
        self._rest = b""
        self._parts: list[bytes] = []
        self._size = 0
        self.negotiated: Negotiated | None = None
        self.state = State.IDLE
        self.out = b""

    @property
    def unfinished(self) -> bool:
        """A frame or a segmented unit has begun and not ended."""
        return bool(self._rest or self._parts)

    def receive(self, octets: bytes) -> list[bytes]:
        """Return the service data units that these octets complete; raises TransportError."""
        data = self._rest + octets if self._rest else octets
        units: list[bytes] = []
        at, end = 0, len(data)
        while self.state is not State.CLOSED and end - at >= _TPKT:
            if data[at] != 3:
                raise TransportError(f"no TPKT: begins with {data[at]:#04x}")
            size = data[at + 2] << 8 | data[at + 3]
            if size < _TPKT + 3:
                raise TransportError(f"a TPKT of {size} octets")
            if self.state is State.IDLE and size > _MAX_CONTROL:
                raise TransportError(f"a connection request of {size} octets")
            if end - at < size:
                break
            self._tpdu(data, at + _TPKT, at + size, units)
            at += size
        self._rest = data[at:] if self.state is not State.CLOSED else b""
        return units

    def frame(self, unit: bytes) -> bytes:
        """Return a service data unit as TPKTs, in segments if the negotiated TPDU size asks for them."""
        most = (self.negotiated.size if self.negotiated is not None else _DEFAULT_SIZE) - 3
        if len(unit) <= most:
            return b"\x03\x00" + (len(unit) + 7).to_bytes(2, "big") + b"\x02\xf0\x80" + unit
        frames: list[bytes] = []
        for begin in range(0, len(unit), most):
            part = unit[begin : begin + most]
            mark = b"\x80" if begin + most >= len(unit) else b"\x00"
            frames += (b"\x03\x00", (len(part) + 7).to_bytes(2, "big"), _DATA_HEADER, mark, part)
        return b"".join(frames)

    def _tpdu(self, data: bytes, at: int, end: int, units: list[bytes]) -> None:
        indicator, code = data[at], data[at + 1] & 0xF0
        if at + 1 + indicator > end or indicator == 0xFF:
            raise TransportError(f"TPDU header of {indicator} octets in a frame of {end - at}")
        if self.state is State.IDLE:
            if code != _CR:
                raise TransportError(f"TPDU {code:#04x} before a connection request")
            self._connect(data[at + 1 : at + 1 + indicator])
        elif code == _DT:
            if indicator != 2:
                raise TransportError(f"data TPDU with a header of {indicator} octets")
            self._data(data[at + 3 : end], last=bool(data[at + 2] & _END), units=units)
        elif code in {_DR, _ER}:
            self.state = State.CLOSED
        else:
            raise TransportError(f"TPDU {code:#04x} in class 0")

    def _data(self, part: bytes, *, last: bool, units: list[bytes]) -> None:
        if last and not self._parts:
            if len(part) > self._limit:
                raise TransportError(f"a service data unit of more than {self._limit} octets")
            units.append(part)
            return
        if not part and not last:
            raise TransportError("an empty segment")
        self._size += len(part)
        if self._size > self._limit:
            raise TransportError(f"a service data unit of more than {self._limit} octets")
        self._parts.append(part)
        if last:
            units.append(b"".join(self._parts))
            self._parts, self._size = [], 0

    def _connect(self, request: bytes) -> None:
        """Answer a connection request: code, destination, source, class, parameters."""
        if len(request) < 6:
            raise TransportError("a connection request without class")
        source, parameters = request[3:5], _parameters(request, 6)
        power = parameters.get(_TPDU_SIZE, b"")
        calling, called = parameters.get(_CALLING, b""), parameters.get(_CALLED, b"")
        if request[5] >> 4 and not any(octet >> 4 == 0 for octet in parameters.get(_ALTERNATIVES, b"")):
            self._refuse(source, _NEGOTIATION_FAILED)
            return
        if not self._accept(called):
            self._refuse(source, _ADDRESS_UNKNOWN)
            return
        size, reply = _DEFAULT_SIZE, b""
        if power:
            if len(power) != 1 or power[0] < _SMALLEST:
                raise TransportError(f"TPDU size {power.hex()}")
            exponent = min(power[0], _LARGEST)
            size, reply = 1 << exponent, bytes((_TPDU_SIZE, 1, exponent))
        for code, value in ((_CALLING, calling), (_CALLED, called)):
            if value:
                reply += bytes((code, len(value))) + value
        body = bytes((_CC,)) + source + b"\x00\x01\x00" + reply
        self.out += _tpkt(bytes((len(body),)) + body)
        self.negotiated = Negotiated(size, calling, called)
        self.state = State.OPEN

    def _refuse(self, source: bytes, reason: int) -> None:
        self.out += _tpkt(b"\x06" + bytes((_DR,)) + source + b"\x00\x00" + bytes((reason,)))
        self.state = State.CLOSED


class CallingTransport(Transport):
    """The client's side: ``out`` begins with the connection request to a called selector."""

    __slots__ = ()

    def __init__(self, limit: int, *, calling: bytes, called: bytes) -> None:
        super().__init__(limit)
        parameters = bytes((_TPDU_SIZE, 1, _LARGEST))
        for code, value in ((_CALLING, calling), (_CALLED, called)):
            parameters += bytes((code, len(value))) + value
        body = bytes((_CR,)) + b"\x00\x00\x00\x01\x00" + parameters
        self.out = _tpkt(bytes((len(body),)) + body)

    def _tpdu(self, data: bytes, at: int, end: int, units: list[bytes]) -> None:
        if self.state is not State.IDLE:
            super()._tpdu(data, at, end, units)
            return
        indicator, code = data[at], data[at + 1] & 0xF0
        if code == _DR:
            raise TransportError("the server refuses the transport connection: is the selector its own?")
        if code != _CC or indicator < 6 or at + 1 + indicator > end:
            raise TransportError(f"TPDU {code:#04x} where a connection confirm is expected")
        parameters = _parameters(data[at + 1 : at + 1 + indicator], 6)
        power = parameters.get(_TPDU_SIZE, b"")
        if power and (len(power) != 1 or not _SMALLEST <= power[0] <= _LARGEST):
            raise TransportError(f"TPDU size {power.hex()}")
        size = 1 << power[0] if power else _DEFAULT_SIZE
        self.negotiated = Negotiated(size, parameters.get(_CALLING, b""), parameters.get(_CALLED, b""))
        self.state = State.OPEN


def _tpkt(tpdu: bytes) -> bytes:
    return b"\x03\x00" + (len(tpdu) + _TPKT).to_bytes(2, "big") + tpdu


def _parameters(tpdu: bytes, at: int) -> dict[int, bytes]:
    found = {}
    while at < len(tpdu):
        if at + 2 > len(tpdu) or at + 2 + tpdu[at + 1] > len(tpdu):
            raise TransportError("a parameter that ends behind its TPDU")
        found[tpdu[at]] = tpdu[at + 2 : at + 2 + tpdu[at + 1]]
        at += 2 + tpdu[at + 1]
    return found
