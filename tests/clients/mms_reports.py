"""Reports as plain dictionaries, read from the PDUs that the raw client takes; and the requests for them."""

from mms_raw import Raw, read, variable, write

from flexmap.mms import ber, data

SEQUENCE, TIME, REASON, DATA_SET, REFERENCE, OVERFLOW, ENTRY, REVISION, SEGMENTS = (
    1 << bit for bit in range(8, -1, -1)
)
ALL = (1 << 9) - 2
"""Every option but segmentation."""


class Reporter(Raw):
    """A raw client that keeps the reports it gets."""

    def __init__(self, port, **options):
        self.reports = []
        self.others = []
        super().__init__(port, **options)

    def receive(self):
        """Return the next PDU that is no report."""
        while True:
            pdu = super().receive()
            if pdu[0] != 0xA3:
                return pdu
            self.take_unconfirmed(pdu)

    def take_unconfirmed(self, pdu):
        if b"RPT" in pdu[:20]:
            self.reports.append(decode(pdu))
        else:
            self.others.append(pdu)

    def hear(self, seconds=15.0):
        """Wait for one unconfirmed PDU."""
        self.socket.settimeout(seconds)
        self.take_unconfirmed(Raw.receive(self))

    def report(self, seconds=15.0):
        """Return the next report."""
        while not self.reports:
            self.hear(seconds)
        return self.reports.pop(0)

    def quiet(self, seconds=0.4):
        """Tell whether no report comes for so long."""
        try:
            self.hear(seconds)
        except TimeoutError:
            return not self.reports
        return False

    def set(self, block, **attributes):
        """Write attributes of a control block (``FMTESTM1/LLN0$BR$brAll01``); return the errors, None for none."""
        domain, _, item = block.partition("/")
        errors = []
        for name, value in attributes.items():
            answer = self.ask(write([variable(domain, f"{item}${name}")], [value]))
            errors.append(None if answer.endswith(b"\x81\x00") else answer[-1])
        return errors[0] if len(errors) == 1 else errors

    def get(self, block, attribute):
        """Read one attribute, encoded."""
        domain, _, item = block.partition("/")
        answer = self.ask(read(variable(domain, f"{item}${attribute}")))
        _, begin, end = ber.element(answer, 1, len(answer))
        _, first, last = ber.element(answer, begin, end)
        return answer[first:last]


def decode(pdu):
    """A report by the names of its parts (IEC 61850-8-1 clause 17)."""
    _, begin, end = ber.element(pdu, 0, len(pdu))
    _, begin, end = ber.element(pdu, begin, end)
    _, _, after = ber.element(pdu, begin, end)
    first, last = ber.expect(pdu, after, end, 0xA0)
    results = []
    while first < last:
        _, _, stop = ber.element(pdu, first, last)
        results.append(pdu[first:stop])
        first = stop
    left = iter(results)
    take = left.__next__
    report = {"id": data.to_text(take())}
    options = report["options"] = data.to_bits(take())
    for name, bit, convert in (
        ("sequence", SEQUENCE, data.to_unsigned),
        ("time", TIME, data.contents),
        ("data_set", DATA_SET, data.to_text),
        ("overflow", OVERFLOW, data.to_boolean),
        ("entry", ENTRY, data.contents),
        ("revision", REVISION, data.to_unsigned),
        ("segment", SEGMENTS, data.to_unsigned),
        ("more", SEGMENTS, data.to_boolean),
    ):
        if options & bit:
            report[name] = convert(take())
    inclusion = take()
    octets = data.contents(inclusion)
    width = (len(octets) - 1) * 8 - octets[0]
    bits = data.to_bits(inclusion)
    included = [index for index in range(width) if bits >> (width - 1 - index) & 1]
    report["width"] = width
    report["names"] = {index: data.to_text(take()) for index in included} if options & REFERENCE else {}
    report["values"] = {index: take() for index in included}
    report["reasons"] = {index: data.to_bits(take()) for index in included} if options & REASON else {}
    assert not list(left), "parts that nothing announced"
    return report
