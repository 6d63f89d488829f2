"""Clients' certificates: not yet valid, expired, renewed, of an authority that is gone; use of keys."""

import datetime as dt
import shutil
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from dlms_secure import Party, identity, private_of, profile_of, public_of
from dlms_toy import CLIENT_TITLE
from test_dlms_protection import (
    ENERGY_RESPONSE,
    GET_ENERGY,
    NOT_DECIPHERED,
    secure_line,
    secure_server,
)
from test_dlms_setup import NOW, Authority, call, managed
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from flexmap.dlms import axdr, certificates, suite
from flexmap.dlms.acse import Mechanism
from flexmap.dlms.apdu import ActionResult
from flexmap.dlms.authentication import SignatureProof
from flexmap.dlms.certificates import CertificateError, Entity
from flexmap.dlms.client import AssociationError
from flexmap.dlms.identity import Identity, Use
from flexmap.dlms.profile import Threat
from flexmap.dlms.security import AUTHENTICATED_ENCRYPTED, MemoryCounterStore
from flexmap.dlms.setup import with_certificates
from flexmap.dlms.suite import SUITES
from flexmap.faces.dlms.certificate_watch import CertificateWatch

DAY = 86400.0
POINTS = {use: public_of(f"client {use.name.lower()}", 1) for use in Use}


class Site:
    """A server whose one client has certificates, and whose clock stands at ``time``."""

    def __init__(self, *ders, mechanism=Mechanism.HLS_ECDSA, tolerance=0.0, **changes):
        self.time = NOW
        own = Identity(identity().keys, {}, ders)
        client = with_certificates(profile_of(mechanism, 1, system_title=CLIENT_TITLE, **changes), own)
        options = {"now": lambda: self.time, "tolerance": tolerance}
        self.server, _, self.events = secure_server([client], **options)
        self.server.setups.identity = own
        self.mechanism = mechanism
        self.counter = 1

    def open(self, proof=None):
        self.counter += 10_000
        line = secure_line(self.server, self.mechanism, 1, AUTHENTICATED_ENCRYPTED,
                           store=MemoryCounterStore(self.counter), proof=proof)  # fmt: skip
        line.connect()
        return line

    def refused(self, why):
        with pytest.raises(AssociationError, match="authentication failure"):
            self.open()
        assert self.events[-1].threat == Threat.AUTHENTICATION_FAILURE
        assert why in self.events[-1].reason


def signing(authority, days=30.0, **changes):
    return authority.issue(CLIENT_TITLE, Use.SIGNING, POINTS[Use.SIGNING], days=days, **changes)


def agreement(authority, days=30.0, **changes):
    return authority.issue(CLIENT_TITLE, Use.AGREEMENT, POINTS[Use.AGREEMENT], days=days, **changes)


# --- time


def test_a_certificate_counts_in_its_period_alone():
    authority = Authority()
    site = Site(authority.der, signing(authority))
    assert site.open().get(15, bytes((0, 0, 40, 0, 0, 255)), 8) == 2
    site.time = NOW + 31 * DAY
    site.refused("has expired")
    site.time = NOW - DAY
    site.refused("is not valid yet")
    site.time = NOW + 29 * DAY
    site.open()


def test_the_tolerance_is_for_clocks_that_are_not_right():
    authority = Authority()
    site = Site(authority.der, signing(authority), tolerance=3600)
    site.time = NOW + 30 * DAY + 3590
    site.open()
    site.time = NOW + 30 * DAY + 3610
    site.refused("has expired")
    site.time = NOW - 300 - 3590  # an authority dates it back by five minutes
    site.open()
    site.time = NOW - 300 - 3610
    site.refused("is not valid yet")


def test_a_renewed_certificate_takes_over_when_its_time_comes():
    authority = Authority()
    later = NOW + 29 * DAY
    fresh = private_of("client renewed", 1)
    renewed = authority.issue(CLIENT_TITLE, Use.SIGNING, suite.public_of(SUITES[1], fresh), now=later, days=100)
    site = Site(authority.der, signing(authority), renewed)
    site.open()  # the old key, though the other certificate lasts longer
    site.time = NOW + 31 * DAY
    with pytest.raises(AssociationError):
        site.open()  # the old key counts no more
    site.open(SignatureProof(SUITES[1], fresh, public_of("server signing", 1)))


def test_messages_of_an_open_association_are_looked_at_too():
    authority = Authority()
    site = Site(authority.der, signing(authority), agreement(authority), mechanism=Mechanism.HLS_SHA256)
    line, party = site.open(), Party(CLIENT_TITLE, 1)
    inner = party.read(line.transceive(party.one_pass(party.signed(GET_ENERGY))))
    assert party.verified(inner) == ENERGY_RESPONSE
    assert party.read(line.transceive(party.static(GET_ENERGY))) == ENERGY_RESPONSE
    site.time = NOW + 31 * DAY
    for request in (
        party.one_pass(GET_ENERGY),
        party.static(GET_ENERGY),
        party.wrapped(party.signed(GET_ENERGY)),
    ):
        assert line.transceive(request).hex() == NOT_DECIPHERED
        assert "has expired" in site.events[-1].reason
    assert party.read(line.transceive(party.wrapped(GET_ENERGY))) == ENERGY_RESPONSE  # which needs no certificate


def test_keys_are_not_agreed_on_with_an_expired_certificate():
    authority = Authority()
    meter = managed(1, own=Identity(identity().keys, {}, (authority.der,)))
    old = signing(authority, now=NOW - 10 * DAY, days=5.0)
    meter.server.setups.identity = Identity(identity().keys, {}, (authority.der, old))
    client = meter.server.clients[meter.sap]
    meter.server.clients[meter.sap] = with_certificates(client, meter.server.setups.identity)
    point = public_of("client ephemeral", 1)
    proof = suite.sign(SUITES[1], private_of("client signing", 1), b"\0" + point)
    value = axdr.array([axdr.structure(axdr.encode("enum", 0), axdr.octet_string(point + proof))])
    assert call(meter, 3, value).result == ActionResult.OTHER_REASON
    meter.server.clients[meter.sap] = client  # whose key stands without a certificate
    assert call(meter, 3, value).result == ActionResult.SUCCESS


# --- authorities


def test_a_certificate_lasts_no_longer_than_its_authority():
    authority = Authority()
    begun = NOW - 20 * 365.25 * DAY + 10 * DAY
    short = certificates.make_authority(authority.of, authority.private, "Test CA", begun, authority.random)
    site = Site(short, signing(authority))
    site.open()
    site.time = NOW + 11 * DAY
    site.refused("has expired")


def test_without_its_authority_a_certificate_does_not_count():
    authority, stranger = Authority(), Authority(seed=b"\x33")
    own = Identity(identity().keys, {}, (stranger.der, signing(authority), agreement(authority)))
    client = with_certificates(profile_of(Mechanism.HLS_GMAC, 1, system_title=CLIENT_TITLE), own)
    assert (client.signing_key, client.agreement_key, client.certificates) == (b"", b"", ())


def test_removing_certificates_takes_the_keys_away():
    authority = Authority()
    meter = managed(1, own=Identity(identity().keys, {}, (authority.der,)), signing_key=b"", agreement_key=b"")
    for der in (signing(authority), agreement(authority)):
        assert call(meter, 6, axdr.octet_string(der)).result == ActionResult.SUCCESS
    client = meter.server.clients[meter.sap]
    assert (client.signing_key, client.agreement_key) == (POINTS[Use.SIGNING], POINTS[Use.AGREEMENT])

    def entity(of, use, title):
        parts = axdr.encode("enum", of), axdr.encode("enum", use), axdr.octet_string(title)
        return axdr.structure(axdr.encode("enum", 0), axdr.structure(*parts))

    assert call(meter, 8, entity(Entity.CLIENT, Use.SIGNING, CLIENT_TITLE)).result == ActionResult.SUCCESS
    client = meter.server.clients[meter.sap]
    assert (client.signing_key, client.agreement_key) == (b"", POINTS[Use.AGREEMENT])
    # the authority goes, and with it what it vouched for
    assert call(meter, 8, entity(Entity.AUTHORITY, 0, b"")).result == ActionResult.SUCCESS
    client = meter.server.clients[meter.sap]
    assert (client.signing_key, client.agreement_key, client.certificates) == (b"", b"", ())


def test_what_a_client_proves_itself_with_is_not_taken_from_it():
    """It would be left with nothing; whoever is not to come any more is taken out of the configuration."""
    authority = Authority()
    der = signing(authority)
    meter = managed(1, own=Identity(identity().keys, {}, (authority.der, der)))
    signer = with_certificates(
        profile_of(Mechanism.HLS_ECDSA, 1, system_title=CLIENT_TITLE), meter.server.setups.identity
    )
    meter.server.clients[signer.sap] = signer
    serial, issuer = (getattr(certificates.read(der), name) for name in ("serial", "issuer"))
    identification = axdr.structure(axdr.octet_string(serial), axdr.octet_string(issuer))
    value = axdr.structure(axdr.encode("enum", 1), identification)
    assert call(meter, 8, value).result == ActionResult.OTHER_REASON
    assert meter.server.clients[signer.sap] is signer


# --- what a key may be used for


def x509_of(*, usage=None, ca=None, extension=None, curve=None):
    key = ec.generate_private_key(curve or ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CLIENT_TITLE.hex())])
    start = dt.datetime.fromtimestamp(NOW, dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(start).not_valid_after(start + dt.timedelta(days=9))
    if usage is not None:
        names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
                 "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
        builder = builder.add_extension(x509.KeyUsage(**{each: each in usage for each in names}), critical=True)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if extension is not None:
        oid, critical = extension
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), b"\x05\x00")
        builder = builder.add_extension(unknown, critical=critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("fields", "use", "authority"),
    [
        ({"usage": {"digital_signature"}}, Use.SIGNING, False),
        ({"usage": {"key_agreement"}, "ca": False}, Use.AGREEMENT, False),
        ({"usage": {"key_cert_sign", "crl_sign"}, "ca": True}, Use.SIGNING, True),
        ({"usage": {"digital_signature"}, "extension": ("1.2.3.4", False)}, Use.SIGNING, False),
    ],
)
def test_key_usage(fields, use, authority):
    found = certificates.read(x509_of(**fields))
    assert (found.use, found.authority, found.title) == (use, authority, CLIENT_TITLE)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "key usage"),
        ({"usage": {"key_encipherment"}}, "neither signatures nor key agreement"),
        ({"usage": {"key_cert_sign"}}, "basic constraints"),
        ({"usage": {"key_cert_sign"}, "ca": False}, "basic constraints"),
        ({"usage": {"digital_signature"}, "ca": True}, "basic constraints"),
        ({"usage": {"digital_signature"}, "extension": ("1.2.3.4", True)}, r"1\.2\.3\.4"),
        ({"usage": {"digital_signature"}, "curve": ec.SECP521R1()}, "curve"),
    ],
)
def test_certificates_that_say_the_wrong_thing(fields, why):
    with pytest.raises(CertificateError, match=why):
        certificates.read(x509_of(**fields))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_certificates_that_openssl_made(tmp_path):
    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True)

    usage = tmp_path / "usage"
    usage.write_text("keyUsage=critical,digitalSignature\n")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-subj", "/CN=Test CA", "-days", "30", "-outform", "DER",
            "-out", "ca.der", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    openssl(
        "req", *curve, "-keyout", "client.key", "-subj", f"/CN={CLIENT_TITLE.hex().upper()}", "-out", "client.csr"
    )
    openssl("x509", "-req", "-in", "client.csr", "-CA", "ca.der", "-CAkey", "ca.key", "-days", "10", "-outform",
            "DER", "-out", "client.der", "-extfile", "usage", "-set_serial", "42")  # fmt: skip
    ders = [(tmp_path / name).read_bytes() for name in ("ca.der", "client.der")]
    known = [certificates.read(der) for der in ders]
    assert [each.authority for each in known] == [True, False]
    (own,) = certificates.of_party(known, CLIENT_TITLE, 1)
    key = serialization.load_pem_private_key((tmp_path / "client.key").read_bytes(), None)
    assert own.point == suite.point_of(key.public_key())
    day = own.not_before
    for time, good in ((day, True), (day + 9.9 * DAY, True), (day + 10.1 * DAY, False), (day - 60, False)):
        assert certificates.valid(own, time) is good
    certificates.check(known[1], known, day)
    with pytest.raises(CertificateError, match="authority"):
        certificates.check(known[1], known[1:], day)


def test_certificates_that_end_soon_are_spoken_of_every_day():
    authority, clock, said = Authority(), Clock(), []
    clock.rightNow = NOW
    ders = (authority.der, signing(authority, days=60.0), agreement(authority, days=29.0))
    client = with_certificates(profile_of(Mechanism.HLS_ECDSA, 1, system_title=CLIENT_TITLE),
                               Identity(identity().keys, {}, ders))  # fmt: skip
    watch = CertificateWatch(clock, {client.sap: client, 2: profile_of(Mechanism.LLS, 0)})

    def observe(event):
        if event.get("log_namespace") == "flexmap.dlms":
            said.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        watch.begin()
        end = f"{dt.datetime.fromtimestamp(NOW + 29 * DAY, dt.UTC):%Y-%m-%d}"
        assert said == [f"certificate of client 'HLS_ECDSA 1' for agreement ends on {end}"]
        clock.pump([DAY] * 30)
        assert len(said) == 1 + 30
        assert said[-1] == f"certificate of client 'HLS_ECDSA 1' for agreement has ended on {end}"
        clock.pump([DAY] * 2)
        assert "for signing ends on" in "".join(said)
        watch.stop()
        count = len(said)
        clock.pump([DAY] * 3)
        assert len(said) == count
    finally:
        globalLogPublisher.removeObserver(observe)
    assert clock.getDelayedCalls() == []
