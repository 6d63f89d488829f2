"""``[[dlms.listener]]``: further ports of the DLMS face, beside the wrapper at ``[dlms] listen``."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import parse_qsl

import msgspec

from flexmap.dlms.hdlc_server import HdlcSettings
from flexmap.dlms.optical import SPEEDS as OPTICAL_SPEEDS
from flexmap.lines.terminal import SPEEDS
from flexmap.model import ConfigurationError

MOST_LISTENERS = 64
"""Channels that group B of a logical name tells apart, the one of ``[dlms] listen`` among them."""


class _Wrapper(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="transport"):
    listen: str
    """HOST:PORT."""


class WrapperTcp(_Wrapper, frozen=True, tag="wrapper-tcp"):
    """The wrapper over TCP."""


class WrapperUdp(_Wrapper, frozen=True, tag="wrapper-udp"):
    """The wrapper over UDP."""


class _Hdlc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="transport"):
    device_address: Annotated[int, msgspec.Meta(ge=0x10, le=0x3FFD)] = 16
    """Lower HDLC address of this physical device."""
    max_info: Annotated[int, msgspec.Meta(ge=32, le=2030)] = 2030
    """Longest information field agreed on."""
    window: Annotated[int, msgspec.Meta(ge=1, le=7)] = 7
    """Longest window agreed on."""
    inactivity_timeout: Annotated[float, msgspec.Meta(ge=1, le=65_535)] = 120.0
    """Seconds of silence that end a data link connection."""
    inter_octet_timeout: Annotated[float, msgspec.Meta(ge=0.02, le=6)] = 6.0
    """Seconds between two octets that end an unfinished frame."""

    @property
    def hdlc(self) -> HdlcSettings:
        """These options as the server core takes them."""
        return HdlcSettings(
            device_address=self.device_address,
            max_info=self.max_info,
            window=self.window,
            inactivity_timeout=self.inactivity_timeout,
            inter_octet_timeout=self.inter_octet_timeout,
        )


class HdlcTcp(_Hdlc, frozen=True, kw_only=True, tag="hdlc-tcp"):
    """HDLC over TCP."""

    listen: str
    """HOST:PORT."""


class HdlcSerial(_Hdlc, frozen=True, kw_only=True, tag="hdlc-serial"):
    """HDLC on a serial line."""

    port: str
    """``serial:/dev/ttyUSB0?baud=9600``, or ``pty:PATH``: a pseudo-terminal that is made."""
    inter_octet_timeout: Annotated[float, msgspec.Meta(ge=0.02, le=6)] = 0.5
    mode: Literal["hdlc", "e"] = "hdlc"
    """``e``: the optical port's sign-on first (IEC 62056-21 mode E)."""
    address: Annotated[str, msgspec.Meta(pattern="^[0-9A-Za-z ]{0,32}$")] = ""
    """Device address of the sign-on."""


DlmsListener = WrapperTcp | WrapperUdp | HdlcTcp | HdlcSerial


class Terminal(msgspec.Struct, frozen=True):
    """Where a serial line is."""

    path: str
    made: bool
    """It is a pseudo-terminal that we make."""
    speed: int


def parse_terminal(port: HdlcSerial, where: str) -> Terminal:
    """Return what ``port`` names; raises ConfigurationError, naming ``where``."""
    kind, _, rest = port.port.partition(":")
    path, _, query = rest.partition("?")
    try:
        options = dict(parse_qsl(query, strict_parsing=bool(query)))
        speed = int(options.pop("baud", "9600"))
    except ValueError:
        speed, options = 0, {}
    if kind not in ("serial", "pty") or not path or options or speed not in SPEEDS:
        known = ", ".join(map(str, SPEEDS))
        remedy = f"write serial:/dev/ttyUSB0?baud=9600 or pty:PATH; speeds: {known}"
        raise ConfigurationError(f"'{port.port}' is no serial line", where=where, remedy=remedy)
    if port.mode == "e" and speed not in OPTICAL_SPEEDS.values():
        known = ", ".join(map(str, OPTICAL_SPEEDS.values()))
        raise ConfigurationError(f"mode E knows no {speed} bit/s", where=where, remedy=f"speeds: {known}")
    return Terminal(path, kind == "pty", speed)
