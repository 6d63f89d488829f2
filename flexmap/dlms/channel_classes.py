"""Builders of the interface classes that describe a communication channel (IEC 62056-6-2 clauses 4.7 and 4.9).

Each takes what is fixed while flexmap runs; what may change is a slot, named in the docstring. ``channel`` is
value group B of the logical name.
"""

from __future__ import annotations

from flexmap.dlms import axdr
from flexmap.dlms.objects import Attribute, ObjectDefinition
from flexmap.dlms.profile import AUTHENTICATED, Role

LOCAL_PORT_SETUP, HDLC_SETUP, TCP_UDP_SETUP, IPV4_SETUP = 19, 23, 41, 42

SPEED_CODES = {
    speed: code for code, speed in enumerate((300, 600, 1200, 2400, 4800, 9600, 19_200, 38_400, 57_600, 115_200))
}
"""Bit/s → the enum of classes 19 and 23."""


def local_port_ln(channel: int) -> bytes:
    """Return the logical name of a local port setup."""
    return bytes((0, channel, 20, 0, 0, 255))


def hdlc_ln(channel: int) -> bytes:
    """Return the logical name of an HDLC setup."""
    return bytes((0, channel, 22, 0, 0, 255))


def tcp_udp_ln(channel: int) -> bytes:
    """Return the logical name of a TCP-UDP setup."""
    return bytes((0, channel, 25, 0, 0, 255))


def ipv4_ln(channel: int) -> bytes:
    """Return the logical name of an IPv4 setup."""
    return bytes((0, channel, 25, 1, 0, 255))


def speed_value(speed: int) -> bytes:
    """Return a speed in bit/s as the enum of classes 19 and 23; the highest one not above it."""
    return axdr.encode("enum", max(code for known, code in SPEED_CODES.items() if known <= max(300, speed)))


def hdlc_setup(
    channel: int,
    *,
    window: int,
    max_info: int,
    inter_octet_timeout: float,
    inactivity_timeout: float,
    device_address: int,
    read: Role = AUTHENTICATED,
) -> ObjectDefinition:
    """Return an IEC HDLC setup (class 23 version 1), times in s. Slot: 2 comm_speed (:func:`speed_value`)."""
    attributes = (
        Attribute(2, read),
        Attribute(3, read, value=axdr.encode("unsigned", window)),
        Attribute(4, read, value=axdr.encode("unsigned", window)),
        Attribute(5, read, value=axdr.encode("long-unsigned", max_info)),
        Attribute(6, read, value=axdr.encode("long-unsigned", max_info)),
        Attribute(7, read, value=axdr.encode("long-unsigned", round(inter_octet_timeout * 1000))),
        Attribute(8, read, value=axdr.encode("long-unsigned", round(inactivity_timeout))),
        Attribute(9, read, value=axdr.encode("long-unsigned", device_address)),
    )
    return ObjectDefinition(HDLC_SETUP, 1, hdlc_ln(channel), attributes)


def local_port_setup(
    channel: int, *, opening_speed: int, speed: int, address: str, read: Role = AUTHENTICATED
) -> ObjectDefinition:
    """Return an IEC local port setup (class 19 version 1) of a port that opens in mode E; no slots.

    Its passwords are none, and cannot be read.
    """
    attributes = (
        Attribute(2, read, value=axdr.encode("enum", 0)),  # default_mode: IEC 62056-21
        Attribute(3, read, value=speed_value(opening_speed)),
        Attribute(4, read, value=speed_value(speed)),
        Attribute(5, read, value=axdr.encode("enum", 1)),  # response_time: 200 ms
        Attribute(6, read, value=axdr.octet_string(address.encode())),
        *(Attribute(index, Role.NOBODY, value=axdr.NULL) for index in (7, 8, 9)),
    )
    return ObjectDefinition(LOCAL_PORT_SETUP, 1, local_port_ln(channel), attributes)


def tcp_udp_setup(
    channel: int,
    *,
    ip: bytes,
    max_segment: int,
    connections: int,
    inactivity_timeout: float,
    read: Role = AUTHENTICATED,
) -> ObjectDefinition:
    """Return a TCP-UDP setup (class 41). Slot: 2 TCP-UDP_port (long-unsigned).

    ``ip``: logical name of the IP setup, or empty; ``connections``: at once, 255 stands for more.
    """
    attributes = (
        Attribute(2, read),
        Attribute(3, read, value=axdr.octet_string(ip)),
        Attribute(4, read, value=axdr.encode("long-unsigned", max_segment)),
        Attribute(5, read, value=axdr.encode("unsigned", min(connections, 255))),
        Attribute(6, read, value=axdr.encode("long-unsigned", min(round(inactivity_timeout), 0xFFFF))),
    )
    return ObjectDefinition(TCP_UDP_SETUP, 0, tcp_udp_ln(channel), attributes)


def ipv4_setup(channel: int, *, address: bytes, read: Role = AUTHENTICATED) -> ObjectDefinition:
    """Return an IPv4 setup (class 42) that shows the address listened on, four octets; no slots.

    Mask, gateway and name servers are the operating system's: 0, as the standard has it where nothing is set.
    """
    nothing = axdr.encode("double-long-unsigned", 0)
    attributes = (
        Attribute(2, read, value=axdr.octet_string(b"")),
        Attribute(3, read, value=axdr.encode("double-long-unsigned", int.from_bytes(address, "big"))),
        Attribute(4, read, value=axdr.array([])),
        Attribute(5, read, value=axdr.array([])),
        Attribute(6, read, value=nothing),
        Attribute(7, read, value=nothing),
        Attribute(8, read, value=axdr.encode("boolean", False)),
        Attribute(9, read, value=nothing),
        Attribute(10, read, value=nothing),
    )
    return ObjectDefinition(IPV4_SETUP, 0, ipv4_ln(channel), attributes)
