"""Storms of mutated frames on every port of the DLMS face, before and within every kind of association.

The ports are the face's own Twisted protocols in virtual time. Every octet that comes back must belong to a whole
frame, and every APDU to the grammar of the standard.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from dlms_grammar import check
from dlms_mutants import INITIATE, LLS, get, mutate, seeds, short_name_seeds
from dlms_secure import Party, identity, keys_of, profile_of
from dlms_toy import CLIENT_TITLE, ENERGY, KEYS, SAP, TITLE, ToyDevice, toy_server
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.logger import Logger

from flexmap.dlms import acse, axdr, hdlc
from flexmap.dlms.acse import Aarq, Mechanism
from flexmap.dlms.client import Client, ClientSettings, drive
from flexmap.dlms.hdlc import POLL, Command, Splitter
from flexmap.dlms.hdlc_client import HdlcLink
from flexmap.dlms.hdlc_server import HdlcSettings
from flexmap.dlms.objects import ASSOCIATION_LN
from flexmap.dlms.optical import SignOn, with_parity
from flexmap.dlms.profile import Limits
from flexmap.dlms.security import AUTHENTICATED_ENCRYPTED, Ciphering, MemoryCounterStore
from flexmap.dlms.server import Server
from flexmap.faces.dlms.datagrams import WrapperDatagrams
from flexmap.faces.dlms.serial_line import SerialTalk
from flexmap.faces.dlms.wrapper_tcp import WrapperFactory
from flexmap.faces.tcp import Gate, TcpFactory
from flexmap.faces.throttle import Throttle
from flexmap.model import RemoteError

LOWER, SUITE_2, CHALLENGED = 16, 40, 41
ANSWER = b"\xc3\x01\xc1\0\x0f" + ASSOCIATION_LN + b"\1\1" + axdr.octet_string(bytes(32))
HALF_OPEN = acse.encode_aarq(
    Aarq(
        context=1,
        mechanism=Mechanism.HLS_SHA256,
        calling_title=CLIENT_TITLE,
        authentication=b"x" * 16,
        user_information=INITIATE,
    )
)


class Wire(StringTransportWithDisconnection):
    """A transport; what is written stands in it until it is taken."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """As every socket has it."""

    def set_speed(self, speed: int) -> None:
        """As every terminal has it."""

    def take(self) -> bytes:
        """Return what was written since the last time."""
        octets = self.value()
        self.clear()
        return octets


class Port:
    """A port of the face with one peer; ``sap``: what the peer calls itself."""

    def __init__(self, server: Server, device: ToyDevice, clock: Clock) -> None:
        self.server, self.device, self.clock = server, device, clock
        self.generation = 0
        """Counts the connections: what was open on the last one is closed."""
        self.begin()

    def begin(self) -> None:
        """Connect."""
        self.generation += 1

    def prepare(self, sap: int) -> None:
        """Do what comes before an AARQ."""

    def exchange(self, sap: int, apdu: bytes) -> list[bytes]:
        """Return the APDUs that answer one."""
        raise NotImplementedError

    def broken(self, chance: random.Random, sap: int, apdu: bytes) -> list[bytes]:
        """The same with a frame that is mutated itself."""
        raise NotImplementedError

    def settle(self) -> None:
        """Let everything happen that waits: methods are answered, what is left over is done."""
        pending, self.device.pending[:] = list(self.device.pending), []
        for each in pending:
            each.answer(0)
        self.clock.advance(0)


class _Tcp(Port):
    kind: type[TcpFactory]

    def begin(self) -> None:
        super().begin()
        throttle, gate = Throttle(self.clock), Gate(self.clock, most=10, most_per_address=10)
        self.factory = self.kind(self.conversation, self.clock, throttle, Logger(), gate=gate, idle_timeout=1e9)
        self.talk = self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        self.wire = Wire()
        self.wire.protocol = self.talk
        self.talk.makeConnection(self.wire)

    def conversation(self, deliver: Callable[[bytes], None], origin: object) -> Any:
        raise NotImplementedError

    def send(self, octets: bytes) -> bytes:
        """Return what comes back; connects anew where the server closed."""
        self.talk.dataReceived(octets)
        for _ in range(40):
            self.settle()
            if self.wire.producerState == "producing":
                break
        answer = self.wire.take()
        if not self.wire.connected:
            self.begin()
        return answer


def _apdus(octets: bytes) -> list[bytes]:
    """Return the APDUs of frames of the wrapper, of which nothing may be left over."""
    found = []
    while octets:
        assert octets[:4] == b"\0\1" + SAP.to_bytes(2, "big") or octets[:2] == b"\0\1", octets.hex()
        end = 8 + int.from_bytes(octets[6:8], "big")
        assert 8 < end <= len(octets), octets.hex()
        found.append(octets[8:end])
        octets = octets[end:]
    return found


def _wrapped(sap: int, apdu: bytes) -> bytes:
    return b"\0\1" + sap.to_bytes(2, "big") + SAP.to_bytes(2, "big") + len(apdu).to_bytes(2, "big") + apdu


class WrapperTcp(_Tcp):
    """The wrapper over TCP."""

    kind = WrapperFactory

    def conversation(self, deliver: Callable[[bytes], None], origin: object) -> Any:
        return self.server.connection(deliver, origin)

    def exchange(self, sap: int, apdu: bytes) -> list[bytes]:
        return _apdus(self.send(_wrapped(sap, apdu)))

    def broken(self, chance: random.Random, sap: int, apdu: bytes) -> list[bytes]:
        found = _apdus(self.send(mutate(chance, _wrapped(sap, apdu))))
        self.talk.abort()  # what is left over would swallow the next frame
        self.begin()
        return found


class WrapperUdp(Port):
    """The wrapper over UDP."""

    def begin(self) -> None:
        super().begin()
        self.datagrams = WrapperDatagrams(self.server, Throttle(self.clock))
        self.datagrams.transport = self
        self.datagrams.startProtocol()
        self.sent: list[bytes] = []

    def write(self, octets: bytes, peer: object) -> None:
        """As a UDP port."""
        self.sent.append(octets)

    def send(self, octets: bytes) -> list[bytes]:
        """Return the APDUs that come back, one in each datagram."""
        self.datagrams.datagramReceived(octets, ("192.0.2.1", 7))
        self.settle()
        sent, self.sent = self.sent, []
        found = [_apdus(each) for each in sent]
        assert all(len(each) == 1 for each in found)
        return [each[0] for each in found]

    def exchange(self, sap: int, apdu: bytes) -> list[bytes]:
        return self.send(_wrapped(sap, apdu))

    def broken(self, chance: random.Random, sap: int, apdu: bytes) -> list[bytes]:
        return self.send(mutate(chance, _wrapped(sap, apdu)))


class HdlcTcp(_Tcp):
    """HDLC over TCP."""

    kind = TcpFactory
    settings = HdlcSettings()

    def begin(self) -> None:
        super().begin()
        self.links: dict[int, HdlcLink] = {}
        self.splitter = Splitter(1e9)

    def conversation(self, deliver: Callable[[bytes], None], origin: object) -> Any:
        return self.server.line(self.settings, deliver, self.clock.seconds, origin)

    def frames(self, octets: bytes) -> list[hdlc.Frame]:
        """Return the frames that come back: there is nothing between them."""
        self.splitter.add(self.send(octets), 0)
        found = list(iter(self.splitter.next, None))
        assert not self.splitter.skipped
        assert not self.splitter.unfinished
        return found

    def _run(self, operation: Any) -> bytes:
        octets = next(operation)
        while True:
            frames = self.frames(octets)
            if not frames or all(frame.control & 0x0F == Command.RR for frame in frames):
                octets = b""
                self.clock.advance(10)  # no answer is due; the poll is not held for longer
                self.frames(b"")
                return b""
            try:
                for frame in frames:
                    octets = operation.send(frame)
            except StopIteration as end:
                return end.value or b""

    def prepare(self, sap: int) -> None:
        link = self.links[sap] = HdlcLink(hdlc.encode_station(SAP, LOWER), sap)
        self._run(link.connect())

    def exchange(self, sap: int, apdu: bytes) -> list[bytes]:
        if not apdu:
            return []
        if sap not in self.links:
            self.prepare(sap)
        try:
            answer = self._run(self.links[sap].exchange(apdu))
        except RemoteError:
            self.hang_up()
            return []
        return [answer] if answer else []

    def hang_up(self) -> None:
        """Begin anew, all links."""
        self.talk.abort()
        self.begin()

    def broken(self, chance: random.Random, sap: int, apdu: bytes) -> list[bytes]:
        addresses = hdlc.encode_station(SAP, LOWER) + bytes((sap << 1 | 1,))
        body = hdlc.LLC_COMMAND + apdu[:1900]
        for _ in range(2):
            control = chance.choice((POLL, Command.SNRM | POLL, Command.DISC | POLL, chance.randrange(256)))
            if chance.random() < 0.5:
                frame = mutate(chance, hdlc.encode(addresses, control, body))
            else:
                frame = hdlc.encode(
                    addresses, control, mutate(chance, body)[:2000], segmented=chance.random() < 0.3
                )
            self.frames(frame)
        self.hang_up()
        return []


class HdlcSerial(HdlcTcp):
    """HDLC on a serial line."""

    sign_on = False

    def begin(self) -> None:
        Port.begin(self)
        self.links = {}
        self.splitter = Splitter(1e9)
        sign_on = SignOn("FLX", 9600) if self.sign_on else None
        self.talk = SerialTalk(self.clock, self.server, "line", HdlcSettings(inter_octet_timeout=0.5), sign_on)
        self.wire = Wire()
        self.wire.protocol = self.talk
        self.talk.makeConnection(self.wire)

    def send(self, octets: bytes) -> bytes:
        self.talk.dataReceived(octets)
        for _ in range(40):
            self.settle()
            if self.wire.producerState == "producing":
                break
        return self.wire.take()

    def hang_up(self) -> None:
        self.wire.loseConnection()
        self.begin()


class Optical(HdlcSerial):
    """HDLC on an optical port, behind the sign-on of mode E; what is mutated is often the sign-on."""

    sign_on = True
    messages = (b"/?!\r\n", b"/?12345!\r\n", b"\x06252\r\n", b"\x06250\r\n", b"\x06050\r\n")

    def begin(self) -> None:
        super().begin()
        assert self.signed(b"/?!\r\n") == b"/FLX5\\2flexmap\r\n"
        assert self.signed(b"\x06252\r\n") == b"\x06252\r\n"
        self.clock.advance(0.1)

    def signed(self, message: bytes) -> bytes:
        """Return the characters that answer a message of the sign-on."""
        self.talk.dataReceived(with_parity(message))
        self.clock.advance(1)
        answer = self.wire.take()
        assert with_parity(bytes(octet & 0x7F for octet in answer)) == answer
        return bytes(octet & 0x7F for octet in answer)

    def broken(self, chance: random.Random, sap: int, apdu: bytes) -> list[bytes]:
        if chance.random() < 0.5:
            return super().broken(chance, sap, apdu)
        HdlcSerial.begin(self)
        for message in chance.choices(self.messages, k=4):
            octets = mutate(chance, with_parity(message) if chance.random() < 0.8 else apdu)
            self.talk.dataReceived(octets)
            self.clock.advance(chance.choice((0.0, 0.3, 1.0, 4.0)))
            answer = self.wire.take()
            if b"\x7e" not in answer:  # the sign-on's: characters with parity, whole lines
                assert not answer or (answer[-1:] == b"\n" and with_parity(_seven(answer)) == answer)
        self.hang_up()
        return []


def _seven(octets: bytes) -> bytes:
    return bytes(octet & 0x7F for octet in octets)


PORTS: dict[str, type[Port]] = {
    "wrapper TCP": WrapperTcp,
    "wrapper UDP": WrapperUdp,
    "HDLC TCP": HdlcTcp,
    "HDLC serial": HdlcSerial,
    "optical": Optical,
}


class Side:
    """Where in the life of an association the storm strikes: here before there is one."""

    sap = 3

    def __init__(self, port: Port, chance: random.Random) -> None:
        self.port, self.chance = port, chance
        self.samples = [*seeds(), HALF_OPEN, ANSWER]

    def open(self) -> None:
        """Open the association."""

    def transceive(self, apdu: bytes) -> bytes:
        """Return the answer to an APDU that is in order."""
        return b"".join(self.port.exchange(self.sap, apdu))

    def message(self) -> bytes:
        """Return one mutated APDU."""
        return self.changed(self.chance.choice(self.samples))

    def changed(self, request: bytes) -> bytes:
        """Return a request mutated; half of them in one octet, which leaves many well-formed but odd."""
        if self.chance.random() < 0.5:
            return mutate(self.chance, request)
        octets = bytearray(request)
        at = self.chance.randrange(len(octets))
        octets[at] = self.chance.choice(
            (octets[at] ^ 1, octets[at] + 1 & 0xFF, 0, 0xFF, self.chance.randrange(256))
        )
        return bytes(octets)

    def opened(self, apdu: bytes) -> bytes:
        """Return a ciphered answer without its layer."""
        raise AssertionError(f"a ciphered answer to a plain request: {apdu.hex()}")


class HalfOpen(Side):
    """The client has not answered the challenge yet."""

    sap = CHALLENGED

    def open(self) -> None:
        assert self.transceive(HALF_OPEN)[:1] == b"\x61"


class Proven(Side):
    """Opened by a password, plain."""

    def open(self) -> None:
        assert self.transceive(LLS)[:1] == b"\x61"


class ShortNames(Side):
    """The same with short names."""

    def __init__(self, port: Port, chance: random.Random) -> None:
        super().__init__(port, chance)
        self.samples = short_name_seeds()

    def open(self) -> None:
        assert self.transceive(self.samples[0])[:1] == b"\x61"


class Ciphered(Side):
    """Authenticated by HLS-GMAC; what is mutated is the plain APDU before ciphering, or the ciphered one."""

    sap, suite, title = 1, 0, CLIENT_TITLE
    dedicated = b""

    def __init__(self, port: Port, chance: random.Random) -> None:
        super().__init__(port, chance)
        keys = keys_of(self.suite) if self.suite else KEYS
        self.ciphering = Ciphering(keys, self.title, MemoryCounterStore())
        self.used = self.ciphering

    def open(self) -> None:
        settings = ClientSettings(
            client_sap=self.sap,
            server_sap=SAP,
            mechanism=Mechanism.HLS_GMAC,
            protection=AUTHENTICATED_ENCRYPTED,
            dedicated_key=self.dedicated,
            max_pdu=600,
        )
        client = Client(settings, random=self.chance.randbytes, ciphering=self.ciphering)
        drive(client.connect(), self.transceive)
        self.used = client._dedicated or self.ciphering
        assert drive(client.get(3, ENERGY, 2), self.transceive) == 123456

    def message(self) -> bytes:
        seed = self.chance.choice(self.samples)
        if self.chance.random() < 0.3:
            return mutate(self.chance, self.cipher(seed, seed))
        return self.cipher(seed, self.changed(seed))

    def cipher(self, seed: bytes, plain: bytes) -> bytes:
        """Return an APDU under the tag that goes with ``seed``, or a general one."""
        body = self.used.protect(AUTHENTICATED_ENCRYPTED, plain)
        own = self.used is self.ciphering
        if seed[0] in (0xC0, 0xC1, 0xC3) and self.chance.random() < 0.7:
            return bytes((seed[0] + (8 if own else 0x10),)) + axdr.encode_length(len(body)) + body
        return bytes((0xDB if own else 0xDC, 8)) + self.title + axdr.encode_length(len(body)) + body

    def opened(self, apdu: bytes) -> bytes:
        tag, at = apdu[0], 1
        if tag in (0xDB, 0xDC):
            at += 1 + apdu[1]
        body, end = axdr.take_octet_string(apdu, at)
        assert end == len(apdu)
        used = self.used if tag in (0xDC, 0xD4, 0xD5, 0xD7) else self.ciphering
        return used.unprotect(TITLE, body, AUTHENTICATED_ENCRYPTED)[1]


class Dedicated(Ciphered):
    """The same with a dedicated key."""

    title, dedicated = b"CLI\0\0\0\0\2", bytes(range(100, 116))


class Keyed(Ciphered):
    """Suite 2: general-ciphering with wrapped and agreed keys, general-signing."""

    sap, suite, title = SUITE_2, 2, b"CLI\0\0\0\0\3"

    def __init__(self, port: Port, chance: random.Random) -> None:
        super().__init__(port, chance)
        self.party = Party(self.title, 2)

    def cipher(self, seed: bytes, plain: bytes) -> bytes:
        self.party.transaction = max(self.party.transaction, Keyed.transactions)
        kind = self.chance.random()
        if kind < 0.7:
            made = self.party.wrapped(plain)
        elif kind < 0.96:
            made = self.party.identified(plain, self.ciphering)
        else:
            make = self.chance.choice((self.party.one_pass, self.party.static, self.party.signed))
            made = make(plain)
        Keyed.transactions = self.party.transaction
        return made

    transactions = 0
    """Last transaction-id: it must rise over all associations."""

    def opened(self, apdu: bytes) -> bytes:
        if apdu[0] == 0xDF:
            return self.party.verified(apdu)
        return self.party.read(apdu, self.ciphering) if apdu[0] == 0xDD else super().opened(apdu)


SIDES: dict[str, type[Side]] = {
    "no association": Side,
    "challenge not answered": HalfOpen,
    "LLS, plain": Proven,
    "LLS, short names": ShortNames,
    "HLS-GMAC, suite 0": Ciphered,
    "dedicated key": Dedicated,
    "suite 2, general": Keyed,
}


def storm(port_kind: type[Port], side_kind: type[Side], seed: int, count: int) -> tuple[int, int]:
    """Send mutated frames; return how many were answered, by APDUs of which none is out of order, and sent."""
    server, device = toy_server(limits=Limits(max_long_value=4096))
    server.clients[SUITE_2] = profile_of(Mechanism.HLS_GMAC, 2, sap=SUITE_2)
    server.setups.identity = identity()
    server.clients[CHALLENGED] = profile_of(Mechanism.HLS_SHA256, 0, sap=CHALLENGED)
    device.breaker_later = True
    chance, answered, opened_in = random.Random(seed), 0, -1
    port = port_kind(server, device, Clock())
    side = side_kind(port, chance)
    for number in range(count):
        if number % 10 == 0 or port.generation != opened_in:
            port.prepare(side.sap)
            side.open()
            opened_in = port.generation
        apdu = side.message()
        broken = chance.random() < 0.1
        answers = port.broken(chance, side.sap, apdu) if broken else port.exchange(side.sap, apdu)
        for answer in answers:
            check(answer, side.opened)
        answered += bool(answers)
        port.clock.advance(0.01)
    honest = Side(port, chance)
    port.prepare(honest.sap)
    assert honest.transceive(LLS)[:1] == b"\x61"
    assert honest.transceive(get(3, ENERGY, 2)).hex() == "c401c1000600" + "01e240"
    return answered, count
