"""EventNotification and InformationReport: who is told what, in which form, how often."""

import os

import pytest
from dlms_secure import identity, profile_of, proof_of, public_of
from dlms_toy import (
    CLIENT_TITLE,
    ENERGY,
    KEYS,
    NOW,
    SAP,
    SECRET,
    TITLE,
    ToyDevice,
    octets_of,
    toy_clients,
    toy_schema,
)
from test_dlms_server import Line

from flexmap.dlms import acse, axdr, classes, general, hdlc, suite, wrapper
from flexmap.dlms import apdu as pdu
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.apdu import CONFORMANCE_LN, CONFORMANCE_SN, Conformance
from flexmap.dlms.audience import BURST
from flexmap.dlms.client import ClientSettings, drive
from flexmap.dlms.hdlc import POLL, Command
from flexmap.dlms.hdlc_link import MOST_NOTICES
from flexmap.dlms.hdlc_server import HdlcSettings
from flexmap.dlms.identity import Identity
from flexmap.dlms.notification import Change
from flexmap.dlms.objects import Schema, attribute_key
from flexmap.dlms.profile import ClientProfile, Grant, Role
from flexmap.dlms.security import AUTHENTICATED_ENCRYPTED, SIGNED, Ciphering, MemoryCounterStore
from flexmap.dlms.server import Server
from flexmap.dlms.short_names import short_names
from flexmap.dlms.suite import SUITES
from flexmap.model import obis

FRAUD = obis.parse("0-0:96.11.1")
KEY = attribute_key(1, FRAUD, 2)
CHANGE = Change(KEY, axdr.encode("unsigned", 40), octets_of(NOW // 1000))
PLAIN = b"\xc2\x01\x0c" + CHANGE.time + KEY + b"\x11\x28"
NOTICE = b"\xe6\xe7\x00" + PLAIN
LN = CONFORMANCE_LN | Conformance.EVENT_NOTIFICATION
LLS = {"mechanism": Mechanism.LLS, "secret": SECRET}


def make(*profiles, now=None):
    schema = Schema([*toy_schema().objects, classes.data(FRAUD)])
    device = ToyDevice(SAP, schema)
    clients = {**toy_clients(), **{profile.sap: profile for profile in profiles}}
    server = Server({SAP: device}, clients, title=TITLE, counters=MemoryCounterStore(), random=os.urandom,
                    identity=identity(), now=now)  # fmt: skip
    return server, schema


def reader(sap=2, **changes):
    fields = {"name": "reader", "role": Role.READER, "notify": frozenset({KEY}), **LLS, **changes}
    return ClientProfile(sap=sap, **fields)


def settings(sap=2, conformance=LN, **changes):
    return ClientSettings(client_sap=sap, server_sap=SAP, conformance=conformance, **{**LLS, **changes})


def join(server, *args, ciphering=None, **changes):
    """Associate; what is told comes into ``late``."""
    line = Line(server, settings(*args, **changes), ciphering)
    line.connect()
    return line


def told(line):
    frames = [wrapper.decode_datagram(late) for late in line.late]
    assert all((frame.source, frame.destination) == (SAP, line.settings.client_sap) for frame in frames)
    return [frame.apdu for frame in frames]


def test_a_client_that_negotiated_it_is_told():
    server, _ = make(reader())
    line = join(server)
    assert line.client.conformance & Conformance.EVENT_NOTIFICATION
    server.audience.tell(SAP, CHANGE)
    assert told(line) == [PLAIN]
    assert line.get(3, ENERGY, 2) == 123456
    assert (server.audience.told, server.audience.left_out, len(server.audience)) == (1, 0, 1)
    server.audience.tell(SAP + 1, CHANGE)  # another meter
    server.audience.tell(SAP, CHANGE._replace(key=attribute_key(3, ENERGY, 2)))  # another attribute
    assert told(line) == [PLAIN]
    line.release()
    server.audience.tell(SAP, CHANGE)
    assert told(line) == [PLAIN]
    assert len(server.audience) == 0


def test_who_is_not_told():
    scope = (Grant(ENERGY),)
    server, _ = make(
        reader(),
        reader(5, notify=frozenset()),
        reader(6, scope=scope),
        reader(7, mechanism=Mechanism.NONE),
        reader(8, mechanism=Mechanism.HLS_MD5),
    )
    unasked = join(server, conformance=CONFORMANCE_LN)
    unconfigured = join(server, 5)
    without_right = join(server, 6)
    unproven = join(server, 7, mechanism=Mechanism.NONE, secret=b"")
    half_open = Line(server, settings(8, mechanism=Mechanism.HLS_MD5), proof=proof_of(Mechanism.HLS_MD5, 0))
    half_open.transceive(next(half_open.client.connect()))
    server.audience.tell(SAP, CHANGE)
    for line in (unasked, unconfigured, without_right, unproven, half_open):
        assert told(line) == []
    assert not unasked.client.conformance & Conformance.EVENT_NOTIFICATION
    assert not unconfigured.client.conformance & Conformance.EVENT_NOTIFICATION
    assert without_right.client.conformance & Conformance.EVENT_NOTIFICATION


def test_what_the_configuration_says_holds_at_once():
    server, _ = make(reader())
    line = join(server)
    server.clients[2] = reader(notify=frozenset())
    server.audience.tell(SAP, CHANGE)
    assert told(line) == []


@pytest.mark.parametrize("dedicated", [b"", bytes(range(16, 32))])
@pytest.mark.parametrize("policy", [AUTHENTICATED_ENCRYPTED, 0])
def test_it_is_protected_as_the_clients_messages_are(dedicated, policy):
    profile = ClientProfile(sap=1, name="management", role=Role.MANAGEMENT, mechanism=Mechanism.HLS_GMAC,
                            keys=KEYS,
                            policy=policy, notify=frozenset({KEY}))  # fmt: skip
    server, _ = make(profile)
    ciphering = Ciphering(KEYS, CLIENT_TITLE, MemoryCounterStore())
    line = join(server, 1, ciphering=ciphering, mechanism=Mechanism.HLS_GMAC, secret=b"",
                protection=AUTHENTICATED_ENCRYPTED, dedicated_key=dedicated)  # fmt: skip
    for _ in range(2):
        server.audience.tell(SAP, CHANGE)
    apdus = told(line)
    opener = ciphering.dedicate(dedicated) if dedicated else ciphering
    for apdu in apdus:
        assert apdu[0] == (0xD2 if dedicated else 0xCA)
        body, end = axdr.take_octet_string(apdu, 1)
        assert end == len(apdu)
        assert opener.unprotect(TITLE, body, AUTHENTICATED_ENCRYPTED) == (AUTHENTICATED_ENCRYPTED, PLAIN)
    assert len(apdus) == 2
    assert line.get(3, ENERGY, 2) == 123456  # the counters go on


def test_it_is_signed_where_responses_are():
    profile = profile_of(Mechanism.LLS, 1, response_policy=SIGNED | AUTHENTICATED_ENCRYPTED, sap=9,
                         notify=frozenset({KEY}))  # fmt: skip
    server, _ = make(profile)
    ciphering = Ciphering(profile.keys, CLIENT_TITLE, MemoryCounterStore())
    asked = settings(9, secret=profile.secret, protection=AUTHENTICATED_ENCRYPTED)
    line = Line(server, asked, ciphering)
    line.transceive(next(line.client.connect()))
    server.audience.tell(SAP, CHANGE)
    (apdu,) = told(line)
    body, end = axdr.take_octet_string(apdu, 10)
    assert (apdu[:10], end) == (b"\xdb\x08" + TITLE, len(apdu))
    signed = general.decode_signing(ciphering.unprotect(TITLE, body, AUTHENTICATED_ENCRYPTED)[1])
    assert suite.verify(SUITES[1], public_of("server signing", 1), signed.signature, signed.signed)
    assert signed.content == PLAIN


def test_a_client_that_cannot_be_told_keeps_nobody_else_from_it():
    profile = profile_of(Mechanism.LLS, 1, sap=9, notify=frozenset({KEY}))
    server, _ = make(profile, reader())
    ciphering = Ciphering(profile.keys, CLIENT_TITLE, MemoryCounterStore())
    mute = join(server, 9, secret=profile.secret, protection=AUTHENTICATED_ENCRYPTED, ciphering=ciphering)
    heard = join(server)
    server.clients[9] = profile_of(Mechanism.LLS, 1, sap=9, notify=frozenset({KEY}), response_policy=SIGNED)
    server.setups.identity = Identity()  # there is no key to sign with
    server.audience.tell(SAP, CHANGE)
    assert (told(mute), told(heard)) == ([], [PLAIN])
    assert server.audience.left_out == 1


def test_short_names_get_a_report_of_time_and_value():
    server, schema = make(reader())
    frames = []
    connection = server.connection(frames.append)
    initiate = pdu.encode_initiate_request(
        pdu.InitiateRequest(conformance=CONFORMANCE_SN | Conformance.INFORMATION_REPORT, max_pdu=0)
    )
    aarq = acse.Aarq(context=2, mechanism=1, authentication=SECRET, user_information=initiate)
    aare = acse.decode_aare(connection.receive(wrapper.encode(2, SAP, acse.encode_aarq(aarq)))[8:])
    negotiated = pdu.decode_initiate_response(aare.user_information).conformance
    assert negotiated & Conformance.INFORMATION_REPORT
    assert not negotiated & Conformance.EVENT_NOTIFICATION
    server.audience.tell(SAP, CHANGE)
    names = short_names(schema).by_key
    clock, code = (names[key].to_bytes(2, "big") for key in (attribute_key(8, classes.CLOCK_LN, 2), KEY))
    (frame,) = frames
    expected = b"\x18\x00\x02\x02" + clock + b"\x02" + code + b"\x02\x09\x0c" + CHANGE.time + b"\x11\x28"
    assert wrapper.decode_datagram(frame).apdu == expected


# --- bounds


def test_a_storm_is_bounded_for_each_association():
    time = 1000.0
    server, _ = make(reader(), now=lambda: time)
    first, second = join(server), join(server)
    for _ in range(100):
        server.audience.tell(SAP, CHANGE)
    assert len(told(first)) == len(told(second)) == BURST
    assert server.audience.left_out == 2 * (100 - BURST)
    time += 3.5
    for _ in range(100):
        server.audience.tell(SAP, CHANGE)
    assert len(told(first)) == BURST + 3
    time -= 1000  # a clock that is put back gives nothing and takes nothing
    server.audience.tell(SAP, CHANGE)
    assert len(told(first)) == BURST + 3


def test_a_peer_that_does_not_read_is_told_nothing():
    server, _ = make(reader())
    line = join(server)
    line.connection.paused = True
    server.audience.tell(SAP, CHANGE)
    line.connection.paused = False
    assert (told(line), server.audience.left_out) == ([], 1)


def test_connections_that_end_are_forgotten():
    server, _ = make(reader())
    lines = [join(server) for _ in range(5)]
    lines[0].connect()  # anew
    assert len(server.audience) == 5
    for line in lines:
        line.connection.close()
    assert len(server.audience) == 0
    assert server.audience._listening == {}


def test_datagrams_are_told_too():
    frames = []
    server, _ = make(reader(), reader(7, mechanism=Mechanism.NONE))
    port = server.datagrams(lambda peer, octets: frames.append((peer, octets)))
    for sap, changes in ((2, LLS), (7, {"mechanism": Mechanism.NONE, "secret": b""})):
        client, peer = Line(server, settings(sap, **changes)).client, ("192.0.2.1", sap)
        exchange = client.connect()
        drive(exchange, lambda apdu, to=sap, of=peer: port.receive(of, wrapper.encode(to, SAP, apdu))[8:])
    server.audience.tell(SAP, CHANGE)
    assert frames == [(("192.0.2.1", 2), wrapper.encode(SAP, 2, PLAIN))]


# --- HDLC


ADDRESSES = hdlc.encode_station(SAP, 16) + bytes((2 << 1 | 1,))


class Hdlc:
    """Client 2 on an HDLC line, with an association."""

    def __init__(self, server, max_receive=1024):
        self.sent = []
        self.line = server.line(HdlcSettings(), deliver=self.sent.append, clock=lambda: 0.0)
        self.ask(Command.SNRM | POLL, hdlc.Parameters(1024, max_receive).encode())
        frames = self.ask(0x10, b"\xe6\xe6\x00" + next(Line(server, settings()).client.connect()))
        while len(frames[-1][1]) == max_receive:
            frames += self.ask(len(frames) << 5 | POLL | Command.RR)
        aare = b"".join(information for _, information in frames)
        assert acse.decode_aare(aare[3:]).result == 0

    def ask(self, control, information=b""):
        splitter = hdlc.Splitter(60)
        splitter.add(self.line.receive(hdlc.encode(ADDRESSES, control, information)), 0)
        frames = []
        while (frame := splitter.next()) is not None:
            frames.append((frame.control, frame.information))
        return frames


def test_on_hdlc_it_waits_for_a_poll():
    server, _ = make(reader())
    client = Hdlc(server)
    server.audience.tell(SAP, CHANGE)
    server.audience.tell(SAP, CHANGE)
    assert client.sent == []  # nobody has asked
    ready, notice = (0x31, b""), (int(Command.UI), NOTICE)
    assert client.ask(0x35) == [ready]  # RNR: the client takes nothing now
    assert client.ask(0x31) == [notice, notice, ready]
    assert client.ask(0x31) == [ready]
    server.audience.tell(SAP, CHANGE)
    get = b"\xe6\xe6\x00\xc0\x01\xc1" + attribute_key(3, ENERGY, 2) + b"\0"
    ((control, answer),) = client.ask(0x32, get)  # an answer comes alone
    assert (control, answer.hex()) == (0x52, "e6e700" + "c401c100" + "060001e240")
    assert client.ask(0x51) == [notice, (0x51, b"")]


def test_on_hdlc_an_empty_ui_frame_fetches_one():
    server, _ = make(reader())
    client = Hdlc(server)
    server.audience.tell(SAP, CHANGE)
    server.audience.tell(SAP, CHANGE)
    for _ in range(2):
        assert client.ask(Command.UI | POLL) == [(Command.UI | POLL, NOTICE)]
    assert client.ask(Command.UI | POLL) == [(0x31, b"")]  # RR: no more
    assert client.ask(Command.UI) == []


def test_on_hdlc_as_many_wait_as_there_is_room_for():
    server, _ = make(reader())
    client = Hdlc(server)
    for _ in range(20):
        server.audience.tell(SAP, CHANGE)
    assert len(client.ask(0x31)) == MOST_NOTICES + 1
    assert server.audience.left_out == 20 - MOST_NOTICES
    client.line.close()
    Hdlc(server, 32)  # whose information fields are too short
    server.audience.tell(SAP, CHANGE._replace(value=axdr.octet_string(bytes(8))))
    assert (server.audience.told, server.audience.left_out) == (MOST_NOTICES, 21 - MOST_NOTICES)
