"""``[dlms.push]``: what every meter's push setup (class 40) is until a head-end writes something else."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

import msgspec

from flexmap.dlms import classes
from flexmap.dlms.push_setup import PUSH_SETUP, PUSH_SETUP_LN, Destination, PushSetup, Transport
from flexmap.dlms.selection import CaptureObject
from flexmap.faces.dlms.pushing import LOOPBACK, Network, PushSettings
from flexmap.model import ConfigurationError, LocalError, obis

_TRANSPORTS = {"tcp": Transport.TCP, "udp": Transport.UDP, "hdlc": Transport.HDLC}
_FIRST = (
    CaptureObject(PUSH_SETUP, PUSH_SETUP_LN, 1),
    CaptureObject(classes.DATA, classes.LOGICAL_DEVICE_NAME_LN, 2),
    CaptureObject(classes.CLOCK, classes.CLOCK_LN, 2),
)
"""What every notification begins with: which setup, which meter, its clock."""
_Seconds16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]


class DlmsPush(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[dlms.push]``: notifications to a head-end."""

    destination: str
    """HOST:PORT that the head-end listens on; an IP address."""
    client: str
    """Name of the client whose address, rights and keys notifications have."""
    transport: Literal["tcp", "udp", "hdlc"] = "tcp"
    objects: tuple[str, ...] = ("1-0:1.8.0", "1-0:2.8.0")
    """Registers (OBIS) behind push setup, device name and clock."""
    interval: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 900.0
    """Seconds between two pushes; 0: only when a head-end calls the push method."""
    randomisation: _Seconds16 = 0
    """Seconds, at most, that a push is put off by at random."""
    retries: Annotated[int, msgspec.Meta(ge=0, le=255)] = 10
    repetition_delay: _Seconds16 = 30
    """Seconds between two attempts."""
    version: Literal[0, 1, 2] = 0
    """Version of class 40."""
    confirmed: bool = False
    """Sent again until the head-end confirms; version 2 shows it."""
    allowed: tuple[str, ...] = ()
    """Networks that a head-end may write a destination in, beside the loopback."""


def push_settings(section: DlmsPush, clients: dict[str, int], where: str) -> PushSettings:
    """Return the settings that a section describes; ``clients``: SAP by name. Raises ConfigurationError."""
    if section.client not in clients:
        known = ", ".join(sorted(clients)) or "none"
        raise ConfigurationError(f"there is no client '{section.client}'", where=where, remedy=f"known: {known}")
    setup = PushSetup(
        objects=(*_FIRST, *(_column(text, where) for text in section.objects)),
        destination=_destination(section, where),
        randomisation=section.randomisation,
        retries=section.retries,
        delay=section.repetition_delay,
        confirmed=section.confirmed,
    )
    return PushSettings(
        setup=setup,
        client=clients[section.client],
        interval=section.interval,
        version=section.version,
        allowed=(*LOOPBACK, *(_network(text, where) for text in section.allowed)),
    )


def _destination(section: DlmsPush, where: str) -> Destination:
    host, _, port = section.destination.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        number = int(port)
    except ValueError:
        number, address = 0, ipaddress.ip_address("127.0.0.1")
    if not 0 < number < 65536:
        remedy = "write an IP address and a port, such as 127.0.0.1:4059"
        raise ConfigurationError(f"'{section.destination}' is no destination", where=where, remedy=remedy)
    return Destination(_TRANSPORTS[section.transport], str(address), number)


def _column(text: str, where: str) -> CaptureObject:
    try:
        return CaptureObject(classes.REGISTER, obis.parse(text), 2)
    except LocalError as error:
        raise ConfigurationError(str(error), where=where, remedy="write a register as 1-0:1.8.0") from None


def _network(text: str, where: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigurationError(str(error), where=where, remedy="write a network as 10.1.0.0/16") from None
