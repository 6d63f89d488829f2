"""The client's side of MMS against our server core, and against a server that sends anything."""

import contextlib
import random

import pytest
from mms_toy import Toy

from flexmap.faces.native.client_data import node_of, plain
from flexmap.faces.native.client_reports import decode
from flexmap.mms import client as services
from flexmap.mms import data, pdu
from flexmap.mms.client import Client, Settings
from flexmap.mms.pdu import ServiceError
from flexmap.model.error import RemoteError

QUESTIONS = (
    services.name_list(9, None),
    services.name_list(0, "TOY1"),
    services.name_list(2, "TOY1"),
    services.access_attributes(("TOY1", "MMXU1")),
    services.list_attributes(("TOY1", "LLN0$Meas")),
    services.read([("TOY1", "MMXU1$MX"), ("TOY1", "none")]),
    services.write([("TOY1", "LLN0$SP$Lim$setMag")], [data.integer(3)]),
    services.access_attributes(("TOY1", "none")),
)


class Both:
    """A client and a server without a socket; ``said`` are the server's octets, one entry a turn."""

    def __init__(self, password=None, spoil=lambda octets: octets, **options):
        self.toy = Toy(**options)
        self.said = []
        self._spoil = spoil
        self.server = self.toy.server.connection(self._late, "client")
        self.client = Client(Settings(password=password))
        self.run()

    def _late(self, octets):
        self.said.append(octets)
        self.client.receive(self._spoil(octets))

    def run(self):
        while octets := self.client.take():
            answer = self.server.receive(octets)
            self.said.append(answer)
            self.client.receive(self._spoil(answer))

    def ask(self, service):
        number = self.client.ask(service)
        self.run()
        return self.client.responses.pop(number, None)


def test_every_service_as_the_server_core_has_it():
    both = Both()
    assert both.client.negotiated.max_pdu > 1000
    names, domains, lists, kind, members, results, written, none = [both.ask(each) for each in QUESTIONS]
    assert services.names_of(names) == (["TOY1", "TOY2"], False)
    assert "MMXU1$MX$TotW$mag$f" in services.names_of(domains)[0]
    assert services.names_of(lists)[0] == ["LLN0$Meas"]
    tree = node_of("MMXU1", services.description_of(kind))
    assert [each.name for each in tree.children] == ["MX", "ST", "SP", "CO"]
    total = tree.children[0].children[0]
    assert [(each.name, each.type) for each in total.children] == [
        ("mag", "STRUCTURE"), ("q", "BIT-STRING"), ("t", "UTC-TIME"),
    ]  # fmt: skip
    assert services.members_of(members)[1] == ("TOY2", "MMXU1$ST$Cnt")
    first, second = services.results_of(results)
    assert plain(first)[0] == [[0.0], 0, [0, 0]]
    with pytest.raises(RemoteError, match="object-non-existent"):
        plain(second)
    assert services.written(written) == [None]
    assert isinstance(none, ServiceError)
    assert str(none) == "object-non-existent"


def test_reports_and_the_end():
    both = Both()
    results = data.visible_string("id") + data.bit_string(0, 10) + data.bit_string(0b01, 2) + data.float32(2.5)
    both.server.association.send(pdu.information_report((None, "RPT"), results))
    report = both.client.reports.popleft()
    assert report.listed
    assert report.names == ((None, "RPT"),)
    kinds = [(name, node_of(name, b"\x83\x00")) for name in ("a", "b")]
    message = decode(report, kinds)
    assert [(each.member, each.value) for each in message.values] == [("b", 2.5)]
    both.client.conclude()
    both.run()
    assert both.client.ended


def test_a_refused_association_says_why():
    with pytest.raises(RemoteError, match="authentication"):
        Both(b"wrong", authenticate=lambda password: "operator" if password == b"right" else None)


def test_a_server_that_sends_anything_ends_in_a_remote_error_at_most():
    good = Both()
    for question in QUESTIONS:
        good.ask(question)
    chance = random.Random(61850)
    for _ in range(500):
        turn = chance.randrange(len(good.said))

        def spoil(octets, count=[0], turn=turn):  # noqa: B006 (counts the turns of this run)
            count[0] += 1
            if count[0] - 1 != turn or not octets:
                return octets
            spoilt = bytearray(octets)
            for _ in range(chance.randrange(1, 4)):
                spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
            return bytes(spoilt)

        with contextlib.suppress(RemoteError):
            both = Both(spoil=spoil)
            for question in QUESTIONS:
                look_at(both.ask(question))


def look_at(answer):
    """Take an answer for one of each service."""
    takers = (
        services.names_of,
        services.description_of,
        services.members_of,
        services.results_of,
        services.written,
    )
    for take in takers if isinstance(answer, bytes) else ():
        with contextlib.suppress(RemoteError):
            for each in take(answer):
                if isinstance(each, bytes):
                    plain(each)
