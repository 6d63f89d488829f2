"""Every mechanism, suite and layer on the server core; what falls short of it is refused and reported."""

import os
import random

import pytest
from dlms_mutants import mutate
from dlms_secure import (
    MECHANISMS,
    SECRET,
    Party,
    all_clients,
    identity,
    keys_of,
    profile_of,
    proof_of,
    public_of,
    sap_of,
)
from dlms_toy import BREAKER, CLIENT_TITLE, ENERGY, NOTE, SAP, SERIAL, TITLE, toy_server
from test_dlms_server import Line

from flexmap.dlms import acse, axdr, general, wrapper
from flexmap.dlms import apdu as pdu
from flexmap.dlms.acse import Context, Mechanism
from flexmap.dlms.authentication import GmacProof, SecretProof, Side, acceptable
from flexmap.dlms.client import AssociationError, Client, ClientSettings, ExceptionResponseError
from flexmap.dlms.identity import Identity, Use
from flexmap.dlms.lockout import FREE_FAILURES, MOST_DELAY, Lockout
from flexmap.dlms.profile import EventKind, Threat
from flexmap.dlms.security import (
    AUTHENTICATED,
    AUTHENTICATED_ENCRYPTED,
    ENCRYPTED,
    SIGNED,
    Ciphering,
    MemoryCounterStore,
)
from flexmap.model import ConfigurationError

HIGH = [mechanism for mechanism in MECHANISMS if mechanism >= Mechanism.HLS]
GET_ENERGY = bytes.fromhex("c001c1") + b"\0\3" + ENERGY + b"\2\0"
ENERGY_RESPONSE = bytes.fromhex("c401c100") + axdr.encode("double-long-unsigned", 123456)
SET_NOTE = bytes.fromhex("c101c1") + b"\0\1" + NOTE + b"\2\0" + axdr.octet_string(b"slipped in")
NOT_ALLOWED, NOT_DECIPHERED = "d80101", "d80105"


def secure_server(clients=None, **options):
    events = []
    server, device = toy_server(on_event=events.append, **options)
    server.clients.clear()
    server.clients.update(all_clients() if clients is None else {client.sap: client for client in clients})
    server.setups.identity = identity()
    return server, device, events


def secure_line(server, mechanism, suite_id, protection=AUTHENTICATED_ENCRYPTED, *, proof=None, **settings):
    ciphering = None
    store = settings.pop("store", None) or MemoryCounterStore()
    if protection or mechanism == Mechanism.HLS_GMAC:
        ciphering = Ciphering(keys_of(suite_id), settings.pop("title", CLIENT_TITLE), store)
    chosen = {
        "client_sap": sap_of(mechanism, suite_id),
        "server_sap": SAP,
        "mechanism": mechanism,
        "secret": SECRET,
        "protection": protection,
        "title": CLIENT_TITLE,
    } | settings
    meter = Line(server, ClientSettings(client_sap=1, server_sap=SAP))
    meter.settings = ClientSettings(**chosen)
    proof = proof or (proof_of(mechanism, suite_id) if mechanism >= Mechanism.HLS else None)
    meter.client = Client(meter.settings, random=os.urandom, ciphering=ciphering, proof=proof)
    meter.ciphering = ciphering
    return meter


def opened(suite_id=1, clients=None, protection=0, mechanism=Mechanism.HLS_SHA256, **options):
    """A line with a ciphered application context whose messages need no protection."""
    server, device, events = secure_server(clients, **options)
    meter = secure_line(server, mechanism, suite_id, protection or AUTHENTICATED_ENCRYPTED)
    if not protection:
        _open_plain(meter)
    else:
        meter.connect()
    events.clear()
    return meter, device, events


def _open_plain(meter):
    """Open with ciphering possible but the initiate request plain, and authenticate."""
    initiate = pdu.encode_initiate_request(pdu.InitiateRequest(conformance=0xFFFFFF, max_pdu=0))
    ours = b"c" * 16
    settings = meter.settings
    aare = acse.decode_aare(
        meter.transceive(
            acse.encode_aarq(
                acse.Aarq(
                    context=Context.LN_CIPHERED,
                    mechanism=settings.mechanism,
                    calling_title=CLIENT_TITLE,
                    authentication=ours,
                    user_information=initiate,
                )
            )
        )
    )
    assert aare.result == 0
    answer = SecretProof(settings.mechanism, SECRET).answer(
        Side(CLIENT_TITLE, ours), Side(TITLE, aare.authentication)
    )
    request = bytes.fromhex("c301c1000f0000280000ff01") + b"\x01" + axdr.octet_string(answer)
    assert meter.transceive(request)[3:4] == b"\0"


def note_of(device):
    return axdr.decode(device.values[device.schema.slot(1, NOTE, 2)])


# --- authentication


@pytest.mark.parametrize("suite_id", [0, 1, 2])
@pytest.mark.parametrize("protection", [0, AUTHENTICATED, AUTHENTICATED_ENCRYPTED])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_mechanism_with_every_suite(mechanism, protection, suite_id):
    if (mechanism, suite_id) == (Mechanism.HLS_ECDSA, 0):
        pytest.skip("suite 0 has no signatures")
    server, device, events = secure_server()
    meter = secure_line(server, mechanism, suite_id, protection)
    meter.connect()
    assert meter.get(1, SERIAL, 2) == b"FLX%08d" % SAP
    if mechanism != Mechanism.NONE:
        meter.set(1, NOTE, 2, axdr.octet_string(b"written"))
        assert note_of(device) == b"written"
    assert [event.kind for event in events] == [EventKind.OPENED]
    meter.release()
    assert meter.connection.associations == 0


@pytest.mark.parametrize("mechanism", HIGH)
def test_a_wrong_secret_or_key_proves_nothing(mechanism):
    server, device, events = secure_server()
    wrong = SecretProof(mechanism, b"another secret..") if mechanism in proofs() else None
    if mechanism == Mechanism.HLS_ECDSA:
        wrong = proof_of(mechanism, 1)
        wrong._private = b"\x07" * 32
    if wrong is None:
        return  # the keys of GMAC: test_dlms_server
    meter = secure_line(server, mechanism, 1, 0, proof=wrong)
    with pytest.raises(AssociationError, match="authentication failed"):
        meter.connect()
    assert (events[-1].kind, events[-1].threat) == (EventKind.SECURITY_FAILURE, Threat.AUTHENTICATION_FAILURE)
    assert meter.transceive(GET_ENERGY)[-2:] == b"\x01\x03"
    meter.transceive(SET_NOTE)
    assert note_of(device) == b""


def proofs():
    return {Mechanism.HLS, Mechanism.HLS_MD5, Mechanism.HLS_SHA1, Mechanism.HLS_SHA256}


@pytest.mark.parametrize("mechanism", HIGH)
def test_the_servers_answer_proves_the_server(mechanism):
    """A server that does not know the secret is refused by the client."""
    suite_id = 1
    changes = {"secret": b"not the secret.."} if mechanism in proofs() else {}
    if mechanism == Mechanism.HLS_GMAC:
        return  # its answer is checked with the keys of its request
    server, _, _ = secure_server([profile_of(mechanism, suite_id, **changes)])
    if mechanism == Mechanism.HLS_ECDSA:
        server.setups.identity = Identity({(Use.SIGNING, 1): b"\x09" * 32})
    with pytest.raises(AssociationError, match="authentication failed"):
        secure_line(server, mechanism, suite_id, 0).connect()


@pytest.mark.parametrize("mechanism", HIGH)
@pytest.mark.parametrize("length", [0, 7, 8, 31, 32, 64, 65])
def test_challenges_of_8_to_64_octets(mechanism, length):
    server, _, events = secure_server()
    meter = secure_line(server, mechanism, 1, 0)
    least = 32 if mechanism == Mechanism.HLS_ECDSA else 8
    request = acse.Aarq(
        context=Context.LN,
        mechanism=mechanism,
        calling_title=CLIENT_TITLE,
        authentication=b"x" * length,
        user_information=pdu.encode_initiate_request(pdu.InitiateRequest(conformance=0xFFFFFF, max_pdu=0)),
    )
    aare = acse.decode_aare(meter.transceive(acse.encode_aarq(request)))
    assert (aare.result == 0) is (least <= length <= 64)
    if aare.result:
        assert events[-1].kind == EventKind.REFUSED
    else:
        assert len(aare.authentication) == max(16, least)
        assert aare.responding_title == TITLE


@pytest.mark.parametrize("mechanism", HIGH)
def test_a_reflected_challenge_is_refused(mechanism):
    ours = bytes(range(64))
    server, _, events = secure_server(random=lambda count: ours[:count])
    meter = secure_line(server, mechanism, 1, 0)
    length = 32 if mechanism == Mechanism.HLS_ECDSA else 16
    request = acse.Aarq(
        context=Context.LN,
        mechanism=mechanism,
        calling_title=CLIENT_TITLE,
        authentication=ours[:length],
        user_information=pdu.encode_initiate_request(pdu.InitiateRequest(conformance=0xFFFFFF, max_pdu=0)),
    )
    aare = acse.decode_aare(meter.transceive(acse.encode_aarq(request)))
    assert (aare.result, aare.diagnostic) == (1, acse.Diagnostic.AUTHENTICATION_FAILURE)
    assert (events[-1].kind, events[-1].threat) == (EventKind.REFUSED, Threat.AUTHENTICATION_FAILURE)
    assert not acceptable(mechanism, ours[:length], ours[:length])


def test_settings_that_would_prove_nothing_are_refused():
    for mechanism in (Mechanism.LLS, Mechanism.HLS_SHA256, Mechanism.HLS):
        with pytest.raises(ConfigurationError, match="secret"):
            profile_of(mechanism, 0, secret=b"")
    with pytest.raises(ConfigurationError, match="keys"):
        profile_of(Mechanism.HLS_GMAC, 0, keys=None)
    with pytest.raises(ConfigurationError, match="signing key"):
        profile_of(Mechanism.HLS_ECDSA, 1, signing_key=b"")
    with pytest.raises(ConfigurationError, match="another suite"):
        profile_of(Mechanism.HLS_GMAC, 0, keys=keys_of(1))
    with pytest.raises(ConfigurationError, match="system title"):
        profile_of(Mechanism.NONE, 0, policy=AUTHENTICATED, pre_established=True)


# --- lock-out


def test_who_fails_to_authenticate_waits_longer_each_time_and_nobody_else_does():
    now = [100.0]
    lockout = Lockout(lambda: now[0])
    waits = []
    for _ in range(14):
        lockout.count(("client", "host"), right=False)
        waits.append(lockout.wait(("client", "host")))
    assert waits[: FREE_FAILURES - 1] == [0.0] * (FREE_FAILURES - 1)
    assert waits[FREE_FAILURES - 1 : FREE_FAILURES + 2] == [5.0, 10.0, 20.0]
    assert waits[-1] == MOST_DELAY
    assert lockout.wait(("client", "other host")) == 0
    now[0] += MOST_DELAY
    assert lockout.wait(("client", "host")) == 0
    lockout.count(("client", "host"), right=True)
    lockout.count(("client", "host"), right=False)
    assert lockout.wait(("client", "host")) == 0
    for number in range(5000):
        lockout.count(number, right=False)
    assert len(lockout._failures) <= 4096


@pytest.mark.parametrize("mechanism", [Mechanism.LLS, Mechanism.HLS_SHA256])
def test_a_locked_out_client_is_refused_whatever_it_knows(mechanism):
    now = [0.0]
    server, _, events = secure_server(now=lambda: now[0])

    def attempt(secret, origin):
        settings = ClientSettings(
            client_sap=sap_of(mechanism, 0), server_sap=SAP, mechanism=mechanism, secret=secret, title=CLIENT_TITLE
        )
        proof = SecretProof(mechanism, secret) if mechanism >= Mechanism.HLS else None
        meter = Line(server, ClientSettings(client_sap=1, server_sap=SAP))
        meter.settings = settings
        meter.connection = server.connection(meter.late.append, origin)
        meter.client = Client(settings, random=os.urandom, proof=proof)
        meter.connect()

    for _ in range(FREE_FAILURES):
        with pytest.raises(AssociationError):
            attempt(b"wrong", "attacker")
    with pytest.raises(AssociationError):
        attempt(SECRET, "attacker")
    assert "locked out" in events[-1].reason
    attempt(SECRET, "head-end")
    now[0] += 5.0
    attempt(SECRET, "attacker")


# --- keys and layers


@pytest.mark.parametrize("suite_id", [0, 1, 2])
@pytest.mark.parametrize("general_form", [False, True])
@pytest.mark.parametrize("dedicated", [False, True])
def test_global_and_dedicated_keys_in_both_forms(suite_id, general_form, dedicated):
    server, device, _ = secure_server()
    key = bytes(range(100, 100 + len(keys_of(suite_id).guek))) if dedicated else b""
    meter = secure_line(server, Mechanism.HLS_GMAC, suite_id, dedicated_key=key, general=general_form)
    sent = []
    transceive = meter.transceive
    meter.transceive = lambda apdu: (sent.append(apdu[0]), transceive(apdu))[1]
    meter.connect()
    assert meter.get(3, ENERGY, 2) == 123456
    meter.set(1, NOTE, 2, axdr.octet_string(b"long " * 100))
    assert note_of(device) == b"long " * 100
    assert len(meter.get(7, bytes((1, 0, 99, 1, 0, 255)), 2)) == 1440
    get, put, act = {
        (False, False): (0xC8, 0xC9, 0xCB),
        (False, True): (0xD0, 0xD1, 0xD3),
        (True, False): (0xDB,) * 3,
        (True, True): (0xDC,) * 3,
    }[general_form, dedicated]
    assert sent[0:4] == [0x60, act, get, put]
    meter.release()


def test_a_dedicated_key_in_clear_is_none():
    server, _, events = secure_server()
    meter = secure_line(server, Mechanism.HLS_GMAC, 0)
    request = acse.Aarq(
        context=Context.LN_CIPHERED,
        mechanism=Mechanism.HLS_GMAC,
        calling_title=CLIENT_TITLE,
        authentication=b"c" * 16,
        user_information=pdu.encode_initiate_request(
            pdu.InitiateRequest(conformance=0xFFFFFF, max_pdu=0, dedicated_key=bytes(16))
        ),
    )
    assert acse.decode_aare(meter.transceive(acse.encode_aarq(request))).result == 1
    assert events[-1].kind == EventKind.REFUSED
    with pytest.raises(AssociationError, match="authentication failure"):
        secure_line(server, Mechanism.HLS_GMAC, 0, AUTHENTICATED, dedicated_key=bytes(16)).connect()


SCHEMES = ["wrapped", "one_pass", "static"]


@pytest.mark.parametrize("suite_id", [1, 2])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_general_ciphering_with_wrapped_and_agreed_keys(suite_id, scheme):
    meter, device, events = opened(suite_id)
    party = Party(CLIENT_TITLE, suite_id)
    answers = [party.read(meter.transceive(getattr(party, scheme)(GET_ENERGY))) for _ in range(2)]
    assert answers == [ENERGY_RESPONSE] * 2
    party.read(meter.transceive(getattr(party, scheme)(SET_NOTE)))
    assert note_of(device) == b"slipped in"
    assert not events


@pytest.mark.parametrize("suite_id", [0, 1, 2])
def test_general_ciphering_with_the_global_key(suite_id):
    meter, _, _ = opened(suite_id)
    party = Party(CLIENT_TITLE, suite_id)
    for _ in range(2):
        request = party.identified(GET_ENERGY, meter.ciphering)
        answer = meter.transceive(request)
        assert party.read(answer, meter.ciphering) == ENERGY_RESPONSE
    assert meter.transceive(request)[:3].hex() == "d80106"  # its invocation counter does not rise


@pytest.mark.parametrize("suite_id", [0, 1, 2])
def test_a_wrapped_key_needs_no_curve(suite_id):
    meter, _, _ = opened(suite_id)
    party = Party(CLIENT_TITLE, suite_id)
    assert party.read(meter.transceive(party.wrapped(GET_ENERGY))) == ENERGY_RESPONSE


@pytest.mark.parametrize("suite_id", [1, 2])
def test_general_signing_alone_within_and_around_ciphering(suite_id):
    meter, _, events = opened(suite_id)
    party = Party(CLIENT_TITLE, suite_id)
    assert party.verified(meter.transceive(party.signed(GET_ENERGY))) == ENERGY_RESPONSE
    # signed, then ciphered
    answer = party.read(meter.transceive(party.one_pass(party.signed(GET_ENERGY))))
    assert party.verified(answer) == ENERGY_RESPONSE
    # ciphered, then signed
    body = meter.ciphering.protect(AUTHENTICATED_ENCRYPTED, GET_ENERGY)
    inner = party.verified(meter.transceive(party.signed(b"\xc8" + bytes((len(body),)) + body)))
    assert inner[0] == 0xCC
    assert meter.ciphering.unprotect(TITLE, inner[2:])[1] == ENERGY_RESPONSE
    assert not events


@pytest.mark.parametrize("make", [*SCHEMES, "signed"])
def test_a_replayed_transaction_is_refused_after_a_restart_too(make):
    store = MemoryCounterStore()
    meter, device, events = opened(1, counters=store)
    party = Party(CLIENT_TITLE, 1)
    recorded = getattr(party, make)(SET_NOTE)
    meter.transceive(recorded)
    assert note_of(device) == b"slipped in"
    assert meter.transceive(recorded).hex() == NOT_DECIPHERED
    assert events[-1].threat == Threat.REPLAY
    again, device, events = opened(1, counters=store)
    assert again.transceive(recorded).hex() == NOT_DECIPHERED
    assert note_of(device) == b""
    assert events[-1].threat == Threat.REPLAY
    assert again.transceive(getattr(party, make)(SET_NOTE)).hex() != NOT_DECIPHERED
    assert note_of(device) == b"slipped in"


@pytest.mark.parametrize("make", [*SCHEMES, "signed"])
def test_every_flipped_bit_of_a_general_apdu_is_found(make):
    meter, device, _ = opened(1)
    party = Party(CLIENT_TITLE, 1)
    apdu = getattr(party, make)(SET_NOTE)
    for place in range(len(apdu)):
        broken = bytearray(apdu)
        broken[place] ^= 1 << place % 8
        answer = meter.transceive(bytes(broken))
        assert answer[0] == 0xD8, place
        assert note_of(device) == b"", place


def test_another_recipient_originator_and_key_are_refused():
    meter, device, events = opened(1)
    stranger = Party(CLIENT_TITLE, 1, server=b"ANOTHER1")
    third = Party(b"THIRD001", 1)
    for apdu in (
        stranger.signed(SET_NOTE),
        stranger.static(SET_NOTE),
        third.static(SET_NOTE),
        third.signed(SET_NOTE),
    ):
        assert meter.transceive(apdu).hex() == NOT_DECIPHERED
    party = Party(CLIENT_TITLE, 1)
    header = party.header()
    for key in (
        general.KeyInfo(general.KeyChoice.IDENTIFIED, 1),
        general.KeyInfo(general.KeyChoice.WRAPPED, 1, b""),
    ):
        body = meter.ciphering.protect(AUTHENTICATED_ENCRYPTED, SET_NOTE, header.encode())
        assert meter.transceive(general.encode_ciphering(header, key, body)).hex() == NOT_DECIPHERED
    assert note_of(device) == b""
    assert {event.kind for event in events} == {EventKind.SECURITY_FAILURE}


def test_an_unsigned_ephemeral_key_is_refused():
    meter, device, _ = opened(1)
    party = Party(CLIENT_TITLE, 1)
    apdu = general.decode_ciphering(party.one_pass(SET_NOTE))
    unsigned = general.KeyInfo(apdu.key.choice, apdu.key.id, apdu.key.data[:64] + bytes(64))
    assert meter.transceive(general.encode_ciphering(apdu.header, unsigned, apdu.content)).hex() == NOT_DECIPHERED
    assert note_of(device) == b""


def test_layers_upon_layers_are_refused():
    meter, device, events = opened(1)
    party = Party(CLIENT_TITLE, 1)
    twice = party.signed(party.signed(SET_NOTE))
    assert meter.transceive(twice).hex() == NOT_DECIPHERED
    assert meter.transceive(party.static(party.wrapped(SET_NOTE))).hex() == NOT_DECIPHERED
    bomb = SET_NOTE
    for _ in range(100):
        bomb = party.signed(bomb)
    assert meter.transceive(bomb).hex() == NOT_DECIPHERED
    assert note_of(device) == b""
    assert len(events) == 3


# --- policy


def policy_line(policy, response_policy=0, suite_id=1):
    client = profile_of(Mechanism.HLS_SHA256, suite_id, policy=policy, response_policy=response_policy)
    server, device, events = secure_server([client])
    meter = secure_line(server, Mechanism.HLS_SHA256, suite_id, policy & 0x30 or AUTHENTICATED)
    return meter, device, events


def test_requests_that_must_be_signed():
    client = profile_of(Mechanism.HLS_ECDSA, 1, policy=SIGNED)
    server, device, events = secure_server([client])
    meter = secure_line(server, Mechanism.HLS_ECDSA, 1, AUTHENTICATED)
    exchange = meter.client.connect()
    pass_3 = exchange.send(meter.transceive(next(exchange)))
    assert meter.transceive(pass_3).hex() == NOT_DECIPHERED  # ciphered, not signed
    party = Party(CLIENT_TITLE, 1)
    assert note_of(device) == b""
    assert events[-1].threat == Threat.DECRYPTION_FAILURE
    assert (
        meter.transceive(party.signed(GET_ENERGY)).hex() == NOT_DECIPHERED
    )  # signed, but not ciphered as the AARQ
    answer = party.read(meter.transceive(party.one_pass(party.signed(GET_ENERGY))))
    assert party.verified(answer)[-2:] == b"\x01\x03"  # still half open


@pytest.mark.parametrize("asked", [AUTHENTICATED, AUTHENTICATED_ENCRYPTED])
def test_responses_have_at_least_what_their_policy_asks_for(asked):
    meter, _, _ = policy_line(AUTHENTICATED, asked)
    meter.connect()
    body = meter.ciphering.protect(AUTHENTICATED, GET_ENERGY)
    answer = meter.transceive(b"\xc8" + bytes((len(body),)) + body)
    assert answer[2] == asked | 1
    assert meter.ciphering.unprotect(TITLE, answer[2:])[1] == ENERGY_RESPONSE


def test_signed_responses_to_ciphered_requests():
    meter, _, _ = policy_line(AUTHENTICATED_ENCRYPTED, AUTHENTICATED_ENCRYPTED | SIGNED)
    party = Party(CLIENT_TITLE, 1)
    with pytest.raises(Exception, match="not protected"):
        meter.connect()  # our own client expects no signatures; the association is half open
    body = meter.ciphering.protect(AUTHENTICATED_ENCRYPTED, GET_ENERGY)
    answer = meter.transceive(b"\xc8" + bytes((len(body),)) + body)
    assert answer[:1] == b"\xdb"
    plain = meter.ciphering.unprotect(TITLE, answer[11 if answer[10] & 0x80 == 0 else 12 :])[1]
    assert party.verified(plain)[-2:] == b"\x01\x03"


@pytest.mark.parametrize("less", [0, AUTHENTICATED, ENCRYPTED])
def test_a_downgrade_is_refused_and_reported(less):
    meter, device, events = policy_line(AUTHENTICATED_ENCRYPTED)
    meter.connect()
    events.clear()
    request = SET_NOTE
    if less:
        body = meter.ciphering.protect(less, SET_NOTE)
        request = b"\xc9" + bytes((len(body),)) + body
    assert meter.transceive(request).hex() == (NOT_DECIPHERED if less else NOT_ALLOWED)
    assert note_of(device) == b""
    assert [event.kind for event in events] == [EventKind.SECURITY_FAILURE]
    assert meter.get(3, ENERGY, 2) == 123456


def test_a_client_cannot_use_another_suite_than_its_own():
    server, _, events = secure_server()
    for suite_id in (1, 2):
        meter = secure_line(server, Mechanism.HLS_GMAC, 0)
        meter.settings = meter.client.settings = type(meter.settings)(
            client_sap=sap_of(Mechanism.HLS_GMAC, suite_id),
            server_sap=SAP,
            mechanism=Mechanism.HLS_GMAC,
            protection=AUTHENTICATED_ENCRYPTED,
        )
        with pytest.raises(AssociationError, match="authentication failure"):
            meter.connect()
        assert any(event.threat == Threat.DECRYPTION_FAILURE for event in events)


def test_keys_and_policy_of_a_client_change_under_an_open_association():
    server, _, _ = secure_server()
    meter = secure_line(server, Mechanism.HLS_GMAC, 0)
    meter.connect()
    sap = sap_of(Mechanism.HLS_GMAC, 0)
    changed = profile_of(Mechanism.HLS_GMAC, 0, keys=type(keys_of(0))(b"n" * 16, b"m" * 16))
    server.clients[sap] = changed
    with pytest.raises(ExceptionResponseError):
        meter.get(3, ENERGY, 2)
    meter.client._ciphering = meter.ciphering = Ciphering(changed.keys, CLIENT_TITLE, MemoryCounterStore())
    assert meter.get(3, ENERGY, 2) == 123456


# --- pre-established associations


def test_pre_established_association():
    plain = profile_of(Mechanism.NONE, 0, pre_established=True)
    ciphered = profile_of(
        Mechanism.LLS, 0, pre_established=True, policy=AUTHENTICATED_ENCRYPTED, system_title=CLIENT_TITLE
    )
    server, device, events = secure_server([plain, ciphered])
    connection = server.connection(lambda _: None)
    get = bytes.fromhex("c001c1") + b"\0\1" + SERIAL + b"\2\0"
    assert connection.receive(wrapper.encode(plain.sap, SAP, get))[8:].startswith(b"\xc4\x01\xc1\0\x09")
    ours = Ciphering(keys_of(0), CLIENT_TITLE, MemoryCounterStore())
    body = ours.protect(AUTHENTICATED_ENCRYPTED, SET_NOTE)
    request = wrapper.encode(ciphered.sap, SAP, b"\xc9" + bytes((len(body),)) + body)
    answer = connection.receive(request)[8:]
    assert ours.unprotect(TITLE, answer[2:])[1].hex() == "c501c100"
    assert note_of(device) == b"slipped in"
    assert connection.receive(request)[8:11].hex() == "d80106"
    assert connection.receive(wrapper.encode(ciphered.sap, SAP, SET_NOTE))[8:].hex() == NOT_ALLOWED
    other = server.connection(lambda _: None)
    assert other.receive(request)[8:11].hex() == "d80106"  # nor over another connection
    assert [event.threat for event in events if event.threat] == [
        Threat.REPLAY,
        Threat.DECRYPTION_FAILURE,
        Threat.REPLAY,
    ]


def test_the_public_key_of_another_client_is_not_enough():
    """Whoever has a certificate of its own cannot sign for another client."""
    client = profile_of(Mechanism.HLS_ECDSA, 1, signing_key=public_of("server agreement", 1))
    server, _, events = secure_server([client])
    with pytest.raises(AssociationError):
        secure_line(server, Mechanism.HLS_ECDSA, 1, 0).connect()
    assert events[-1].threat == Threat.AUTHENTICATION_FAILURE


# --- rotation of keys


@pytest.mark.parametrize("protection", [0, AUTHENTICATED_ENCRYPTED])
def test_next_keys_take_the_place_of_the_old_ones_when_they_are_first_used(protection):
    old, new = keys_of(0), type(keys_of(0))(b"n" * 16, b"m" * 16)
    client = profile_of(Mechanism.HLS_GMAC, 0, next_keys=new)
    server, _, events = secure_server([client])

    def attempt(keys, first):
        meter = secure_line(server, Mechanism.HLS_GMAC, 0, protection)
        meter.client = Client(
            meter.settings,
            random=os.urandom,
            ciphering=Ciphering(keys, CLIENT_TITLE, MemoryCounterStore(first)),
        )
        if not protection:
            meter.client._proof = GmacProof(meter.client._ciphering)
        meter.connect()
        assert meter.get(3, ENERGY, 2) == 123456
        return meter

    earlier = attempt(old, 1)
    assert server.clients[client.sap].next_keys == new
    with pytest.raises(AssociationError):
        attempt(type(old)(b"x" * 16, b"y" * 16), 1)
    assert server.clients[client.sap].next_keys == new
    attempt(new, 1)
    assert (server.clients[client.sap].keys, server.clients[client.sap].next_keys) == (new, None)
    assert events[-2].threat == Threat.KEYS_CHANGED or events[-1].threat == Threat.KEYS_CHANGED
    with pytest.raises(AssociationError):
        attempt(old, 5000)
    if protection:
        with pytest.raises(ExceptionResponseError):
            earlier.get(3, ENERGY, 2)
    attempt(new, 5000)


# --- what comes late, what is malformed


@pytest.mark.parametrize("make", [*SCHEMES, "signed"])
def test_an_answer_that_comes_late_has_the_layers_of_its_own_request(make):
    meter, device, _ = opened(1)
    device.breaker_later = True
    party = Party(CLIENT_TITLE, 1)
    action = bytes.fromhex("c301c1") + b"\0\x46" + BREAKER + b"\1" + b"\1\x0f\0"
    frame = wrapper.encode(meter.settings.client_sap, SAP, getattr(party, make)(action))
    assert meter.connection.receive(frame) == b""
    asked = party.transaction
    party.read(meter.transceive(party.one_pass(GET_ENERGY)))  # refused meanwhile, in layers of its own
    device.pending[0].answer(pdu.ActionResult.SUCCESS)
    party.transaction = asked
    (late,) = meter.late
    read = party.verified if make == "signed" else party.read
    assert read(late[8:]).hex() == "c701c10000"


def test_mutated_general_apdus_are_answered_and_change_nothing():
    chance = random.Random(11)
    meter, device, _ = opened(1)
    party = Party(CLIENT_TITLE, 1)
    body = meter.ciphering.protect(AUTHENTICATED_ENCRYPTED, SET_NOTE)
    seeds = [
        *(getattr(party, make)(SET_NOTE) for make in (*SCHEMES, "signed")),
        party.one_pass(party.signed(SET_NOTE)),
        b"\xc9" + bytes((len(body),)) + body,
        b"\xdb\x08" + CLIENT_TITLE + bytes((len(body),)) + body,
    ]
    for _ in range(3000):
        apdu = mutate(chance, chance.choice(seeds))
        if apdu in seeds or not apdu or apdu[0] in (0x60, 0x62):
            continue
        answer = meter.connection.receive(wrapper.encode(meter.settings.client_sap, SAP, apdu))[8:]
        assert answer[:1] in (b"\xd8", b"\xc4", b"\xc5", b"\xc7", b""), apdu.hex()
        assert note_of(device) == b""


OVERSIZED = [b"\x84\xff\xff\xff\xff", b"\x83\x7f\xff\xff", b"\xff" * 20, b"\x88" + b"\xff" * 8, b"\x82\xff\xff"]


@pytest.mark.parametrize("tag", [0xC8, 0xC9, 0xCB, 0xD0, 0xDB, 0xDC, 0xDD, 0xDF, 0x21, 0x25])
def test_oversized_lengths_are_refused_and_reported(tag):
    meter, device, events = opened(1)
    for length in OVERSIZED:
        events.clear()
        assert meter.transceive(bytes((tag,)) + length + bytes(20)).hex() == NOT_DECIPHERED
        assert [event.kind for event in events] == [EventKind.SECURITY_FAILURE]
    assert note_of(device) == b""


def test_the_client_address_of_another_is_of_no_use():
    """Keys of the one client, address of the other: neither opens an association nor slips into one."""
    server, device, events = secure_server(
        [profile_of(Mechanism.HLS_GMAC, 0), profile_of(Mechanism.HLS_GMAC, 1), profile_of(Mechanism.LLS, 0)]
    )
    reader = secure_line(server, Mechanism.HLS_GMAC, 0)
    victim = secure_line(server, Mechanism.HLS_GMAC, 1)
    reader.connect()
    victim.connect()
    body = reader.ciphering.protect(AUTHENTICATED_ENCRYPTED, SET_NOTE)
    request = b"\xc9" + bytes((len(body),)) + body
    assert victim.transceive(request).hex() == NOT_DECIPHERED
    frame = wrapper.encode(sap_of(Mechanism.LLS, 0), SAP, request)
    assert reader.connection.receive(frame)[8:].hex() == NOT_ALLOWED  # no association has this address here
    assert note_of(device) == b""
    assert events[-1].threat == Threat.DECRYPTION_FAILURE


# --- the broadcast key


@pytest.mark.parametrize("suite_id", [0, 1, 2])
@pytest.mark.parametrize("general_form", [False, True])
def test_the_broadcast_key_is_for_unconfirmed_requests_alone(suite_id, general_form):
    meter, device, events = opened(suite_id, protection=AUTHENTICATED_ENCRYPTED)
    ours = Ciphering(keys_of(suite_id), CLIENT_TITLE, MemoryCounterStore(), broadcast=True)

    def send(plain):
        body = ours.protect(AUTHENTICATED_ENCRYPTED, plain)
        head = b"\xdb\x08" + CLIENT_TITLE if general_form else bytes((plain[0] + 8,))
        frame = wrapper.encode(meter.settings.client_sap, SAP, head + bytes((len(body),)) + body)
        return frame, meter.connection.receive(frame)[8:]

    for confirmed in (SET_NOTE, GET_ENERGY, GET_ENERGY[:2] + b"\x81" + GET_ENERGY[3:]):
        assert send(confirmed)[1].hex() == NOT_DECIPHERED
        assert events[-1].kind == EventKind.SECURITY_FAILURE
    assert note_of(device) == b""
    frame, answer = send(SET_NOTE[:2] + b"\x81" + SET_NOTE[3:])
    assert answer == b""
    assert note_of(device) == b"slipped in"
    assert meter.connection.receive(frame)[8:11].hex() == "d80106"
    assert meter.get(3, ENERGY, 2) == 123456


def test_without_a_broadcast_key_there_is_none():
    keys = keys_of(0)
    client = profile_of(Mechanism.HLS_SHA256, 0, keys=type(keys)(keys.guek, keys.gak))
    meter, device, _ = opened(0, [client], AUTHENTICATED_ENCRYPTED)
    ours = Ciphering(keys, CLIENT_TITLE, MemoryCounterStore(), broadcast=True)
    body = ours.protect(AUTHENTICATED_ENCRYPTED, SET_NOTE[:2] + b"\x81" + SET_NOTE[3:])
    assert meter.transceive(b"\xc9" + bytes((len(body),)) + body).hex() == NOT_DECIPHERED
    assert note_of(device) == b""


def test_the_broadcast_key_opens_no_association():
    server, _, events = secure_server()
    meter = secure_line(server, Mechanism.LLS, 0)
    meter.client._ciphering = Ciphering(keys_of(0), CLIENT_TITLE, MemoryCounterStore(), broadcast=True)
    with pytest.raises(AssociationError, match="authentication failure"):
        meter.connect()
    assert any(event.threat == Threat.DECRYPTION_FAILURE for event in events)
