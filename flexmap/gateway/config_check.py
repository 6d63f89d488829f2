"""The rules that hold across the entries of a configuration file."""

from __future__ import annotations

import re

from flexmap.gateway.dlms_listeners import MOST_LISTENERS, HdlcSerial, parse_terminal
from flexmap.gateway.dlms_push import push_settings
from flexmap.gateway.sections import (
    ConcentratorSection,
    DlmsClient,
    File,
    MeterSection,
    parse_endpoint,
    parse_grant,
)
from flexmap.mapping.zone import Zone
from flexmap.model import ConfigurationError, MeterType
from flexmap.sources.concentrator.port import parse_port

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_PRINTABLE = re.compile(r"[ -~]*")

MOST_IDENTITY = {"device-name": 16}
"""Octets of a COSEM logical device name (IEC 62056-6-2 clause 4.1.8.2); other identities fill a VisString255."""
FIRST_METER_SAP = 16
LAST_SAP = 0x3FFF
BROADCAST_SAP = 0x7F
"""The all-station address, which no logical device can have."""


def identity_of(meter: MeterSection, meter_type: MeterType) -> dict[str, str]:
    """Return the meter's identity; what the file leaves out is made from the meter's id."""
    made = {"serial-number": meter.id, "device-name": f"FMX{meter.sap:013d}", "firmware": "unknown"}
    names = [point.name for point in meter_type.identity]
    return {name: meter.identity.get(name, made.get(name, "")) for name in names}


class Check:
    """Raises the first ConfigurationError that it finds."""

    def __init__(self, path: str, file: File, types: dict[str, MeterType]) -> None:
        self._path = path
        self._file = file
        self._types = types
        self._seen: dict[tuple[str, object], str] = {}

    def all(self) -> None:
        """Check everything."""
        for name, section in (("mms", self._file.mms), ("dlms", self._file.dlms), ("web", self._file.web)):
            endpoint = parse_endpoint(section.listen, f"{self._path}: [{name}] listen")
            if name == "mms" and not endpoint.port:
                remedy = "write the port: it stands in the SCL file too"
                raise self._error("[mms] listen", "port 0 is not a port that clients can use", remedy)
        self._mms_tls()
        self._name(self._file.site.ied, "[site] ied", 64)
        self._time_zone()
        for source in self._file.source:
            entry = f"[[source]] '{source.name}'"
            self._once("source name", source.name, entry)
            if isinstance(source, ConcentratorSection):
                parse_port(source.port, f"{self._path}: {entry} port")
        for meter in self._file.meter:
            self._meter(meter)
        for client in self._file.dlms.client:
            self._client(client)
        self._listeners()
        push = self._file.dlms.push
        if push is not None:
            saps = {client.name: client.sap for client in self._file.dlms.client}
            push_settings(push, saps, f"{self._path}: [dlms.push]")
        self._system_title()
        if not self._file.meter:
            raise self._error("[[meter]]", "there is no meter", "add at least one")

    def _mms_tls(self) -> None:
        section = self._file.mms
        if section.tls is None:
            if not section.plain:
                raise self._error("[mms] plain", "nothing would be served", "add [mms.tls], or leave plain out")
            return
        if section.engine != "native":
            raise self._error("[mms.tls]", f"the engine {section.engine} has no TLS", 'set engine = "native"')
        if not parse_endpoint(section.tls.listen, f"{self._path}: [mms.tls] listen").port:
            remedy = "write the port: clients need it"
            raise self._error("[mms.tls] listen", "port 0 is not a port that clients can use", remedy)
        if section.tls.minimum > section.tls.maximum:
            raise self._error("[mms.tls] minimum", "is above the maximum", "raise maximum or lower minimum")
        for peer in section.tls.peers:
            if not re.fullmatch(r"[0-9a-fA-F]{64}", peer.replace(":", "")):
                remedy = (
                    "write the 64 hexadecimal digits of a SHA-256 fingerprint (openssl x509 -fingerprint -sha256)"
                )
                raise self._error("[mms.tls] peers", f"'{peer}' is no fingerprint", remedy)

    def _time_zone(self) -> None:
        try:
            Zone(self._file.site.time_zone)
        except ConfigurationError as error:
            raise self._error("[site] time_zone", error.what, error.remedy) from None

    def _listeners(self) -> None:
        ports = self._file.dlms.listener
        for number, port in enumerate(ports, 1):
            where = f"{self._path}: [[dlms.listener]] {number}"
            if isinstance(port, HdlcSerial):
                parse_terminal(port, where)
            else:
                parse_endpoint(port.listen, where)
        if len(ports) >= MOST_LISTENERS:
            raise self._error("[[dlms.listener]]", f"{len(ports)} are too many", f"at most {MOST_LISTENERS - 1}")

    def _error(self, entry: str, what: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(what, where=f"{self._path}: {entry}", remedy=remedy)

    def _name(self, name: str, entry: str, most: int) -> None:
        if not _NAME.fullmatch(name) or len(name) > most or name == "None":
            remedy = f"a letter, then letters, digits or '_', at most {most} in all"
            raise self._error(entry, f"'{name}' is not a name that IEC 61850 allows", remedy)

    def _once(self, what: str, value: object, entry: str) -> None:
        first = self._seen.setdefault((what, value), entry)
        if first is not entry:
            raise self._error(entry, f"{what} {value!r} stands already in {first}", "each must be unique")

    def _meter(self, meter: MeterSection) -> None:
        entry = f"[[meter]] '{meter.id}'"
        self._once("id", meter.id, entry)
        self._once("ld", meter.ld, entry)
        self._once("sap", meter.sap, entry)
        self._name(meter.ld, f"{entry} ld", 64 - len(self._file.site.ied))
        if meter.ld == "GW":
            raise self._error(f"{entry} ld", "'GW' is the gateway's own logical device", "take another name")
        if not FIRST_METER_SAP <= meter.sap < LAST_SAP or meter.sap == BROADCAST_SAP:
            remedy = f"take one from {FIRST_METER_SAP} to {LAST_SAP - 1} other than {BROADCAST_SAP} (broadcast)"
            raise self._error(f"{entry} sap", f"{meter.sap} is not a meter's server address", remedy)
        if meter.type not in self._types:
            known = ", ".join(sorted(self._types))
            remedy = f"known types: {known}; 'meter_types' names tables of your own"
            raise self._error(f"{entry} type", f"'{meter.type}' is not known", remedy)
        if meter.source not in {source.name for source in self._file.source}:
            raise self._error(f"{entry} source", f"there is no [[source]] named '{meter.source}'", "add it")
        unknown = meter.identity.keys() - {point.name for point in self._types[meter.type].identity}
        if unknown:
            names = ", ".join(point.name for point in self._types[meter.type].identity)
            raise self._error(f"{entry} identity", f"'{min(unknown)}' is not known", f"known: {names}")
        for name, text in identity_of(meter, self._types[meter.type]).items():
            most = MOST_IDENTITY.get(name, 255)
            if not _PRINTABLE.fullmatch(text) or len(text) > most:
                remedy = f"write at most {most} printable ASCII characters"
                raise self._error(f"{entry} identity", f"{name} '{text}' cannot be served", remedy)
            if name == "device-name":
                self._once(name, text, entry)

    def _client(self, client: DlmsClient) -> None:
        entry = f"[[dlms.client]] '{client.name}'"
        self._once("client sap", client.sap, entry)
        self._once("client name", client.name, entry)
        if not 1 <= client.sap <= LAST_SAP:
            raise self._error(
                f"{entry} sap", f"{client.sap} is not a client address", f"take one from 1 to {LAST_SAP}"
            )
        for text in client.only:
            parse_grant(text, f"{self._path}: {entry} only")
        self._client_proof(client, entry)
        self._client_title(client, entry)
        self._third_parties(client, entry)

    def _client_proof(self, client: DlmsClient, entry: str) -> None:
        """Check that a client which may more than the public proves itself, and can."""
        ciphered = client.protection != "none"
        proven = ciphered if client.pre_established else client.authentication != "none"
        if client.access != "public" and not proven:
            remedy = 'set authentication (with pre_established: protection), or access = "public"'
            raise self._error(entry, f"access '{client.access}' without authentication", remedy)
        if client.authentication == "none" and ciphered and not client.pre_established:
            remedy = 'authenticate, for example with "hls-gmac"'
            raise self._error(f"{entry} protection", f"'{client.protection}' needs keys", remedy)
        if client.notify and client.access == "public":
            raise self._error(f"{entry} notify", "a public client may not read events", 'set access = "read"')
        if client.suite == 0 and (client.authentication == "hls-ecdsa" or client.signatures != "none"):
            raise self._error(f"{entry} suite", "suite 0 has no signatures", "set suite = 1 or 2")

    def _third_parties(self, client: DlmsClient, entry: str) -> None:
        """Check those whose messages a client may pass on."""
        where = f"{entry} third_parties"
        own = {self._file.dlms.system_title.upper(), client.system_title.upper()}
        for title in client.third_parties:
            if not re.fullmatch("[0-9A-Fa-f]{16}", title) or title.upper() in own:
                why = f"'{title}' is not the system title of a third party"
                raise self._error(where, why, "write 16 hexadecimal digits")
        if client.third_parties and not client.suite:
            raise self._error(where, "suite 0 has no certificates to prove them", "set suite = 1 or 2")

    def _client_title(self, client: DlmsClient, entry: str) -> None:
        where = f"{entry} system_title"
        try:
            octets = bytes.fromhex(client.system_title)
        except ValueError:
            octets = b"\0"
        if len(octets) not in (0, 8):
            raise self._error(where, f"'{client.system_title}' is not eight octets", "write 16 hexadecimal digits")
        signed = client.authentication == "hls-ecdsa" or client.signatures != "none"
        silent = client.pre_established and client.protection != "none"
        if not octets and (signed or silent):
            why = "its certificate is found by it" if signed else "a pre-established association has no AARQ"
            raise self._error(where, f"is missing: {why}", "write 16 hexadecimal digits")

    def _system_title(self) -> None:
        try:
            octets = bytes.fromhex(self._file.dlms.system_title)
        except ValueError:
            octets = b""
        if len(octets) != 8:
            remedy = "write 16 hexadecimal digits"
            raise self._error(
                "[dlms] system_title", f"'{self._file.dlms.system_title}' is not eight octets", remedy
            )
