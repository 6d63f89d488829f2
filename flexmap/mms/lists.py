"""Named variable lists (ISO 9506-2): data sets, those of the SCL file and those that clients define.

A client's data set belongs to a domain or to the VMD (others see it, and it stays), or to its association (``@``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexmap.mms import ber, pdu
from flexmap.mms.ber import BerError
from flexmap.mms.pdu import ASSOCIATION, ErrorClass, Service, ServiceError
from flexmap.mms.variables import VariableList

if TYPE_CHECKING:
    from flexmap.mms.association import Association

_SPECIFIC, _OF_ASSOCIATION, _OF_DOMAIN, _OF_VMD = range(4)


def get_attributes(association: Association, request: bytes, at: int, end: int) -> bytes:
    """Answer getNamedVariableListAttributes: the members of a data set."""
    name = pdu.object_name(request, at, end)
    found = association.list_of(name)
    if found is None:
        raise pdu.no_such_object(f"variable list {name[1]}")
    members = b"".join(
        ber.tlv(0x30, ber.tlv(0xA0, pdu.encode_name((name[0] if domain is None else domain, item))))
        for domain, item in found.members
    )
    deletable = b"\x80\x01\xff" if found.deletable else b"\x80\x01\x00"
    return ber.tlv(Service.GET_NAMED_VARIABLE_LIST_ATTRIBUTES, deletable, ber.tlv(0xA1, members))


def define(association: Association, request: bytes, at: int, end: int) -> bytes:
    """Carry out defineNamedVariableList."""
    _, _, middle = ber.element(request, at, end)
    domain, item = pdu.object_name(request, at, middle)
    begin, stop = ber.expect(request, middle, end, 0xA0)
    limits = association.server.limits
    members = []
    for tag, first, last in ber.elements(request, begin, stop):
        if tag != 0x30:
            raise BerError("no list of variables")
        kind, a, b = ber.element(request, first, last)
        if kind != 0xA0 or b != last:
            raise pdu.access_unsupported("members that are parts of variables or have no name")
        place, name = pdu.object_name(request, a, b)
        variable = association.variables.find(place or "", name)
        if variable is None:
            raise ServiceError(ErrorClass.DEFINITION, 1, f"no variable {place}/{name}")
        members.append((variable.device.name, name))
        if len(members) > limits.max_members:
            raise ServiceError(ErrorClass.RESOURCE, 0, f"more than {limits.max_members} members")
    if not members:
        raise BerError("a variable list without members")
    table = association.table(domain)
    if table is None:
        raise pdu.no_such_object(f"domain {domain}")
    if item in table:
        raise ServiceError(ErrorClass.DEFINITION, 5, f"{item} exists already")
    if len(item) > limits.max_name or not item:
        raise ServiceError(ErrorClass.DEFINITION, 4, f"a name of {len(item)} characters")
    if association.server.defined(table) >= limits.max_lists:
        raise ServiceError(ErrorClass.RESOURCE, 0, f"{limits.max_lists} variable lists are there already")
    table[item] = VariableList(tuple(members), deletable=True)
    association.variables.epoch += 1
    return b"\x8b\x00"


def delete(association: Association, request: bytes, at: int, end: int) -> bytes:
    """Carry out deleteNamedVariableList."""
    scope, domain = _SPECIFIC, ""
    names: list[pdu.Name] = []
    for tag, begin, stop in ber.elements(request, at, end):
        if tag == 0x80:
            scope = ber.unsigned(request[begin:stop])
        elif tag == 0xA1:
            names = pdu.object_names(request, begin, stop)
        elif tag == 0x82:
            domain = ber.text(request[begin:stop])
    if scope == _OF_ASSOCIATION:
        names = [(ASSOCIATION, item) for item in association.lists]
    elif scope == _OF_DOMAIN:
        table = association.table(domain)
        if table is None:
            raise pdu.no_such_object(f"domain {domain}")
        names = [(domain, item) for item in table]
    elif scope == _OF_VMD:
        names = [(None, item) for item in association.variables.lists]
    elif scope != _SPECIFIC:
        raise BerError(f"scope of delete {scope}")
    matched = deleted = 0
    for place, item in names:
        table = association.table(place)
        found = None if table is None else table.get(item)
        if table is None or found is None:
            continue
        matched += 1
        if found.deletable and not association.server.in_use((place, item)):
            del table[item]
            deleted += 1
    association.variables.epoch += 1
    counts = ber.tlv(0x80, ber.integer_octets(matched)), ber.tlv(0x81, ber.integer_octets(deleted))
    return ber.tlv(Service.DELETE_NAMED_VARIABLE_LIST, *counts)
