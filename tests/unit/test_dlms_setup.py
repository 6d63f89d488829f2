"""Security setup (class 64): what the managing client can change, that it lasts, and that nobody else can."""

import datetime as dt

import pytest
from cryptography import x509
from dlms_secure import SECRET, all_clients, identity, keys_of, private_of, profile_of, public_of, sap_of
from dlms_toy import BREAKER, CLIENT_TITLE, ENERGY, TITLE, toy_schema
from test_dlms_protection import NOTE, SET_NOTE, note_of, secure_line, secure_server

from flexmap.dlms import axdr, certificates, classes, setup, suite
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.apdu import ActionResult
from flexmap.dlms.certificates import CertificateError, Entity
from flexmap.dlms.client import AssociationError, ExceptionResponseError
from flexmap.dlms.identity import Identity, Use
from flexmap.dlms.objects import ASSOCIATION_LN, Schema
from flexmap.dlms.profile import EventKind, Grant, Role, Threat
from flexmap.dlms.security import AUTHENTICATED, AUTHENTICATED_ENCRYPTED, SIGNED, Ciphering, MemoryCounterStore
from flexmap.dlms.suite import SUITES
from flexmap.model import LocalError

LN = classes.SECURITY_SETUP_LN
NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC).timestamp()
GUEK, GBEK, GAK, KEK = range(4)


class Kept(setup.Forgetful):
    """A keystore that tells what it was given, and can fail."""

    def __init__(self):
        self.clients, self.identities, self.broken = [], [], False

    def keep_client(self, client):
        if self.broken:
            raise LocalError("disk full")
        self.clients.append(client)

    def keep_identity(self, identity):
        if self.broken:
            raise LocalError("disk full")
        self.identities.append(identity)


def managed(suite_id=0, *, protection=AUTHENTICATED_ENCRYPTED, own=None, connect=True, **changes):
    client = profile_of(Mechanism.HLS_GMAC, suite_id, system_title=CLIENT_TITLE, **changes)
    kept = Kept()
    server, device, events = secure_server([client, *all_clients_but(client.sap)], keystore=kept, now=lambda: NOW)
    if own is not None:
        server.setups.identity = own
    meter = secure_line(server, Mechanism.HLS_GMAC, suite_id, protection)
    if connect:
        meter.connect()
        events.clear()
    meter.kept, meter.server, meter.device, meter.events, meter.sap = kept, server, device, events, client.sap
    return meter


def all_clients_but(sap):
    return [client for client in all_clients().values() if client.sap != sap]


def call(meter, method, value, name=LN):
    return meter.action(64, name, method, value)


def wrapped(kek, *keys):
    return axdr.array(
        [
            axdr.structure(axdr.encode("enum", key), axdr.octet_string(suite.wrap(kek, octets)))
            for key, octets in keys
        ]
    )


@pytest.mark.parametrize("suite_id", [0, 1, 2])
def test_attributes(suite_id):
    meter = managed(suite_id)
    assert meter.get(64, LN, 1) == LN
    assert meter.get(64, LN, 2) == 0b01101100  # the association was opened with both
    assert [meter.get(64, LN, index) for index in (3, 4, 5, 6)] == [suite_id, CLIENT_TITLE, TITLE, []]


# --- security_activate


def test_the_policy_becomes_stronger_never_weaker():
    meter = managed(protection=AUTHENTICATED)
    assert call(meter, 1, axdr.encode("enum", 0b00000100)).result == ActionResult.SUCCESS
    assert meter.get(64, LN, 2) == 0b00100100
    assert call(meter, 1, axdr.encode("enum", 0b01001100)).result == ActionResult.SUCCESS
    assert [(client.policy, client.response_policy) for client in meter.kept.clients] == [
        (AUTHENTICATED, 0),
        (AUTHENTICATED_ENCRYPTED, 0x20),
    ]
    with pytest.raises(ExceptionResponseError):  # what was enough no longer is
        meter.get(3, ENERGY, 2)
    assert (meter.events[-1].kind, meter.events[-1].threat) == (
        EventKind.SECURITY_FAILURE,
        Threat.DECRYPTION_FAILURE,
    )
    strong = secure_line(meter.server, Mechanism.HLS_GMAC, 0, store=MemoryCounterStore(first=5000))
    strong.connect()
    for weaker in (0, 0b00000100, 0b00001000, 0b01000100):
        assert call(strong, 1, axdr.encode("enum", weaker)).result == ActionResult.OTHER_REASON
    for nonsense in (axdr.encode("enum", 3), axdr.encode("long", -4), axdr.octet_string(b""), None):
        assert call(strong, 1, nonsense).result == ActionResult.TYPE_UNMATCHED
    assert len(meter.kept.clients) == 2


def test_signatures_can_be_demanded_where_there_are_keys_for_them():
    assert call(managed(0), 1, axdr.encode("enum", 0b00011100)).result == ActionResult.OTHER_REASON
    assert call(managed(1, own=Identity()), 1, axdr.encode("enum", 0b00010000)).result == ActionResult.OTHER_REASON
    meter = managed(1)
    assert call(meter, 1, axdr.encode("enum", 0b00011100)).result == ActionResult.SUCCESS
    assert meter.kept.clients[-1].policy == AUTHENTICATED_ENCRYPTED | SIGNED
    with pytest.raises(ExceptionResponseError):
        meter.get(3, ENERGY, 2)


# --- key_transfer


@pytest.mark.parametrize("suite_id", [0, 1, 2])
def test_transferred_keys_hold_from_the_next_request_on(suite_id):
    meter = managed(suite_id)
    keys, octets = keys_of(suite_id), SUITES[suite_id].key_octets
    fresh = {key: bytes((0xA0 + key,)) * octets for key in (GUEK, GBEK, GAK, KEK)}
    reply = call(meter, 2, wrapped(keys.kek, *fresh.items()))
    assert reply.result == ActionResult.SUCCESS  # protected with the old keys still: our client could read it
    changed = meter.kept.clients[-1].keys
    assert (changed.guek, changed.gbek, changed.gak, changed.kek) == tuple(fresh.values())
    assert (meter.events[-1].kind, meter.events[-1].threat) == (EventKind.CHANGED, Threat.KEYS_CHANGED)
    assert not any(octets.hex() in str(event) for event in meter.events for octets in fresh.values())
    with pytest.raises(ExceptionResponseError):
        meter.get(3, ENERGY, 2)
    meter.client._ciphering = Ciphering(changed, CLIENT_TITLE, MemoryCounterStore())
    assert meter.get(3, ENERGY, 2) == 123456
    with pytest.raises(AssociationError):
        secure_line(meter.server, Mechanism.HLS_GMAC, suite_id, store=MemoryCounterStore(first=9000)).connect()


def test_what_was_received_stays_received_when_only_the_authentication_key_changes():
    meter = managed()
    keys = keys_of(0)
    for _ in range(10):
        meter.get(3, ENERGY, 2)
    old = meter.ciphering.protect(AUTHENTICATED_ENCRYPTED, SET_NOTE)
    assert call(meter, 2, wrapped(keys.kek, (GAK, b"a" * 16))).result == ActionResult.SUCCESS
    changed = meter.kept.clients[-1].keys
    again = Ciphering(changed, CLIENT_TITLE, MemoryCounterStore(first=int.from_bytes(old[1:5], "big")))
    replay = again.protect(AUTHENTICATED_ENCRYPTED, SET_NOTE)
    assert meter.transceive(b"\xc9" + bytes((len(replay),)) + replay)[:3].hex() == "d80106"
    assert note_of(meter.device) == b""


def test_keys_that_cannot_be_taken_change_nothing():
    meter = managed()
    kek = keys_of(0).kek
    bad = {
        ActionResult.TYPE_UNMATCHED: [
            wrapped(b"x" * 16, (GUEK, b"n" * 16)),
            wrapped(kek, (4, b"n" * 16)),
            wrapped(kek, (GUEK, b"n" * 16), (GUEK, b"m" * 16)),
            wrapped(kek, (GUEK, b"n" * 32)),
            axdr.array([]),
            axdr.array([axdr.encode("enum", 0)]),
            axdr.array([axdr.structure(axdr.encode("enum", 0), axdr.encode("enum", 0))]),
            axdr.octet_string(b"x"),
            None,
        ],
        # the same key for two clients: whoever reads could pass for the one who manages
        ActionResult.OTHER_REASON: [wrapped(kek, (GUEK, keys_of(1).guek))],
    }
    for result, values in bad.items():
        for value in values:
            assert call(meter, 2, value).result == result, value
    meter.kept.broken = True
    assert call(meter, 2, wrapped(kek, (GUEK, b"n" * 16))).result == ActionResult.HARDWARE_FAULT
    assert meter.kept.clients == []
    assert meter.server.clients[meter.sap].keys == keys_of(0)
    assert meter.get(3, ENERGY, 2) == 123456


def test_without_a_master_key_no_key_is_transferred():
    plain = type(keys_of(0))(keys_of(0).guek, keys_of(0).gak)
    meter = managed(keys=plain)
    assert call(meter, 2, wrapped(b"k" * 16, (GUEK, b"n" * 16))).result == ActionResult.OTHER_REASON


# --- key_agreement


@pytest.mark.parametrize("suite_id", [1, 2])
def test_keys_are_agreed_on_with_ephemeral_keys_that_are_signed(suite_id):
    meter = managed(suite_id)
    of = SUITES[suite_id]
    private = suite.generate(of, lambda count: b"\x5a" * count)
    point = suite.public_of(of, private)

    def offer(key, signer="client signing"):
        signature = suite.sign(of, private_of(signer, suite_id), bytes((key,)) + point)
        return axdr.structure(axdr.encode("enum", key), axdr.octet_string(point + signature))

    wrong = call(meter, 3, axdr.array([offer(GUEK, "server signing")]))
    assert (wrong.result, wrong.returned) == (ActionResult.OTHER_REASON, None)
    reply = call(meter, 3, axdr.array([offer(GUEK), offer(KEK)]))
    assert reply.result == ActionResult.SUCCESS
    agreed = {}
    half = 2 * of.coordinate
    for key, octets in axdr.decode(reply.returned):
        theirs, signature = octets[:half], octets[half:]
        assert suite.verify(of, public_of("server signing", suite_id), signature, bytes((key,)) + theirs)
        agreed[key] = suite.agree(of, private, theirs, CLIENT_TITLE + TITLE, master=key == KEK)
    changed = meter.kept.clients[-1].keys
    assert agreed == {GUEK: changed.guek, KEK: changed.kek}
    assert changed.gak == keys_of(suite_id).gak
    meter.client._ciphering = Ciphering(changed, CLIENT_TITLE, MemoryCounterStore())
    assert meter.get(3, ENERGY, 2) == 123456


def test_suite_0_agrees_on_nothing():
    meter = managed(0)
    value = axdr.array([axdr.structure(axdr.encode("enum", 0), axdr.octet_string(bytes(128)))])
    assert call(meter, 3, value).result == ActionResult.OTHER_REASON


# --- certificates


class Authority:
    def __init__(self, suite_id=1, seed=b"\x77"):
        self.of = SUITES[suite_id]
        self.random = lambda count: (seed * count)[:count]
        self.private = suite.generate(self.of, self.random)
        self.der = certificates.make_authority(self.of, self.private, "Test CA", NOW, self.random)
        self.certificate = certificates.read(self.der)
        self.count = 0

    def issue(self, title, use, point, **changes):
        self.count += 1
        serial = self.count
        return certificates.issue(
            self.certificate,
            self.private,
            title=title,
            use=use,
            point=point,
            now=changes.pop("now", NOW),
            random=lambda count: serial.to_bytes(count - 1, "big") + b"\0",
            **changes,
        )


def test_a_new_key_pair_counts_once_its_certificate_is_there():
    authority = Authority()
    own = Identity(identity().keys, {}, (authority.der,))
    meter = managed(1, own=own)
    enum = axdr.encode("enum", Use.SIGNING)
    old = meter.server.setups.identity.keys[Use.SIGNING, 1]
    assert call(meter, 4, enum).result == ActionResult.SUCCESS
    assert meter.server.setups.identity.keys[Use.SIGNING, 1] == old

    request = x509.load_der_x509_csr(axdr.decode(call(meter, 5, enum).returned))
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == f"CN={TITLE.hex().upper()}"
    point = suite.point_of(request.public_key())
    assert point != suite.public_of(SUITES[1], old)
    der = authority.issue(TITLE, Use.SIGNING, point)
    assert call(meter, 6, axdr.octet_string(der)).result == ActionResult.SUCCESS
    kept = meter.kept.identities[-1]
    assert suite.public_of(SUITES[1], kept.keys[Use.SIGNING, 1]) == point
    assert (kept.pending, kept.certificates) == ({}, (authority.der, der))
    listed = meter.get(64, LN, 6)
    assert [entry[:2] for entry in listed] == [(Entity.AUTHORITY, 0), (Entity.SERVER, Use.SIGNING)]
    # by entity, and by serial number
    by_entity = axdr.structure(
        axdr.encode("enum", 0),
        axdr.structure(
            axdr.encode("enum", Entity.SERVER), axdr.encode("enum", Use.SIGNING), axdr.octet_string(TITLE)
        ),
    )
    by_serial = axdr.structure(
        axdr.encode("enum", 1), axdr.structure(axdr.octet_string(listed[1][2]), axdr.octet_string(listed[1][3]))
    )
    for identification in (by_entity, by_serial):
        assert axdr.decode(call(meter, 7, identification).returned) == der
    assert call(meter, 8, by_serial).result == ActionResult.SUCCESS
    assert call(meter, 7, by_entity).result == ActionResult.OBJECT_UNAVAILABLE
    assert len(meter.get(64, LN, 6)) == 1


def test_a_clients_certificate_gives_the_client_its_public_key():
    authority = Authority()
    own = Identity(identity().keys, {}, (authority.der,))
    meter = managed(1, own=own, signing_key=b"", agreement_key=b"")
    assert meter.server.clients[meter.sap].signing_key == b""
    for use in Use:
        point = public_of(f"client {use.name.lower()}", 1)
        der = authority.issue(CLIENT_TITLE, use, point)
        assert call(meter, 6, axdr.octet_string(der)).result == ActionResult.SUCCESS
    client = meter.server.clients[meter.sap]
    assert client.signing_key == public_of("client signing", 1)
    assert client.agreement_key == public_of("client agreement", 1)


def test_certificates_that_are_not_taken():
    authority, stranger = Authority(), Authority(seed=b"\x33")
    own = Identity(identity().keys, {}, (authority.der,))
    meter = managed(1, own=own)
    point = public_of("client signing", 1)
    year = 365.25 * 86400
    bad = [
        stranger.issue(CLIENT_TITLE, Use.SIGNING, point),
        stranger.der,
        authority.issue(CLIENT_TITLE, Use.SIGNING, point, now=NOW - 6 * year),
        authority.issue(CLIENT_TITLE, Use.SIGNING, point, now=NOW + year),
        b"",
        b"\x30\x03\x02\x01\x05",
        bytes(5000),
    ]
    good = authority.issue(CLIENT_TITLE, Use.SIGNING, point)
    flipped = bytearray(good)
    flipped[-1] ^= 1
    for der in [*bad, bytes(flipped)]:
        assert call(meter, 6, axdr.octet_string(der)).result == ActionResult.TYPE_UNMATCHED, der[:20]
    of_nobody = authority.issue(TITLE, Use.SIGNING, point)
    assert call(meter, 6, axdr.octet_string(of_nobody)).result == ActionResult.OTHER_REASON
    assert meter.kept.identities == []
    assert call(meter, 6, axdr.octet_string(good)).result == ActionResult.SUCCESS
    with pytest.raises(CertificateError, match="authority"):
        certificates.check(certificates.read(good), [stranger.certificate], NOW)


# --- rights


@pytest.mark.parametrize("method", range(1, 9))
def test_only_the_managing_client_may_and_only_with_protection(method):
    value = axdr.encode("enum", 0b01101100) if method == 1 else axdr.encode("enum", 0)
    reader = managed(role=Role.READER)
    assert call(reader, method, value).result == ActionResult.READ_WRITE_DENIED
    server, _, _ = secure_server()
    plain = secure_line(server, Mechanism.HLS_SHA256, 0, 0)
    plain.connect()
    assert call(plain, method, value).result == ActionResult.READ_WRITE_DENIED
    if method in (setup.KEY_TRANSFER, setup.KEY_AGREEMENT):
        authenticated = managed(protection=AUTHENTICATED)
        assert call(authenticated, method, value).result == ActionResult.READ_WRITE_DENIED


def test_the_secret_of_high_level_security_can_be_changed():
    server, _, events = secure_server(keystore=(kept := Kept()))
    meter = secure_line(server, Mechanism.HLS_SHA256, 0)
    meter.connect()
    for bad in (b"short", b"x" * 65):
        reply = meter.action(15, ASSOCIATION_LN, 2, axdr.octet_string(bad))
        assert reply.result == ActionResult.TYPE_UNMATCHED
    new = b"another secret, long enough"
    assert meter.action(15, ASSOCIATION_LN, 2, axdr.octet_string(new)).result == ActionResult.SUCCESS
    assert kept.clients[-1].secret == new
    assert new.decode() not in str(events)
    with pytest.raises(AssociationError):
        secure_line(server, Mechanism.HLS_SHA256, 0, 0).connect()
    plain = secure_line(server, Mechanism.HLS_MD5, 0, 0)
    plain.connect()
    denied = plain.action(15, ASSOCIATION_LN, 2, axdr.octet_string(SECRET))
    assert denied.result == ActionResult.READ_WRITE_DENIED  # it would go over the line in clear


def test_access_modes_by_version_of_the_association_object():
    def modes(version):
        objects = [o for o in toy_schema().objects if o.class_id != 15]
        listed = axdr.decode(Schema([classes.association_ln(version), *objects]).view(Role.MANAGEMENT).object_list)
        found = {(class_id, name): access for class_id, _, name, access in listed}
        assert next(v for class_id, v, *_ in listed if class_id == 15) == version
        attributes = {index: mode for index, mode, _ in found[1, NOTE][0]}
        return attributes[2], [mode for _, mode in found[64, LN][1]], len(found[15, ASSOCIATION_LN][0])

    # read and write; authenticated access
    assert modes(1) == (3, [2] * 8, 9)
    assert modes(2) == (3, [2] * 8, 11)
    # access, authenticated request, encrypted request
    assert modes(3) == (0b11, [0b101, 0b1101, 0b1101, *[0b101] * 5], 11)


def test_an_attribute_can_ask_for_protection():
    server, device, _ = secure_server()
    guarded = classes.data(NOTE, write=Role.MANAGEMENT)
    attribute = type(guarded.attributes[0])(
        2, Role.MANAGEMENT, Role.MANAGEMENT, protection=AUTHENTICATED_ENCRYPTED
    )
    guarded = type(guarded)(guarded.class_id, guarded.version, guarded.logical_name, (attribute,))
    objects = [guarded if o.logical_name == NOTE else o for o in toy_schema().objects]
    device.schema = Schema(objects)
    for protection, allowed in ((0, False), (AUTHENTICATED, False), (AUTHENTICATED_ENCRYPTED, True)):
        meter = secure_line(
            server, Mechanism.HLS_SHA256, 0, protection, store=MemoryCounterStore(1000 * protection + 1)
        )
        meter.connect()
        if allowed:
            meter.set(1, NOTE, 2, axdr.octet_string(b"yes"))
            assert meter.get(1, NOTE, 2) == b"yes"
        else:
            with pytest.raises(Exception, match="read-write-denied"):
                meter.set(1, NOTE, 2, axdr.octet_string(b"no"))
            with pytest.raises(Exception, match="read-write-denied"):
                meter.get(1, NOTE, 2)
    assert sap_of(Mechanism.HLS_SHA256, 0) in server.clients


def test_a_client_can_be_left_single_objects_attributes_and_methods():
    scope = (Grant(ENERGY, 2), Grant(NOTE), Grant(BREAKER, method=2))
    server, _, _ = secure_server(
        [profile_of(Mechanism.HLS_SHA256, 0, scope=scope), *all_clients_but(sap_of(Mechanism.HLS_SHA256, 0))]
    )
    meter = secure_line(server, Mechanism.HLS_SHA256, 0)
    meter.connect()
    listed = {
        (class_id, name): tuple([right[0] for right in rights if right[1]] for rights in access)
        for class_id, _, name, access in meter.get(15, ASSOCIATION_LN, 2)
    }
    association = listed.pop((15, ASSOCIATION_LN))
    assert association[0][:3] == [1, 2, 3]
    assert listed == {(3, ENERGY): ([1, 2], []), (1, NOTE): ([1, 2], []), (70, BREAKER): ([1], [2])}
    assert meter.get(3, ENERGY, 2) == 123456
    meter.set(1, NOTE, 2, axdr.octet_string(b"may"))
    assert meter.action(70, BREAKER, 2, axdr.encode("integer", 0)).result == ActionResult.SUCCESS
    for refused in ((3, ENERGY, 3), (70, BREAKER, 2), (8, classes.CLOCK_LN, 2), (64, LN, 2)):
        with pytest.raises(Exception, match="read-write-denied"):
            meter.get(*refused)
    for denied in ((70, BREAKER, 1), (64, LN, 1)):
        assert meter.action(*denied, axdr.encode("integer", 0)).result == ActionResult.READ_WRITE_DENIED
    other = secure_line(server, Mechanism.HLS_SHA256, 1)
    other.connect()
    assert other.get(3, ENERGY, 3) == (0, 30)
