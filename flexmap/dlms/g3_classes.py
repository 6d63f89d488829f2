"""COSEM's classes of a G3-PLC node: 90 MAC layer counters, 91 MAC setup, 92 6LoWPAN adaptation layer setup.

Attributes and their order as in the DLMS UA's Blue Book (IEC 62056-6-2 clause 4.13), versions 1, 3 and 3. What the
node does not tell answers *object-unavailable*; while nothing is known of it, all answer *temporary-failure*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flexmap.dlms import axdr
from flexmap.dlms.apdu import DataAccessResult
from flexmap.dlms.objects import Attribute, ObjectDefinition, SlotValue
from flexmap.dlms.profile import AUTHENTICATED, Role
from flexmap.model.error import LocalError
from flexmap.model.plc import Coordinator, Row

MAC_COUNTERS, MAC_SETUP, ADAPTATION_SETUP = 90, 91, 92
KEY_TABLE = 5
"""Attribute of class 91 that cannot be read: keys are written only."""

Encoder = Callable[[Coordinator], bytes]
"""Returns an encoded attribute; raises KeyError if the coordinator does not tell it."""


def logical_name(class_id: int, channel: int) -> bytes:
    """Return the logical name of a class's object: ``0-b:29.0.0``, ``0-b:29.1.0`` or ``0-b:29.2.0``."""
    return bytes((0, channel, 29, class_id - MAC_COUNTERS, 0, 255))


def _number(name: str, type_name: str) -> Encoder:
    return lambda told: axdr.encode(type_name, int(told.attributes[name], 0))


def _flag(name: str) -> Encoder:
    return lambda told: axdr.encode("boolean", bool(int(told.attributes[name], 0)))


def _bits(name: str) -> Encoder:
    return lambda told: _bit_string(told.attributes[name])


def _bit_string(text: str) -> bytes:
    return axdr.encode("bit-string", text.removeprefix("0b"))


def _set(name: str, type_name: str) -> Encoder:
    def encode(told: Coordinator) -> bytes:
        numbers = [part for part in told.attributes[name].split(",") if part]
        return axdr.array([axdr.encode(type_name, int(part, 0)) for part in numbers])

    return encode


def _table(name: str, row: Callable[[Row], bytes]) -> Encoder:
    return lambda told: axdr.array([row(fields) for fields in told.tables[name]])


def _fields(*fields: tuple[str, str]) -> Callable[[Row], bytes]:
    """Return an encoder of rows that are structures of numbers, each a name and a type."""
    return lambda row: axdr.structure(*(axdr.encode(kind, int(row[name], 0)) for name, kind in fields))


def _neighbour(row: Row) -> bytes:
    return axdr.structure(
        axdr.encode("long-unsigned", int(row["short"], 0)),
        axdr.encode("boolean", False),  # payload modulation scheme: differential
        _bit_string(row["tone_map"]),
        axdr.encode("enum", int(row["modulation"], 0)),
        axdr.encode("integer", 0),  # no transmit gain, nor a coefficient of it
        axdr.encode("enum", 0),
        axdr.encode("bit-string", "00000000"),
        axdr.encode("unsigned", int(row["lqi"], 0)),
        axdr.encode("integer", 0),  # the phase difference is not measured
        axdr.encode("unsigned", int(row["tmr_valid"], 0)),
        axdr.encode("unsigned", int(row["valid"], 0)),
    )


def _context(row: Row) -> bytes:
    length = int(row["length"], 0)
    octets = bytes.fromhex(row["prefix"])[: -(-length // 8)]
    return axdr.structure(
        axdr.encode("bit-string", f"{int(row['id'], 0):04b}"),
        axdr.encode("unsigned", len(octets)),
        axdr.octet_string(octets),
        axdr.encode("boolean", True),
        axdr.encode("long-unsigned", 0xFFFF),  # does not run out
    )


def _routing_configuration(told: Coordinator) -> bytes:
    parts = (
        _number("adpNetTraversalTime", "unsigned"),
        _number("adpRoutingTableEntryTTL", "long-unsigned"),
        *(_number(f"adp{factor}", "unsigned") for factor in ("Kr", "Km", "Kc", "Kq", "Kh", "Krt")),
        _number("adpRREQRetries", "unsigned"),
        _number("adpRREQWait", "unsigned"),
        _number("adpBlacklistTableEntryTTL", "long-unsigned"),
        _flag("adpUnicastRREQGenEnable"),
        _flag("adpRLCEnabled"),
        _number("adpAddRevLinkCost", "unsigned"),
    )
    return axdr.array([axdr.structure(*(part(told) for part in parts))])


def _no_prefixes(_told: Coordinator) -> bytes:
    """Return an empty prefix table: nodes have the link-local addresses of the PAN alone."""
    return axdr.array([])


_U8, _U16, _U32 = "unsigned", "long-unsigned", "double-long-unsigned"
_ATTRIBUTES: dict[int, dict[int, Encoder]] = {
    MAC_COUNTERS: {
        2: _number("macTxDataPacketCount", _U32),
        3: _number("macRxDataPacketCount", _U32),
        4: _number("macTxCmdPacketCount", _U32),
        5: _number("macRxCmdPacketCount", _U32),
        6: _number("macCSMAFailCount", _U32),
        7: _number("macCSMANoACKCount", _U32),
        8: _number("macBadCRCCount", _U32),
        9: _number("macTxDataBroadcastCount", _U32),
        10: _number("macRxDataBroadcastCount", _U32),
    },
    MAC_SETUP: {
        2: _number("macShortAddress", _U16),
        3: _number("macRCCoord", _U16),
        4: _number("macPANId", _U16),
        6: _number("macFrameCounter", _U32),
        7: _bits("macToneMask"),
        8: _number("macTMRTTL", _U8),
        9: _number("macMaxFrameRetries", _U8),
        10: _number("macPOSTableEntryTTL", _U8),
        11: _table("macNeighbourTable", _neighbour),
        12: _number("macHighPriorityWindowSize", _U8),
        13: _number("macCSMAFairnessLimit", _U8),
        14: _number("macBeaconRandomizationWindowLength", _U8),
        15: _number("macA", _U8),
        16: _number("macK", _U8),
        17: _number("macMinCWAttempts", _U8),
        18: _number("macCENELECLegacyMode", _U8),
        19: _number("macFCCLegacyMode", _U8),
        20: _number("macMaxBE", _U8),
        21: _number("macMaxCSMABackoffs", _U8),
        22: _number("macMinBE", _U8),
        23: _flag("macBroadcastMaxCWEnable"),
        24: _number("macTransmitAtten", _U8),
        25: _table("macPOSTable", _fields(("short", _U16), ("lqi", _U8), ("valid", _U8))),
        26: _number("macDuplicateDetectionTTL", _U8),
    },
    ADAPTATION_SETUP: {
        2: _number("adpMaxHops", _U8),
        3: _number("adpWeakLQIValue", _U8),
        4: _number("adpSecurityLevel", _U8),
        5: _no_prefixes,
        6: _routing_configuration,
        7: _number("adpBroadcastLogTableEntryTTL", _U16),
        8: _table(
            "adpRoutingTable",
            _fields(
                ("destination", _U16),
                ("next_hop", _U16),
                ("cost", _U16),
                ("hops", _U8),
                ("weak_links", _U8),
                ("valid", _U16),
            ),
        ),
        9: _table("adpContextInformationTable", _context),
        10: _table("adpBlacklistTable", _fields(("short", _U16), ("valid", _U16))),
        11: _table("adpBroadcastLogTable", _fields(("source", _U16), ("sequence", _U8), ("valid", _U16))),
        12: _set("adpGroupTable", _U16),
        13: _number("adpMaxJoinWaitTime", _U16),
        14: _number("adpPathDiscoveryTime", _U8),
        15: _number("adpActiveKeyIndex", _U8),
        16: _number("adpMetricType", _U8),
        17: _number("adpCoordShortAddress", _U16),
        18: _flag("adpDisableDefaultRouting"),
        19: _number("adpDeviceType", "enum"),
        20: _flag("adpDefaultCoordRouteEnabled"),
        21: _set("adpDestinationAddressSet", _U16),
        22: _number("adpLowLQIValue", _U8),
        23: _number("adpHighLQIValue", _U8),
    },
}
_VERSIONS = {MAC_COUNTERS: 1, MAC_SETUP: 3, ADAPTATION_SETUP: 3}


def definitions(channel: int, *, read: Role = AUTHENTICATED) -> list[ObjectDefinition]:
    """Return the three objects of a coordinator; every attribute but the key table is a slot."""
    return [
        ObjectDefinition(
            class_id,
            _VERSIONS[class_id],
            logical_name(class_id, channel),
            tuple(_attributes(class_id, attributes, read)),
        )
        for class_id, attributes in _ATTRIBUTES.items()
    ]


def _attributes(class_id: int, attributes: dict[int, Encoder], read: Role) -> Sequence[Attribute]:
    found = [Attribute(index, read) for index in attributes]
    if class_id == MAC_SETUP:
        found.append(Attribute(KEY_TABLE, Role.NOBODY, value=axdr.NULL))
    return sorted(found, key=lambda attribute: attribute.index)


def values(channel: int, told: Coordinator) -> list[tuple[tuple[int, bytes, int], SlotValue]]:
    """Return what stands in each slot of a coordinator's objects: (class, logical name, attribute) and value."""
    return [
        ((class_id, logical_name(class_id, channel), index), _value(encode, told))
        for class_id, attributes in _ATTRIBUTES.items()
        for index, encode in attributes.items()
    ]


def _value(encode: Encoder, told: Coordinator) -> SlotValue:
    if not told.attributes:
        return DataAccessResult.TEMPORARY_FAILURE
    try:
        return encode(told)
    except (KeyError, ValueError, LocalError):
        return DataAccessResult.OBJECT_UNAVAILABLE
