"""How an image is named where its binary cannot be told otherwise: in COSEM's image_identifier, on a concentrator.

It is ASCII text, ``binary/version/SHA-256``: ``plc`` or ``non-legal``, as ``flexmap firmware --binary``
has them, the version as a decimal number from 1 to 4294967295, the digest of the whole image in 64 lower-case
hexadecimal digits. Identifiers of the legal part, ``generic`` and ``legal``, can be read, but nothing takes them.
"""

from __future__ import annotations

import hashlib
import re

from flexmap.model import RemoteError
from flexmap.stcomet.firmware import Binary, Image

BINARIES = {binary.name.lower().replace("_", "-"): binary for binary in Binary}
"""Names of the binaries."""
_FORM = re.compile(rb"([a-z-]{3,9})/([1-9][0-9]{0,9})/([0-9a-f]{64})")
_LAST_VERSION = 0xFFFF_FFFF


def identifier(image: Image) -> bytes:
    """Return the identifier of an image."""
    name = next(name for name, binary in BINARIES.items() if binary is image.binary)
    return f"{name}/{image.version}/{image.digest.hex()}".encode()


def parse(octets: bytes, size: int) -> Image:
    """Return the image that an identifier names, of so many octets; raises RemoteError."""
    match = _FORM.fullmatch(octets)
    binary = BINARIES.get(match[1].decode()) if match else None
    if match is None or binary is None or int(match[2]) > _LAST_VERSION:
        raise RemoteError("an image identifier is binary/version/SHA-256")
    return Image(binary, int(match[2]), size, bytes.fromhex(match[3].decode()))


def shelf_name(image: Image) -> str:
    """Return the name under which an image lies on a concentrator: the same for the same image, 16 characters."""
    return hashlib.sha256(identifier(image)).hexdigest()[:16]
