"""MMS over TLS: libiec61850's own client and OpenSSL's against the native engine; who is kept out, and why."""

import datetime as dt
import json
import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from gateway_harness import Gateway, flexmap, free_ports
from mms_harness import until

CLIENT = Path(__file__).parents[1] / "clients" / "libiec_tls.py"
VOLTAGE = "FLEXGWSM0001/MMXN1.Vol.mag.f"
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


class Authority:
    """A certification authority and the parties that it knows; files in a folder."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.key = rsa.generate_private_key(65537, 2048)
        self.certificate = self._sign(name, self.key.public_key(), authority=True)
        (folder / f"{name}.crt").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, name, public, *, authority=False, after=DAY):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = subject if authority else self.certificate.subject
        builder = x509.CertificateBuilder(
            issuer, subject, public, x509.random_serial_number(), NOW - DAY, NOW + after
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        return builder.sign(self.key, hashes.SHA256())

    def party(self, name, after=DAY):
        key = rsa.generate_private_key(65537, 2048)
        certificate = self._sign(name, key.public_key(), after=after)
        path = self.folder / f"{name}.key"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        path.chmod(0o600)
        (self.folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return certificate

    def revoke(self, *certificates):
        builder = x509.CertificateRevocationListBuilder(self.certificate.subject, NOW - DAY, NOW + DAY)
        for each in certificates:
            entry = x509.RevokedCertificateBuilder(each.serial_number, NOW - DAY).build()
            builder = builder.add_revoked_certificate(entry)
        octets = builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (self.folder / f"{self.name}.crl").write_bytes(octets)


class Site:
    """A gateway with the native engine and a TLS port."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = Authority(folder, "authority")
        self.certificates = {
            name: self.authority.party(name) for name in ("server", "scada", "revoked", "stranger")
        }
        self.authority.party("expired", after=-dt.timedelta(hours=1))
        Authority(folder, "other").party("outsider")
        self.authority.revoke()
        *ports, self.tls = free_ports(4)
        self.path = folder / "site.toml"
        flags = [f"--{name}=127.0.0.1:{port}" for name, port in zip(("mms", "dlms", "web"), ports, strict=True)]
        made = flexmap("demo", "--source", "model", "--meters", 2, *flags, "--write-config", self.path)
        assert made.returncode == 0, made.stderr
        allowed = [self.certificates[name].fingerprint(hashes.SHA256()).hex() for name in ("scada", "revoked")]
        lines = [line for line in self.path.read_text().splitlines() if not line.startswith("engine = ")]
        lines.insert(lines.index("[mms]") + 1, 'engine = "native"\nplain = false')
        self.path.write_text(
            "\n".join(lines)
            + f"""
[mms.tls]
listen = "127.0.0.1:{self.tls}"
certificate = "server.crt"
key = "server.key"
authorities = "authority.crt"
revoked = "authority.crl"
peers = {json.dumps(allowed)}
"""
        )
        self.gateway = Gateway(folder, "serve", self.path, "--log-level", "info", command="serve", ports=ports)

    def read(self, name, authority="authority"):
        """libiec61850's client as a party: its answer."""
        files = [self.folder / f"{authority}.crt", self.folder / f"{name}.crt", self.folder / f"{name}.key"]
        program = [sys.executable, CLIENT, "127.0.0.1", str(self.tls), VOLTAGE, *map(str, files)]
        return json.loads(subprocess.run(program, capture_output=True, timeout=60, check=True).stdout)

    def flexmap(self, name, *arguments):
        """Our client as a party."""
        flags = [
            "--tls-authorities",
            self.folder / "authority.crt",
            "--tls-certificate",
            self.folder / f"{name}.crt",
        ]
        flags += ["--tls-key", self.folder / f"{name}.key"]
        return flexmap("mms", "read", f"mms://127.0.0.1:{self.tls}/FLEXGWSM0001/MMXN1.Vol", *flags, *arguments)

    def openssl(self, minimum, maximum):
        """OpenSSL's client by Python's ssl: the version that was agreed on."""
        context = ssl.create_default_context(cafile=self.folder / "authority.crt")
        context.check_hostname = False
        context.load_cert_chain(self.folder / "scada.crt", self.folder / "scada.key")
        context.minimum_version, context.maximum_version = minimum, maximum
        with context.wrap_socket(socket.create_connection(("127.0.0.1", self.tls), 10)) as wire:
            return wire.version()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("tls"))
    try:
        until(lambda: "DLMS" in made.gateway.text() and made.flexmap("scada").returncode == 0, 60)
        yield made
    finally:
        made.gateway.close()


def test_clients_of_others_and_ours_read(site):
    theirs = site.read("scada")
    assert theirs["error"] == 0
    assert 200 < theirs["value"] < 260
    (ours,) = json.loads(site.flexmap("scada", "--json").stdout)
    assert 200 < ours["value"] < 260
    assert "TLS as CN=scada" in site.gateway.text()


def test_versions(site):
    assert site.openssl(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert site.openssl(ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_older_versions_are_refused(site):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", site.tls), 10) as wire:
        context.wrap_socket(wire)


def test_without_tls_there_is_no_port(site):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", site.gateway.mms), 5)


@pytest.mark.parametrize("name", ["stranger", "outsider", "expired"])
def test_who_is_kept_out(site, name):
    assert site.read(name)["error"] != 0
    ours = site.flexmap(name)
    assert ours.returncode == 1
    assert "Traceback" not in ours.stderr
    assert site.read("scada")["error"] == 0
    assert "TLS: " in site.gateway.text()


def test_nobody_without_a_certificate(site):
    flags = ["--tls-authorities", site.folder / "authority.crt"]
    done = flexmap("mms", "browse", f"mms://127.0.0.1:{site.tls}", *flags)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_server_of_another_authority_is_not_trusted(site):
    flags = ["--tls-authorities", site.folder / "other.crt", "--tls-certificate", site.folder / "scada.crt"]
    done = flexmap("mms", "browse", f"mms://127.0.0.1:{site.tls}", *flags, "--tls-key", site.folder / "scada.key")
    assert done.returncode == 1
    assert "self-signed certificate" in done.stderr or "unable to get" in done.stderr


def test_a_new_revocation_list_holds_from_the_next_connection_on(site):
    assert site.read("revoked")["error"] == 0
    site.authority.revoke(site.certificates["revoked"])
    assert site.read("revoked")["error"] != 0
    until(lambda: "certificate revoked" in site.gateway.text() or "revoked" in site.gateway.text(), 10)
    assert site.read("scada")["error"] == 0


def test_who_says_nothing_holds_up_nobody(site):
    silent = [socket.create_connection(("127.0.0.1", site.tls), 10) for _ in range(50)]
    try:
        assert site.read("scada")["error"] == 0
    finally:
        for each in silent:
            each.close()


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ('key = "stranger.key"', "not the key of the certificate"),
        ('certificate = "none.crt"', "cannot be read"),
        ('revoked = "server.crt"', "is not what it should be"),
        ('peers = ["12"]', "is no fingerprint"),
        ('minimum = "1.1"', "1.1"),
    ],
)
def test_what_is_wrong_is_named(site, tmp_path, entry, complaint):
    name = entry.partition(" ")[0]
    lines = [line for line in site.path.read_text().splitlines() if not line.startswith(f"{name} = ")]
    path = site.folder / f"wrong-{name}.toml"
    state = tmp_path / "state"
    text = "\n".join(lines).replace("[mms.tls]", f"[mms.tls]\n{entry}")
    path.write_text(re.sub(r"(?m)^folder = .*", f'folder = "{state}"', text))
    done = flexmap("serve", path)
    assert done.returncode in {1, 2}
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
