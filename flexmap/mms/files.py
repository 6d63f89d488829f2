"""File services of MMS (ISO 9506-2 annex, as IEC 61850-8-1 uses them): directory, open, read, close, delete.

Where files come from is a :class:`FileStore` of the shell; here are the services, and what associations have open.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from flexmap.mms import ber
from flexmap.mms.ber import BerError
from flexmap.mms.pdu import ErrorClass, Service, ServiceError

if TYPE_CHECKING:
    from flexmap.mms.association import Association
    from flexmap.mms.server import Server

OTHER, SYNTAX, POSITION, DENIED, NOT_THERE = 0, 3, 5, 6, 7
"""Codes of file errors."""
_GRAPHIC_STRING = 0x19
_MAX_OPEN = 8
"""Files that an association has open at once."""
_OVERHEAD = 64
"""Octets of a PDU beside the file's data or the directory's entries."""


def file_error(code: int, what: str) -> ServiceError:
    """Return a service error of the class file."""
    return ServiceError(ErrorClass.FILE, code, what)


class FileEntry(NamedTuple):
    """A file or, with ``/`` at the end of its name, a folder."""

    name: str
    """Path from the root of the store, parts joined by ``/``."""
    size: int
    modified: str
    """GeneralizedTime: ``20260228120000Z``."""


class OpenFile(Protocol):
    """A file that is read from one end to the other."""

    entry: FileEntry

    def read(self, size: int) -> bytes:
        """Return the next octets, fewer only at the end."""

    def close(self) -> None:
        """Release it."""


class FileStore(Protocol):
    """Files that clients may see. Every method raises ServiceError (:func:`file_error`)."""

    def directory(self, path: str) -> Iterable[FileEntry]:
        """Return what is in a folder (``""``: the root), or the one file of that name, in the order of names."""

    def open(self, path: str, position: int) -> OpenFile:
        """Open a file to be read from a position on."""

    def delete(self, path: str) -> None:
        """Delete a file."""


class Files:
    """The file services of a server."""

    def __init__(self, server: Server, store: FileStore) -> None:
        """Add the services to a server."""
        self._store = store
        self._open: dict[Association, dict[int, OpenFile]] = {}
        server.handlers |= {
            Service.FILE_DIRECTORY: self.directory,
            Service.FILE_OPEN: self.open,
            Service.FILE_READ: self.read,
            Service.FILE_CLOSE: self.close,
            Service.FILE_DELETE: self.delete,
        }

    def directory(self, association: Association, request: bytes, at: int, end: int) -> bytes:
        """Answer fileDirectory: as many entries as a PDU has room for, behind the one that the client names."""
        path, after = "", ""
        for tag, begin, stop in ber.elements(request, at, end):
            if tag == 0xA0:
                path = _name(request, begin, stop)
            elif tag == 0xA1:
                after = _name(request, begin, stop)
        room = association.negotiated.max_pdu - _OVERHEAD
        entries: list[bytes] = []
        more = b"\x81\x01\x00"
        for entry in self._store.directory(path):
            if after and entry.name <= after:
                continue
            encoded = ber.tlv(0x30, ber.tlv(0xA0, _graphic(entry.name)), ber.tlv(0xA1, _attributes(entry)))
            room -= len(encoded)
            if room < 0 and entries:
                more = b"\x81\x01\xff"
                break
            entries.append(encoded)
        return ber.tlv(Service.FILE_DIRECTORY, ber.tlv(0xA0, ber.tlv(0x30, *entries)), more)

    def open(self, association: Association, request: bytes, at: int, end: int) -> bytes:
        """Answer fileOpen with the number by which the file is read and closed."""
        begin, stop = ber.expect(request, at, end, 0xA0)
        path = _name(request, begin, stop)
        begin, stop = ber.expect(request, stop, end, 0x81)
        position = ber.unsigned(request[begin:stop])
        opened = self._open.setdefault(association, {})
        if not opened:
            association.on_close(self._ended)
        if len(opened) >= _MAX_OPEN:
            raise ServiceError(ErrorClass.RESOURCE, 0, f"{_MAX_OPEN} files are open")
        file = self._store.open(path, position)
        number = next(number for number in range(1, _MAX_OPEN + 1) if number not in opened)
        opened[number] = file
        return ber.tlv(Service.FILE_OPEN, bytes((0x80, 1, number)), ber.tlv(0xA1, _attributes(file.entry)))

    def read(self, association: Association, request: bytes, at: int, end: int) -> bytes:
        """Answer fileRead: the next octets, as many as a PDU has room for."""
        file = self._find(association, request, at, end)
        size = association.negotiated.max_pdu - _OVERHEAD
        octets = file.read(size)
        more = b"\x81\x01\xff" if len(octets) == size else b"\x81\x01\x00"
        return ber.tlv(0xBF49, ber.tlv(0x80, octets), more)

    def close(self, association: Association, request: bytes, at: int, end: int) -> bytes:
        """Answer fileClose."""
        self._find(association, request, at, end).close()
        del self._open[association][ber.unsigned(request[at:end])]
        return ber.tlv(Service.FILE_CLOSE)

    def delete(self, _association: Association, request: bytes, at: int, end: int) -> bytes:
        """Answer fileDelete."""
        self._store.delete(_name(request, at, end))
        return ber.tlv(0x9F4C)

    def _find(self, association: Association, request: bytes, at: int, end: int) -> OpenFile:
        file = self._open.get(association, {}).get(ber.unsigned(request[at:end]))
        if file is None:
            raise file_error(OTHER, "no file is open under that number")
        return file

    def _ended(self, association: Association) -> None:
        for file in self._open.pop(association, {}).values():
            file.close()


def _graphic(name: str) -> bytes:
    return ber.tlv(_GRAPHIC_STRING, name.encode())


def _attributes(entry: FileEntry) -> bytes:
    return ber.tlv(0x80, ber.integer_octets(entry.size)) + ber.tlv(0x81, entry.modified.encode())


def _name(request: bytes, at: int, end: int) -> str:
    """Return a FileName: its parts joined by ``/``; raises BerError, ServiceError."""
    parts = []
    for tag, begin, stop in ber.elements(request, at, end):
        if tag != _GRAPHIC_STRING:
            raise BerError(f"file name {tag:#04x}")
        try:
            parts.append(request[begin:stop].decode())
        except UnicodeDecodeError:
            raise file_error(SYNTAX, "a file name that is no UTF-8") from None
    return "/".join(parts)
