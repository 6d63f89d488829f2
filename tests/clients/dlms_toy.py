"""A toy logical device around the real server core, for unit tests and for the tests with foreign clients."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from flexmap.dlms import axdr, classes, cosem_time
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.objects import LogicalDevice, Pending, Rows, Schema, SelectionError
from flexmap.dlms.profile import EVERYONE, AssociationEvent, ClientProfile, Limits, Role
from flexmap.dlms.security import AUTHENTICATED_ENCRYPTED, Keys, MemoryCounterStore
from flexmap.dlms.selection import CaptureObject, EntrySelection, Selection
from flexmap.dlms.server import Server
from flexmap.dlms.setup import Keystore
from flexmap.model import obis

SAP = 17
TITLE = b"FLX\x00\x00\x00\x00\x01"
CLIENT_TITLE = b"CLI\x00\x00\x00\x00\x01"
SECRET = b"12345678"
KEYS = Keys(bytes(range(16)), bytes(range(0xD0, 0xE0)))

ENERGY = obis.parse("1-0:1.8.0")
POWER = obis.parse("1-0:16.7.0")
MISSING = obis.parse("1-0:32.7.0")
SERIAL = obis.parse("0-0:96.1.0")
NOTE = obis.parse("0-0:96.13.0")
PROFILE = obis.parse("1-0:99.1.0")
BREAKER = obis.parse("0-0:96.3.10")

NOW = 1_790_000_000_000
PERIOD = 900
FIRST_ROW = NOW // 1000 // PERIOD * PERIOD - 1440 * PERIOD

COLUMNS = (CaptureObject(8, classes.CLOCK_LN, 2), CaptureObject(3, ENERGY, 2), CaptureObject(3, POWER, 2))


class ToyProfile:
    """1440 rows made up as they are asked for."""

    def __init__(self, count: int = 1440) -> None:
        self.count = count
        self.made = 0

    def row(self, number: int, columns: range) -> bytes:
        self.made += 1
        cells = (
            classes.time_value((FIRST_ROW + number * PERIOD) * 1000),
            axdr.encode("double-long-unsigned", 1000 + number),
            axdr.encode("double-long", -number),
        )
        return axdr.structure(*(cells[column] for column in columns))

    def select(self, selection: Selection | None) -> Rows:
        columns, rows = range(3), range(self.count)
        if isinstance(selection, EntrySelection):
            columns, rows = selection.columns(3), selection.rows(self.count)
        elif selection is not None:
            start, end = selection.period()
            rows = range(
                0 if start is None else max(0, -(-(start // 1000 - FIRST_ROW) // PERIOD)),
                self.count if end is None else min(self.count, (end // 1000 - FIRST_ROW) // PERIOD + 1),
            )
            if selection.columns:
                try:
                    chosen = [COLUMNS.index(column) for column in selection.columns]
                except ValueError:
                    raise SelectionError("unknown column") from None
                columns = range(min(chosen), max(chosen) + 1)
        return Rows(len(rows), self._rows(rows, columns))

    def _rows(self, rows: range, columns: range) -> Iterator[bytes]:
        for number in rows:
            yield self.row(number, columns)


def toy_schema() -> Schema:
    return Schema(
        [
            classes.association_ln(),
            classes.clock(),
            classes.data(SERIAL, read=EVERYONE),
            classes.data(NOTE, write=Role.MANAGEMENT),
            classes.register(ENERGY, 0, 30),
            classes.extended_register(POWER, -1, 27),
            classes.register(MISSING, -1, 35),
            classes.profile_generic(PROFILE, COLUMNS, capture_period=PERIOD, entries=1440),
            classes.disconnect_control(BREAKER),
            classes.sap_assignment(),
            classes.security_setup(),
        ]
    )


class ToyDevice(LogicalDevice):
    """Takes notes; its breaker answers when ``answer_breaker`` is called, or at once."""

    __slots__ = ("breaker_later", "pending", "profile")

    def __init__(self, sap: int, schema: Schema) -> None:
        super().__init__(sap, schema)
        self.pending: list[Pending] = []
        self.breaker_later = False
        self.profile = ToyProfile()
        self.put(8, classes.CLOCK_LN, 2, lambda: classes.time_value(NOW))
        self.put(8, classes.CLOCK_LN, 4, axdr.encode("unsigned", 0))
        self.put(1, SERIAL, 2, axdr.encode("octet-string", b"FLX%08d" % sap))
        self.put(1, NOTE, 2, axdr.encode("octet-string", b""))
        self.put(3, ENERGY, 2, axdr.encode("double-long-unsigned", 123456))
        self.put(4, POWER, 2, axdr.encode("double-long", -2305))
        self.put(4, POWER, 4, axdr.encode("unsigned", 0))
        self.put(4, POWER, 5, classes.time_value(NOW))
        self.put(7, PROFILE, 2, self.profile)
        self.put(7, PROFILE, 7, axdr.encode("double-long-unsigned", self.profile.count))
        self.put(17, classes.SAP_ASSIGNMENT_LN, 2, classes.sap_list([(1, b"FLXMANAGEMENT001"), (sap, b"FLXTOY")]))
        self.breaker(closed=True)

    def put(self, class_id: int, name: bytes, attribute: int, value: object) -> None:
        self.values[self.schema.slot(class_id, name, attribute)] = value

    def breaker(self, *, closed: bool) -> None:
        self.put(70, BREAKER, 2, axdr.encode("boolean", closed))
        self.put(70, BREAKER, 4, axdr.encode("enum", 4))
        self.put(70, BREAKER, 3, axdr.encode("enum", 1 if closed else 0))

    def on_set(self, class_id, logical_name, attribute, data, client) -> DataAccessResult:
        if logical_name != NOTE or data[0] != axdr.Tag.OCTET_STRING:
            return DataAccessResult.TYPE_UNMATCHED
        self.put(class_id, logical_name, attribute, data)
        return DataAccessResult.SUCCESS

    def on_action(self, class_id, logical_name, method, data, client) -> ActionResult | Pending:
        if self.breaker_later:
            pending = Pending()
            self.pending.append(pending)
            return pending
        self.breaker(closed=method == classes.REMOTE_RECONNECT)
        return ActionResult.SUCCESS


def toy_clients() -> dict[int, ClientProfile]:
    profiles = (
        ClientProfile(sap=16, name="public", role=Role.PUBLIC),
        ClientProfile(sap=2, name="reader", role=Role.READER, mechanism=Mechanism.LLS, secret=SECRET),
        ClientProfile(
            sap=1,
            name="management",
            role=Role.MANAGEMENT,
            mechanism=Mechanism.HLS_GMAC,
            keys=KEYS,
            policy=AUTHENTICATED_ENCRYPTED,
        ),
        ClientProfile(sap=3, name="lls-manager", role=Role.MANAGEMENT, mechanism=Mechanism.LLS, secret=SECRET),
    )
    return {profile.sap: profile for profile in profiles}


def toy_server(
    *,
    on_event: Callable[[AssociationEvent], None] = lambda _: None,
    limits: Limits | None = None,
    counters: MemoryCounterStore | None = None,
    random: Callable[[int], bytes] = os.urandom,
    now: Callable[[], float] | None = None,
    keystore: Keystore | None = None,
    tolerance: float = 0.0,
) -> tuple[Server, ToyDevice]:
    device = ToyDevice(SAP, toy_schema())
    server = Server(
        {SAP: device},
        toy_clients(),
        title=TITLE,
        counters=counters or MemoryCounterStore(),
        random=random,
        on_event=on_event,
        limits=limits,
        now=now,
        keystore=keystore,
        tolerance=tolerance,
    )
    return server, device


def octets_of(epoch_s: int) -> bytes:
    return cosem_time.encode(epoch_s * 1000)
