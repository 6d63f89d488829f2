"""Login to a shell that is reached over a network: challenge and response with a password both sides know.

The shell gives a nonce, the other side answers with HMAC-SHA-256 of its text, the password the key. So the
password itself never goes over the line, and what was overheard is worth nothing a second time. The session that
follows is neither encrypted nor protected against being changed on its way: over anything but a trusted network it
belongs into a tunnel.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from flexmap.stcomet.mnsh import ErrorCode, MnshError

SHORTEST = 16
"""Characters of the shortest password: an overheard login can be tried against guesses at leisure."""
NONCE = 16
DELAY = 1.0
"""Seconds that a peer must wait after a wrong proof, doubled by each further one."""
LONGEST_DELAY = 60.0
MOST_PEERS = 1024
"""Peers whose failures are remembered."""


def proof(password: str, nonce: str) -> bytes:
    """Return what ``SYS LOGIN`` takes."""
    return hmac.digest(password.encode(), nonce.encode(), hashlib.sha256)


class Guard:
    """Knows the password, and who has failed lately."""

    def __init__(self, password: str, seconds: Callable[[], float], randbytes: Callable[[int], bytes]) -> None:
        self._password = password
        self._seconds = seconds
        self._randbytes = randbytes
        self._failures: dict[str, tuple[int, float]] = {}
        """By peer: how many in a row, and until when it must wait."""

    def __repr__(self) -> str:
        """Keep the password out of logs."""
        return "Guard(…)"

    def nonce(self) -> str:
        """Return a new nonce."""
        return self._randbytes(NONCE).hex()

    def check(self, peer: str, nonce: str, given: bytes) -> None:
        """Raise :class:`MnshError` unless the proof is right and the peer need not wait."""
        failures, until = self._failures.get(peer, (0, 0.0))
        wait = until - self._seconds()
        if wait > 0:
            raise MnshError(ErrorCode.BUSY, f"wait {wait:.0f} s after a wrong proof")
        if nonce and hmac.compare_digest(proof(self._password, nonce), given):
            self._failures.pop(peer, None)
            return
        self._failures.pop(peer, None)
        delay = min(DELAY * 2.0 ** min(failures, 16), LONGEST_DELAY)
        self._failures[peer] = failures + 1, self._seconds() + delay
        if len(self._failures) > MOST_PEERS:
            del self._failures[next(iter(self._failures))]
        raise MnshError(ErrorCode.LOGIN, "the proof is wrong, or there was no challenge before it")
