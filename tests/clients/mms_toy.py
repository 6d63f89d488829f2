"""A small MMS server without SCL, for tests of the protocol core: two devices, an array, a writer, a reader."""

from mms_raw import INITIATE

from flexmap.mms import acse, ber, data, presentation, session, types
from flexmap.mms.data import DataAccessError
from flexmap.mms.server import Server
from flexmap.mms.types import Array, Structure
from flexmap.mms.variables import Device, DeviceSchema, NodeSchema, Pending, VariableList, Variables

MEASURED = Structure(
    (
        ("mag", Structure((("f", types.FLOAT32),))),
        ("q", types.bit_string(13, varying=True)),
        ("t", types.UTC_TIME),
    )
)
LIMIT = Structure((("setMag", types.integer(16)), ("d", types.visible_string(8))))
CONTROL = (("SBO", types.visible_string(129)), ("Oper", Structure((("ctlVal", types.BOOLEAN),))))
NODE = NodeSchema(
    Structure(
        (
            ("MX", Structure((("TotW", MEASURED), ("HA", Array(MEASURED, 3))))),
            ("ST", Structure((("Cnt", Structure((("actVal", types.integer(64)),))),))),
            ("SP", Structure((("Lim", LIMIT),))),
            ("CO", Structure(CONTROL)),
        )
    )
)


class Toy:
    """The server, and what was written to it."""

    def __init__(self, **options):
        schema = DeviceSchema([("LLN0", NODE), ("MMXU1", NODE)])
        self.devices = [Device("TOY1", schema), Device("TOY2", schema)]
        self.first = self.devices[0]
        for device in self.devices:
            device.lists["LLN0$Meas"] = VariableList(((None, "MMXU1$MX$TotW"), ("TOY2", "MMXU1$ST$Cnt")))
        self.variables = Variables(self.devices)
        self.events = []
        self.server = Server(
            self.variables,
            identity=("flexmap", "toy", "1"),
            on_event=lambda peer, text: self.events.append((peer, text)),
            **options,
        )
        self.written = []
        self.pending = []
        self.first.writers[self.first.find("LLN0$SP$Lim").start] = self
        self.first.writers[self.first.find("LLN0$CO$Oper").start] = self
        self.first.readers[self.first.find("LLN0$CO$SBO").start] = self

    def write(self, association, variable, value):
        path = variable.component.path
        self.written.append((association.peer, path, value))
        if path[0] == "CO":
            self.pending.append(Pending())
            return self.pending[-1]
        if value == data.visible_string("bad"):
            return DataAccessError.OBJECT_VALUE_INVALID
        for offset, part in enumerate(data.parts(value) if value[0] == data.STRUCTURE else [value]):
            variable.device.set(variable.start + offset + (value[0] == data.STRUCTURE), part)
        return None

    def read(self, association, variable):
        return data.visible_string(f"for {association.peer}")

    def client(self, **options):
        return Wire(self.server, **options)


class Wire:
    """A client of the core without a socket."""

    def __init__(self, server, *, contexts=(1, 3), password=None, tpdu=13, initiate=INITIATE, peer="client"):
        self.late = []
        self.connection = server.connection(self.late.append, peer)
        self.contexts = contexts
        self.confirm = self.connection.receive(connect_request(tpdu))
        unit = association_request(contexts, password, initiate)
        self.accepted = self.connection.receive(b"".join(frames(unit)))

    @property
    def association(self):
        return self.connection.association

    def frame(self, service, number=1):
        """The octets of a confirmed request."""
        request = ber.tlv(0xA0, ber.tlv(0x02, ber.integer_octets(number)), service)
        return self.pdu(request)

    def pdu(self, pdu):
        return b"".join(frames(session.DATA + presentation.encode_data(self.contexts[1], pdu)))

    def ask(self, service, number=1):
        """The answer's PDU."""
        return answer(self.connection.receive(self.frame(service, number)))


def connect_request(tpdu=13, parameters=b"\xc1\x02\0\0\xc2\x02\0\1"):
    body = b"\xe0\0\0\0\1\0" + (bytes((0xC0, 1, tpdu)) if tpdu else b"") + parameters
    return b"\x03\x00" + (len(body) + 5).to_bytes(2, "big") + bytes((len(body),)) + body


def association_request(contexts=(1, 3), password=None, initiate=INITIATE):
    user = acse.request(contexts[1], initiate, password)
    selectors = {"calling": b"\0\0\0\1", "called": b"\0\0\0\1"}
    connect = presentation.connect(user, acse_context=contexts[0], mms_context=contexts[1], **selectors)
    return session.connect(connect, b"\0\1", b"\0\1")


def frames(unit, segment=65000):
    for at in range(0, len(unit), segment):
        part = unit[at : at + segment]
        mark = b"\x80" if at + segment >= len(unit) else b"\x00"
        yield b"\x03\x00" + (len(part) + 7).to_bytes(2, "big") + b"\x02\xf0" + mark + part


def unit_of(octets):
    """The one service data unit that octets hold; b"" if they hold none."""
    parts = []
    while octets:
        size = int.from_bytes(octets[2:4], "big")
        parts.append(octets[7:size])
        octets = octets[size:]
    return b"".join(parts)


def answer(octets):
    """The MMS PDU that octets hold."""
    unit = unit_of(octets)
    return presentation.decode_data(session.decode(unit).user_data)[1] if unit else b""
