"""A line as a person types it at a terminal: echo, backspace, keys that send sequences, what ends a line."""

from __future__ import annotations

from collections.abc import Callable

from flexmap.stcomet import mnsh

_CR, _LF, _ESCAPE = 0x0D, 0x0A, 0x1B
_BACK = {0x08, 0x7F}
_KILL = {0x03, 0x15}
"""Ctrl-C and Ctrl-U: forget the line."""
_BELL = b"\a"


class Editor:
    """Takes octets of a terminal, echoes what belongs into a line, gives lines that are complete."""

    def __init__(self, echo: Callable[[bytes], object]) -> None:
        self._echo = echo
        self._typed = bytearray()
        self._last = 0
        self._sequence = 0
        """Place within a key's sequence (ECMA-48): 0 none, 1 behind ESC, 2 behind ESC and ``[`` or ``O``."""

    @property
    def typed(self) -> bytes:
        """The line so far."""
        return bytes(self._typed)

    def feed(self, octets: bytes) -> bytes:
        """Return the complete lines, each ended by LF; an empty line is a blank."""
        complete = bytearray()
        for octet in octets:
            if octet == _CR or (octet == _LF and self._last != _CR):
                self._echo(b"\r\n")
                complete += (self._typed or b" ") + b"\n"
                self._typed.clear()
                self._sequence = 0
            elif self._sequence or octet == _ESCAPE:
                self._skip(octet)
            elif octet != _LF:
                self._key(octet)
            self._last = octet
        return bytes(complete)

    def _skip(self, octet: int) -> None:
        """Pass over the sequence of an arrow or a function key."""
        if octet == _ESCAPE:
            self._sequence = 1
        elif self._sequence == 1:
            self._sequence = 2 if octet in b"[O" else 0
        elif 0x40 <= octet <= 0x7E:
            self._sequence = 0

    def _key(self, octet: int) -> None:
        if octet in _BACK:
            if self._typed:
                del self._typed[-1]
                self._echo(b"\b \b")
        elif octet in _KILL:
            self._echo(b"\b \b" * len(self._typed))
            self._typed.clear()
        elif octet == 0x09:
            self._key(0x20)
        elif 0x20 <= octet < 0x7F and len(self._typed) < mnsh.MAX_REQUEST:
            self._typed.append(octet)
            self._echo(bytes((octet,)))
        else:
            self._echo(_BELL)
