"""The entries of the configuration file: what each section may hold.

Errors of a single entry are ConfigurationErrors naming it and the way out.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

import msgspec

from flexmap.dlms.profile import Grant
from flexmap.faces.mms import MmsFiles, MmsLimits
from flexmap.gateway.dlms_listeners import DlmsListener
from flexmap.gateway.dlms_push import DlmsPush
from flexmap.model import ConfigurationError, Direction, LocalError, obis
from flexmap.scl.abilities import ENGINES, Abilities

Text = Annotated[str, msgspec.Meta(min_length=1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Days = Annotated[float, msgspec.Meta(ge=0, le=36_525)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


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


class MmsTls(_Listening, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[mms.tls]``: a port with TLS (IEC 62351-3), files in PEM."""

    certificate: Text
    key: Text
    authorities: Text
    """Whose clients may connect."""
    listen: str = "127.0.0.1:3782"
    revoked: str = ""
    """Revocation lists."""
    peers: tuple[str, ...] = ()
    """SHA-256 fingerprints of the only clients let in."""
    minimum: Literal["1.2", "1.3"] = "1.2"
    maximum: Literal["1.2", "1.3"] = "1.3"
    session: Seconds = 86_400.0
    """Seconds after which a connection must begin anew, with new keys."""


class MmsSection(_Listening, frozen=True, forbid_unknown_fields=True):
    """``[mms]``: the IEC 61850 face."""

    listen: str = "127.0.0.1:10102"
    engine: Literal["libiec61850", "native"] = "libiec61850"
    limits: MmsLimits | None = None
    """What the engine ``native`` holds: libiec61850's limits are built in."""
    files: MmsFiles | None = None
    """What the engine ``native`` shows of the file system: nothing if left out."""

    @property
    def abilities(self) -> Abilities:
        """What the engine does, as configured: the ground of ``Services`` in the SCL file."""
        abilities = ENGINES[self.engine]
        clients = abilities.max_clients if self.limits is None else self.limits.max_connections
        return msgspec.structs.replace(abilities, file_service=self.files is not None, max_clients=clients)

    plain: bool = True
    """Serve ``listen``, without TLS."""
    tls: MmsTls | None = None


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
    third_parties: tuple[str, ...] = ()
    """System titles, eight octets in hexadecimal each, of those whose messages it may pass on."""
    notify: tuple[Literal["standard", "fraud", "disconnect"], ...] = ()
    """Event logs of whose events it is told while it has an association with the meter, if it negotiates that."""


class DlmsSection(_Listening, frozen=True, forbid_unknown_fields=True):
    """``[dlms]``: the DLMS/COSEM face, wrapper over TCP and UDP on the same port; further ports by choice."""

    listen: str = "127.0.0.1:4059"
    system_title: str = "464D580000000001"
    """Eight octets in hexadecimal: three of the manufacturer, five of the device."""
    secrets: str = "secrets.toml"
    identity: str = "identity.toml"
    """Key pairs of the server and certificates, needed for suites 1 and 2 alone."""
    certificate_tolerance: Annotated[float, msgspec.Meta(ge=0, le=315_360_000)] = 300.0
    """Seconds for which certificates are valid before and behind their period."""
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


ClockSetting = Literal["gateway", "head-end"]
"""Who says what time it is in a source's meters: flexmap's own clock, or head-ends."""


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
    clock: ClockSetting = "gateway"


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
    clock: ClockSetting = "gateway"


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


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    site: SiteSection
    source: tuple[SourceSection, ...]
    meter: tuple[MeterSection, ...]
    mms: MmsSection = MmsSection()
    dlms: DlmsSection = DlmsSection()
    store: StoreSection = StoreSection()
    web: WebSection = WebSection()
    meter_types: tuple[str, ...] = ()
