"""The configuration file of a site: TOML, decoded into frozen structs, checked as a whole.

Every error is a ConfigurationError naming the file, the entry and the way out. Paths in the file are relative
to the file's own folder. Secrets stand in a file of their own (:mod:`flexmap.gateway.secrets`).
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from flexmap.dlms.profile import Grant
from flexmap.gateway.dlms_listeners import MOST_LISTENERS, DlmsListener, HdlcSerial, parse_terminal
from flexmap.gateway.dlms_push import DlmsPush, push_settings
from flexmap.mapping.table import behind, load_builtin, load_channels, load_products
from flexmap.mapping.table import load as load_table
from flexmap.mapping.zone import Zone
from flexmap.model import ConfigurationError, Direction, LocalError, Meter, MeterType, Site, obis
from flexmap.sources.concentrator.port import parse_port

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_PRINTABLE = re.compile(r"[ -~]*")

Text = Annotated[str, msgspec.Meta(min_length=1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Days = Annotated[float, msgspec.Meta(ge=0, le=36_525)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

MOST_IDENTITY = {"device-name": 16}
"""Octets of a COSEM logical device name (IEC 62056-6-2 clause 4.1.8.2); other identities fill a VisString255."""
FIRST_METER_SAP = 16
LAST_SAP = 0x3FFF
BROADCAST_SAP = 0x7F
"""The all-station address, which no logical device can have."""


class Endpoint(msgspec.Struct, frozen=True):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(text: str, where: str) -> Endpoint:
    """Return the endpoint of ``HOST:PORT`` (an IPv6 address in brackets). Port 0 lets the system choose one."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        number = int(port)
    except ValueError:
        number = -1
    if not 0 <= number <= 0xFFFF:
        remedy = "write an IP address and a port from 0 to 65535, such as 127.0.0.1:4059"
        raise ConfigurationError(f"'{text}' is not HOST:PORT", where=where, remedy=remedy)
    return Endpoint("127.0.0.1" if host == "localhost" else host, number)


_GRANT = re.compile(r"([^;]+)(?:;(m?)(\d{1,2}))?")


def parse_grant(text: str, where: str) -> Grant:
    """Return the object, attribute or method of ``OBIS``, ``OBIS;2`` or ``OBIS;m1``."""
    match = _GRANT.fullmatch(text)
    try:
        name = obis.parse(match[1] if match else "")
    except LocalError:
        name = b""
    number = int(match[3] or 0) if match else 0
    if not match or not name or (match[3] and not number):
        remedy = "write an object as 1-0:1.8.0, its attribute 2 as 1-0:1.8.0;2, its method 1 as 0-0:96.3.10;m1"
        raise ConfigurationError(f"'{text}' names no object, attribute or method", where=where, remedy=remedy)
    return Grant(name, method=number) if match[2] else Grant(name, number)


class _Listening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    listen: str

    @property
    def endpoint(self) -> Endpoint:
        """Where to listen."""
        return parse_endpoint(self.listen, "listen")

    @property
    def host(self) -> str:
        """Address to listen on."""
        return self.endpoint.host

    @property
    def port(self) -> int:
        """Port to listen on; 0 lets the system choose."""
        return self.endpoint.port


class SiteSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[site]``: names."""

    name: Text
    ied: str
    vendor: str = "flexmap"
    revision: Count = 1
    time_zone: Text = "UTC"
    """IANA name of the local time that clocks show and at whose midnight days end."""


class MmsSection(_Listening, frozen=True, forbid_unknown_fields=True):
    """``[mms]``: the IEC 61850 face."""

    listen: str = "127.0.0.1:10102"
    engine: Literal["libiec61850"] = "libiec61850"


Authentication = Literal["none", "lls", "hls", "hls-md5", "hls-sha1", "hls-gmac", "hls-sha256", "hls-ecdsa"]
Ciphered = Literal["none", "authenticated", "authenticated-encrypted"]


class DlmsClient(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[dlms.client]]``: one client address, what it must prove and what it may do."""

    sap: int
    name: Text
    authentication: Authentication
    access: Literal["public", "read", "manage"]
    suite: Literal[0, 1, 2] = 0
    """Security suite of its keys."""
    protection: Ciphered = "none"
    """Least protection of each message of the client."""
    responses: Ciphered = "none"
    """Least protection of each response; it has that of its request anyway."""
    signatures: Literal["none", "requests", "both"] = "none"
    """What must be signed."""
    system_title: str = ""
    """The only one let in, eight octets in hexadecimal; empty: any that holds the keys."""
    only: tuple[str, ...] = ()
    """Objects (OBIS), attributes (OBIS;2), methods (OBIS;m1) that there are for it; empty: all."""
    pre_established: bool = False
    """Associations are open without being asked for."""


class DlmsSection(_Listening, frozen=True, forbid_unknown_fields=True):
    """``[dlms]``: the DLMS/COSEM face, wrapper over TCP and UDP on the same port; further ports by choice."""

    listen: str = "127.0.0.1:4059"
    system_title: str = "464D580000000001"
    """Eight octets in hexadecimal: three of the manufacturer, five of the device."""
    secrets: str = "secrets.toml"
    identity: str = "identity.toml"
    """Key pairs of the server and certificates, needed for suites 1 and 2 alone."""
    association_version: Literal[1, 2, 3] = 1
    """Version of the association object (class 15): from 3 on access modes are bits."""
    client: tuple[DlmsClient, ...] = ()
    idle_timeout: Seconds = 180.0
    """Seconds after which a silent TCP connection is closed."""
    max_connections: Count = 1000
    max_connections_per_address: Count = 500
    listener: tuple[DlmsListener, ...] = ()
    push: DlmsPush | None = None
    """Push setups of the meters; without it they have none."""


class RetentionSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[store.retention]``: days that each kind of record is kept; 0 keeps it for ever."""

    samples_days: Days = 7.0
    profile_days: Days = 400.0
    profile_2_days: Days = 10.0
    events_days: Days = 400.0


class StoreSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[store]``: the folder of the database and of all state that outlives a restart."""

    folder: str = "state"
    retention: RetentionSection = RetentionSection()


class WebSection(_Listening, frozen=True, forbid_unknown_fields=True):
    """``[web]``: ``/metrics`` and ``/healthz``."""

    listen: str = "127.0.0.1:8080"


class SimulationSection(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="simulation", tag_field="kind"
):
    """``[[source]] kind = "simulation"``: the seeded meter model, driven by measured load data."""

    name: Text
    seed: int = 1
    load: str = ""
    """CSV file to replay; empty for the sample data that flexmap ships."""
    substation: str = ""
    """Id of the three-phase meter that measures all the others; empty if there is none."""
    utc_offset: Annotated[int, msgspec.Meta(ge=-86_400, le=86_400)] = 0
    """Local time of the load data minus UTC, in seconds."""
    pv_share: Share = 0.25
    """Share of the meters that have photovoltaics behind them."""
    tampers_per_day: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 0.02
    """How often a meter's cover is opened, on average."""
    max_age: Seconds = 5.0
    """Seconds after which a value that was not renewed is questionable with oldData."""


class ConcentratorSection(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="concentrator", tag_field="kind"
):
    """``[[source]] kind = "concentrator"``: meters behind a concentrator's shell."""

    name: Text
    port: Text
    """``pty:PATH``, ``serial:DEVICE?baud=230400&rtscts=1`` or ``tcp:HOST:PORT``."""
    interval: Seconds = 10.0
    """Seconds between two readings of a meter, if the power line has the time."""
    depth: Annotated[int, msgspec.Meta(ge=2, le=604_800)] = 3600
    """Seconds that the meters' ring buffers hold: what was missed is fetched so far back."""
    max_age: Seconds = 60.0
    """Seconds after which a value that was not renewed is questionable with oldData."""


SourceSection = SimulationSection | ConcentratorSection


class MeterSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[meter]]``: one meter."""

    id: Text
    type: str
    ld: str
    sap: int
    source: str
    direction: Direction = Direction.DEMAND
    identity: dict[str, str] = {}
    location: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    site: SiteSection
    source: tuple[SourceSection, ...]
    meter: tuple[MeterSection, ...]
    mms: MmsSection = MmsSection()
    dlms: DlmsSection = DlmsSection()
    store: StoreSection = StoreSection()
    web: WebSection = WebSection()
    meter_types: tuple[str, ...] = ()


class Config(msgspec.Struct, frozen=True):
    """A checked configuration."""

    path: Path
    site: Site
    sources: tuple[SourceSection, ...]
    mms: MmsSection
    dlms: DlmsSection
    store: StoreSection
    web: WebSection

    def resolve(self, name: str) -> Path:
        """Return a path of the file, relative to the file's folder."""
        return self.path.parent / Path(name).expanduser()


def load(path: Path) -> Config:
    """Return the checked configuration of a file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        remedy = "`flexmap demo --write-config FILE` writes one to start from"
        raise ConfigurationError(f"cannot read: {error.strerror}", where=str(path), remedy=remedy) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"not UTF-8 at byte {error.start}", where=str(path)) from None
    return parse(text, path)


def parse(text: str, path: Path) -> Config:
    """Return the checked configuration of a file's text; ``path`` names it in errors and anchors its paths."""
    try:
        file = msgspec.toml.decode(text, type=_File)
    except msgspec.DecodeError as error:
        remedy = "docs/configuration.md lists every entry"
        raise ConfigurationError(str(error), where=str(path), remedy=remedy) from None
    types, products = load_builtin(), load_products()
    for name in file.meter_types:
        meter_type = load_table(path.parent / name)
        if meter_type.id in types or meter_type.id in products:
            what, remedy = f"there is a meter type '{meter_type.id}' already", "give it an id of its own"
            raise ConfigurationError(what, where=f"{path.parent / name}: [meter-type] id", remedy=remedy)
        types[meter_type.id] = meter_type
    check = _Check(str(path), file, types)
    check.all()
    return Config(
        path=path,
        site=_site(file, types),
        sources=file.source,
        mms=file.mms,
        dlms=file.dlms,
        store=file.store,
        web=file.web,
    )


CHANNEL = "g3-plc"
"""What is between a concentrator and its meters."""


def _site(file: _File, types: dict[str, MeterType]) -> Site:
    """Return the site; meters behind a concentrator have the points of the channel to them too."""
    channel = load_channels()[CHANNEL]
    concentrators = {source.name for source in file.source if isinstance(source, ConcentratorSection)}
    served = {
        (name, far): behind(types[name], channel) if far else types[name]
        for name, far in {(meter.type, meter.source in concentrators): None for meter in file.meter}
    }
    meters = tuple(
        Meter(
            id=meter.id,
            type=served[meter.type, meter.source in concentrators].id,
            ld=meter.ld,
            sap=meter.sap,
            direction=meter.direction,
            identity=_identity(meter, types[meter.type]),
            location=meter.location,
            source=meter.source,
        )
        for meter in file.meter
    )
    return Site(
        name=file.site.name,
        ied=file.site.ied,
        meters=meters,
        types={meter_type.id: meter_type for meter_type in served.values()},
        vendor=file.site.vendor,
        revision=file.site.revision,
        time_zone=file.site.time_zone,
    )


def _identity(meter: MeterSection, meter_type: MeterType) -> dict[str, str]:
    """Return the meter's identity; what the file leaves out is made from the meter's id."""
    made = {"serial-number": meter.id, "device-name": f"FMX{meter.sap:013d}", "firmware": "unknown"}
    names = [point.name for point in meter_type.identity]
    return {name: meter.identity.get(name, made.get(name, "")) for name in names}


class _Check:
    """The rules that hold across entries."""

    def __init__(self, path: str, file: _File, types: dict[str, MeterType]) -> None:
        self._path = path
        self._file = file
        self._types = types
        self._seen: dict[tuple[str, object], str] = {}

    def all(self) -> None:
        for name, section in (("mms", self._file.mms), ("dlms", self._file.dlms), ("web", self._file.web)):
            endpoint = parse_endpoint(section.listen, f"{self._path}: [{name}] listen")
            if name == "mms" and not endpoint.port:
                remedy = "write the port: it stands in the SCL file too"
                raise self._error("[mms] listen", "port 0 is not a port that clients can use", remedy)
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
        for name, text in _identity(meter, self._types[meter.type]).items():
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
        if client.suite == 0 and (client.authentication == "hls-ecdsa" or client.signatures != "none"):
            raise self._error(f"{entry} suite", "suite 0 has no signatures", "set suite = 1 or 2")

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
