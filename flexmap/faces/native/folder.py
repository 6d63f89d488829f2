"""The files that MMS clients see: those of one folder and of the folders in it, never any outside of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from flexmap.mms.files import DENIED, NOT_THERE, OTHER, POSITION, SYNTAX, FileEntry, file_error
from flexmap.mms.pdu import ServiceError

_MAX_NAME = 255
_MAX_ENTRIES = 10_000
"""Files of a folder that are listed; a folder with more is too much for a directory that is read in one go."""


class Folder:
    """A FileStore on a folder of the system's. Symbolic links are not followed, hidden files are not there."""

    def __init__(self, root: Path, *, deletable: bool = False) -> None:
        """Make a store; ``deletable``: clients may delete files."""
        self._root = root.resolve()
        self._deletable = deletable

    def directory(self, path: str) -> Iterator[FileEntry]:
        """Return what is in a folder, or the one file of that name."""
        found = self._find(path)
        state = _state(found)
        if stat.S_ISREG(state.st_mode):
            yield _entry(path.strip("/"), state)
            return
        if not stat.S_ISDIR(state.st_mode):
            raise file_error(DENIED, f"{path} is no file")
        prefix = f"{path.strip('/')}/" if path.strip("/") else ""
        try:
            names = sorted(child.name for child in islice(found.iterdir(), _MAX_ENTRIES))
        except OSError as error:
            raise _told(error) from None
        for name in names:
            if name.startswith("."):
                continue
            try:
                state = (found / name).lstat()
            except OSError:
                continue  # gone since
            if stat.S_ISDIR(state.st_mode):
                yield FileEntry(f"{prefix}{name}/", 0, _time(state.st_mtime))
            elif stat.S_ISREG(state.st_mode):
                yield _entry(prefix + name, state)

    def open(self, path: str, position: int) -> _Reading:
        """Open a file to be read from a position on."""
        found = self._find(path)
        try:
            descriptor = os.open(found, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _told(error) from None
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or position > state.st_size:
            os.close(descriptor)
            raise file_error(POSITION if stat.S_ISREG(state.st_mode) else DENIED, f"{path} from {position} on")
        file = os.fdopen(descriptor, "rb")
        file.seek(position)
        return _Reading(file, _entry(path.strip("/"), state))

    def delete(self, path: str) -> None:
        """Delete a file."""
        found = self._find(path)
        if not self._deletable or not stat.S_ISREG(_state(found).st_mode):
            raise file_error(DENIED, f"{path} cannot be deleted")
        try:
            found.unlink()
        except OSError as error:
            raise _told(error) from None

    def _find(self, path: str) -> Path:
        """Return a path within the folder; raises ServiceError if it leads out of it."""
        parts = [part for part in path.replace("\\", "/").split("/") if part]
        for part in parts:
            if part.startswith(".") or "\0" in part or len(part.encode()) > _MAX_NAME:
                raise file_error(SYNTAX, f"'{path}' is no file name")
        found = self._root.joinpath(*parts)
        try:
            inside = found.parent.resolve(strict=True).is_relative_to(self._root)
        except OSError as error:
            raise _told(error) from None
        if parts and not inside:
            raise file_error(DENIED, f"'{path}' leads out of the folder")
        return found


class _Reading:
    """A file that is read from one end to the other."""

    def __init__(self, file: BinaryIO, entry: FileEntry) -> None:
        self._file = file
        self.entry = entry

    def read(self, size: int) -> bytes:
        """Return the next octets."""
        try:
            return self._file.read(size)
        except OSError as error:
            raise _told(error) from None

    def close(self) -> None:
        """Release it."""
        self._file.close()


def _state(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except OSError as error:
        raise _told(error) from None


def _entry(name: str, state: os.stat_result) -> FileEntry:
    return FileEntry(name, min(state.st_size, 0xFFFFFFFF), _time(state.st_mtime))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%SZ")


def _told(error: OSError) -> ServiceError:
    codes = {FileNotFoundError: NOT_THERE, NotADirectoryError: NOT_THERE, PermissionError: DENIED}
    return file_error(codes.get(type(error), OTHER), error.strerror or str(error))
