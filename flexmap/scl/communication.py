"""The ``Communication`` section: where the servers' access points are reached."""

from __future__ import annotations

import ipaddress

import msgspec
from lxml import etree

from flexmap.model import ConfigurationError
from flexmap.scl.document import add

SUBNETWORK = "StationBus"
MMS_PORT = 102
SELECTORS = {"OSI-PSEL": "00000001", "OSI-SSEL": "0001", "OSI-TSEL": "0001"}


class Address(msgspec.Struct, frozen=True):
    """Address of an access point."""

    host: str = "127.0.0.1"
    """IPv4 or IPv6 address, or a DNS name."""
    port: int = MMS_PORT
    subnet: str = "255.255.255.0"
    """Subnet mask of an IPv4 address."""
    gateway: str | None = None

    def parameters(self) -> list[tuple[str, str]]:
        """Return type and value of each ``P`` element.

        Raises ConfigurationError if an address or the port is malformed.
        """
        where = f"address {self.host}:{self.port}"
        if not 0 < self.port <= 0xFFFF:
            remedy = "give the MMS server's port, 1 to 65535"
            raise ConfigurationError(f"{self.port} is not a port that clients can use", where=where, remedy=remedy)
        return [*self._host(where), *SELECTORS.items(), ("MMS-Port", str(self.port))]

    def _host(self, where: str) -> list[tuple[str, str]]:
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            if not self.host or any(character.isspace() for character in self.host):
                raise ConfigurationError(f"'{self.host}' is not a host", where=where) from None
            return [("DNSName", self.host)]
        if isinstance(address, ipaddress.IPv6Address):
            return [("IPv6", ":".join(f"{int(group, 16):x}" for group in address.exploded.split(":")))]
        parameters = [("IP", str(address)), ("IP-SUBNET", self.subnet)]
        return [*parameters, ("IP-GATEWAY", self.gateway)] if self.gateway else parameters


def write_subnetwork(parent: etree._Element) -> etree._Element:
    """Append ``Communication`` with one empty subnetwork, and return that."""
    return add(add(parent, "Communication"), "SubNetwork", name=SUBNETWORK, type="8-MMS")


def write(subnetwork: etree._Element, ied: str, access_point: str, address: Address) -> None:
    """Append a connected access point."""
    connected = add(subnetwork, "ConnectedAP", iedName=ied, apName=access_point)
    write_address(connected, address)


def write_address(connected: etree._Element, address: Address) -> None:
    """Append the address of a connected access point."""
    element = add(connected, "Address")
    for kind, value in address.parameters():
        add(element, "P", value, type=kind)
