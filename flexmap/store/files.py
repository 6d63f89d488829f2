"""Small files of meters, beside the database: what head-ends have given. Each is whole whenever a process ends."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from flexmap.model import LocalError

MOST_OCTETS = 256 * 1024 * 1024
"""What all meters' images may take of the disk."""
_IMAGE = ".image"


def replace_file(path: Path, octets: bytes) -> None:
    """Put a file with mode 0600 in the place of another: after a power cut one of the two is there, whole.

    Raises OSError.
    """
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor of mode 0600)
        file.write(octets)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class MeterFiles:
    """A folder with the state of objects, a file for each, and images that are written block by block."""

    def __init__(self, folder: Path, most: int = MOST_OCTETS) -> None:
        """Open or make the folder; raises LocalError."""
        self._folder = folder
        self._most = most
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise LocalError(f"{folder}: cannot make: {error.strerror}") from None

    def read(self, meter: str, name: str) -> bytes | None:
        """Return what was kept of a meter's object, ``None`` if nothing was; raises LocalError."""
        try:
            return self._path(meter, name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LocalError(f"{error.filename}: {error.strerror}") from None

    def keep(self, meter: str, name: str, octets: bytes) -> None:
        """Keep the state of a meter's object; raises LocalError."""
        try:
            replace_file(self._path(meter, name), octets)
        except OSError as error:
            raise LocalError(f"{error.filename}: {error.strerror}") from None

    def image(self, meter: str) -> Path:
        """Return where a meter's image lies."""
        return self._folder / (quote(meter, safe="") + _IMAGE)

    def make_image(self, meter: str, size: int) -> None:
        """Make an image, in place of one that is there; raises LocalError if the folder would be too full."""
        self.drop_image(meter)
        taken = sum(path.stat().st_size for path in self._folder.glob(f"*{_IMAGE}"))
        if taken + size > self._most:
            raise LocalError(f"{self._folder}: images take {taken} of {self._most} octets already")
        try:
            descriptor = os.open(self.image(meter), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.ftruncate(descriptor, size)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise LocalError(f"{self.image(meter)}: {error.strerror}") from None

    def write_image(self, meter: str, offset: int, octets: bytes) -> None:
        """Write octets of an image; raises LocalError."""
        try:
            with self.image(meter).open("r+b", buffering=0) as file:
                file.seek(offset)
                file.write(octets)
        except OSError as error:
            raise LocalError(f"{self.image(meter)}: {error.strerror}") from None

    def read_image(self, meter: str) -> bytes:
        """Return an image, empty if there is none."""
        try:
            return self.image(meter).read_bytes()
        except OSError:
            return b""

    def drop_image(self, meter: str) -> None:
        """Remove an image, if there is one."""
        self.image(meter).unlink(missing_ok=True)

    def _path(self, meter: str, name: str) -> Path:
        return self._folder / f"{quote(meter, safe='')}.{name}"
