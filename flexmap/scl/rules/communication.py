"""Rules for ``Communication``: every server and every GOOSE has an address, well-formed and its own."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from flexmap.scl.generate import FileKind
from flexmap.scl.rules.context import Context, Element, child, children, descendants, text_of

_UNSPECIFIED = "0.0.0.0"  # noqa: S104 -- compared with, never bound


def check(context: Context) -> None:
    """Check that access points with a server are connected, and that addresses are sound."""
    section = child(context.root, "Communication")
    if section is None:
        if context.ieds and context.kind is not FileKind.ICD:
            remedy = "add Communication with a ConnectedAP for each access point"
            context.error("communication-missing", context.root, "there is no Communication section", remedy)
        return
    connected: set[tuple[str, str]] = set()
    seen: dict[tuple[str, str], Element] = {}
    streams: dict[tuple[str, str], Element] = {}
    blocks = _blocks(context)
    points = {
        (ied.get("name", ""), point.get("name", ""))
        for ied in context.ieds
        for point in children(ied, "AccessPoint")
    }
    for subnetwork in children(section, "SubNetwork"):
        for element in children(subnetwork, "ConnectedAP"):
            key = (element.get("iedName", ""), element.get("apName", ""))
            connected.add(key)
            if key not in points:
                what = f"there is no access point {key[1]} of IED '{key[0]}'"
                context.error("access-point", element, what, "name an IED and an access point of this file")
            _check_address(context, element, seen)
            _check_multicast(context, element, blocks, streams)
    _check_connected(context, connected)


def _check_connected(context: Context, connected: set[tuple[str, str]]) -> None:
    for ied in context.ieds:
        for point in children(ied, "AccessPoint"):
            key = (ied.get("name", ""), point.get("name", ""))
            if child(point, "Server") is not None and key not in connected:
                what = f"access point {key[1]} of IED '{key[0]}' has a server but no address"
                context.error("access-point", point, what, "add its ConnectedAP to Communication")


def _check_address(context: Context, connected: Element, seen: dict[tuple[str, str], Element]) -> None:
    address = child(connected, "Address")
    if address is None:
        what = f"ConnectedAP {connected.get('iedName')}/{connected.get('apName')} has no Address"
        context.error("address-missing", connected, what, "add Address with at least an IP")
        return
    parameters = {element.get("type", ""): element for element in children(address, "P")}
    host = next((parameters[name] for name in ("IP", "IPv6", "DNSName") if name in parameters), None)
    if host is None:
        context.error("address-missing", address, "Address has no IP", 'add <P type="IP">')
    for name, element in parameters.items():
        rule = _FORMS.get(name)
        text = text_of(element)
        if rule is not None and not rule(text):
            context.error(
                "address-malformed", element, f"'{text}' is not an {name}", "see IEC 61850-8-1 clause 25"
            )
    if host is not None:
        _check_duplicate(context, host, text_of(parameters.get("MMS-Port")) or "102", seen)


def _blocks(context: Context) -> dict[str, set[tuple[str, str]]]:
    """Return (inst, control block) of GOOSE and sampled values of each IED."""
    return {
        ied.get("name", ""): {
            (device.get("inst", ""), control.get("name", ""))
            for device in context.devices(ied)
            for control in descendants(device, "GSEControl", "SampledValueControl")
        }
        for ied in context.ieds
    }


def _check_multicast(
    context: Context,
    connected: Element,
    blocks: dict[str, set[tuple[str, str]]],
    seen: dict[tuple[str, str], Element],
) -> None:
    """Check the addresses of GOOSE and sampled values (IEC 61850-8-1 annex B, 9-2)."""
    ied = connected.get("iedName", "")
    for element in children(connected, "GSE", "SMV"):
        key = (element.get("ldInst", ""), element.get("cbName", ""))
        if ied in blocks and key not in blocks[ied]:
            what = f"IED '{ied}' has no control block {key[0]}/{key[1]}"
            context.error("multicast-block", element, what, "name one that is there, or remove the address")
        address = child(element, "Address")
        parameters = {p.get("type", ""): p for p in children(address, "P")} if address is not None else {}
        for name in ("MAC-Address", "APPID"):
            if name not in parameters:
                what = f"{key[0]}/{key[1]} has no {name}"
                context.error("address-missing", element, what, f'add <P type="{name}">')
        for name, parameter in parameters.items():
            rule = _MULTICAST_FORMS.get(name)
            if rule is not None and not rule(text_of(parameter)):
                what = f"'{text_of(parameter)}' is not a {name}"
                context.error("address-malformed", parameter, what, "see IEC 61850-8-1 annex B")
        if {"MAC-Address", "APPID"} <= parameters.keys():
            stream = (text_of(parameters["MAC-Address"]).upper(), text_of(parameters["APPID"]).upper())
            if stream in seen:
                what = f"MAC address {stream[0]} with APPID {stream[1]} stands already"
                context.error("address-duplicate", element, what, "give each stream its own", see=seen[stream])
            seen.setdefault(stream, element)


def _check_duplicate(context: Context, host: Element, port: str, seen: dict[tuple[str, str], Element]) -> None:
    text = text_of(host)
    if text == _UNSPECIFIED:
        context.warning("address-malformed", host, f"{text} is no address to connect to", "write the server's own")
        return
    key = (text, port)
    if key in seen:
        what = f"address {text}, port {port} stands already"
        context.error("address-duplicate", host, what, "give each access point its own", see=seen[key])
    seen.setdefault(key, host)


def _ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _mask(text: str) -> bool:
    if not _ipv4(text):
        return False
    inverted = int(ipaddress.IPv4Address(text)) ^ 0xFFFF_FFFF
    return inverted & (inverted + 1) == 0


def _port(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", text) is not None and 0 < int(text) <= 0xFFFF


def _selector(octets: int) -> Callable[[str], bool]:
    pattern = re.compile(rf"([0-9A-F]{{2}}){{1,{octets}}}")
    return lambda text: pattern.fullmatch(text) is not None


_FORMS: dict[str, Callable[[str], bool]] = {
    "IP": _ipv4,
    "IP-GATEWAY": _ipv4,
    "IP-SUBNET": _mask,
    "IPv6": _ipv6,
    "MMS-Port": _port,
    "OSI-TSEL": _selector(4),
    "OSI-SSEL": _selector(8),
    "OSI-PSEL": _selector(8),
}

_MULTICAST_FORMS: dict[str, Callable[[str], bool]] = {
    "MAC-Address": lambda text: re.fullmatch(r"[0-9A-Fa-f][13579BDFbdf](-[0-9A-Fa-f]{2}){5}", text) is not None,
    "APPID": lambda text: re.fullmatch(r"[0-9A-F]{4}", text) is not None,
    "VLAN-ID": lambda text: re.fullmatch(r"[0-9A-F]{3}", text) is not None,
    "VLAN-PRIORITY": lambda text: re.fullmatch(r"[0-7]", text) is not None,
}
