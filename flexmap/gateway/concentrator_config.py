"""The configuration file of `flexmap concentrator`: TOML, with an entry for each flag, and its secrets file.

::

    [shell]
    password = "…"                # TCP sessions log in with it
    [pan]
    psk = "32 hexadecimal digits"  # EAP-PSK key that all meters of the network share
"""

from __future__ import annotations

import ipaddress
import secrets as random
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from flexmap.gateway.secrets import read_private, write_private
from flexmap.model import ConfigurationError
from flexmap.sources.concentrator.port import Port, parse_port
from flexmap.stcomet.login import SHORTEST

PSK_OCTETS = 16
_REMEDY = "docs/concentrator.md lists every entry"


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file's entries, and what the flags of the same names say; paths and ports as text."""

    port: tuple[str, ...] = ()
    """Where shells are."""
    meters: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 20
    """Single-phase meters behind the substation meter."""
    seed: int = 1
    band: Literal["CENELEC-A", "FCC"] = "CENELEC-A"
    settle: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0
    """Seconds that a new PAN has been there already."""
    state: str = ""
    """Folder of what outlives a restart; empty: the user's own."""
    load: str = ""
    """CSV file of load data; empty: the shipped sample."""
    secrets: str = ""
    """The secrets file; empty: there is none."""
    sessions: Annotated[int, msgspec.Meta(ge=1, le=100)] = 8
    """TCP sessions at a time, of one port."""


class _Shell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    password: str = ""

    def __repr__(self) -> str:
        return "_Shell(…)"


class _Pan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    psk: str = ""

    def __repr__(self) -> str:
        return "_Pan(…)"


class _Secrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    shell: _Shell = _Shell()
    pan: _Pan = _Pan()


class Secrets(msgspec.Struct, frozen=True):
    """What the secrets file holds. Never logged, never shown."""

    password: str = ""
    """Empty: no login."""
    psk: bytes | None = None

    def __repr__(self) -> str:
        return "Secrets(…)"


def load(path: Path) -> Section:
    """Return the entries of a file, its paths made absolute; raises ConfigurationError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        remedy = "`flexmap concentrator --write-config FILE` writes one to start from"
        raise ConfigurationError(f"cannot read: {error.strerror}", where=str(path), remedy=remedy) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"not UTF-8 at byte {error.start}", where=str(path)) from None
    try:
        section = msgspec.toml.decode(text, type=Section)
    except msgspec.DecodeError as error:
        raise ConfigurationError(str(error), where=str(path), remedy=_REMEDY) from None
    folder = path.absolute().parent
    ports = tuple(_absolute(port, folder, f"{path}: port") for port in section.port)
    paths = {
        name: str(folder / Path(value).expanduser())
        for name in ("state", "load", "secrets")
        if (value := getattr(section, name))
    }
    if section.load and not Path(paths["load"]).is_file():
        raise ConfigurationError(f"there is no file {paths['load']}", where=f"{path}: load", remedy='or write ""')
    return msgspec.structs.replace(section, port=ports, **paths)


def _absolute(text: str, folder: Path, where: str) -> str:
    port = parse_port(text, where)
    path = folder / Path(port.path).expanduser()
    return text.replace(port.path, str(path), 1) if port.path else text


def read_secrets(path: Path) -> Secrets:
    """Return what a secrets file holds; raises ConfigurationError if others can read it, or if it is wrong."""
    text = read_private(path, "`flexmap concentrator --write-config FILE` writes one with fresh secrets")
    try:
        found = msgspec.toml.decode(text, type=_Secrets)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(error), where=str(path), remedy=_REMEDY) from None
    password = found.shell.password
    if password and len(password) < SHORTEST:
        what = f"password is shorter than {SHORTEST} characters"
        raise ConfigurationError(what, where=f"{path}: [shell]", remedy="an overheard login can be guessed at")
    try:
        psk = bytes.fromhex(found.pan.psk)
    except ValueError:
        psk = b"?"
    if len(psk) not in {0, PSK_OCTETS}:
        raise ConfigurationError(f"psk is not {2 * PSK_OCTETS} hexadecimal digits", where=f"{path}: [pan]")
    return Secrets(password, psk or None)


def check_ports(ports: tuple[Port, ...], secrets: Secrets) -> None:
    """Raise ConfigurationError if a shell would be open to others without a login."""
    for port in ports:
        if port.kind == "tcp" and not secrets.password and not _is_loopback(port.host):
            remedy = "listen on 127.0.0.1, or name a secrets file with [shell] password"
            raise ConfigurationError(
                "others could reach this shell without a login", where=str(port), remedy=remedy
            )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_FILE = """\
# flexmap concentrator: a PAN coordinator with its shell. Run it with `flexmap concentrator --config THIS-FILE`.
# Paths are relative to this file's folder; flags of the command line go before. docs/concentrator.md describes
# every entry.

# Where shells are: pty:PATH, serial:DEVICE?baud=230400&rtscts=1, tcp:HOST:PORT (login: see the secrets file).
port = {port}
sessions = {sessions}                   # TCP sessions at a time, of one port
secrets = {secrets}   # password of TCP sessions, key of the network; mode 0600
state = {state}         # folder of what outlives a restart

# The simulated power line and its meters: those of `flexmap demo`.
band = {band}             # or "FCC"
meters = {meters}                    # single-phase meters behind the substation meter
seed = {seed}                       # of meters, loads and line
settle = {settle}                   # seconds that a new network has been there already
load = {load}                      # CSV to replay; "" is the sample data that flexmap ships
"""

_SECRETS = """\
# Secrets of a concentrator. Keep this file readable by its owner alone (mode 0600).

[shell]
password = "{password}"  # TCP sessions log in with it

[pan]
psk = "{psk}"  # EAP-PSK key that all meters of the network share
"""


def write(path: Path, section: Section) -> Path:
    """Write a configuration file, and one of fresh secrets beside it, whose path is returned."""
    secrets = path.with_name(f"{path.stem}.secrets.toml")
    for each in (path, secrets):
        if each.exists():
            raise ConfigurationError("is there already", where=str(each), remedy="remove it or name another")
    chosen = msgspec.structs.replace(
        section,
        port=section.port or ("pty:shell",),
        secrets=section.secrets or secrets.name,
        state=section.state or "concentrator",
    )
    text = _FILE.format(**{name: _toml(value) for name, value in msgspec.structs.asdict(chosen).items()})
    write_private(secrets, _SECRETS.format(password=random.token_urlsafe(24), psk=random.token_hex(PSK_OCTETS)))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write: {error.strerror}", where=str(path)) from None
    return secrets


def _toml(value: object) -> str:
    return msgspec.json.encode(value).decode()  # a JSON string, number or list is TOML
