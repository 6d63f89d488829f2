"""Messages of a third party that a client passes on; the broadcast key in general-ciphering."""

import random

import pytest
from dlms_mutants import mutate
from dlms_secure import Party, identity, keys_of, private_of, profile_of, public_of
from dlms_toy import CLIENT_TITLE, SAP, TITLE
from test_dlms_protection import (
    ENERGY_RESPONSE,
    GET_ENERGY,
    NOT_DECIPHERED,
    SET_NOTE,
    note_of,
    secure_line,
    secure_server,
)
from test_dlms_setup import NOW, Authority

from flexmap.dlms import acse, axdr, general, wrapper
from flexmap.dlms import apdu as pdu
from flexmap.dlms.acse import Context, Mechanism
from flexmap.dlms.general import Header, KeyChoice, KeyInfo
from flexmap.dlms.identity import Identity, Use
from flexmap.dlms.profile import Threat
from flexmap.dlms.security import (
    AUTHENTICATED,
    AUTHENTICATED_ENCRYPTED,
    BROADCAST_KEY,
    COMPRESSED,
    SIGNED,
    Ciphering,
    MemoryCounterStore,
)

DAY = 86400.0
THIRD = b"THIRD001"
SET_DONE = bytes.fromhex("c501c100")


class ThirdParty(Party):
    """The same, with keys of its own and the client's authentication key."""

    def _private(self, use):
        return private_of(f"third {use}", self.suite.id)


class Site:
    """A server, a client with an open association, and a third party behind the client."""

    def __init__(self, suite_id=1, *, listed=(THIRD,), certified=tuple(Use), **changes):
        self.time = NOW
        authority = Authority(suite_id)
        ders = [
            authority.issue(title, use, public_of(f"third {use.name.lower()}", suite_id), days=30.0)
            for use in certified
            for title in (listed or (THIRD,))
        ]
        client = profile_of(Mechanism.HLS_SHA256, suite_id, third_parties=frozenset(listed), **changes)
        self.server, self.device, self.events = secure_server([client], now=lambda: self.time)
        self.server.setups.identity = Identity(identity().keys, {}, (authority.der, *ders))
        self.line = secure_line(self.server, Mechanism.HLS_SHA256, suite_id)
        self.line.connect()
        self.third, self.client = ThirdParty(THIRD, suite_id), Party(CLIENT_TITLE, suite_id)
        self.events.clear()

    def passed_on(self, apdu):
        """What the client sends to pass it on: within general-glo-ciphering."""
        body = self.line.ciphering.protect(AUTHENTICATED_ENCRYPTED, apdu)
        return b"\xdb\x08" + CLIENT_TITLE + axdr.encode_length(len(body)) + body

    def ask(self, apdu):
        """Pass it on and return the answer to the third party, as it stands in the client's layer."""
        answer = self.line.transceive(self.passed_on(apdu))
        assert answer[:10] == b"\xdb\x08" + TITLE, answer.hex()
        body, end = axdr.take_octet_string(answer, 10)
        assert end == len(answer)
        return self.line.ciphering.unprotect(TITLE, body, AUTHENTICATED_ENCRYPTED)[1]

    def refused(self, apdu, why):
        assert self.line.transceive(apdu).hex() == NOT_DECIPHERED
        assert why in self.events[-1].reason
        assert note_of(self.device) == b""


@pytest.mark.parametrize("suite_id", [1, 2])
def test_what_a_third_party_signs_is_answered_signed_to_it(suite_id):
    site = Site(suite_id)
    for _ in range(2):
        assert site.third.verified(site.ask(site.third.signed(GET_ENERGY))) == ENERGY_RESPONSE
    assert site.third.verified(site.ask(site.third.signed(SET_NOTE))) == SET_DONE
    assert note_of(site.device) == b"slipped in"


@pytest.mark.parametrize("suite_id", [1, 2])
@pytest.mark.parametrize("scheme", ["one_pass", "static"])
def test_what_a_third_party_ciphers_the_client_cannot_read(suite_id, scheme):
    site = Site(suite_id)
    make = getattr(site.third, scheme)
    assert site.third.read(site.ask(make(GET_ENERGY))) == ENERGY_RESPONSE
    assert site.third.verified(site.third.read(site.ask(make(site.third.signed(GET_ENERGY))))) == ENERGY_RESPONSE
    inner = site.third.verified(site.ask(site.third.signed(make(GET_ENERGY))))
    answer = general.decode_ciphering(inner)
    assert (answer.header.originator, answer.header.recipient) == (TITLE, THIRD)


def test_the_client_may_sign_around_it():
    site = Site()
    whole = site.client.signed(site.third.signed(GET_ENERGY))
    answer = site.line.transceive(site.passed_on(whole))
    body, _ = axdr.take_octet_string(answer, 10)
    inner = site.line.ciphering.unprotect(TITLE, body, AUTHENTICATED_ENCRYPTED)[1]
    assert site.third.verified(site.client.verified(inner)) == ENERGY_RESPONSE


# --- who may not


def test_third_parties_that_are_not_known():
    unlisted = Site(listed=())
    unlisted.refused(unlisted.passed_on(unlisted.third.signed(SET_NOTE)), "originator or recipient")
    uncertified = Site(certified=())
    uncertified.refused(uncertified.passed_on(uncertified.third.signed(SET_NOTE)), "signing key is not known")
    half = Site(certified=(Use.SIGNING,))
    half.refused(half.passed_on(half.third.one_pass(SET_NOTE)), "agreement key is not known")
    site = Site()
    site.time = NOW + 31 * DAY
    site.refused(site.passed_on(site.third.signed(SET_NOTE)), "third party's certificate for signing has expired")
    other = ThirdParty(b"THIRD002", 1)
    site.refused(site.passed_on(other.signed(SET_NOTE)), "originator or recipient")
    elsewhere = ThirdParty(THIRD, 1, server=b"ANOTHER1")
    site.refused(site.passed_on(elsewhere.signed(SET_NOTE)), "originator or recipient")


def test_a_client_cannot_speak_for_a_third_party():
    site = Site()
    pretender = Party(THIRD, 1)  # with the client's keys
    site.refused(site.passed_on(pretender.signed(SET_NOTE)), "signature is wrong")
    site.refused(site.passed_on(pretender.one_pass(SET_NOTE)), "not signed by")
    site.refused(site.passed_on(pretender.static(SET_NOTE)), "tag is wrong")
    site.refused(site.passed_on(site.third.wrapped(SET_NOTE)), "those that are agreed on")
    ours = Ciphering(keys_of(1), THIRD, MemoryCounterStore())
    site.refused(site.passed_on(site.third.identified(SET_NOTE, ours)), "those that are agreed on")


def test_a_message_is_not_passed_on_twice():
    site = Site()
    first, second = site.third.signed(GET_ENERGY), site.third.signed(GET_ENERGY)
    site.ask(second)
    for old in (first, second):
        site.refused(site.passed_on(old), "does not rise")  # though the client's own counter does
        assert site.events[-1].threat == Threat.REPLAY
    again = secure_line(site.server, Mechanism.HLS_SHA256, 1, store=MemoryCounterStore(first=50_000))
    again.connect()
    site.line = again
    site.refused(site.passed_on(second), "does not rise")
    site.third.transaction = 2
    assert site.third.verified(site.ask(site.third.signed(GET_ENERGY))) == ENERGY_RESPONSE


def test_layers_that_may_not_stand_there():
    site = Site(listed=(THIRD, b"THIRD002"))
    other = ThirdParty(b"THIRD002", 1)
    site.refused(site.passed_on(site.third.signed(site.client.signed(SET_NOTE))), "is not of that one")
    site.refused(site.passed_on(site.third.signed(other.signed(SET_NOTE))), "is not of that one")
    site.refused(site.passed_on(site.third.signed(site.third.signed(SET_NOTE))), "two layers of the same kind")
    site.refused(site.third.signed(site.passed_on(SET_NOTE)), "is not of that one")


def test_its_ciphering_protects_nothing_on_the_clients_way_but_its_signature_counts():
    site = Site(policy=AUTHENTICATED_ENCRYPTED)
    site.refused(site.third.one_pass(SET_NOTE), "required")
    site.refused(site.third.one_pass(site.third.signed(SET_NOTE)), "required")
    signed = Site(policy=AUTHENTICATED)
    signed.server.clients.update(
        {sap: profile_of(Mechanism.HLS_SHA256, 1, policy=AUTHENTICATED | SIGNED, third_parties=frozenset({THIRD}))
         for sap in signed.server.clients}
    )  # fmt: skip
    signed.refused(signed.passed_on(SET_NOTE), "required")
    assert signed.third.verified(signed.ask(signed.third.signed(GET_ENERGY))) == ENERGY_RESPONSE


@pytest.mark.parametrize("make", ["signed", "one_pass", "static"])
def test_mutated_messages_of_a_third_party(make):
    site, chance = Site(), random.Random(7)
    for _ in range(300):
        apdu = getattr(site.third, make)(SET_NOTE)
        broken = mutate(chance, apdu)
        if broken == apdu:
            continue
        answer = site.line.transceive(site.passed_on(broken))
        assert note_of(site.device) == b"", broken.hex()
        assert answer
    assert site.line.get(15, bytes((0, 0, 40, 0, 0, 255)), 8) == 2


# --- the broadcast key


class Broadcaster:
    """Sends under the broadcast key, which key-info names: the bit of security control stays 0."""

    def __init__(self, suite_id):
        keys = keys_of(suite_id)
        self.cipher = Ciphering(keys, CLIENT_TITLE, MemoryCounterStore(), broadcast=True)

    def apdu(self, plain, *, recipient=b"", key=1, originator=CLIENT_TITLE, bit=0):
        header = Header(b"", originator, recipient)
        body = self.cipher.protect(AUTHENTICATED_ENCRYPTED, plain, header.encode())
        assert not body[0] & BROADCAST_KEY
        body = bytes((body[0] | bit,)) + body[1:]
        return general.encode_ciphering(header, KeyInfo(KeyChoice.IDENTIFIED, key), body)


UNCONFIRMED_SET = SET_NOTE[:2] + b"\x81" + SET_NOTE[3:]


@pytest.mark.parametrize("suite_id", [0, 1, 2])
@pytest.mark.parametrize("recipient", [b"", TITLE])
def test_the_broadcast_key_of_general_ciphering(suite_id, recipient):
    server, device, events = secure_server()
    line, all_ = secure_line(server, Mechanism.HLS_SHA256, suite_id), Broadcaster(suite_id)
    line.connect()

    def send(apdu):
        return line.connection.receive(wrapper.encode(line.settings.client_sap, SAP, apdu))[8:]

    for plain in (SET_NOTE, GET_ENERGY):
        assert send(all_.apdu(plain, recipient=recipient)).hex() == NOT_DECIPHERED
        assert "unconfirmed requests alone" in events[-1].reason
    for apdu in (
        all_.apdu(UNCONFIRMED_SET, recipient=b"ANOTHER1"),
        all_.apdu(UNCONFIRMED_SET, originator=b"ANOTHER1"),
        all_.apdu(UNCONFIRMED_SET, recipient=TITLE, key=0),
        all_.apdu(UNCONFIRMED_SET, recipient=TITLE, key=2),
        all_.apdu(UNCONFIRMED_SET, recipient=recipient, bit=BROADCAST_KEY),
    ):
        assert send(apdu).hex() == NOT_DECIPHERED
    assert note_of(device) == b""
    good = all_.apdu(UNCONFIRMED_SET, recipient=recipient)
    assert send(good) == b""
    assert note_of(device) == b"slipped in"
    assert send(good)[:3].hex() == "d80106"  # it was here before
    old_form = Ciphering(keys_of(suite_id), CLIENT_TITLE, MemoryCounterStore(), broadcast=True)
    body = old_form.protect(AUTHENTICATED_ENCRYPTED, UNCONFIRMED_SET)
    assert send(b"\xc9" + axdr.encode_length(len(body)) + body)[:3].hex() == "d80106"  # one sequence of counters


def test_compression_is_refused():
    server, _, events = secure_server()
    line = secure_line(server, Mechanism.HLS_SHA256, 0)
    line.connect()
    body = bytearray(line.ciphering.protect(AUTHENTICATED_ENCRYPTED, GET_ENERGY))
    body[0] |= COMPRESSED
    assert line.transceive(b"\xc8" + bytes((len(body),)) + bytes(body)).hex() == NOT_DECIPHERED
    assert events[-1].reason == "security control 0xb0: compression"


def test_a_third_party_opens_and_ends_no_association():
    site = Site()
    initiate = pdu.encode_initiate_request(pdu.InitiateRequest(conformance=0xFFFFFF, max_pdu=0))
    for information in (site.third.signed(initiate), site.passed_on(site.third.one_pass(initiate))):
        aarq = acse.Aarq(context=Context.LN_CIPHERED, mechanism=Mechanism.HLS_SHA256, calling_title=CLIENT_TITLE,
                         authentication=b"c" * 16, user_information=information)  # fmt: skip
        assert acse.decode_aare(site.line.transceive(acse.encode_aarq(aarq))).diagnostic == 13
        assert site.events[-2].reason == "a third party opens no association"
    information = site.passed_on(site.third.signed(initiate))
    release = acse.encode_release(acse.Release(reason=0, user_information=information))
    assert site.line.transceive(release).hex() == "d80101"
    assert site.events[-1].reason == "release: a third party ends no association"
    assert site.line.get(15, bytes((0, 0, 40, 0, 0, 255)), 8) == 2
