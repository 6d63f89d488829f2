"""Where a client command connects to, and as whom."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from flexmap.cli.counters import ClientCounters
from flexmap.cli.demo import CONFIG_NAME, default_state, state_home
from flexmap.dlms.authentication import SecretProof
from flexmap.dlms.profile import WITH_SECRET
from flexmap.faces.dlms.client import Credentials
from flexmap.gateway import config as configuration
from flexmap.gateway import secrets
from flexmap.gateway.clients import client_profile
from flexmap.gateway.config import Config
from flexmap.model import ConfigurationError

_DEFAULT_PORT = {"mms": 102, "dlms": 4059, "hdlc": 4059}


class Target(NamedTuple):
    """What ``mms://HOST:PORT/PATH``, ``dlms://HOST:PORT/PATH`` or ``hdlc://HOST:PORT/PATH`` names."""

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
        remedy = "write mms://HOST:PORT/LD/LN.DO, dlms://HOST:PORT/SAP/OBIS or hdlc://HOST:PORT/SAP/OBIS"
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
    where = f"{config.path}: [[dlms.client]] '{name}'"
    if client.authentication == "hls-ecdsa" or client.signatures != "none":
        what = "signs: its private key is the head-end's alone"
        raise ConfigurationError(what, where=where, remedy="use a client that does not sign")
    if client.system_title:
        # Under that title its invocation counters are the head-end's: none may come twice.
        what = f"is let in as {client.system_title} alone, which is the head-end"
        raise ConfigurationError(what, where=where, remedy="use a client without system_title")
    profile = client_profile(client, secrets.load(config))
    counters = ClientCounters(state_home() / "client.json")
    proof = SecretProof(profile.mechanism, profile.secret) if profile.mechanism in WITH_SECRET else None
    return Credentials(
        profile.sap,
        profile.mechanism,
        profile.secret,
        keys=profile.keys,
        protection=profile.policy | profile.response_policy,
        title=counters.title,
        counters=counters,
        proof=proof,
    )
