"""From the configuration to the settings of the DLMS face."""

from __future__ import annotations

import re
from collections.abc import Mapping

from flexmap.faces.dlms.face import DlmsSettings
from flexmap.faces.dlms.ports import HdlcPort, PortSettings, SerialPort, WrapperPort
from flexmap.faces.dlms.pushing import PushSettings
from flexmap.gateway import identity as identities
from flexmap.gateway.clients import FileKeystore, client_profile
from flexmap.gateway.config import Config
from flexmap.gateway.dlms_listeners import DlmsListener, HdlcSerial, HdlcTcp, WrapperTcp, parse_terminal
from flexmap.gateway.dlms_push import DlmsPush, push_settings
from flexmap.gateway.secrets import Secret
from flexmap.gateway.sections import parse_endpoint
from flexmap.store.files import MeterFiles

METER_FILES = "meters"
"""Folder beside the database: firmware images, and what head-ends have written."""


def dlms_settings(config: Config, secrets: Mapping[str, Secret]) -> DlmsSettings:
    """Return the settings of the face that a checked configuration describes."""
    section = config.dlms
    identity = identities.load(config)
    title = bytes.fromhex(section.system_title)
    further = [
        _port(config, port, f"{config.path}: [[dlms.listener]] {number}", title)
        for number, port in enumerate(section.listener, 1)
    ]
    return DlmsSettings(
        ports=(WrapperPort(host=section.host, port=section.port), *further),
        system_title=title,
        clients=tuple(client_profile(client, secrets, identity) for client in section.client),
        identity=identity,
        keystore=FileKeystore(config, identity),
        certificate_tolerance=section.certificate_tolerance,
        association_version=section.association_version,
        idle_timeout=section.idle_timeout,
        max_connections=section.max_connections,
        max_connections_per_address=section.max_connections_per_address,
        push=None if section.push is None else _push(config, section.push),
        keeper=None if section.push is None else MeterFiles(config.resolve(config.store.folder) / METER_FILES),
    )


def _push(config: Config, push: DlmsPush) -> PushSettings:
    saps = {client.name: client.sap for client in config.dlms.client}
    return push_settings(push, saps, f"{config.path}: [dlms.push]")


def _port(config: Config, port: DlmsListener, where: str, title: bytes) -> PortSettings:
    if isinstance(port, HdlcSerial):
        terminal = parse_terminal(port, where)
        return SerialPort(
            path=str(config.resolve(terminal.path)),
            made=terminal.made,
            speed=terminal.speed,
            mode_e=port.mode == "e",
            maker=_maker(title),
            address=port.address,
            hdlc=port.hdlc,
            where=where,
        )
    endpoint = parse_endpoint(port.listen, where)
    if isinstance(port, HdlcTcp):
        return HdlcPort(host=endpoint.host, port=endpoint.port, hdlc=port.hdlc, where=where)
    tcp = isinstance(port, WrapperTcp)
    return WrapperPort(host=endpoint.host, port=endpoint.port, tcp=tcp, udp=not tcp, where=where)


def _maker(title: bytes) -> str:
    """Return the manufacturer's three letters, which a system title begins with."""
    return title[:3].decode() if re.fullmatch(rb"[A-Z]{3}", title[:3]) else "FMX"
