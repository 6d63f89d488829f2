"""Reading from a DLMS server."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from flexmap.cli.output import time_text
from flexmap.cli.target import Target
from flexmap.dlms import classes, cosem_time
from flexmap.dlms.axdr import Bits, Value
from flexmap.dlms.client import ResultError
from flexmap.dlms.selection import EntrySelection
from flexmap.faces.dlms.client import Credentials, DlmsConnection, ListedObject
from flexmap.gateway.config_check import LAST_SAP
from flexmap.mapping import units
from flexmap.model import ConfigurationError, LocalError, RemoteError, obis, quality

Table = tuple[Sequence[str], list[Sequence[object]]]
_HEAD = ("SAP", "OBIS", "Class", "Attribute", "Value", "Unit", "Quality", "Time")


def read_dlms(
    target: Target, paths: Sequence[str], credentials: Credentials, last: int, device_address: int
) -> Table:
    """Return the table of the objects, of a profile's rows, or of the logical devices if no path is given.

    ``device_address``: the physical device, over HDLC.
    """
    device = device_address if target.protocol == "hdlc" else None
    with DlmsConnection(target.host, target.port, credentials, device_address=device) as connection:
        if not paths:
            return ("SAP", "Name"), _logical_devices(connection)
        reader = _Reader(connection, last)
        if len(paths) == 1 and (found := reader.profile(paths[0])) is not None:
            return found
        return _HEAD, [row for path in paths for row in reader.rows(path)]


def _logical_devices(connection: DlmsConnection) -> list[Sequence[object]]:
    try:
        return list(connection.logical_devices())
    except ResultError as error:
        hint = "name a server address, or a client that may read the list with --as"
        raise RemoteError(f"list of logical devices (SAP assignment): {error} ({hint})") from None


def _parse_path(path: str) -> tuple[int, bytes | None]:
    sap, _, name = path.partition("/")
    if sap.isdecimal() and 0 < int(sap) <= LAST_SAP:
        with suppress(LocalError):
            return int(sap), obis.parse(name) if name else None
    remedy = f"write a server address up to {LAST_SAP} and an OBIS code, such as 1001/1-0:1.8.0"
    raise ConfigurationError(f"'{path}' is not SAP/OBIS", remedy=remedy)


class _Reader:
    """Reads objects as rows of a table."""

    def __init__(self, connection: DlmsConnection, last: int) -> None:
        self._connection = connection
        self._last = last
        self._lists: dict[int, list[ListedObject]] = {}

    def rows(self, path: str) -> list[Sequence[object]]:
        """Return a row for each object that a path names."""
        sap, name = _parse_path(path)
        return [row for item in self._objects(sap, name) for row in self._object_rows(sap, item)]

    def profile(self, path: str) -> Table | None:
        """Return the last rows of the profile that a path names; None if it names something else."""
        sap, name = _parse_path(path)
        if name is None:
            return None
        item = self._objects(sap, name)[0]
        if item.class_id != classes.PROFILE_GENERIC:
            return None
        columns = cast("list[tuple[int, bytes, int, int]]", self._get(sap, item, 3))
        head = [f"{obis.text(column[1])};{column[2]}" for column in columns]
        in_use = cast("int", self._get(sap, item, 7))
        if not in_use:
            return head, []
        selection = EntrySelection(max(1, in_use - self._last + 1), in_use)
        rows = cast("list[tuple[Value, ...]]", self._get(sap, item, 2, selection))
        return head, [[_shown(value) for value in row] for row in rows]

    def _objects(self, sap: int, name: bytes | None) -> list[ListedObject]:
        if sap not in self._lists:
            self._lists[sap] = self._connection.object_list(sap)
        found = [item for item in self._lists[sap] if name in (None, item.logical_name)]
        if not found and name is not None:
            raise RemoteError(f"{sap}/{obis.text(name)}: not in the object list that this client sees")
        return found

    def _get(self, sap: int, item: ListedObject, attribute: int, selection: EntrySelection | None = None) -> Value:
        return self._connection.get(sap, item.class_id, item.logical_name, attribute, selection)

    def _object_rows(self, sap: int, item: ListedObject) -> list[Sequence[object]]:
        shown = {classes.DISCONNECT_CONTROL: (2, 3)}.get(item.class_id, (2,))
        return [self._row(sap, item, attribute) for attribute in shown if attribute in item.attributes]

    def _row(self, sap: int, item: ListedObject, attribute: int) -> Sequence[object]:
        head = (sap, obis.text(item.logical_name), item.class_id, attribute)
        unit, value_quality, time = "", "", ""
        try:
            if item.class_id == classes.EXTENDED_REGISTER:
                value_quality = _quality(self._get(sap, item, 4))
                time = _text(self._get(sap, item, 5))
            if item.class_id in (classes.REGISTER, classes.EXTENDED_REGISTER):
                scaler, code = cast("tuple[int, int]", self._get(sap, item, 3))
                unit = units.BY_COSEM[code].symbol if code in units.BY_COSEM else f"unit {code}"
                value: object = _scaled(self._get(sap, item, attribute), scaler)
            else:
                value = self._value(sap, item, attribute)
        except ResultError as error:
            value = str(error)
        return (*head, value, unit, value_quality, time)

    def _value(self, sap: int, item: ListedObject, attribute: int) -> object:
        if item.class_id == classes.PROFILE_GENERIC:
            return f"{_text(self._get(sap, item, 7))} entries"
        if item.class_id == classes.ASSOCIATION:
            return f"{len(self._lists[sap])} objects"
        value = self._get(sap, item, attribute)
        if item.class_id == classes.SAP_ASSIGNMENT:
            return f"{len(cast('list[Value]', value))} logical devices"
        return _shown(value)


def _scaled(raw: Value, scaler: int) -> object:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return _shown(raw)
    factor = int(10 ** abs(scaler))
    return raw * factor if scaler >= 0 else raw / factor


def _quality(value: Value) -> str:
    if isinstance(value, Bits) and len(value) == quality.WIDTH:
        return quality.describe(quality.from_bits(int(value + "000", 2).to_bytes(2, "big")))
    return _text(value)


def _shown(value: Value) -> object:
    """Return what is printed of a value: numbers and booleans as they are, everything else as text."""
    return value if isinstance(value, bool | int | float) else _text(value)


def _text(value: Value) -> str:
    if isinstance(value, bytes):
        if len(value) == len(cosem_time.NOT_SPECIFIED) and value[0] == 0x07:
            try:
                return time_text(cosem_time.to_epoch_ms(value))
            except RemoteError:
                return value.hex()
        text = value.decode("ascii", errors="replace")
        return text if text.isprintable() and "\ufffd" not in text else value.hex()
    return str(value)
