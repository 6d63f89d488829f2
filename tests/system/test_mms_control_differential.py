"""The same commands to both MMS engines: every PDU that comes of them, octet for octet."""

import pytest
from mms_harness import core, until
from mms_raw import Raw, RawError, read, variable, write
from mms_site import sample

from flexmap.mms import ber, data

DEVICE = "FMTESTM1"
READ_BACK = "no clause says what CO reads as behind a write: ours shows what was written last, refused or not"
DIFFERENCES = {"what was written": READ_BACK, "what was written, with SBOw": READ_BACK}
"""By step."""


def origin(category=3):
    return ber.tlv(0xA2, data.integer(category), data.octet_string(b"x"))


def command(value=False, number=1, *, test=False, check=0):
    """SBOw or Oper."""
    return ber.tlv(0xA2, *_common(value, number, test), data.bit_string(check, 2))


def cancel(value=False, number=1):
    return ber.tlv(0xA2, *_common(value, number, test=False))


def _common(value, number, test):
    time = data.utc_time(1_750_000_000_000, 10)
    return data.boolean(value), origin(), data.unsigned(number), time, data.boolean(test)


class Client(Raw):
    def answers(self, service):
        """All PDUs up to the answer."""
        self.invoke += 1
        self.send(ber.tlv(0xA0, ber.tlv(2, ber.integer_octets(self.invoke)), service))
        received = [self.receive().hex()]
        while received[-1].startswith("a3"):
            received.append(self.receive().hex())
        return received

    def put(self, node, name, value):
        return self.answers(write([variable(DEVICE, f"{node}$CO$Pos${name}")], [value]))

    def get(self, item):
        return self.answers(read(variable(DEVICE, item)))


def script(engine):
    """Yield the name of each step and what came of it."""
    with Client(engine.port) as one, Client(engine.port) as other:
        yield "cancel unselected", one.put("CSWI1", "Cancel", cancel())
        yield "operate unselected", one.put("CSWI1", "Oper", command())
        yield "select", one.put("CSWI1", "SBOw", command())
        # libiec61850 shows it a moment later.
        until(lambda: one.get("CSWI1$ST$Pos$stSeld")[0].endswith("830101"))
        one.invoke = 50
        yield "select again", one.put("CSWI1", "SBOw", command())
        yield "another selects", other.put("CSWI1", "SBOw", command())
        yield "another operates", other.put("CSWI1", "Oper", command())
        yield "another cancels", other.put("CSWI1", "Cancel", cancel())
        yield "cancel", one.put("CSWI1", "Cancel", cancel())
        until(lambda: one.get("CSWI1$ST$Pos$stSeld")[0].endswith("830100"))
        one.invoke = 100
        yield "select the position reached", one.put("CSWI1", "SBOw", command(value=True))
        yield "select as a test", one.put("CSWI1", "SBOw", command(test=True))
        yield "select anew", one.put("CSWI1", "SBOw", command(number=2))
        yield "operate with another ctlNum", one.put("CSWI1", "Oper", command(number=3))
        yield "operate after that", one.put("CSWI1", "Oper", command(number=2))
        yield "SBOw of a direct control", one.put("XSWI1", "SBOw", command())
        yield "Cancel of a direct control", one.put("XSWI1", "Cancel", cancel())
        yield "SBO of a direct control", one.get("XSWI1$CO$Pos$SBO")
        yield "SBO of an enhanced control", one.get("CSWI1$CO$Pos$SBO")
        yield "select by reading", one.get("CSWI2$CO$Pos$SBO")
        yield "select by reading again", one.get("CSWI2$CO$Pos$SBO")
        yield "another selects by reading", other.get("CSWI2$CO$Pos$SBO")
        yield "SBOw of a normal control", one.put("CSWI2", "SBOw", command())
        yield "operate to the position reached", one.put("CSWI2", "Oper", command())
        yield "select after that", one.get("CSWI2$CO$Pos$SBO")
        yield "cancel that", one.put("CSWI2", "Cancel", cancel())
        yield "write a part", one.answers(write([variable(DEVICE, "XSWI1$CO$Pos$Oper$ctlVal")], [data.TRUE]))
        yield "write a control", one.answers(write([variable(DEVICE, "XSWI1$CO$Pos")], [data.TRUE]))
        yield "write what is no Oper", one.put("XSWI2", "Oper", cancel())
        yield "operate to where it is", one.put("XSWI1", "Oper", command(value=True))
        yield "operate as a test", one.put("XSWI1", "Oper", command(test=True))
        yield "operate", one.put("XSWI1", "Oper", command(number=5))
        number = engine.hear("command")[0]
        yield "operate meanwhile", one.put("XSWI1", "Oper", command(number=6))
        yield "another operates meanwhile", other.put("XSWI1", "Oper", command(number=6))
        engine.say(result=[number, True, ""])
        yield "termination", [one.receive().hex()]
        yield "ctlNum", one.get("XSWI1$ST$Pos$ctlNum")
        yield "origin", one.get("XSWI1$ST$Pos$origin")
        yield "operate what the meter refuses", one.put("XSWI1", "Oper", command(number=7))
        engine.say(result=[engine.hear("command")[0], False, "blocked-by-interlocking"])
        yield "negative termination", [one.receive().hex()]
        yield "operate a control of no point", one.put("CSWI9", "Oper", command())
        yield "what was written", one.get("CSWI2$CO")
        yield "what was written, with SBOw", one.get("CSWI1$CO")
        yield "nothing is left", quiet(one)


def quiet(client):
    client.socket.settimeout(0.3)
    try:
        return client.receive().hex()
    except (TimeoutError, RawError):
        return ""


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    found = []
    for name in ("libiec61850", "native"):
        with core(tmp_path_factory.mktemp(name), engine=name) as engine:
            engine.update(sample("SM_1"))
            engine.wait(lambda status: status["samples"] == 1)
            found.append(dict(script(engine)))
    return found


def test_both_engines_answer_alike(steps):
    reference, native = steps
    assert list(reference) == list(native)
    assert {name for name in native if native[name] != reference[name]} == set(DIFFERENCES)
