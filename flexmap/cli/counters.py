"""Invocation counters of the command line's DLMS client: one system title for a user, no counter twice.

They stand in ``$XDG_STATE_HOME/flexmap/client.json`` (mode 0600); commands that run at once share them by a lock.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from flexmap.model import ConfigurationError


class _State(msgspec.Struct):
    title: str
    """System title, hexadecimal."""
    sent: dict[str, int] = {}
    """Next counter to send with, by key."""


class ClientCounters:
    """A CounterStore (:mod:`flexmap.dlms.security`) in a file of the user's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._received: dict[tuple[str, bytes], int] = {}

    @property
    def title(self) -> bytes:
        """System title of the client, made at random on first use."""
        with self._locked() as state:
            return bytes.fromhex(state.title)

    def reserve(self, key: str, title: bytes, count: int) -> int:
        """Reserve counters to send with; the first one ever is 1."""
        del title  # there is one only
        with self._locked() as state:
            first = state.sent.get(key, 1)
            state.sent[key] = first + count
            return first

    def last_received(self, key: str, title: bytes) -> int:
        """Return the highest counter received of a server in this run, 0 if none."""
        return self._received.get((key, title), 0)

    def record_received(self, key: str, title: bytes, counter: int) -> None:
        """Remember the highest counter of a server for this run: one set up anew begins again at 1."""
        self._received[key, title] = counter

    @contextmanager
    def _locked(self) -> Iterator[_State]:
        """Hold the file alone; what is changed in the state is on disk when the block ends."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            remedy = "set XDG_STATE_HOME to a folder that can be written"
            raise ConfigurationError(
                f"cannot open: {error.strerror}", where=str(self._path), remedy=remedy
            ) from None
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            text = file.read()
            state = self._decode(text) if text else _State("464D58" + secrets.token_hex(5))
            yield state
            changed = msgspec.json.encode(state)
            if changed != text:
                file.seek(0)
                file.write(changed)
                file.truncate()
                file.flush()
                os.fsync(file.fileno())

    def _decode(self, text: bytes) -> _State:
        try:
            state = msgspec.json.decode(text, type=_State)
            if len(bytes.fromhex(state.title)) == 8:
                return state
        except (msgspec.DecodeError, ValueError):
            pass
        remedy = "remove it: a new system title is made"
        raise ConfigurationError("is damaged", where=str(self._path), remedy=remedy)
