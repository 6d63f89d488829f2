"""The attack list on every port of the gateway, while honest clients read: each attack is answered and logged, and
neither the honest clients' delays nor the server's memory grow.
"""

import contextlib
import multiprocessing
import os
import re
import socket
import statistics
import struct
import threading
import time

import pytest
from dlms_attacks import (
    ATTACKS,
    LINES,
    NAME,
    OLD,
    PUBLIC,
    READER,
    SIGNER,
    SIGNER_TITLE,
    STANDING,
    STANDING_TITLE,
    aarq,
    connected,
    optical,
    stations,
    talk,
)
from dlms_mutants import INITIATE
from gateway_harness import GET_CLOCK, PUBLIC_AARQ, Poller, flexmap
from test_dlms_listeners import Site, resident
from test_dlms_siege import SAP, Line, frame

from flexmap.dlms import certificates, general, suite
from flexmap.dlms.acse import Context, Mechanism
from flexmap.dlms.client import drive
from flexmap.dlms.general import Header
from flexmap.dlms.security import (
    Keys,
)
from flexmap.gateway import config as configuration
from flexmap.gateway import identity as identities
from flexmap.gateway import secrets
from flexmap.model import obis

FURTHER = f"""
[[dlms.client]]
sap = {OLD}
name = "old"
authentication = "hls-md5"
access = "manage"

[[dlms.client]]
sap = {SIGNER}
name = "signer"
authentication = "hls-ecdsa"
access = "read"
suite = 2
system_title = "{SIGNER_TITLE.hex()}"

[[dlms.client]]
sap = {STANDING}
name = "standing"
authentication = "none"
access = "manage"
protection = "authenticated-encrypted"
pre_established = true
system_title = "{STANDING_TITLE.hex()}"

[[dlms.listener]]
transport = "hdlc-tcp"
listen = "127.0.0.1:{{hdlc}}"

[[dlms.listener]]
transport = "hdlc-serial"
port = "pty:optical"
mode = "e"
"""


class AttackedSite(Site):
    def prepare(self, config):
        """Make secrets, key pairs and the certificate of the client with ECDSA."""
        authority, request = config.parent / "ca.toml", config.parent / "signer.csr"
        assert flexmap("keys", "make", config).returncode == 0
        pem = flexmap("keys", "authority", authority, "--suite", "2").stdout
        (config.parent / "ca.pem").write_text(pem)
        of = suite.SUITES[2]
        self.signing = suite.generate(of, os.urandom)
        request.write_text(
            identities.pem(certificates.request(of, self.signing, SIGNER_TITLE), "CERTIFICATE REQUEST")
        )
        (config.parent / "signer.pem").write_text(flexmap("keys", "issue", authority, request).stdout)
        imported = flexmap("keys", "import", config, config.parent / "ca.pem", config.parent / "signer.pem")
        assert imported.returncode == 0, imported.stderr
        self.title = configuration.load(config).dlms.system_title
        held = secrets.read(configuration.load(config).resolve(configuration.load(config).dlms.secrets))
        self.secrets = {
            name: Keys(bytes.fromhex(entry.encryption_key), bytes.fromhex(entry.authentication_key))
            for name, entry in held.items()
            if entry.encryption_key
        }


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = AttackedSite(tmp_path_factory.mktemp("site"), FURTHER)
    try:
        yield made.wait()
    finally:
        made.gateway.close()


# --- floods


def flood(site, done, sent, octets):
    """Send the same again and again, over new connections when the server closes them."""
    while not done.is_set():
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", site.gateway.dlms), 5) as peer,
        ):
            peer.settimeout(1)
            while not done.is_set():
                peer.sendall(octets)
                sent.value += len(octets)
                assert peer.recv(1 << 20)


def flood_hdlc(site, done, sent, octets):
    while not done.is_set():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", site.hdlc), 5) as peer:
            peer.settimeout(1)
            for _ in range(20):
                peer.sendall(octets)
                sent.value += len(octets)
                assert peer.recv(1 << 20)


def flood_datagrams(site, done, sent, octets):
    while not done.is_set():
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                peer = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                for each in octets:
                    peer.sendto(each, ("127.0.0.1", site.gateway.dlms))
                    sent.value += len(each)
            done.wait(0.05)


def opening_flood():
    openings = ((PUBLIC, PUBLIC_AARQ), (READER, aarq(Mechanism.HLS_GMAC)), (99, PUBLIC_AARQ))
    return b"".join(frame(client, each, sap) for client, each in openings for sap in (1, SAP)) * 10


def signature_flood(site):
    """Signatures with P-384 to be verified, asked for by anybody."""
    header = Header(bytes(8), SIGNER_TITLE, bytes.fromhex(site.title))
    signed = general.encode_signing(header, INITIATE, bytes(range(1, 97)))
    fields = {"title": SIGNER_TITLE, "value": b"x" * 32, "context": Context.LN_CIPHERED}
    return frame(SIGNER, aarq(Mechanism.HLS_ECDSA, signed, **fields)) * 20


class Reader(threading.Thread):
    """A client with HLS-GMAC that reads a meter, ciphered, and notes each delay."""

    def __init__(self, site):
        super().__init__(daemon=True)
        self.delays, self.failure, self.done = [], None, threading.Event()
        self._client, self._line, _ = connected(site, "reader", READER, b"HONEST01")

    def run(self):
        try:
            while not self.done.is_set():
                start = time.monotonic()
                assert drive(self._client.get(1, NAME, 2), self._line.transceive)
                self.delays.append(time.monotonic() - start)
                time.sleep(0.005)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test gets to see it
            self.failure = error


def logged(site, pattern, since, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if re.search(pattern, site.gateway.text()[since:]):
            return True
        time.sleep(0.05)
    return False


def test_every_attack_is_refused_and_logged_and_honest_clients_notice_nothing(site):
    pid = site.gateway.process.pid
    honest = [Poller(site.gateway.dlms), Reader(site)]
    for each in honest:
        each.start()
    time.sleep(1.5)
    quiet = [statistics.median(each.delays) for each in honest]
    rows, before = [], resident(pid)
    for name, (attack, answer, line) in ATTACKS.items():
        time.sleep(0.2)  # so that the bound on lines in a second leaves none out
        since = len(site.gateway.text())
        got = attack(site)
        assert got.startswith(answer), (name, got)
        assert line is None or logged(site, line, since), (name, line, site.gateway.text()[since:])
        rows.append(f"{name:38} {answer:12} {line or ''}")
    for name, (octets, expected) in LINES.items():
        assert list(talk(site, *octets)) == expected, name
        rows.append(f"{name:38} {' '.join(expected[:4])}")
    assert b"/FMX5\\2flexmap" in optical(site)
    singles = [len(each.delays) for each in honest]

    fork = multiprocessing.get_context("fork")  # attackers have processors of their own, as far as there are any
    done, sent = fork.Event(), [fork.Value("q") for _ in range(5)]
    datagrams = [
        frame(PUBLIC, PUBLIC_AARQ),
        frame(READER, aarq(Mechanism.HLS_GMAC)),
        frame(STANDING, GET_CLOCK),
        b"junk",
    ]
    threads = [
        fork.Process(target=attack, args=(site, done, counted, octets), daemon=True)
        for attack, counted, octets in zip(
            (flood, flood, flood, flood_hdlc, flood_datagrams),
            sent,
            (opening_flood(), opening_flood(), signature_flood(site), stations(100), datagrams),
            strict=True,
        )
    ]
    with contextlib.ExitStack() as stack:
        for number in range(200):  # slow senders: a frame of 65535 octets, an octet now and then
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", site.gateway.dlms), 5))
            slow.sendall(struct.pack(">HHHH", 1, PUBLIC, SAP, 0xFFFF) + bytes(number))
        for thread in threads:
            thread.start()
        time.sleep(8)
        grown = resident(pid) - before
        done.set()
        for thread in threads:
            thread.join(10)
    for each in honest:
        each.done.set()
        each.join(5)
        assert each.failure is None
    for each, calm, first in zip(honest, quiet, singles, strict=True):
        flooded = sorted(each.delays[first:])
        p99 = flooded[len(flooded) * 99 // 100]
        rows.append(
            f"{type(each).__name__}: median {calm * 1e3:.1f} ms alone, {statistics.median(flooded) * 1e3:.1f} ms "
            f"in the floods, p99 {p99 * 1e3:.0f} ms, longest {flooded[-1] * 1e3:.0f} ms of {len(flooded)}"
        )
        assert len(flooded) > 50
        # The attackers share this process, and the machine, with the honest clients.
        assert statistics.median(flooded) < 0.1
        assert p99 < 0.5
    rows.append(f"floods sent {[each.value for each in sent]} octets; memory grew by {grown / 1e6:.1f} MB")
    print("\n".join(rows))
    assert all(each.value > 10_000 for each in sent)
    assert grown < 40_000_000
    assert "Traceback" not in site.gateway.text()
    assert {46, 49, 50} <= security_codes(site)


def security_codes(site):
    """Codes in the security event log, as a head-end reads them."""
    line = Line(site.gateway.dlms, READER, sap=1)
    client, line, _ = connected(site, "reader", READER, b"READER08", line)
    rows = drive(client.get(7, obis.parse("0-0:99.98.9"), 2), line.transceive)
    return {row[1] for row in rows}
