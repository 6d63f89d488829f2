"""Hostile octets on every layer of MMS: no exception but RemoteError, no hang, flat memory, honest clients served.

A long run: ``python tests/unit/test_mms_fuzz.py 200000 [SEED]``.
"""

import gc
import random
import sys
import time
import tracemalloc
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "clients"))

from mms_raw import (
    INITIATE,
    attributes,
    define,
    delete,
    domain_name,
    list_attributes,
    name_list,
    read,
    read_list,
    variable,
    write,
)
from mms_toy import Toy, answer, association_request, connect_request, frames

from flexmap.mms import ber, data, presentation, session
from flexmap.mms.files import NOT_THERE, FileEntry, Files, file_error
from flexmap.model.error import RemoteError

TOTW = variable("TOY1", "MMXU1$MX$TotW")
SERVICES = (
    b"\x82\x00",
    b"\x80\x01\x00",
    name_list(0, "TOY1"),
    name_list(0, "TOY1", "MMXU1$MX"),
    name_list(9),
    name_list(2, "@"),
    attributes("TOY1", "MMXU1$MX$HA"),
    list_attributes("TOY1", "LLN0$Meas"),
    read(TOTW),
    read(TOTW, variable("TOY2", "LLN0$ST"), echo=True),
    read(variable("TOY1", "MMXU1$MX$HA", ber.tlv(0xA0, b"\x81\x01\x01", ber.tlv(0x30, b"\x81\x01q")))),
    read(variable("TOY1", "MMXU1$MX$HA", ber.tlv(0xA3, b"\x80\x01\x00\x81\x01\x02"))),
    read(variable("TOY1", "LLN0$CO$SBO")),
    read_list("TOY1", "LLN0$Meas", echo=True),
    write([variable("TOY1", "LLN0$SP$Lim")], [ber.tlv(0xA2, data.integer(1), data.visible_string("a"))]),
    write([variable("TOY1", "LLN0$CO$Oper$ctlVal"), TOTW], [data.TRUE, data.FALSE]),
    define("@", "mine", TOTW, variable("TOY2", "LLN0$ST")),
    define("TOY1", "LLN0$mine", TOTW),
    delete(domain_name("@", "mine"), domain_name("TOY1", "LLN0$mine")),
    delete(scope=1),
    b"\xbf\x4d\x00",
    ber.tlv(0xBF4D, ber.tlv(0xA0, ber.tlv(0x19, b"log")), ber.tlv(0xA1, ber.tlv(0x19, b"log/a"))),
    ber.tlv(0xBF48, ber.tlv(0xA0, ber.tlv(0x19, b"log/a.txt")), b"\x81\x01\x00"),
    b"\x9f\x49\x01\x01",
    b"\x9f\x4a\x01\x01",
    ber.tlv(0xBF4C, ber.tlv(0x19, b"log/a.txt")),
)
PDUS = (
    *(ber.tlv(0xA0, b"\x02\x02\x12\x34", service) for service in SERVICES),
    b"\x8b\x00",
    b"\x85\x01\x07",
    b"\xa4\x03\x85\x01\x00",
)
LAYERS = ("pdu", "presentation", "session", "stream", "connect", "associate")


def mutate(chance, octets):
    """Octets with one to three things wrong: bits, lengths, pieces left out, doubled or put in from elsewhere."""
    spoilt = bytearray(octets)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if not spoilt:
            spoilt = bytearray(b"\0")
        at = chance.randrange(len(spoilt))
        kind = chance.randrange(8)
        if kind == 0:
            spoilt[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            spoilt[at] = chance.choice((0, 1, 0x7F, 0x80, 0x81, 0x82, 0x84, 0xFF, 0x30, 0xA0, 0xA1))
        elif kind == 2:
            del spoilt[at : at + chance.randrange(1, 9)]
        elif kind == 3:
            spoilt[at:at] = spoilt[at : at + chance.randrange(1, 17)]
        elif kind == 4:
            spoilt[at:at] = chance.randbytes(chance.randrange(1, 9))
        elif kind == 5:
            del spoilt[at:]
        elif kind == 6:
            spoilt[at : at + 1] = b"\x84" + chance.randbytes(4)
        else:
            other = chance.choice(PDUS)
            spoilt[at:at] = other[: chance.randrange(1, len(other))]
    return bytes(spoilt)


class Shelf:
    """A FileStore of one file in memory."""

    class File:
        entry = FileEntry("log/a.txt", 5, "20260228120000Z")

        def read(self, size):
            return b"hello"[:size]

        def close(self):
            pass

    def directory(self, path):
        if path not in {"", "log"}:
            raise file_error(NOT_THERE, path)
        return [self.File.entry] * 3

    def open(self, path, position):
        if path != "log/a.txt" or position > 5:
            raise file_error(NOT_THERE, path)
        return self.File()

    def delete(self, path):
        raise file_error(NOT_THERE, path)


class Storm:
    """Mutated octets against one server; a fresh connection whenever one was closed."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.toy = Toy()
        Files(self.toy.server, Shelf())
        self.client = self.toy.client()
        self.slowest = 0.0
        self.closed = self.answered = 0
        self.honest = self.toy.client(peer="honest")
        self.expected = self.honest.ask(read_list("TOY2", "LLN0$Meas"))

    def octets(self, layer):
        chance = self.chance
        pdu = chance.choice(PDUS)
        if layer == "pdu":
            return self.client.pdu(mutate(chance, pdu))
        if layer == "presentation":
            spoilt = mutate(chance, presentation.encode_data(3, pdu))
            return b"".join(frames(session.DATA + spoilt, chance.choice((65000, 120, 9))))
        if layer == "session":
            spoilt = mutate(chance, session.DATA + presentation.encode_data(3, pdu))
            return b"".join(frames(spoilt, chance.choice((65000, 120, 9))))
        return mutate(chance, self.client.pdu(pdu))

    def attempt(self, connection, octets):
        start = time.perf_counter()
        try:
            reply = connection.receive(octets)
            while connection.backlog:
                reply += connection.receive(b"")
            self.answered += bool(reply)
            ended = connection.ended
        except RemoteError:
            ended = True
        self.slowest = max(self.slowest, time.perf_counter() - start)
        if ended:
            self.closed += 1
            connection.close()
        return ended

    def opening(self, layer):
        """A connection that is spoilt before there is an association."""
        connection = self.toy.server.connection(lambda _: None)
        if layer == "connect":
            if not self.attempt(connection, mutate(self.chance, connect_request())):
                connection.close()
            return
        connection.receive(connect_request())
        request = mutate(self.chance, association_request((1, 3), self.chance.choice((None, b"secret")), INITIATE))
        if not self.attempt(connection, b"".join(frames(request))):
            self.attempt(connection, self.client.pdu(self.chance.choice(PDUS)))
            connection.close()

    def run(self, count):
        for number in range(count):
            layer = self.chance.choice(LAYERS)
            if layer in {"connect", "associate"}:
                self.opening(layer)
            elif self.attempt(self.client.connection, self.octets(layer)):
                self.client = self.toy.client()
            if len(self.toy.written) > 100:
                self.toy.written.clear()
                for pending in self.toy.pending:
                    pending.answer()
                self.toy.pending.clear()
            if number % 50 == 0:
                self.toy.events.clear()
                assert self.honest.ask(read_list("TOY2", "LLN0$Meas")) == self.expected


def test_mutated_octets_of_every_layer():
    storm = Storm(20260206)
    storm.run(6000)
    assert storm.answered > 800
    assert storm.closed > 300
    assert storm.slowest < 5


def test_memory_stays_flat():
    storm = Storm(1)
    storm.run(1500)
    gc.collect()
    tracemalloc.start()
    storm.run(500)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    storm.run(1500)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 600_000


def test_length_bombs_and_nesting_cost_nothing():
    toy = Toy()
    client = toy.client()
    bombs = [
        b"\xa0\x84\x7f\xff\xff\xff\x02\x01\x01",
        ber.tlv(0xA0, b"\x02\x01\x01", b"\xa4\x84\xff\xff\xff\xff"),
        ber.tlv(0xA0, b"\x02\x01\x01", b"\xa4\x80\x00\x00"),
        ber.tlv(0xA0, b"\x02\x01\x01", read(*[TOTW] * 2000)),
    ]
    nested = b"\x84\x00"
    for _ in range(3000):
        nested = ber.tlv(0xA0, b"\x83\x00", ber.tlv(0x30, nested))
    bombs.append(ber.tlv(0xA0, b"\x02\x01\x01", read(variable("TOY1", "MMXU1", nested))))
    structure = b"\xa2\x00"
    for _ in range(3000):
        structure = ber.tlv(0xA2, structure)
    bombs.append(ber.tlv(0xA0, b"\x02\x01\x01", write([variable("TOY1", "LLN0$SP$Lim")], [structure])))
    for bomb in bombs:
        response = answer(client.connection.receive(client.pdu(bomb)))
        assert response[0] in {0xA1, 0xA2, 0xA4}


if __name__ == "__main__":
    mutants, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    total = Storm(first)
    begun = time.monotonic()
    total.run(mutants)
    spent = time.monotonic() - begun
    print(
        f"{mutants} mutants in {spent:.0f} s: {total.answered} answered, {total.closed} connections closed, "
        f"slowest {total.slowest * 1000:.1f} ms"
    )
