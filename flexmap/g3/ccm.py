"""MAC security: CCM* with ENC-MIC-32 under the group master key (IEEE 802.15.4-2006 clause 7.6).

The nonce is the sender's EUI-64 as its PAN makes it from the short address, ``PAN id | 00 FF FE 00 | short``, then
the frame counter and the security level (C). It must never come twice under one key: the own counter only rises,
and goes on over resets. A neighbour's counter must rise too; it is kept apart for each key index.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from flexmap.g3.frame import MIC_OCTETS, Frame, header
from flexmap.g3.interface import SecurityFailure
from flexmap.model.error import LocalError, RemoteError

KEY_OCTETS = 16
KEY_INDICES = 2
LEVEL = 5
COUNTER_END = 0xFFFFFFFF
"""The last value is never sent: a counter that has arrived there is used up."""


class SecurityError(RemoteError):
    """A frame that fails its protection."""

    def __init__(self, text: str, failure: SecurityFailure) -> None:
        super().__init__(text)
        self.failure = failure


def nonce(pan_id: int, short_address: int, counter: int) -> bytes:
    """Return the thirteen octets of a CCM* nonce."""
    address = pan_id << 48 | 0x00FFFE00 << 16 | short_address
    return (address << 40 | counter << 8 | LEVEL).to_bytes(13, "big")


@lru_cache(maxsize=16)
def _cipher(key: bytes) -> AESCCM:
    return AESCCM(key, tag_length=MIC_OCTETS)


@lru_cache(maxsize=4)
def unseal(frame: Frame, key: bytes) -> bytes:
    """Return the payload of a secured frame, whatever its counter.

    Every receiver of a broadcast opens the same frame; in a simulation they are one process, hence the cache.
    Raises :class:`SecurityError` for a frame without counter or short source address, or a wrong integrity code.
    """
    if frame.counter is None or not isinstance(frame.source, int):
        raise SecurityError("a secured frame needs a short source address", SecurityFailure.NO_ADDRESS)
    number = nonce(frame.source_pan, frame.source, frame.counter)
    try:
        return _cipher(key).decrypt(number, frame.payload + frame.mic, header(frame))
    except InvalidTag:
        raise SecurityError("integrity code is wrong", SecurityFailure.WRONG_MIC) from None


class Security:
    """Keys and frame counters of one node."""

    __slots__ = ("_keys", "_last", "active", "counter")

    def __init__(self, counter: int = 0) -> None:
        self.counter = counter
        """macFrameCounter: what the next frame is sent with."""
        self.active = 0
        self._keys: list[bytes | None] = [None] * KEY_INDICES
        self._last: list[dict[int, int]] = [{} for _ in range(KEY_INDICES)]

    def set_key(self, index: int, key: bytes) -> None:
        """Install a key; raises :class:`LocalError` for an index or length that does not exist."""
        self._check(index)
        if len(key) != KEY_OCTETS:
            raise LocalError(f"A group master key has {KEY_OCTETS} octets, not {len(key)}")
        if self._keys[index] != key:
            self._keys[index] = bytes(key)
            self._last[index].clear()

    def remove_key(self, index: int) -> None:
        """Remove a key; raises :class:`LocalError` for an index that does not exist."""
        self._check(index)
        self._keys[index] = None
        self._last[index].clear()

    def activate(self, index: int) -> None:
        """Secure with this key from now on; raises :class:`LocalError` when it is not installed."""
        self._check(index)
        if self._keys[index] is None:
            raise LocalError(f"There is no group master key at index {index}")
        self.active = index

    def clear(self) -> None:
        """Forget keys and neighbours' counters; the own counter stays."""
        for index in range(KEY_INDICES):
            self.remove_key(index)
        self.active = 0

    def ready(self) -> bool:
        """Return whether frames can be secured."""
        return self._keys[self.active] is not None

    def has_keys(self) -> bool:
        """Return whether any key is installed."""
        return any(key is not None for key in self._keys)

    def last_counter(self, source: int) -> int | None:
        """Return the highest counter taken from a short address under the active key."""
        return self._last[self.active].get(source)

    def protect(self, frame: Frame, version: int = 0) -> Frame:
        """Return the frame encrypted under the active key and the next counter.

        ``version`` as in :func:`flexmap.g3.frame.header`. Raises :class:`LocalError` without a key or a short
        source address, or when the counter is used up.
        """
        key = self._keys[self.active]
        if key is None:
            raise LocalError(f"There is no group master key at index {self.active}")
        if not isinstance(frame.source, int):
            raise LocalError("A node without a short address cannot secure a frame")
        if self.counter >= COUNTER_END:
            raise LocalError("The frame counter is used up; the network needs a new group master key")
        counter = self.counter
        self.counter += 1
        clear = msgspec.structs.replace(frame, counter=counter, key_index=self.active)
        sealed = _cipher(key).encrypt(
            nonce(frame.source_pan, frame.source, counter), frame.payload, header(clear, version)
        )
        return msgspec.structs.replace(clear, payload=sealed[:-MIC_OCTETS], mic=sealed[-MIC_OCTETS:])

    def unprotect(self, frame: Frame) -> bytes:
        """Return the payload of a secured frame and remember its counter.

        Raises :class:`SecurityError` for an unknown key, a counter that did not rise, a wrong integrity code or a
        source without a short address.
        """
        index, source, counter = frame.key_index, frame.source, frame.counter
        if counter is None or not isinstance(source, int):
            raise SecurityError("a secured frame needs a short source address", SecurityFailure.NO_ADDRESS)
        key = self._keys[index] if index < KEY_INDICES else None
        if key is None:
            raise SecurityError(f"no group master key at index {index}", SecurityFailure.UNKNOWN_KEY)
        last = self._last[index].get(source, -1)
        if counter <= last:
            raise SecurityError(f"frame counter {counter} is not above {last}", SecurityFailure.OLD_COUNTER)
        payload = unseal(frame, key)
        self._last[index][source] = counter
        return payload

    @staticmethod
    def _check(index: int) -> None:
        if not 0 <= index < KEY_INDICES:
            raise LocalError(f"There is no key index {index}")
