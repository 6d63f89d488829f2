"""Attacks on a DLMS server, each with the answer that it must get and the line that must be logged."""

import contextlib
import os
import select
import socket
import time
import tty

from dlms_mutants import INITIATE
from gateway_harness import GET_CLOCK, PUBLIC_AARQ
from test_dlms_siege import SAP, Line

from flexmap.dlms import acse, axdr, general, hdlc, suite, wrapper
from flexmap.dlms.acse import Aarq, Context, Mechanism, encode_aarq
from flexmap.dlms.authentication import SecretProof, Side
from flexmap.dlms.client import Client, ClientSettings, drive
from flexmap.dlms.general import Header
from flexmap.dlms.hdlc import POLL, Command
from flexmap.dlms.objects import ASSOCIATION_LN
from flexmap.dlms.security import (
    AUTHENTICATED,
    AUTHENTICATED_ENCRYPTED,
    ENCRYPTED,
    Ciphering,
    Keys,
    MemoryCounterStore,
)
from flexmap.gateway import secrets
from flexmap.model import obis

PUBLIC, READER, MANAGEMENT, OLD, SIGNER, STANDING = 16, 2, 1, 5, 6, 7
SIGNER_TITLE, STANDING_TITLE = b"SIGNER01", b"STANDIN1"
NAME, NOTE, BREAKER, SETUP = (
    obis.parse(text) for text in ("0-0:42.0.0", "0-0:96.1.0", "0-0:96.3.10", "0-0:43.0.0")
)
OPEN = b"\1" + axdr.encode("integer", 0)
SET_NAME = b"\xc1\x01\xc1\0\1" + NAME + b"\2\0" + axdr.octet_string(b"mine")
OPEN_BREAKER = b"\xc3\x01\xc1\0\x46" + BREAKER + b"\1" + OPEN


def ciphering(site, name, title, *, keys=None, first=None):
    """Counters from the time of day on, as of a client that cannot keep them."""
    store = MemoryCounterStore(time.time_ns() // 1_000_000 % 3_000_000_000 if first is None else first)
    return Ciphering(keys or site.secrets[name], title, store)


def connected(site, name, sap, title, line=None):
    """A client with HLS-GMAC that has authenticated, its line and its ciphering."""
    line = line or Line(site.gateway.dlms, sap)
    own = ciphering(site, name, title)
    settings = ClientSettings(
        client_sap=sap, server_sap=line.sap, mechanism=Mechanism.HLS_GMAC, protection=AUTHENTICATED_ENCRYPTED
    )
    client = Client(settings, random=os.urandom, ciphering=own)
    drive(client.connect(), line.transceive)
    return client, line, own


def ciphered(own, plain, control=AUTHENTICATED_ENCRYPTED):
    body = own.protect(control, plain)
    return bytes((plain[0] + (0x20 if plain[0] < 0x80 else 8),)) + axdr.encode_length(len(body)) + body


def aarq(mechanism, information=INITIATE, *, title=b"ATTACKER", value=b"x" * 16, context=Context.LN):
    return encode_aarq(
        Aarq(
            context=context,
            mechanism=mechanism,
            calling_title=title,
            authentication=value,
            user_information=information,
        )
    )


def refusal(reply):
    """Result and diagnostic of an AARE."""
    told = acse.decode_aare(reply)
    return f"aare {told.result} {told.diagnostic}"


def wrong_key(site):
    own = ciphering(site, "reader", b"ATTACKER", keys=Keys(b"k" * 16, b"a" * 16))
    request = aarq(Mechanism.HLS_GMAC, ciphered(own, INITIATE), context=Context.LN_CIPHERED)
    return refusal(Line(site.gateway.dlms, READER).transceive(request))


def address_of_another(site):
    own = ciphering(site, "reader", b"READER09")
    request = aarq(Mechanism.HLS_GMAC, ciphered(own, INITIATE), title=b"READER09", context=Context.LN_CIPHERED)
    return refusal(Line(site.gateway.dlms, MANAGEMENT).transceive(request))


def within(make):
    """An attack within an association of the managing client, by somebody on the way."""

    def attack(site):
        client, line, own = connected(site, "management", MANAGEMENT, b"MANAGER1")
        reply = line.transceive(make(line, own)).hex()
        assert drive(client.get(70, BREAKER, 2), line.transceive) is True  # its association goes on
        return reply

    return attack


def flipped_tag(line, own):
    request = bytearray(ciphered(own, OPEN_BREAKER))
    request[-1] ^= 1
    return bytes(request)


def replay(line, own):
    request = ciphered(own, GET_CLOCK)
    line.transceive(request)
    return request


def lower_counter(line, own):
    request = ciphered(own, OPEN_BREAKER)
    line.transceive(ciphered(own, GET_CLOCK))
    return request


def replayed_opening(site):
    _, line, _ = connected(site, "management", MANAGEMENT, b"MANAGER1")
    return refusal(Line(site.gateway.dlms, MANAGEMENT).transceive(line.frames[0]))


def other_suite(line, own):
    request = bytearray(ciphered(own, OPEN_BREAKER))
    request[2 if request[1] < 0x80 else 3] |= 1
    return bytes(request)


def half_open(site, sap, mechanism, **fields):
    line = Line(site.gateway.dlms, sap)
    told = acse.decode_aare(line.transceive(aarq(mechanism, **fields)))
    assert told.result == 0, told
    return line, told.authentication


def answered(line, octets):
    request = b"\xc3\x01\xc1\0\x0f" + ASSOCIATION_LN + b"\1\1" + axdr.octet_string(octets)
    return line.transceive(request).hex()


def reflected_challenge(site):
    line, challenge = half_open(site, OLD, Mechanism.HLS_MD5)
    return answered(line, challenge)


def second_answer(site):
    """The right secret, but the challenge was answered wrongly before."""
    line, challenge = half_open(site, OLD, Mechanism.HLS_MD5)
    answered(line, b"guess")
    password = secrets.read(site.folder / "site.secrets.toml")["old"].password.encode()
    proof = SecretProof(Mechanism.HLS_MD5, password)
    return answered(line, proof.answer(Side(b"ATTACKER", b""), Side(b"", challenge)))


def locked_out(site):
    for _ in range(4):
        line = Line(site.gateway.dlms, OLD)
        told = acse.decode_aare(line.transceive(aarq(Mechanism.HLS_MD5)))
        if told.result:
            return f"aare {told.result} {told.diagnostic}"
        answered(line, b"guess")
    return "open"


def skipped_passes(request):
    def attack(site):
        line, _ = half_open(site, READER, Mechanism.HLS_GMAC)
        return line.transceive(request).hex()

    return attack


def public(request):
    def attack(site):
        line = Line(site.gateway.dlms, PUBLIC)
        line.transceive(PUBLIC_AARQ)
        return line.transceive(request).hex()

    return attack


def lls_over_hls(site):
    return refusal(Line(site.gateway.dlms, READER).transceive(aarq(Mechanism.LLS, value=b"flexmap-demo")))


def class_64_of_a_reader(site):
    _, line, own = connected(site, "reader", READER, b"READER07")
    reply = line.transceive(ciphered(own, b"\xc3\x01\xc1\0\x40" + SETUP + b"\1\1" + axdr.encode("enum", 0x7C)))
    control, plain = own.unprotect(bytes.fromhex(site.title), reply[2:])
    assert control == AUTHENTICATED_ENCRYPTED
    return plain.hex()


def signed_by_another(site):
    header = Header(b"\0" * 7 + b"\1", SIGNER_TITLE, bytes.fromhex(site.title))
    signature = suite.sign(suite.SUITES[2], b"\7" * 48, general.signed_part(header, INITIATE))
    signed = general.encode_signing(header, INITIATE, signature)
    fields = {"title": SIGNER_TITLE, "value": b"x" * 32, "context": Context.LN_CIPHERED}
    return refusal(Line(site.gateway.dlms, SIGNER).transceive(aarq(Mechanism.HLS_ECDSA, signed, **fields)))


def standing(control, *, twice=False):
    """Without AARQ, by the pre-established association."""

    def attack(site):
        own = ciphering(site, "standing", STANDING_TITLE)
        request = ciphered(own, GET_CLOCK, control) if control else GET_CLOCK
        replies = [Line(site.gateway.dlms, STANDING).transceive(request) for _ in range(1 + twice)]
        assert not twice or replies[0][0] == 0xCC
        return replies[-1].hex()

    return attack


def malformed_opening(site):
    return refusal(Line(site.gateway.dlms, PUBLIC).transceive(b"\x60\x83\xff\xff\xff" + PUBLIC_AARQ))


def nested(depth=4000):
    return b"\xc0\x01\xc1\0\x07" + obis.parse("1-0:99.1.0") + b"\2\1\1" + b"\2\1" * depth + b"\0"


def no_frame(site):
    with socket.create_connection(("127.0.0.1", site.gateway.dlms), 5) as peer:
        peer.sendall(b"\0\7" + bytes(100))
        with contextlib.suppress(ConnectionResetError):
            assert peer.recv(100) == b""
        return "closed"


def forged_release(site):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.connect(("127.0.0.1", site.gateway.dlms))
        peer.settimeout(5)

        def transceive(apdu):
            peer.send(wrapper.encode(MANAGEMENT, SAP, apdu))
            return peer.recv(65536)[8:]

        own = ciphering(site, "management", b"MANAGER2")
        settings = ClientSettings(
            client_sap=MANAGEMENT, server_sap=SAP, mechanism=Mechanism.HLS_GMAC, protection=AUTHENTICATED_ENCRYPTED
        )
        client = Client(settings, random=os.urandom, ciphering=own)
        drive(client.connect(), transceive)
        reply = transceive(acse.encode_release(acse.Release(reason=0))).hex()
        assert drive(client.get(70, BREAKER, 2), transceive) is True
        return reply


EARLY = "a request before authentication"
ATTACKS = {
    "wrong key": (wrong_key, "aare 1 13", "client 2, .*authentication tag is wrong"),
    "client address of another": (address_of_another, "aare 1 13", "client 1, .*authentication tag is wrong"),
    "flipped tag bit": (within(flipped_tag), "d80105", "client 1, .*authentication tag is wrong"),
    "replayed request": (within(replay), "d80106", r"invocation counter \d+ is not above"),
    "lower invocation counter": (within(lower_counter), "d80106", r"invocation counter \d+ is not above"),
    "replayed opening": (replayed_opening, "aare 1 13", r"invocation counter \d+ is not above"),
    "another suite": (within(other_suite), "d80105", "another suite or key"),
    "policy: authenticated alone": (
        within(lambda _, own: ciphered(own, OPEN_BREAKER, AUTHENTICATED)), "d80105", "at least 0x30 required",
    ),
    "policy: encrypted alone": (
        within(lambda _, own: ciphered(own, OPEN_BREAKER, ENCRYPTED)), "d80105", "at least 0x30 required",
    ),
    "policy: plain": (within(lambda *_: OPEN_BREAKER), "d80101", "at least 0x030 required"),
    "LLS where HLS is asked for": (lls_over_hls, "aare 1 11", "authentication mechanism"),
    "reflected challenge": (reflected_challenge, "c701c10300", "client 5, .*wrong answer to the challenge"),
    "second answer to a challenge": (second_answer, "c701c10300", "the challenge has been answered before"),
    "many guesses": (locked_out, "aare 2 13", "client 5, .*locked out for"),
    "GET with passes 3 and 4 skipped": (skipped_passes(GET_CLOCK), "c401c10103", EARLY),
    "ACTION with passes 3 and 4 skipped": (skipped_passes(OPEN_BREAKER), "c701c10300", EARLY),
    "unauthenticated SET": (public(SET_NAME), "c501c103", "client 16, .*SET of 1 0.0.42.0.0.255 2"),
    "unauthenticated ACTION": (public(OPEN_BREAKER), "c701c10300", "client 16, .*ACTION of 70 0.0.96.3.10.255 1"),
    "class 64 by a client without right": (class_64_of_a_reader, "c701c10300", "client 2, .*ACTION of 64 "),
    "signed by another's key": (signed_by_another, "aare 1 13", "client 6, .*signature is wrong"),
    "pre-established: plain": (standing(0), "d80101", "client 7, .*at least 0x030 required"),
    "pre-established: replayed": (
        standing(AUTHENTICATED_ENCRYPTED, twice=True), "d80106", "client 7, .*invocation counter",
    ),
    "oversized length in an AARQ": (malformed_opening, "aare 1 1", "malformed AARQ"),
    "oversized list": (public(b"\xc0\x03\xc1\x84\xff\xff\xff\xff" + bytes(40)), "d8", None),
    "nesting bomb": (public(nested()), "d8", None),
    "no frame": (no_frame, "closed", "version 7 in a wrapper header; connection closed"),
    "forged release on UDP": (forged_release, "6303800101", "release: not protected"),
}  # fmt: skip


# --- HDLC and the optical port

ADDRESSES = hdlc.encode_station(SAP, 16) + bytes((PUBLIC << 1 | 1,))
SNRM = hdlc.encode(ADDRESSES, Command.SNRM | POLL)
UA, DM, FRMR, RR = (hex(command | POLL) for command in (Command.UA, Command.DM, Command.FRMR, Command.RR))


def information(number, apdu, addresses=ADDRESSES, control=POLL):
    return hdlc.encode(addresses, control | number << 1, hdlc.LLC_COMMAND + apdu)


def talk(site, *octets):
    """The control fields of the frames that come in answer."""
    splitter = hdlc.Splitter(10)
    with socket.create_connection(("127.0.0.1", site.hdlc), 5) as line, contextlib.suppress(TimeoutError):
        line.sendall(b"".join(octets))
        line.settimeout(0.4)
        while chunk := line.recv(65536):
            splitter.add(chunk, 0)
            yield from (hex(found.control) for found in iter(splitter.next, None))


def broken(octets, at):
    return octets[:at] + bytes((octets[at] ^ 1,)) + octets[at + 1 :]


def stations(count):
    return b"".join(
        hdlc.encode(hdlc.encode_station(sap, 16) + bytes((client << 1 | 1,)), Command.SNRM | POLL)
        for client in range(1, count + 1)
        for sap in (1, SAP)
    )


OTHER = hdlc.encode_station(1, 16) + bytes((PUBLIC << 1 | 1,))
I_FRAME = information(0, PUBLIC_AARQ)
LINES = {
    "I frame before SNRM": ((I_FRAME,), [DM]),
    "wrong HCS": ((SNRM, broken(I_FRAME, 9)), [UA]),
    "wrong FCS": ((SNRM, broken(I_FRAME, len(I_FRAME) - 2)), [UA]),
    "N(R) that was never sent": ((SNRM, hdlc.encode(ADDRESSES, 5 << 5 | POLL | Command.RR)), [UA, FRMR]),
    "N(S) out of order": ((SNRM, information(3, PUBLIC_AARQ)), [UA, RR]),
    "request that comes twice": ((SNRM, I_FRAME, I_FRAME), [UA, "0x30", "0x30"]),
    "field longer than agreed": ((SNRM, information(0, bytes(2000))), [UA, FRMR]),
    "command that there is not": ((SNRM, hdlc.encode(ADDRESSES, 0xEF | POLL)), [UA, FRMR]),
    "all after FRMR": ((SNRM, hdlc.encode(ADDRESSES, 0xEF | POLL), I_FRAME, I_FRAME), [UA, FRMR, FRMR, FRMR]),
    "two stations interleaved": (
        (SNRM, hdlc.encode(OTHER, Command.SNRM | POLL), I_FRAME, information(0, PUBLIC_AARQ, OTHER)),
        [UA, UA, "0x30", "0x30"],
    ),
    "more links than a line has": ((stations(60),), [UA] * 64 + [DM] * 56),
    "SNRM again and again": ((SNRM * 200,), [UA] * 200),
}


def optical(site):
    """Junk and speeds back and forth on the optical port; then a reading device signs on."""
    port = os.open(site.folder / "optical", os.O_RDWR | os.O_NOCTTY)
    try:
        tty.setraw(port)
        for _ in range(20):
            os.write(port, os.urandom(200) + b"/?" + b"9" * 100 + b"!\r\n" + b"\x06259\r\n\x06\xff\xff\xff\r\n")
            os.write(port, b"/?!\r\n\x06252\r\n" * 5)
        end, said = time.monotonic() + 20, b""
        while b"flexmap" not in said and time.monotonic() < end:
            os.write(port, b"/?!\r\n")
            while select.select([port], [], [], 1.0)[0]:
                said += bytes(octet & 0x7F for octet in os.read(port, 4096))
        return said
    finally:
        os.close(port)
