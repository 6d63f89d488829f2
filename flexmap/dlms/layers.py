"""Layers that protect an APDU on its way out, and the tags of ciphered services (IEC 62056-5-3 clauses 5.7, 8)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from flexmap.dlms import general
from flexmap.dlms import suite as suites
from flexmap.dlms.apdu import Tag
from flexmap.dlms.axdr import encode_length
from flexmap.dlms.general import Header, KeyInfo
from flexmap.dlms.security import OVERHEAD, Ciphering
from flexmap.dlms.suite import Suite

_SERVICES = (0x01, 0x05, 0x06, 0x08, 0x0C, 0x0D, 0x0E, 0x16, 0x18)
_LN_SERVICES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC7)
GLOBAL = {tag + 0x20: tag for tag in _SERVICES} | {tag + 0x08: tag for tag in _LN_SERVICES}
"""Tag of an APDU ciphered with the global key → tag of what it must carry."""
DEDICATED = {tag + 0x40: tag for tag in _SERVICES} | {tag + 0x10: tag for tag in _LN_SERVICES}
"""The same with the dedicated key."""
GLOBAL_TAGS = {plain: ciphered for ciphered, plain in GLOBAL.items()}
DEDICATED_TAGS = {plain: ciphered for ciphered, plain in DEDICATED.items()}
_GLOBAL_TAG = {plain: bytes((ciphered,)) for plain, ciphered in GLOBAL_TAGS.items()}
_DEDICATED_TAG = {plain: bytes((ciphered,)) for plain, ciphered in DEDICATED_TAGS.items()}
SERVICE_ROOM = 4 + OVERHEAD
"""Octets that a service-specific layer adds, at most."""


class Layer(Protocol):
    """What one layer of a response is made with."""

    room: int
    """Octets that it adds, at most."""

    def wrap(self, response: bytes) -> bytes:
        """Return the response within this layer."""


class CipheredLayer:
    """A ciphered tag of the service's own, glo- or ded-; or general-glo- or general-ded-ciphering.

    The general form takes the place of the other where ``general`` says so or a response has no ciphered tag.
    """

    __slots__ = ("_control", "_general", "_protect", "_tags", "room")

    def __init__(
        self, ciphering: Ciphering, control: int, *, dedicated: bool = False, general: bool = False
    ) -> None:
        tag = Tag.GENERAL_DED_CIPHERING if dedicated else Tag.GENERAL_GLO_CIPHERING
        self._general = bytes((tag, len(ciphering.title))) + ciphering.title
        self._protect = ciphering.protect
        self._control = control
        self._tags = {} if general else _DEDICATED_TAG if dedicated else _GLOBAL_TAG
        self.room = SERVICE_ROOM + len(self._general) - 1

    def wrap(self, response: bytes) -> bytes:
        """Return the ciphered response."""
        body = self._protect(self._control, response)
        return self._tags.get(response[0], self._general) + encode_length(len(body)) + body


class KeyedLayer:
    """general-ciphering."""

    def __init__(self, header: Header, key: KeyInfo, ciphering: Ciphering, control: int) -> None:
        self._header = header
        self._key = key
        self._ciphering = ciphering
        self._control = control
        self.room = SERVICE_ROOM + len(header.encode()) + len(key.encode())

    def wrap(self, response: bytes) -> bytes:
        """Return the response within this layer."""
        body = self._ciphering.protect(self._control, response, self._header.encode())
        return general.encode_ciphering(self._header, self._key, body)


class SigningLayer:
    """general-signing."""

    def __init__(self, header: Header, suite: Suite, private: bytes) -> None:
        self._header = header
        self._suite = suite
        self._private = private
        self.room = 8 + len(header.encode()) + 2 * suite.coordinate

    def wrap(self, response: bytes) -> bytes:
        """Return the response within this layer."""
        signature = suites.sign(self._suite, self._private, general.signed_part(self._header, response))
        return general.encode_signing(self._header, response, signature)


class Opened(NamedTuple):
    """A request without its layers."""

    applied: int
    """Protection that it had: bits of security control, and SIGNED."""
    plain: bytes
    layers: tuple[Layer, ...]
    """What its response gets, outermost first."""
    broadcast: bool = False
    """It was under the broadcast key: whoever holds that one can have sent it, and no response is due."""
    passed_on: bool = False
    """A third party has a layer of it."""

    def wrap(self, response: bytes) -> bytes:
        """Return the response in its layers; an exception response goes out plain."""
        if response[0] != Tag.EXCEPTION_RESPONSE:
            for layer in reversed(self.layers):
                response = layer.wrap(response)
        return response
