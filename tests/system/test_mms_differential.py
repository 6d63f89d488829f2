"""Both MMS engines on the same SCL file with the same values: their answers, octet for octet.

Each difference stands in DIFFERENCES with the reason for ours; one that is mended, or a new one, fails the test.
"""

import random
import re

import mms_full_site as full
import pytest
from mms_harness import core, until
from mms_raw import (
    Raw,
    RawError,
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
from mms_site import T0, sample

from flexmap.mms import ber

DEVICE = "FMTESTM1"
WATT = variable(DEVICE, "MMXN1$MX$Watt")
FALSE = b"\x83\x01\x00"

EMPTY = "ISO 9506, GetNameList: a VMD without named variables has an empty list of them"
ORDER = (
    "ISO 9506, GetNameList: a list goes on behind a name in the order of names; data sets come and go meanwhile"
)
ECHO = "ISO 9506, Read: with specificationWithResult the specification comes back, of variables as of lists"
DYNAMIC = "IEC 61850-8-1, dynamic data sets: switched off in libiec61850 (use after free), there in ours"
REJECT = "ISO 9506, Reject: a confirmed request with a wrong argument is rejected with its invoke identifier"
TYPE = "ISO 9506, Write: data that do not match the type are type-inconsistent"

SELECT = "IEC 61850-8-1, control: SBO shows what a select gave; reading a structure selects nothing"

DIFFERENCES = {
    "variables of the VMD": EMPTY,
    "names behind one that is not there": ORDER,
    "a variable with specification": ECHO,
    "define": DYNAMIC,
    "delete a data set of the SCL file": DYNAMIC,
    "write a structure": TYPE,
    "a read of nothing": REJECT,
    "a read that is cut off": REJECT,
}
"""By exchange."""

OF_VARIABLES = {
    r"[CX]SWI\d(\$CO(\$Pos)?)?": SELECT,
    r"LLN0(\$BR(\$br\w+(\$(EntryID|TimeofEntry))?)?)?": "IEC 61850-8-1, BRCB: an empty buffer has entry 0",
}
"""By variable, of reads: here only the kind of answer is compared."""


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    engines = "libiec61850", "native"
    with (
        core(tmp_path_factory.mktemp("lib"), engine=engines[0]) as reference,
        core(tmp_path_factory.mktemp("native"), engine=engines[1]) as native,
    ):
        for engine in (reference, native):
            engine.update(sample("SM_1"), sample("SM_2"))
            with Raw(engine.port) as client:
                until(lambda client=client: good(client), 20)
        yield reference.port, native.port


def good(client):
    return client.ask(read(variable("FMTESTM2", "MMXN1$MX$Watt$q"))).endswith(b"\x84\x03\x03\0\0")


@pytest.fixture
def both(ports):
    with Raw(ports[0]) as reference, Raw(ports[1]) as native:
        yield reference, native


def steady(answer):
    """The answer without the times at which the engines started."""
    meter = re.escape((T0 // 1000).to_bytes(4, "big"))
    return re.sub(rb"\x91\x08(?!%s)(?!\0{4}).{8}" % meter, b"\x91\x08 started", answer, flags=re.DOTALL)


def ask(client, request):
    try:
        return steady(client.ask(request))
    except RawError:
        return b"closed"


def names(client, object_class, domain=None):
    found, after, more = [], None, True
    while more:
        answer = client.ask(name_list(object_class, domain, after))
        _, begin, end = ber.element(answer, 1, len(answer))
        _, first, last = ber.element(answer, begin, end)
        page = [answer[a:b].decode() for _, a, b in ber.elements(answer, first, last)]
        more = page and answer[last:end] != b"\x81\x01\x00"
        found += page
        after = found[-1] if found else None
    return found


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Ports of both engines on the CID that flexmap generates for a site behind a concentrator."""
    folder = tmp_path_factory.mktemp("generated")
    site = full.full_site(2)
    file = folder / "full.cid"
    file.write_bytes(full.cid(site))
    samples = [*full.samples(site, T0), *full.samples(site, T0 + 4567, channel=True)]
    with (
        core(tmp_path_factory.mktemp("lib"), site=site, cid=file) as reference,
        core(tmp_path_factory.mktemp("native"), engine="native", site=site, cid=file) as native,
    ):
        for engine in (reference, native):
            engine.update(*samples)
            engine.wait(lambda status: status["samples"] == len(samples), 20)
        yield reference.port, native.port


def compare_variables(reference, native, device, request_of):
    items = names(native, 0, device)
    assert sorted(items) == sorted(names(reference, 0, device))
    assert len(items) > 20
    reads = request_of is not attributes
    for item in items:
        if reads and item.endswith("$SBO"):
            continue  # to read it is to select
        request = request_of(device, item)
        expected, answer = ask(reference, request), ask(native, request)
        if reads and any(re.fullmatch(pattern, item) for pattern in OF_VARIABLES):
            assert answer[:2] == expected[:2]
        else:
            assert answer.hex() == expected.hex(), item


VALUE_AND_TYPE = pytest.mark.parametrize(
    "request_of", [lambda *name: read(variable(*name)), attributes], ids=["value", "type"]
)


@pytest.mark.parametrize("device", ["FMTESTGW", "FMTESTM1", "FMTESTM2"])
@VALUE_AND_TYPE
def test_every_variable_has_the_same_type_and_value(both, device, request_of):
    compare_variables(*both, device, request_of)


@pytest.mark.parametrize("device", ["FMFULLGW", "FMFULLSM0", "FMFULLSM2"])
@VALUE_AND_TYPE
def test_every_variable_of_a_generated_file_too(generated, device, request_of):
    with Raw(generated[0]) as reference, Raw(generated[1]) as native:
        compare_variables(reference, native, device, request_of)


def test_every_data_set_of_a_generated_file_has_the_same_members_and_values(generated):
    with Raw(generated[0]) as reference, Raw(generated[1]) as native:
        for device in names(native, 9):
            data_sets = names(native, 2, device)
            assert data_sets == names(reference, 2, device)
            for item in data_sets:
                for request in (list_attributes(device, item), read_list(device, item, echo=True)):
                    assert ask(native, request).hex() == ask(reference, request).hex(), item


def test_writes_to_every_variable_that_is_no_control_block_and_no_control(both):
    """Of its own value and of another type."""
    native = both[1]
    items = [item for item in names(native, 0, DEVICE) if "$" in item]
    items = [item for item in items if not re.search(r"\$(CO|RP|BR)(\$|$)", item)]
    assert len(items) > 150
    for item in items:
        target = variable(DEVICE, item)
        answer = native.ask(read(target))
        value = answer[answer.index(b"\xa1", 2) :]
        begin, end = ber.expect(value, 0, len(value), 0xA1)
        for octets in (value[begin:end], b"\x83\x01\x01", b"\x8a\x03abc"):
            expected, got = (ask(client, write([target], [octets])) for client in both)
            assert got.hex() == expected.hex(), item


def test_random_reads(both):
    """Lists of what is there and what is not, whole and in parts."""
    chance = random.Random(20260228)
    known = [item for item in names(both[1], 0, DEVICE) if "$CO" not in item and not item.startswith("LLN0")]
    known = [item for item in known if not re.fullmatch(r"[CX]SWI\d", item)]
    for _ in range(400):
        wanted = []
        for _ in range(chance.choice((1, 1, 2, 5, 40))):
            item = chance.choice(known)
            if chance.random() < 0.1:
                item += chance.choice(("$x", "$", "x", "$stVal$stVal"))
            alternate = b""
            if chance.random() < 0.1:
                part = chance.choice((b"q", b"t", b"stVal", b"mag", b"none"))
                alternate = ber.tlv(0x81, part)
            device = chance.choice((DEVICE, DEVICE, "FMTESTM2", "NONE"))
            wanted.append(variable(device, item, alternate))
        reference, native = (ask(client, read(*wanted)) for client in both)
        assert native.hex() == reference.hex()


EXCHANGES = {
    "domains": name_list(9),
    "data sets": name_list(2, DEVICE),
    "data sets of the gateway": name_list(2, "FMTESTGW"),
    "journals": name_list(8, DEVICE),
    "variables of the VMD": name_list(0),
    "data sets of the VMD": name_list(2),
    "data sets of the association": name_list(2, "@"),
    "names of a domain that is not there": name_list(0, "NOPE"),
    "names of a class that is not there": name_list(5),
    "names of a class that no standard knows": name_list(99),
    "names behind one that is not there": name_list(0, DEVICE, "ZZZ"),
    "names behind one that is there": name_list(0, DEVICE, "XSWI2$ST"),
    "domains behind one": name_list(9, None, "FMTESTM1"),
    "members": list_attributes(DEVICE, "LLN0$All"),
    "members of other devices": list_attributes("FMTESTGW", "LLN0$Site"),
    "members of a data set that is not there": list_attributes(DEVICE, "LLN0$No"),
    "type of a variable that is not there": attributes(DEVICE, "NOPE"),
    "type in a domain that is not there": attributes("NO", "LLN0"),
    "identify": b"\x82\x00",
    "status": b"\x80\x01\x00",
    "extended status": b"\x80\x01\xff",
    "a data set": read_list(DEVICE, "LLN0$All"),
    "a data set of other devices": read_list("FMTESTGW", "LLN0$Site"),
    "a data set with specification": read_list(DEVICE, "LLN0$All", echo=True),
    "a data set that is not there": read_list(DEVICE, "LLN0$No"),
    "a data set in a domain that is not there": read_list("NO", "LLN0$All"),
    "three variables, one of them not there": read(
        WATT, variable(DEVICE, "NOPE$ST"), variable(DEVICE, "MMTR1$ST")
    ),
    "a variable with specification": read(WATT, echo=True),
    "a variable in a domain that is not there": read(variable("NO", "MMXN1$MX$Watt")),
    "a variable of the VMD": read(variable(None, "MMXN1")),
    "no variable": read(),
    "a component": read(variable(DEVICE, "MMXN1$MX$Watt", b"\x81\x01q")),
    "an element of what is no array": read(variable(DEVICE, "MMXN1$MX$Watt", b"\x82\x01\x00")),
    "write a status": write([variable(DEVICE, "XSWI1$ST$Pos$stVal")], [b"\x84\x02\x06\x80"]),
    "write configuration": write([variable(DEVICE, "MMTR1$CF$DmdWh$pulsQty")], [b"\x87\x05\x08\0\0\0\0"]),
    "write another type": write([variable(DEVICE, "MMTR1$CF$DmdWh$pulsQty")], [FALSE]),
    "write a structure": write([WATT], [b"\xa2\x00"]),
    "write a variable that is not there": write([variable(DEVICE, "NOPE$ST")], [FALSE]),
    "write in a domain that is not there": write([variable("NO", "X")], [FALSE]),
    "write two": write([variable(DEVICE, "NOPE$ST"), WATT], [FALSE, FALSE]),
    "write one value for two": write([variable(DEVICE, "NOPE$ST"), WATT], [FALSE]),
    "write RptID": write([variable(DEVICE, "LLN0$RP$urAll02$RptID")], [b"\x8a\x01x"]),
    "write an attribute that no client may": write(
        [variable(DEVICE, "LLN0$RP$urAll02$ConfRev")], [b"\x86\x01\x01"]
    ),
    "a service that is not there": b"\xa9\x00",
    "a file directory": b"\xbf\x4d\x00",
    "define": define(DEVICE, "LLN0$mine", WATT),
    "delete a data set of the SCL file": delete(domain_name(DEVICE, "LLN0$All")),
    "a read of nothing": b"\xa4\x00",
    "a read that is cut off": bytes.fromhex("a403a101ff"),
}


@pytest.mark.parametrize("name", EXCHANGES)
def test_an_exchange(both, name):
    expected, answer = (ask(client, EXCHANGES[name]) for client in both)
    if name in DIFFERENCES:
        assert answer != expected, "mended: strike it from DIFFERENCES"
    else:
        assert answer.hex() == expected.hex()


@pytest.mark.parametrize("pdu", [b"\x8b\x00", b"\xbb\x00"], ids=["conclude", "an unknown PDU"])
def test_a_pdu_that_is_no_confirmed_request(both, pdu):
    for client in both:
        client.send(pdu)
    reference, native = (client.receive() for client in both)
    assert native == reference


@pytest.mark.parametrize("contexts", [(1, 3), (3, 5), (5, 7), (11, 1)])
@pytest.mark.parametrize("tpdu", [7, 10, 13])
def test_contexts_and_tpdu_sizes_are_the_clients_choice(ports, contexts, tpdu):
    answers = []
    for port in ports:
        with Raw(port, contexts=contexts, tpdu=tpdu) as client:
            answers.append(
                (ask(client, read_list("FMTESTGW", "LLN0$Site")), ask(client, attributes(DEVICE, "LLN0")))
            )
    assert answers[0] == answers[1]


@pytest.mark.parametrize("number", [0, 1, 127, 128, 255, 256, 32768, 2**24, 2**31 - 1])
def test_invoke_identifiers(both, number):
    reference, native = (client.ask(read(WATT), number) for client in both)
    assert native == reference
