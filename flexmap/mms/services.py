"""What a client learns of a server: names, types, data sets, identity, state (ISO 9506-2)."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from flexmap.mms import ber, pdu
from flexmap.mms.ber import BerError
from flexmap.mms.pdu import Service
from flexmap.mms.variables import Names

if TYPE_CHECKING:
    from flexmap.mms.association import Association

_VARIABLE, _VARIABLE_LIST, _JOURNAL, _DOMAIN = 0, 2, 8, 9
_OVERHEAD = 64
"""Octets of a name list's PDU beside the names."""
_EMPTY = Names(())


def get_name_list(association: Association, request: bytes, at: int, end: int) -> bytes:
    """Answer getNameList."""
    object_class, scope, after = -1, b"", ""
    domain = ""
    for tag, begin, stop in ber.elements(request, at, end):
        if tag == 0xA0:
            first, last = ber.expect(request, begin, stop, 0x80)
            object_class = ber.unsigned(request[first:last])
        elif tag == 0xA1:
            inner, first, last = ber.element(request, begin, stop)
            scope = bytes((inner,)) if inner <= 0xFF else b""
            domain = ber.text(request[first:last])
        elif tag == 0x82:
            after = ber.text(request[begin:stop])
    if object_class < 0 or scope not in {b"\x80", b"\x81", b"\x82"}:
        raise BerError("a name list of no class or scope")
    if object_class not in {_VARIABLE, _VARIABLE_LIST, _JOURNAL, _DOMAIN}:
        raise pdu.access_unsupported(f"object class {object_class}")
    names = _names(association, object_class, scope, domain)
    return _page(names, after, association.negotiated.max_pdu - _OVERHEAD)


def _names(association: Association, object_class: int, scope: bytes, domain: str) -> Names:
    variables = association.variables
    if scope == b"\x80":
        return {_DOMAIN: variables.domains, _VARIABLE_LIST: Names(variables.lists)}.get(object_class, _EMPTY)
    if scope == b"\x82":
        return Names(association.lists) if object_class == _VARIABLE_LIST else _EMPTY
    device = variables.devices.get(domain)
    if device is None:
        raise pdu.no_such_object(f"domain {domain}")
    if object_class == _VARIABLE:
        return device.schema.names
    return Names({_VARIABLE_LIST: tuple(device.lists), _JOURNAL: device.journals}.get(object_class, ()))


def _page(names: Names, after: str, room: int) -> bytes:
    """Return the names that follow ``after``, as many as there is room for."""
    begin = at = bisect_right(names.names, after) if after else 0
    encoded = names.encoded
    while at < len(encoded) and len(encoded[at]) <= room:
        room -= len(encoded[at])
        at += 1
    more = b"\x81\x01\xff" if at < len(encoded) else b"\x81\x01\x00"
    return ber.tlv(Service.GET_NAME_LIST, ber.tlv(0xA0, b"".join(encoded[begin:at])), more)


def get_variable_access_attributes(association: Association, request: bytes, at: int, end: int) -> bytes:
    """Answer getVariableAccessAttributes: the type of a variable."""
    begin, stop = ber.expect(request, at, end, 0xA0)
    domain, item = pdu.object_name(request, begin, stop)
    variable = association.variables.find(domain or "", item)
    if variable is None:
        raise pdu.no_such_object(f"variable {domain}/{item}")
    description = variable.component.type.description
    return ber.tlv(Service.GET_VARIABLE_ACCESS_ATTRIBUTES, b"\x80\x01\x00", ber.tlv(0xA2, description))


def identify(association: Association, _request: bytes, _at: int, _end: int) -> bytes:
    """Answer identify: vendor, model, revision."""
    return ber.tlv(
        0xA2, *(ber.tlv(0x80 + index, text.encode()) for index, text in enumerate(association.server.identity))
    )


def status(_association: Association, _request: bytes, _at: int, _end: int) -> bytes:
    """Answer status: state changes allowed, operational."""
    return b"\xa0\x06\x80\x01\x00\x81\x01\x00"
