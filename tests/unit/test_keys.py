"""Secrets, key pairs and certificates in their files, and `flexmap keys`."""

import base64
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from flexmap.cli.main import cli
from flexmap.cli.target import credentials
from flexmap.dlms import certificates, suite
from flexmap.dlms.identity import Identity, Use
from flexmap.dlms.profile import Grant
from flexmap.dlms.security import AUTHENTICATED, AUTHENTICATED_ENCRYPTED, SIGNED, Keys
from flexmap.dlms.suite import SUITES
from flexmap.gateway import config as configuration
from flexmap.gateway import identity as identities
from flexmap.gateway import secrets
from flexmap.gateway.clients import FileKeystore, client_profile
from flexmap.gateway.demo import DemoOptions, write_config
from flexmap.gateway.dlms_face import dlms_settings
from flexmap.model import ConfigurationError, LocalError

TITLE = "4D4D4D0000000001"
FURTHER = f"""
[[dlms.client]]
sap = 3
name = "signer"
authentication = "hls-ecdsa"
access = "manage"
suite = 1
protection = "authenticated-encrypted"
responses = "authenticated"
signatures = "both"
system_title = "{TITLE}"

[[dlms.client]]
sap = 4
name = "old"
authentication = "hls-md5"
access = "read"

[store]"""


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text(write_config(DemoOptions(meters=1)).replace("[store]", FURTHER, 1))
    return path


def flexmap(*arguments, status=0):
    result = CliRunner().invoke(cli, ["keys", *map(str, arguments)])
    if status:
        assert result.exception is not None
        return str(result.exception)
    assert result.exception is None, result.exception
    return result.output


def edited(path, old, new):
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1))


class Authority:
    def __init__(self, folder, suite_id=1):
        self.of = SUITES[suite_id]
        self.private = suite.generate(self.of, lambda count: b"\x66" * count)
        self.count = 0
        der = certificates.make_authority(self.of, self.private, "Utility CA", time.time(), self.random)
        self.certificate = certificates.read(der)
        self.file = folder / "ca.pem"
        self.file.write_text(identities.pem(der))

    def random(self, count):
        self.count += 1
        return self.count.to_bytes(count, "big")

    def issue(self, title, use, point):
        fields = {"title": title, "use": use, "point": point, "now": time.time(), "random": self.random}
        return certificates.issue(self.certificate, self.private, **fields)


def complete(site):
    """Make everything that the site needs; returns the signer's private key."""
    flexmap("make", site)
    authority = Authority(site.parent)
    private = suite.generate(SUITES[1], lambda count: b"\x55" * count)
    der = authority.issue(bytes.fromhex(TITLE), Use.SIGNING, suite.public_of(SUITES[1], private))
    (site.parent / "signer.der").write_bytes(der)
    flexmap("import", site, authority.file, site.parent / "signer.der")
    return private


def test_make_makes_what_is_missing_and_replaces_nothing(site):
    said = flexmap("make", site)
    assert "reader, management, reader-lls, signer, old" in said
    assert "signing of suite 1, agreement of suite 1" in said
    files = [site.parent / name for name in ("secrets.toml", "identity.toml")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 2
    before = [file.read_text() for file in files]
    assert flexmap("make", site) == ""
    assert [file.read_text() for file in files] == before
    found = secrets.load(configuration.load(site))
    assert len({found[name].encryption_key for name in ("reader", "management", "signer")}) == 3
    assert all(len(found[name].master_key) == 32 for name in ("reader", "management", "signer"))
    assert (found["old"].encryption_key, len(found["old"].password)) == ("", 16)
    newer = 'name = "newer"\nauthentication = "hls-sha256"\naccess = "read"\n'
    edited(site, "[[dlms.client]]\nsap = 4", f"[[dlms.client]]\nsap = 5\n{newer}\n[[dlms.client]]\nsap = 4")
    assert "added [newer]" in flexmap("make", site)
    assert secrets.load(configuration.load(site))["reader"] == found["reader"]


def test_show_shows_fingerprints_never_keys(site):
    complete(site)
    said = flexmap("show", site)
    text = (site.parent / "secrets.toml").read_text() + (site.parent / "identity.toml").read_text()
    for table in msgspec.toml.decode(text.split("# Key pairs")[0]).values():
        for value in table.values():
            assert str(value) not in said
    for name in ("reader", "signer", "encryption_key", "master_key", "authority", TITLE):
        assert name in said


def test_what_the_files_say_is_what_the_server_gets(site):
    private = complete(site)
    config = configuration.load(site)
    clients = {c.name: c for c in dlms_settings(config, secrets.load(config)).clients}
    signer = clients["signer"]
    assert (signer.suite, signer.system_title) == (1, bytes.fromhex(TITLE))
    assert signer.policy == AUTHENTICATED_ENCRYPTED | SIGNED
    assert signer.response_policy == AUTHENTICATED | SIGNED
    assert signer.signing_key == suite.public_of(SUITES[1], private)
    assert signer.agreement_key == b""
    assert clients["old"].keys is None
    edited(site, "sap = 4", 'sap = 4\nonly = ["1-0:1.8.0", "0-0:96.3.10;2", "0-0:96.3.10;m1"]')
    config = configuration.load(site)
    old = next(c for c in dlms_settings(config, secrets.load(config)).clients if c.name == "old")
    energy, breaker = bytes((1, 0, 1, 8, 0, 255)), bytes((0, 0, 96, 3, 10, 255))
    assert old.scope == (Grant(energy), Grant(breaker, 2), Grant(breaker, method=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suite = 1": "suite = 0"}, "suite 0 has no signatures"),
        ({f'system_title = "{TITLE}"': ""}, "its certificate is found by it"),
        ({TITLE: "4D4D"}, "not eight octets"),
        ({'"hls-ecdsa"\naccess': '"none"\naccess'}, "without authentication"),
        ({'"hls-md5"': '"hls-md6"'}, "Invalid enum value"),
        ({"sap = 4": 'sap = 4\nonly = ["1-0:1.8"]'}, "names no object, attribute or method"),
        ({"sap = 4": 'sap = 4\nonly = ["1-0:1.8.0;m0"]'}, "names no object, attribute or method"),
        ({"sap = 4": "sap = 4\npre_established = true"}, "without authentication"),
    ],
)
def test_wrong_clients_are_refused_with_their_entry(site, changes, message):
    for old, new in changes.items():
        edited(site, old, new)
    with pytest.raises(ConfigurationError) as caught:
        configuration.load(site)
    assert message in str(caught.value)
    assert "site.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "text", "field"),
    [
        ("[signer]\n", '[signer]\nbroadcast_key = "12"\n', "broadcast_key"),
        ("[reader]\n", '[reader]\nnext_encryption_key = "00"\n', "next_encryption_key"),
        ("[old]\n", "[old]\npolicy = 300\n", "policy"),
        ("[old]\n", '[old]\nword = "x"\n', "word"),
    ],
)
def test_wrong_secrets_are_refused_with_file_and_field(site, pattern, text, field):
    complete(site)
    edited(site.parent / "secrets.toml", pattern, text)
    with pytest.raises(ConfigurationError) as caught:
        secrets.load(configuration.load(site))
    assert field in str(caught.value)
    assert "secrets.toml" in str(caught.value)


@pytest.mark.parametrize("field", ["broadcast_key", "master_key"])
def test_one_key_for_two_purposes_is_refused(site, field):
    complete(site)
    held = secrets.read(site.parent / "secrets.toml")["reader"]
    edited(site.parent / "secrets.toml", held.master_key, "30" * 16)
    key = held.encryption_key.upper()
    old = f'master_key = "{"30" * 16}"'
    edited(site.parent / "secrets.toml", old, f'{field} = "{key}"')
    with pytest.raises(ConfigurationError, match=f"{field} is the encryption_key too"):
        secrets.load(configuration.load(site))


def test_wrong_identity_files_are_refused(site):
    config = configuration.load(site)
    with pytest.raises(ConfigurationError, match="flexmap keys make"):
        identities.load(config)
    flexmap("make", site)
    with pytest.raises(ConfigurationError, match="no certificate of client 'signer'"):
        identities.load(config)
    path = site.parent / "identity.toml"
    whole = path.read_text()
    for old, new, message in (
        ("signing_1", "signing_3", "'signing_3' is not known"),
        ('signing_1 = "', 'signing_1 = "00', "not a private key of 64"),
        ("[pending]", '[[certificate]]\npem = "x"\n[pending]', r"\[\[certificate\]\] 1"),
        ("[keys]", "[keys", "identity.toml"),
    ):
        path.write_text(whole.replace(old, new))
        with pytest.raises(ConfigurationError, match=message):
            identities.read(path, "")
    path.write_text(whole)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="lets others read it"):
        identities.read(path, "")


def test_certificates_are_imported_when_a_known_authority_issued_them(site, tmp_path):
    flexmap("make", site)
    authority = Authority(tmp_path)
    point = suite.public_of(SUITES[1], b"\x01" * 32)
    stray = tmp_path / "stray.der"
    stray.write_bytes(authority.issue(bytes.fromhex(TITLE), Use.SIGNING, point))
    assert "no known certification authority" in flexmap("import", site, stray, status=2)
    flexmap("import", site, authority.file, stray)
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n")
    assert "nonsense.pem: is not PEM" in flexmap("import", site, nonsense, status=2)
    nonsense.write_bytes(b"\x30\x01\x00")
    assert "not a certificate" in flexmap("import", site, nonsense, status=2)


def test_a_request_becomes_a_certificate_of_the_gateway(site, tmp_path):
    flexmap("make", site)
    request = x509.load_pem_x509_csr(flexmap("request", site, "--use", "agreement").encode())
    assert request.is_signature_valid
    authority = Authority(tmp_path)
    title = bytes.fromhex(configuration.load(site).dlms.system_title)
    own = tmp_path / "own.pem"
    own.write_text(identities.pem(authority.issue(title, Use.AGREEMENT, suite.point_of(request.public_key()))))
    flexmap("import", site, authority.file, own)
    wrong = tmp_path / "wrong.pem"
    point = suite.public_of(SUITES[1], b"\x02" * 32)
    wrong.write_text(identities.pem(authority.issue(title, Use.AGREEMENT, point)))
    assert "no key pair of this gateway" in flexmap("import", site, wrong, status=2)
    assert "no signing key of suite 2" in flexmap("request", site, "--suite", "2", status=2)
    entry = x509.load_pem_x509_certificate(own.read_bytes())
    assert (
        base64.b64encode(entry.public_bytes(Encoding.DER)).decode()[:60]
        in (site.parent / "identity.toml").read_text()
    )


def test_rotate_writes_new_keys_beside_the_old_ones_and_hands_them_over_wrapped(site):
    complete(site)
    config = configuration.load(site)
    before = secrets.load(config)["reader"]
    said = flexmap("rotate", site, "reader")
    after = secrets.load(config)["reader"]
    assert (after.encryption_key, after.master_key) == (before.encryption_key, before.master_key)
    fresh = after.next_keys(0)
    wrapped = [bytes.fromhex(line.split(": ")[1]) for line in said.splitlines()[1:]]
    kek = bytes.fromhex(before.master_key)
    assert [suite.unwrap(kek, key, 16) for key in wrapped] == [fresh.guek, fresh.gak]
    assert fresh.guek.hex() not in said.lower()
    assert client_profile(config.dlms.client[1], secrets.load(config)).next_keys == fresh
    assert "no client 'nobody' with keys" in flexmap("rotate", site, "nobody", status=2)


# --- what head-ends change


def test_changes_of_a_head_end_are_kept_and_nothing_else_is_touched(site):
    complete(site)
    config = configuration.load(site)
    before = secrets.load(config)
    client = next(c for c in dlms_settings(config, before).clients if c.name == "management")
    keystore = FileKeystore(config)
    fresh = Keys(b"g" * 16, b"a" * 16, 0, b"b" * 16, b"k" * 16)
    changed = msgspec.structs.replace(client, keys=fresh, response_policy=AUTHENTICATED)
    keystore.keep_client(changed)
    path = site.parent / "secrets.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    after = secrets.load(config)
    assert {**after, "management": None} == {**before, "management": None}
    again = next(c for c in dlms_settings(config, after).clients if c.name == "management")
    assert (again.keys, again.policy, again.response_policy) == (fresh, client.policy, AUTHENTICATED)
    # what the configuration asks for is not kept a second time: it can be changed there
    assert after["management"].policy == 0b00100000
    assert list(path.parent.glob(".secrets*")) == []


def test_any_secret_that_a_head_end_sets_can_be_read_again(site):
    complete(site)
    loaded = configuration.load(site)
    dlms = dlms_settings(loaded, secrets.load(loaded))
    client = next(client for client in dlms.clients if client.name == "old")
    for text in ("delete \x7f it", 'quote " and \\ it', "line \n \0 \x1f \x85", "größer \u2028 \U0001f511"):
        FileKeystore(loaded).keep_client(msgspec.structs.replace(client, secret=text.encode()))
        assert secrets.load(loaded)["old"].password == text


def test_changes_of_an_operator_and_of_a_head_end_do_not_undo_each_other(site):
    complete(site)
    loaded = configuration.load(site)
    path = site.parent / "identity.toml"
    held = identities.read(path, "")
    keystore = FileKeystore(loaded, held)
    # the operator imports a certificate while flexmap runs, then a head-end makes a key pair and removes another
    authority = Authority(site.parent)
    der = authority.issue(bytes(range(8)), Use.SIGNING, authority.certificate.point)
    (site.parent / "other.der").write_bytes(der)
    flexmap("import", site, site.parent / "other.der")
    pair = {(Use.SIGNING, 1): suite.generate(SUITES[1], lambda count: b"\x44" * count)}
    changed = Identity(held.keys, pair, held.certificates[:-1])
    keystore.keep_identity(changed)
    assert identities.read(path, "") == Identity(held.keys, pair, (*held.certificates[:-1], der))
    # what the head-end removes later is gone
    keystore.keep_identity(Identity(held.keys, {}, held.certificates[:-1]))
    assert identities.read(path, "") == Identity(held.keys, {}, (*held.certificates[:-1], der))


def test_nobody_changes_the_secrets_while_somebody_else_does(site):
    complete(site)
    path = site.parent / "secrets.toml"
    code = (
        "import pathlib, sys\n"
        "from flexmap.gateway import secrets\n"
        "with secrets.alone(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    done = threading.Event()
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        other = threading.Thread(target=lambda: (flexmap("rotate", site, "reader"), done.set()))
        other.start()
        assert not done.wait(0.5)
        holder.stdin.close()
        assert done.wait(10)
        other.join()
    assert secrets.read(path)["reader"].next_encryption_key


def test_a_link_to_the_secrets_stays_a_link(site):
    complete(site)
    path, vault = site.parent / "secrets.toml", site.parent / "vault"
    vault.mkdir()
    path.rename(vault / "real.toml")
    path.symlink_to(vault / "real.toml")
    flexmap("rotate", site, "reader")
    assert path.is_symlink()
    assert secrets.read(vault / "real.toml")["reader"].next_encryption_key
    assert [file.name for file in vault.iterdir()] == ["real.toml"]


def test_keys_handed_out_before_are_said_to_be_void(site):
    complete(site)
    assert "void" not in flexmap("rotate", site, "reader")
    assert "those made before and not used yet are void" in flexmap("rotate", site, "reader")


def test_next_keys_are_gone_once_they_are_used(site):
    complete(site)
    flexmap("rotate", site, "reader")
    config = configuration.load(site)
    client = next(c for c in dlms_settings(config, secrets.load(config)).clients if c.name == "reader")
    FileKeystore(config).keep_client(msgspec.structs.replace(client, keys=client.next_keys, next_keys=None))
    kept = secrets.load(config)["reader"]
    assert (kept.encryption_key, kept.next_encryption_key) == (client.next_keys.guek.hex(), "")


def test_a_file_that_cannot_be_written_is_a_local_error(site):
    complete(site)
    config = configuration.load(site)
    client = dlms_settings(config, secrets.load(config)).clients[1]
    keystore = FileKeystore(config)
    (site.parent / "secrets.toml").unlink()
    (site.parent / ".identity.toml.new").mkdir()
    with pytest.raises(LocalError, match="cannot keep"):
        keystore.keep_client(client)
    with pytest.raises(LocalError, match="cannot keep"):
        keystore.keep_identity(Identity())


def test_the_command_line_does_not_pass_for_a_head_end(site):
    complete(site)
    with pytest.raises(ConfigurationError, match="signs"):
        credentials("signer", site)
    edited(site, 'authentication = "hls-md5"', f'authentication = "hls-md5"\nsystem_title = "{TITLE}"')
    with pytest.raises(ConfigurationError, match="the head-end"):
        credentials("old", site)
    assert Path(site).exists()


def test_an_authority_of_ones_own_issues_certificates(site, tmp_path):
    flexmap("make", site)
    authority = tmp_path / "authority.toml"
    root = tmp_path / "root.pem"
    root.write_text(flexmap("authority", authority))
    assert stat.S_IMODE(authority.stat().st_mode) == 0o600
    assert "is there already" in flexmap("authority", authority, status=2)
    request = tmp_path / "own.csr"
    request.write_text(flexmap("request", site))
    own = tmp_path / "own.pem"
    own.write_text(flexmap("issue", authority, request))
    flexmap("import", site, root, own)
    title = configuration.load(site).dlms.system_title
    assert f"{title}" in flexmap("show", site)
    assert "not a certificate signing request" in flexmap("issue", authority, own, status=2)
    second = tmp_path / "second.toml"
    flexmap("authority", second, "--suite", "2")
    assert "no authority for suite 1" in flexmap("issue", second, request, status=2)
