"""The gateway's own logical device: its security event log, and the security setups of all clients."""

import os

import pytest
from dlms_secure import keys_of, profile_of, sap_of
from dlms_toy import CLIENT_TITLE, TITLE
from test_dlms_protection import secure_line

from flexmap.dlms import axdr, classes, suite
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.apdu import ActionResult
from flexmap.dlms.client import AssociationError
from flexmap.dlms.profile import AssociationEvent, EventKind, Role, Threat
from flexmap.dlms.security import Keys, MemoryCounterStore
from flexmap.dlms.server import Server
from flexmap.faces.dlms.device import MANAGEMENT_SAP, management_device
from flexmap.faces.dlms.security_log import SecurityLog
from flexmap.model import GATEWAY, EventCode, EventLog, Site
from flexmap.store import Store

LOG, LAST = bytes((0, 0, 99, 98, 9, 255)), bytes((0, 0, 96, 11, 9, 255))
MANAGER, READER = sap_of(Mechanism.HLS_GMAC, 0), 2
SITE = Site(name="s", ied="S", meters=(), types={})
NOW = 1_790_000_000.0


@pytest.fixture
def gateway(tmp_path):
    store = Store(tmp_path / "store.sqlite", SITE)
    now = [NOW]
    device = management_device(SITE, TITLE, lambda: int(now[0] * 1000), clients=(MANAGER, READER))
    log = SecurityLog(store, device, lambda: now[0])
    reader_keys = Keys(b"r" * 16, b"s" * 16, kek=b"k" * 16)
    clients = (
        profile_of(Mechanism.HLS_GMAC, 0),
        profile_of(Mechanism.HLS_GMAC, 0, sap=READER, role=Role.READER, keys=reader_keys),
    )
    server = Server(
        {MANAGEMENT_SAP: device},
        {client.sap: client for client in clients},
        title=TITLE,
        counters=MemoryCounterStore(),
        random=os.urandom,
        on_event=log.take,
        now=lambda: now[0],
    )
    yield server, store, now, log
    store.close()


def manager(server, **settings):
    meter = secure_line(server, Mechanism.HLS_GMAC, 0, server_sap=MANAGEMENT_SAP, **settings)
    meter.connect()
    return meter


def test_failures_stand_in_the_log_with_their_codes(gateway):
    server, store, now, _ = gateway
    wrong = secure_line(server, Mechanism.HLS_GMAC, 0, server_sap=MANAGEMENT_SAP, client_sap=READER)
    with pytest.raises(AssociationError):
        wrong.connect()
    now[0] += 1
    meter = manager(server)
    body = meter.ciphering.protect(0x30, b"\xc0")
    for _ in range(2):
        meter.transceive(b"\xc8" + bytes((len(body),)) + body)
    codes = [code for _, code in meter.get(7, LOG, 2)]
    assert codes == [EventCode.DECRYPTION_FAILURE, EventCode.REPLAY]
    assert meter.get(7, LOG, 7) == 2
    assert meter.get(1, LAST, 2) == EventCode.REPLAY
    texts = [event.text for event in store.events(GATEWAY, EventLog.SECURITY)]
    assert texts[0].startswith(f"client {READER}, server {MANAGEMENT_SAP}: ")


def test_a_flood_of_failures_does_not_flood_the_store(gateway):
    _, store, now, log = gateway
    for _ in range(1000):
        log.take(AssociationEvent(EventKind.SECURITY_FAILURE, 1, 1, "x", Threat.REPLAY))
        now[0] += 0.01
    assert 10 <= store.event_count(GATEWAY, EventLog.SECURITY) <= 11
    log.take(AssociationEvent(EventKind.OPENED, 1, 1, "x"))
    assert store.event_count(GATEWAY, EventLog.SECURITY) <= 11


def test_the_managing_client_changes_the_keys_of_another(gateway):
    server, store, _, _ = gateway
    meter = manager(server)
    name = bytes((0, 0, 43, 0, READER, 255))
    assert meter.get(64, name, 3) == 0
    fresh = axdr.structure(axdr.encode("enum", 0), axdr.octet_string(suite.wrap(b"k" * 16, b"n" * 16)))
    assert meter.action(64, name, 2, axdr.array([fresh])).result == ActionResult.SUCCESS
    assert server.clients[READER].keys.guek == b"n" * 16
    assert server.clients[MANAGER].keys == keys_of(0)
    assert [event.code for event in store.events(GATEWAY, EventLog.SECURITY)] == [EventCode.KEYS_CHANGED]
    # a reader neither sees the setups of others nor may use its own
    server.clients[READER] = profile_of(Mechanism.HLS_GMAC, 0, sap=READER, role=Role.READER)
    reader = manager(server, client_sap=READER, store=MemoryCounterStore(first=1000), title=CLIENT_TITLE)
    for denied in (name, classes.SECURITY_SETUP_LN):
        reply = reader.action(64, denied, 2, axdr.array([fresh]))
        assert reply.result == ActionResult.READ_WRITE_DENIED
    assert reader.get(7, LOG, 7) == 1
