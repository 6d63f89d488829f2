"""The demo substation: one configuration file, commented, that `flexmap serve` runs as it stands."""

from __future__ import annotations

import msgspec

from flexmap.gateway.secrets import Secret
from flexmap.gateway.sections import DlmsClient

SETTLED = 600
"""Seconds that the demo's power line network has been there when it first starts: all meters have joined."""
SUBSTATION_SAP = 1000
"""Server address of the substation meter; the meters behind it follow."""

CLIENTS = (
    DlmsClient(sap=16, name="public", authentication="none", access="public"),
    DlmsClient(sap=2, name="reader", authentication="hls-gmac", access="read"),
    DlmsClient(
        sap=1,
        name="management",
        authentication="hls-gmac",
        access="manage",
        protection="authenticated-encrypted",
    ),
    DlmsClient(sap=18, name="reader-lls", authentication="lls", access="read"),
)

SECRETS = {
    "reader": Secret(
        encryption_key="000102030405060708090A0B0C0D0E0F", authentication_key="D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF"
    ),
    "management": Secret(
        encryption_key="101112131415161718191A1B1C1D1E1F",
        authentication_key="E0E1E2E3E4E5E6E7E8E9EAEBECEDEEEF",
        master_key="303132333435363738393A3B3C3D3E3F",
    ),
    "reader-lls": Secret(password="flexmap-demo"),  # noqa: S106 (known to all by design: the demo's own)
}
"""Keys known to everybody: the running demo alone uses them; a written configuration gets fresh ones."""


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the flags of `flexmap demo` change."""

    meters: int = 20
    engine: str = "libiec61850"
    """Engine of the MMS face."""
    mms: str = "127.0.0.1:10102"
    dlms: str = "127.0.0.1:4059"
    web: str = "127.0.0.1:8080"
    state: str = "state"
    secrets: str = "secrets.toml"
    seed: int = 1
    load: str = ""
    port: str = ""
    """Port of a concentrator's shell; empty: the meters are simulated in the gateway."""


_ENGINES = {
    "libiec61850": '"libiec61850"         # at most 5 clients and about 100 meters; "native" for more',
    "native": '"native"              # flexmap\'s own, for many meters and clients',
}
"""The line of the configuration file, with its comment, by engine."""
_HEAD = """\
# flexmap configuration: a substation with one three-phase substation meter and {meters} single-phase meters.
# Run it with `flexmap serve THIS-FILE`. Paths are relative to this file's folder. docs/configuration.md
# describes every entry.

[site]
name = {name}
ied = "FLEXGW"                 # IED name; LD names on MMS are ied + ld
revision = 1                   # raise it when meters or points change: confRev, configRev

[mms]
listen = {mms}     # HOST:PORT; loopback unless you change it
engine = {engine}

[dlms]
listen = {dlms}      # wrapper over TCP and over UDP
system_title = "464D580000000001"  # 8 octets: manufacturer "FMX" and the device's number
secrets = {secrets}       # keys and passwords, in a file of their own with mode 0600
idle_timeout = 180.0           # seconds until a silent connection is closed

# One entry a client address. authentication: none, lls, hls-gmac (security suite 0);
# access: public (clock, identity, logical device name), read, manage (read, write, act);
# protection: the least that each message must have: none, authenticated, authenticated-encrypted.
"""

_TAIL = """\
[store]
folder = {state}           # database, invocation counters

[store.retention]              # days; 0 keeps for ever
samples_days = 7.0             # 1 Hz samples
profile_days = 400.0           # 15-minute load profile
events_days = 400.0

[web]
listen = {web}      # /metrics (Prometheus) and /healthz

{source}# One entry a meter. ld: its logical device on MMS; sap: its server address on DLMS;
# direction: "demand" (import flows away from the busbar: Dmd) or "supply" (an infeed: Sup).
[[meter]]
id = "SUB1"
type = "three-phase"
ld = "SUB1"
sap = {substation_sap}
source = {name}
direction = "supply"
location = "Substation, transformer 1"
identity = {{ serial-number = "FMTP0001", device-name = "FMX{substation_sap:013d}", firmware = "1.0.0" }}
"""

_SIMULATION = """\
# Where values come from. kind "simulation" is a seeded meter model driven by measured load data.
[[source]]
kind = "simulation"
name = "simulation"
seed = {seed}
load = {load}                      # CSV to replay; "" is the sample data that flexmap ships
substation = "SUB1"            # the meter that measures all the others
pv_share = 0.25                # share of the meters with photovoltaics
max_age = 5.0                  # seconds until a value that was not renewed is questionable, oldData
clock = "head-end"             # who sets the meters' clocks: "gateway" (flexmap alone) or "head-end"

"""

_CONCENTRATOR = """\
# Where values come from. kind "concentrator" reads meters through the shell of a concentrator on a power line: a
# real one or, from this file's folder, `flexmap concentrator --port {port_flag} --settle {settled}
# --meters {meters}`.
[[source]]
kind = "concentrator"
name = "concentrator"
port = {port}
interval = 10.0                # seconds between two readings of a meter, if the power line has the time
max_age = 60.0                 # seconds until a value that was not renewed is questionable, oldData
clock = "head-end"             # who sets the meters' clocks: "gateway" (flexmap alone) or "head-end"

"""

_METER = """
[[meter]]
id = "SM{number:04d}"
type = "single-phase"
ld = "SM{number:04d}"
sap = {sap}
source = {name}
location = "Feeder {feeder}"
identity = {{ serial-number = "FMSP{number:04d}", device-name = "FMX{sap:013d}", firmware = "1.0.0" }}
"""


def write_config(options: DemoOptions) -> str:
    """Return the demo's configuration file, commented."""
    quoted = {name: _quote(getattr(options, name)) for name in ("mms", "dlms", "web", "state", "secrets", "load")}
    name, source = _quote("simulation"), _SIMULATION.format(seed=options.seed, load=quoted["load"])
    if options.port:
        flag, port = options.port, _quote(options.port)
        name = _quote("concentrator")
        source = _CONCENTRATOR.format(port=port, port_flag=flag, meters=options.meters, settled=SETTLED)
    parts = [
        _HEAD.format(
            meters=options.meters, engine=_ENGINES[options.engine], name=_quote("Demo substation"), **quoted
        ),
        *(_client(client) for client in CLIENTS),
        _TAIL.format(source=source, name=name, substation_sap=SUBSTATION_SAP, **quoted),
    ]
    parts += [
        _METER.format(name=name, number=number, sap=SUBSTATION_SAP + number, feeder=1 + number % 3)
        for number in range(1, options.meters + 1)
    ]
    return "".join(parts)


def _client(client: DlmsClient) -> str:
    fields = {
        field.name: value
        for field in msgspec.structs.fields(client)
        if (value := getattr(client, field.name)) != field.default
    }
    return "[[dlms.client]]\n" + "".join(f"{name} = {_toml(value)}\n" for name, value in fields.items()) + "\n"


def _toml(value: int | str) -> str:
    return _quote(value) if isinstance(value, str) else str(value)


def _quote(text: str) -> str:
    return msgspec.json.encode(text).decode()
