"""Runs a client library in a process of its own: licences and faults stay there.

The library's script calls :func:`serve`; a test talks to it through :class:`Remote`, whose methods are those of
the object that the script serves. Frames are pickles behind a four-octet length.
"""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Self

TIMEOUT = 60


class RemoteFailure(Exception):
    """What the library raised, as text: ``TypeName: message``."""


def _send(stream: BinaryIO, value: object) -> None:
    octets = pickle.dumps(value)
    stream.write(struct.pack(">I", len(octets)) + octets)
    stream.flush()


def _receive(stream: BinaryIO) -> Any:
    head = stream.read(4)
    if len(head) < 4:
        raise EOFError
    return pickle.loads(stream.read(struct.unpack(">I", head)[0]))


def serve(make: Callable[..., object]) -> None:
    """Make the object from the first frame's arguments and answer calls until the pipe closes."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = io.StringIO()  # the libraries print
    target: object = None
    while True:
        try:
            name, args, kwargs = _receive(requests)
        except EOFError:
            return
        try:
            if name is None:
                target, result = make(*args, **kwargs), None
            else:
                result = getattr(target, name)(*args, **kwargs)
            _send(answers, (True, result))
        except Exception as error:  # noqa: BLE001 - whatever a library raises goes to the test
            _send(answers, (False, f"{type(error).__name__}: {error}"))


class Remote:
    """An object served by a script; attribute access gives its methods."""

    def __init__(self, script: str, *args: object, **kwargs: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            self._call(None, args, kwargs)
        except BaseException:
            self.end()
            raise

    def _call(self, name: str | None, args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        _send(self._process.stdin, (name, args, kwargs))
        try:
            good, result = _receive(self._process.stdout)
        except EOFError:
            raise RemoteFailure(f"{name}: the client process ended") from None
        if not good:
            raise RemoteFailure(result)
        return result

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._call(name, args, kwargs)

    def end(self) -> None:
        """Stop the process."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
