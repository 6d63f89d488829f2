"""A raw MMS client: whatever octets a test makes, over a plain socket; blocking, one request at a time."""

import contextlib
import socket

from flexmap.mms import acse, ber, presentation, session
from flexmap.mms.session import Kind

INITIATE = bytes.fromhex(
    "a826 8003 00fde8 8101 05 8201 05 8301 0a a416 8001 01 8103 05f100 820c 03ee1c00000408000079ef18"
)


def domain_name(domain, item):
    """An ObjectName: domain-specific, or VMD-specific (domain None), or of the association (``@``)."""
    if domain is None:
        return ber.tlv(0x80, item.encode())
    if domain == "@":
        return ber.tlv(0x82, item.encode())
    return ber.tlv(0xA1, ber.tlv(0x1A, domain.encode()), ber.tlv(0x1A, item.encode()))


def variable(domain, item, alternate=b""):
    return ber.tlv(0x30, ber.tlv(0xA0, domain_name(domain, item)), alternate and ber.tlv(0xA5, alternate))


def read(*variables, echo=False):
    return ber.tlv(0xA4, b"\x80\x01\xff" if echo else b"", ber.tlv(0xA1, ber.tlv(0xA0, *variables)))


def read_list(domain, item, echo=False):
    name = ber.tlv(0xA1, domain_name(domain, item))
    return ber.tlv(0xA4, b"\x80\x01\xff" if echo else b"", ber.tlv(0xA1, name))


def write(variables, values):
    return ber.tlv(0xA5, ber.tlv(0xA0, *variables), ber.tlv(0xA0, *values))


def name_list(object_class, domain=None, after=None):
    scope = b"\x80\x00" if domain is None else b"\x82\x00" if domain == "@" else ber.tlv(0x81, domain.encode())
    more = b"" if after is None else ber.tlv(0x82, after.encode())
    return ber.tlv(0xA1, ber.tlv(0xA0, bytes((0x80, 1, object_class))), ber.tlv(0xA1, scope), more)


def attributes(domain, item):
    return ber.tlv(0xA6, ber.tlv(0xA0, domain_name(domain, item)))


def list_attributes(domain, item):
    return ber.tlv(0xAC, domain_name(domain, item))


def define(domain, item, *members):
    return ber.tlv(0xAB, domain_name(domain, item), ber.tlv(0xA0, *members))


def delete(*names, scope=0):
    return ber.tlv(0xAD, bytes((0x80, 1, scope)), ber.tlv(0xA1, *names) if names else b"")


class RawError(Exception):
    """The server closed the connection or did not answer."""


class Raw:
    """One connection."""

    def __init__(self, port, *, contexts=(1, 3), password=None, tpdu=13, initiate=INITIATE, connect=True):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.contexts = contexts
        self.segment = (1 << tpdu) - 3
        self.buffer = b""
        self.invoke = 0
        self.initiated = b""
        if connect:
            self.transport(tpdu)
            self.associate(initiate, password)

    def transport(self, tpdu=13):
        request = bytes.fromhex("e0 0000 0001 00 c0 01") + bytes((tpdu,)) + bytes.fromhex("c1 02 0000 c2 02 0001")
        self.socket.sendall(b"\x03\x00" + (len(request) + 5).to_bytes(2, "big") + bytes((len(request),)) + request)
        self.confirm = self.frame()
        return self.confirm

    def associate(self, initiate=INITIATE, password=None):
        acse_context, mms_context = self.contexts
        user = acse.request(mms_context, initiate, password)
        data = presentation.connect(
            user, acse_context=acse_context, mms_context=mms_context, calling=b"\0\0\0\1", called=b"\0\0\0\1"
        )
        self.send_unit(session.connect(data, b"\0\1", b"\0\1"))
        self.accepted = self.unit()
        spdu = session.decode(self.accepted)
        if spdu.kind is Kind.ACCEPT:
            self.initiated = spdu.user_data[spdu.user_data.index(b"\xa9") :]
        return spdu

    def send_unit(self, unit):
        parts = [unit[at : at + self.segment] for at in range(0, len(unit), self.segment)] or [b""]
        for number, part in enumerate(parts, 1):
            end = b"\x80" if number == len(parts) else b"\x00"
            self.socket.sendall(b"\x03\x00" + (len(part) + 7).to_bytes(2, "big") + b"\x02\xf0" + end + part)

    def take(self, size):
        while len(self.buffer) < size:
            try:
                octets = self.socket.recv(1 << 16)
            except ConnectionResetError:
                octets = b""
            if not octets:
                raise RawError("closed")
            self.buffer += octets
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def frame(self):
        head = self.take(4)
        return self.take(int.from_bytes(head[2:], "big") - 4)

    def unit(self):
        parts, last = [], False
        while not last:
            frame = self.frame()
            last = bool(frame[2] & 0x80)
            parts.append(frame[3:])
        return b"".join(parts)

    def send(self, pdu):
        """Send an MMS PDU."""
        self.send_unit(session.DATA + presentation.encode_data(self.contexts[1], pdu))

    def send_many(self, service, count):
        """Send a request many times and read no answer, as far as the peer takes them."""
        request = ber.tlv(0xA0, b"\x02\x01\x01", service)
        unit = session.DATA + presentation.encode_data(self.contexts[1], request)
        octets = b"\x03\x00" + (len(unit) + 7).to_bytes(2, "big") + b"\x02\xf0\x80" + unit
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(count):
                self.socket.sendall(octets)

    def receive(self):
        """Return the next MMS PDU."""
        return presentation.decode_data(session.decode(self.unit()).user_data)[1]

    def ask(self, service, number=None):
        """Carry out a confirmed service; return the answer's PDU without its invoke identifier."""
        self.invoke = self.invoke + 1 if number is None else number
        octets = ber.integer_octets(self.invoke)
        self.send(ber.tlv(0xA0, ber.tlv(0x02, octets), service))
        answer = self.receive()
        tag, begin, end = ber.element(answer, 0, len(answer))
        inner, _, after = ber.element(answer, begin, end) if begin < end else (0, 0, begin)
        if tag in {0xA1, 0xA2, 0xA4} and inner in {0x02, 0x80}:
            begin = after
        return bytes((tag,)) + answer[begin:end]

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
