"""Where a client command connects to, and as whom."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from flexmap.cli.counters import ClientCounters
from flexmap.cli.demo import CONFIG_NAME, default_state, state_home
from flexmap.faces.dlms.client import Credentials
from flexmap.gateway import config as configuration
from flexmap.gateway import secrets
from flexmap.gateway.clients import client_profile
from flexmap.gateway.config import Config
from flexmap.model import ConfigurationError

_DEFAULT_PORT = {"mms": 102, "dlms": 4059}


class Target(NamedTuple):
    """What ``mms://HOST:PORT/PATH`` or ``dlms://HOST:PORT/PATH`` names."""

    protocol: str
    host: str
    port: int
    path: str


def parse_target(url: str) -> Target:
    """Return what a URL names; raises ConfigurationError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _DEFAULT_PORT or not parts.hostname:
        remedy = "write mms://HOST:PORT/LD/LN.DO or dlms://HOST:PORT/SAP/OBIS"
        raise ConfigurationError(f"'{url}' is not a target", remedy=remedy)
    path = parts.path + (f";{parts.fragment}" if parts.fragment else "")
    return Target(parts.scheme, parts.hostname, port or _DEFAULT_PORT[parts.scheme], path.strip("/"))


def load_config(path: Path | None) -> Config:
    """Return a site's configuration; without a path, that of the demo which ran last."""
    demo = default_state() / CONFIG_NAME
    if path is None and not demo.exists():
        remedy = "start `flexmap demo`, or name the configuration of the site"
        raise ConfigurationError("no demo has run with this state folder", where=str(demo), remedy=remedy)
    return configuration.load(path or demo)


def credentials(name: str | None, path: Path | None) -> Credentials:
    """Return what client ``name`` of a configuration proves; without a name, the public client's (16)."""
    if name is None:
        return Credentials()
    config = load_config(path)
    client = next((client for client in config.dlms.client if client.name == name), None)
    if client is None:
        known = ", ".join(client.name for client in config.dlms.client)
        raise ConfigurationError(f"there is no client '{name}'", where=str(config.path), remedy=f"known: {known}")
    profile = client_profile(client, secrets.load(config))
    if profile.keys is None:
        return Credentials(profile.sap, profile.mechanism, profile.secret)
    counters = ClientCounters(state_home() / "client.json")
    return Credentials(
        profile.sap,
        profile.mechanism,
        keys=profile.keys,
        protection=profile.policy,
        title=counters.title,
        counters=counters,
    )
