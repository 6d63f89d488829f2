"""What somebody who knows the protocol tries beyond its messages: guesses, replays over restarts, misused keys."""

import gc

import pytest
from dlms_secure import SECRET, Party, keys_of, profile_of, public_of
from dlms_toy import BREAKER, CLIENT_TITLE, ENERGY, NOTE, SAP, SERIAL, TITLE, toy_server
from test_dlms_protection import NOT_DECIPHERED, SET_NOTE, note_of, opened, secure_line, secure_server
from test_dlms_setup import GAK, GBEK, GUEK, KEK, LN, call, managed, wrapped

from flexmap.dlms import acse, axdr, wrapper
from flexmap.dlms import apdu as pdu
from flexmap.dlms.acse import Context, Mechanism
from flexmap.dlms.apdu import ActionResult
from flexmap.dlms.authentication import SecretProof, Side
from flexmap.dlms.client import AssociationError, ExceptionResponseError
from flexmap.dlms.identity import Use
from flexmap.dlms.lockout import FREE_FAILURES
from flexmap.dlms.objects import ASSOCIATION_LN
from flexmap.dlms.profile import EventKind, Threat
from flexmap.dlms.security import AUTHENTICATED_ENCRYPTED, Ciphering, Keys, MemoryCounterStore

INITIATE = pdu.encode_initiate_request(pdu.InitiateRequest(conformance=0xFFFFFF, max_pdu=0))
UNCONFIRMED = 0x81


def frame(client, apdu):
    return wrapper.encode(client.sap, SAP, apdu)


def ciphered(ciphering, plain, control=AUTHENTICATED_ENCRYPTED):
    body = ciphering.protect(control, plain)
    tag = plain[0] + (0x20 if plain[0] < 0x80 else 0x08)
    return bytes((tag,)) + axdr.encode_length(len(body)) + body


# --- guesses


def half_open(connection, client, challenge=b"c" * 16):
    """Open up to the server's challenge, which is returned."""
    aarq = acse.Aarq(
        context=Context.LN,
        mechanism=client.mechanism,
        calling_title=CLIENT_TITLE,
        authentication=challenge,
        user_information=INITIATE,
    )
    aare = acse.decode_aare(connection.receive(frame(client, acse.encode_aarq(aarq)))[8:])
    return aare.authentication if aare.result == 0 else None


def answer(connection, client, challenge, secret):
    """Answer the challenge; tell whether the server took it."""
    proof = SecretProof(client.mechanism, secret)
    octets = proof.answer(Side(CLIENT_TITLE, b"c" * 16), Side(TITLE, challenge))
    request = b"\xc3\x01\xc1\0\x0f" + ASSOCIATION_LN + b"\1\1" + axdr.octet_string(octets)
    return connection.receive(frame(client, request))[8:12] == b"\xc7\x01\xc1\0"


def test_a_challenge_can_be_answered_once():
    client = profile_of(Mechanism.HLS_MD5, 0)
    server, _, events = secure_server([client], now=lambda: 0.0)
    connection = server.connection(lambda _: None, "attacker")
    challenge = half_open(connection, client)
    for guess in range(FREE_FAILURES - 1):
        assert not answer(connection, client, challenge, b"guess %02d" % guess)
    assert not answer(connection, client, challenge, SECRET)
    assert [event.threat for event in events if event.threat] == [Threat.AUTHENTICATION_FAILURE] * FREE_FAILURES
    challenge = half_open(connection, client)
    assert answer(connection, client, challenge, SECRET)


def test_half_open_associations_that_are_kept_in_store_do_not_get_round_the_lock_out():
    client = profile_of(Mechanism.HLS_MD5, 0)
    server, _, events = secure_server([client], now=lambda: 0.0)
    lines = [server.connection(lambda _: None, "attacker") for _ in range(10)]
    challenges = [half_open(line, client) for line in lines]
    assert all(challenges)
    for line, challenge in zip(lines[:FREE_FAILURES], challenges, strict=False):
        assert not answer(line, client, challenge, b"wrong guess")
    assert not answer(lines[-1], client, challenges[-1], SECRET)
    assert "locked out" in events[-1].reason
    other = server.connection(lambda _: None, "head-end")
    assert answer(other, client, half_open(other, client), SECRET)


# --- replays


def test_a_pre_established_association_takes_no_request_twice_over_a_restart():
    """It has no AARQ whose counter would be refused: each request must be on record before it is answered."""
    client = profile_of(
        Mechanism.NONE, 0, pre_established=True, policy=AUTHENTICATED_ENCRYPTED, system_title=CLIENT_TITLE,
        role=profile_of(Mechanism.LLS, 0).role,
    )  # fmt: skip
    counters = MemoryCounterStore()
    server, device, _ = secure_server([client], counters=counters)
    ours = Ciphering(keys_of(0), CLIENT_TITLE, MemoryCounterStore())
    request = frame(client, ciphered(ours, SET_NOTE))
    assert server.connection(lambda _: None).receive(request)
    assert note_of(device) == b"slipped in"
    # the server ends without a chance to record anything
    again, device, events = secure_server([client], counters=counters)
    assert again.connection(lambda _: None).receive(request)[8:11].hex() == "d80106"
    assert note_of(device) == b""
    assert events[-1].threat == Threat.REPLAY


def test_a_new_certificate_does_not_let_old_messages_under_wrapped_keys_in_again():
    client = profile_of(Mechanism.HLS_SHA256, 1)
    meter, device, _ = opened(1, [client])
    party = Party(CLIENT_TITLE, 1)
    request = party.wrapped(SET_NOTE)
    party.read(meter.transceive(request))
    assert note_of(device) == b"slipped in"
    device.put(1, NOTE, 2, axdr.octet_string(b""))
    renewed = profile_of(Mechanism.HLS_SHA256, 1, signing_key=public_of("another signing", 1))
    meter.connection._peer._server.clients[client.sap] = renewed
    assert meter.transceive(request).hex() == NOT_DECIPHERED
    assert note_of(device) == b""


# --- keys


def test_what_holds_the_broadcast_key_changes_no_security():
    """Each meter of a street has it: it switches breakers, it does not move keys, policies or certificates."""
    meter = managed(1)
    ours = Ciphering(keys_of(1), CLIENT_TITLE, MemoryCounterStore(), broadcast=True)

    def act(method, value, name=LN, class_id=64):
        data = b"\1" + value
        plain = b"\xc3\x01" + bytes((UNCONFIRMED,)) + class_id.to_bytes(2, "big") + name + bytes((method,)) + data
        return meter.connection.receive(wrapper.encode(meter.sap, SAP, ciphered(ours, plain)))

    assert act(1, axdr.encode("enum", 0b00011100)) == b""
    assert act(2, wrapped(keys_of(1).kek, (GUEK, b"n" * 16))) == b""
    assert act(4, axdr.encode("enum", Use.SIGNING)) == b""
    assert (meter.kept.clients, meter.kept.identities) == ([], [])
    assert meter.get(3, ENERGY, 2) == 123456
    set_note = SET_NOTE[:2] + bytes((UNCONFIRMED,)) + SET_NOTE[3:]
    assert meter.connection.receive(wrapper.encode(meter.sap, SAP, ciphered(ours, set_note))) == b""
    assert note_of(meter.device) == b"slipped in"


def test_keys_that_are_weak_or_stand_twice_are_not_taken():
    meter = managed()
    keys = keys_of(0)
    for bad in (
        [(GUEK, bytes(16))],
        [(GAK, b"\xff" * 16)],
        [(GBEK, keys.guek)],
        [(KEK, keys.guek)],
        [(GUEK, keys.gbek)],
        [(GUEK, b"n123456789abcdef"), (GBEK, b"n123456789abcdef")],
        [(GUEK, keys_of(1).guek)],
    ):
        assert call(meter, 2, wrapped(keys.kek, *bad)).result == ActionResult.OTHER_REASON, bad
    assert meter.kept.clients == []
    assert meter.get(3, ENERGY, 2) == 123456


def test_a_dedicated_key_that_comes_again_gives_no_nonce_again():
    """Some clients have the same dedicated key in every association."""
    server, _, _ = secure_server()
    key, counters = bytes(range(50, 66)), []
    store = MemoryCounterStore()
    for _ in range(2):
        meter = secure_line(server, Mechanism.HLS_GMAC, 0, dedicated_key=key, store=store)
        transceive = meter.transceive

        def keep(apdu, transceive=transceive):
            reply = transceive(apdu)
            if reply[0] == 0xD4:
                counters.append(reply[3:7])
            return reply

        meter.transceive = keep
        meter.connect()
        assert meter.get(3, ENERGY, 2) == 123456
        assert meter.get(3, ENERGY, 2) == 123456
    assert len(counters) == 4
    assert len(set(counters)) == 4


def test_a_recorded_request_under_a_dedicated_key_is_refused_when_that_key_comes_again():
    server, device, events = secure_server()
    key, store, sent = bytes(range(50, 66)), MemoryCounterStore(), []

    def connected():
        meter = secure_line(server, Mechanism.HLS_GMAC, 0, dedicated_key=key, store=store)
        transceive = meter.transceive
        meter.transceive = lambda apdu: (sent.append(apdu), transceive(apdu))[1]
        meter.connect()
        return meter

    connected().set(1, NOTE, 2, axdr.octet_string(b"slipped in"))
    recorded = sent[-1]
    assert recorded[0] == 0xD1
    device.put(1, NOTE, 2, axdr.octet_string(b""))
    meter = connected()
    assert meter.transceive(recorded)[:3].hex() == "d80106"
    assert note_of(device) == b""
    assert events[-1].threat == Threat.REPLAY


@pytest.mark.parametrize("field", ["guek", "gak", "gbek", "kek"])
def test_a_dedicated_key_is_none_of_the_clients_keys(field):
    server, _, events = secure_server()
    key = getattr(keys_of(0), field)
    with pytest.raises(AssociationError):
        secure_line(server, Mechanism.HLS_GMAC, 0, dedicated_key=key).connect()
    assert events[-1].kind == EventKind.REFUSED


def test_a_wrapped_key_opens_the_association_with_keys_that_are_to_come():
    """Looking whether the next keys fit must not use up the message's transaction-id."""
    new = Keys(b"N" * 15 + b"n", b"M" * 15 + b"m", 1, b"", keys_of(1).kek)
    client = profile_of(Mechanism.LLS, 1, next_keys=new)
    server, _, _ = secure_server([client])
    party = Party(CLIENT_TITLE, 1)

    def opens(content):
        aarq = acse.Aarq(
            context=Context.LN_CIPHERED,
            mechanism=Mechanism.LLS,
            calling_title=CLIENT_TITLE,
            authentication=SECRET,
            user_information=content,
        )
        reply = server.connection(lambda _: None).receive(frame(client, acse.encode_aarq(aarq)))
        return acse.decode_aare(reply[8:]).result == 0

    # a signature alone shows no key: the old ones stay
    assert opens(party.signed(INITIATE))
    assert server.clients[client.sap].next_keys == new
    party.keys = new
    assert opens(party.wrapped(INITIATE))
    assert server.clients[client.sap].keys == new


# --- datagrams


def test_a_forged_release_does_not_end_a_protected_association_on_udp():
    server, _, _ = secure_server([profile_of(Mechanism.HLS_GMAC, 0, policy=AUTHENTICATED_ENCRYPTED)])
    datagrams = server.datagrams(lambda *_: None)
    meter = secure_line(server, Mechanism.HLS_GMAC, 0)
    peer = ("192.0.2.7", 4059)
    meter.transceive = lambda apdu: datagrams.receive(peer, wrapper.encode(meter.settings.client_sap, SAP, apdu))[
        8:
    ]
    meter.connect()
    released = meter.transceive(acse.encode_release(acse.Release(reason=0)))
    assert acse.decode_release(released, acse.RLRE).reason == 1  # not finished
    assert meter.get(3, ENERGY, 2) == 123456
    meter.release()
    with pytest.raises(ExceptionResponseError):
        meter.get(3, ENERGY, 2)


def test_forged_peers_with_pre_established_associations_make_room_for_each_other():
    client = profile_of(Mechanism.NONE, 0, pre_established=True)
    server, _ = toy_server()
    server.clients[client.sap] = client
    datagrams = server.datagrams(lambda *_: None)
    get = frame(client, b"\xc0\x01\xc1\0\1" + SERIAL + b"\2\0")
    for number in range(server.limits.max_all_associations // 4 + 50):
        assert datagrams.receive(("192.0.2.1", number), get)[8:12] == b"\xc4\x01\xc1\0"
    assert len(datagrams._unproven) <= server.limits.max_datagram_peers


@pytest.mark.parametrize("mechanism", [Mechanism.NONE, Mechanism.LLS, Mechanism.HLS_GMAC])
def test_a_pre_established_association_proves_nothing_until_a_request_verifies(mechanism):
    client = profile_of(
        mechanism, 0, pre_established=True, policy=AUTHENTICATED_ENCRYPTED, system_title=CLIENT_TITLE
    )
    server, _, _ = secure_server([client])
    connection = server.connection(lambda _: None)
    connection.receive(frame(client, b"\xc8\x1e\x30" + bytes(29)))
    assert connection.associations == 1
    assert not connection.trusted
    ours = Ciphering(keys_of(0), CLIENT_TITLE, MemoryCounterStore())
    get = b"\xc0\x01\xc1\0\1" + SERIAL + b"\2\0"
    assert connection.receive(frame(client, ciphered(ours, get)))[8] == 0xCC
    assert connection.trusted


# --- the cost of a request


@pytest.mark.parametrize("kind", ["aarq", "static"])
def test_requests_with_curves_leave_others_their_turn_sooner(kind):
    """An operation with P-384 takes a millisecond, and anybody may ask for it."""
    meter, _, _ = opened(2)
    party = Party(CLIENT_TITLE, 2)
    if kind == "static":
        request = bytearray(party.static(SET_NOTE))
    else:
        aarq = acse.Aarq(
            context=Context.LN_CIPHERED,
            mechanism=Mechanism.HLS_SHA256,
            calling_title=CLIENT_TITLE,
            authentication=b"c" * 16,
            user_information=party.static(INITIATE),
        )
        request = bytearray(acse.encode_aarq(aarq))
    request[-1] ^= 1
    one = wrapper.encode(meter.settings.client_sap, SAP, bytes(request))
    reply = meter.connection.receive(one * 200)
    assert 0 < len(reply) < 200 * 11
    assert meter.connection.backlog
    rounds = 1
    while meter.connection.backlog:
        meter.connection.receive(b"")
        rounds += 1
    assert rounds >= 20


# --- rights


@pytest.mark.parametrize("request_", ["set", "action", "set in blocks"])
def test_a_set_or_action_without_the_right_to_it_is_reported(request_):
    server, device, events = secure_server()
    client = profile_of(Mechanism.NONE, 0)
    connection = server.connection(lambda _: None)
    aarq = acse.encode_aarq(acse.Aarq(context=Context.LN, user_information=INITIATE))
    connection.receive(frame(client, aarq))
    events.clear()
    octets, answer, text = {
        "set": (SET_NOTE, "c501c103", "SET of 1 0.0.96.13.0.255 2"),
        "action": (b"\xc3\x01\xc1\0\x46" + BREAKER + b"\1\0", "c701c10300", "ACTION of 70 0.0.96.3.10.255 1"),
        "set in blocks": (
            b"\xc1\x02\xc1" + SET_NOTE[3:12] + b"\0" + pdu.data_block(last=False, number=1, raw=b"\x09\x05ab"),
            "c503c103",
            "long SET or ACTION of 1 0.0.96.13.0.255 2",
        ),
    }[request_]
    assert connection.receive(frame(client, octets))[8:].hex().startswith(answer)
    assert note_of(device) == b""
    assert [(event.kind, event.reason) for event in events] == [(EventKind.DENIED, text)]


@pytest.mark.parametrize("mechanism", [Mechanism.NONE, Mechanism.HLS_MD5])
def test_associations_that_end_leave_nothing_to_the_garbage_collector(mechanism):
    """It would hold up all clients for a tenth of a second, again and again, while somebody opens thousands."""
    client = profile_of(mechanism, 0)
    server, _, _ = secure_server([client])
    connection = server.connection(lambda _: None)
    half_open(connection, client)
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            half_open(connection, client)
        connection.close()
        assert gc.collect() < 50
    finally:
        gc.enable()
