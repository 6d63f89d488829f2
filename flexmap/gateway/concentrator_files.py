"""What a concentrator keeps over a restart: network, keys, firmware images, what its simulated meters measured."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from flexmap.g3.pan import PanState
from flexmap.gateway.street import Frame
from flexmap.model import ConfigurationError
from flexmap.stcomet.images import Held
from flexmap.stcomet.metrology import DEPTH
from flexmap.stcomet.pan import Access
from flexmap.stcomet.updates import Kept
from flexmap.store.files import replace_file

_LENGTH = struct.Struct(">I")
LOCK_SECONDS = 3.0
"""How long a concentrator that was just told to end may take to leave its folder."""


class Memory(msgspec.Struct, frozen=True):
    """What the coordinator keeps over a restart. Holds keys."""

    pan: PanState
    psk: bytes
    frame_counter: int
    access: Access
    names: dict[str, str]
    read_up_to: dict[str, int]
    updates: tuple[Kept, ...] = ()


class Files:
    """The state folder: ``pan.msgpack``, ``image-NAME.msgpack``, and ``meters-N.bin`` of the simulated meters."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigurationError(
                f"cannot make: {error.strerror}", where=f"{folder}: --state", remedy="choose another folder"
            ) from None
        self._folder = folder
        self._pan = folder / "pan.msgpack"

    def lock(self) -> None:
        """Keep other processes out until this one ends: two would use the same frame counters.

        Raises ConfigurationError if another one is there and stays.
        """
        descriptor = os.open(self._folder / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
        until = time.monotonic() + LOCK_SECONDS
        while not _locked(descriptor):
            if time.monotonic() > until:
                remedy = "stop the other concentrator or choose another folder"
                raise ConfigurationError(
                    "another process uses it", where=f"{self._folder}: --state", remedy=remedy
                )
            time.sleep(0.1)

    def memory(self) -> Memory | None:
        """Return what was kept; None at the first start."""
        try:
            return msgspec.msgpack.decode(self._pan.read_bytes(), type=Memory)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigurationError(
                f"cannot be read: {error}", where=str(self._pan), remedy="remove the folder: a new PAN begins"
            ) from None

    def keep(self, memory: Memory) -> None:
        """Write, so that either the old or the new file is there whenever the process ends."""
        replace_file(self._pan, msgspec.msgpack.encode(memory))

    def images(self) -> dict[str, Held]:
        """Return the firmware images by name, as far as they are whole."""
        found = {}
        for path in sorted(self._folder.glob("image-*.msgpack")):
            with contextlib.suppress(OSError, msgspec.DecodeError):  # torn: the host gives it again
                held = msgspec.msgpack.decode(path.read_bytes(), type=Held)
                if held.whole:
                    found[path.stem.removeprefix("image-")] = held
        return found

    def keep_image(self, name: str, held: Held | None) -> None:
        """Write an image, or remove one that is gone."""
        path = self._folder / f"image-{name}.msgpack"
        if held is None:
            path.unlink(missing_ok=True)
        else:
            replace_file(path, msgspec.msgpack.encode(held))

    def frames(self) -> list[Frame]:
        """Return the meters' frames, the oldest first, as far as they are whole."""
        return [frame for path in self._logs() for frame in _frames(path)]

    def add(self, frame: Frame) -> None:
        """Append a frame; files beyond the ring buffer's depth go."""
        number = frame.second // DEPTH
        octets = msgspec.msgpack.encode(frame)
        path = self._folder / f"meters-{number}.bin"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with open(descriptor, "ab") as file:  # noqa: PTH123 (a descriptor of mode 0600)
            file.write(_LENGTH.pack(len(octets)) + octets)
        for old in self._logs():
            if _number(old) < number - 1:
                old.unlink(missing_ok=True)

    def tidy(self, frames: Sequence[Frame]) -> None:
        """Write what is whole anew, so that nothing is appended behind a torn frame."""
        for path in self._logs():
            path.unlink()
        for frame in frames:
            self.add(frame)

    def _logs(self) -> list[Path]:
        return sorted(self._folder.glob("meters-[0-9]*.bin"), key=_number)


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("meters-"))


def _frames(path: Path) -> Iterator[Frame]:
    octets, place = path.read_bytes(), 0
    while place + _LENGTH.size <= len(octets):
        (length,) = _LENGTH.unpack_from(octets, place)
        place += _LENGTH.size
        try:
            yield msgspec.msgpack.decode(octets[place : place + length], type=Frame)
        except msgspec.DecodeError:
            return  # torn: the process ended while it wrote
        place += length


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
