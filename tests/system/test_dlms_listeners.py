"""The gateway with ports of every kind: what it says of them, mutated HDLC frames, many slow connections."""

import contextlib
import os
import random
import re
import select
import socket
import struct
import subprocess
import threading
import time
import tty
from pathlib import Path

import pytest
from dlms_mutants import lls, mutate, seeds
from gateway_harness import FLEXMAP, GET_CLOCK, PUBLIC_AARQ, Gateway, Poller, flexmap, free_ports
from remote import Remote

from flexmap.dlms import hdlc
from flexmap.dlms.hdlc import POLL, Command, Splitter

SAP = 1001
ENERGY = "1.0.1.8.0.255"
LISTENERS = """
[[dlms.listener]]
transport = "hdlc-tcp"
listen = "127.0.0.1:{hdlc}"
device_address = 17
max_info = 1000
window = 3
inactivity_timeout = 90

[[dlms.listener]]
transport = "hdlc-serial"
port = "pty:direct?baud=19200"

[[dlms.listener]]
transport = "hdlc-serial"
port = "pty:optical"
mode = "e"
address = "4711"

[[dlms.listener]]
transport = "wrapper-tcp"
listen = "127.0.0.1:{wrapper}"
"""


class Site:
    def __init__(self, folder, listeners=LISTENERS):
        self.folder = folder
        mms, dlms, web, self.hdlc, self.wrapper = free_ports(5)
        config = folder / "site.toml"
        subprocess.run(
            [FLEXMAP, "demo", "--meters", "1", "--source", "model", "--write-config", config], check=True
        )
        text = config.read_text()
        for section, port in (("mms", mms), ("dlms", dlms), ("web", web)):
            text = re.sub(
                rf'(\[{section}\].*?listen = ")[^"]*', rf"\g<1>127.0.0.1:{port}", text, count=1, flags=re.DOTALL
            )
        config.write_text(text + listeners.format(hdlc=self.hdlc, wrapper=self.wrapper))
        secrets = next(path for path in folder.glob("*.toml") if path != config).read_text()
        self.keys = tuple(
            bytes.fromhex(re.search(rf'\[reader\].*?{name}_key = "(\w+)"', secrets, re.DOTALL)[1])
            for name in ("encryption", "authentication")
        )
        self.password = re.search(r'\[reader-lls\]\s*password = "([^"]+)"', secrets)[1].encode()
        self.prepare(config)
        self.gateway = Gateway(folder, "serve", config, command="serve", ports=(mms, dlms, web))

    def prepare(self, config):
        """Do what must be done before the gateway starts."""

    def wait(self, *, healthy=True):
        end = time.monotonic() + 40
        while time.monotonic() < end:
            assert self.gateway.process.poll() is None, self.gateway.text()
            with contextlib.suppress(OSError):
                if self.gateway.health()["healthy"] is healthy:
                    return self
            time.sleep(0.1)
        raise AssertionError(self.gateway.text())


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("site"))
    try:
        yield made.wait()
    finally:
        made.gateway.close()


def gurux(site, where, *, server_sap=SAP, number=[0], **options):  # noqa: B006 (a title for each session)
    number[0] += 1
    title = b"LST" + number[0].to_bytes(5, "big")
    who = {"client_sap": 2, "keys": site.keys, "title": title}
    return Remote("gurux_hdlc_session.py", where, server_sap=server_sap, **who, **options)


def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_meter_is_the_same_on_every_port(site):
    names = set()
    for where, options in (
        (site.hdlc, {"lower": 17}),
        (str(site.folder / "direct"), {}),
        (str(site.folder / "optical"), {"mode_e": "listen"}),
    ):
        with gurux(site, where, **options) as meter:
            assert meter.get(3, ENERGY, 2) > 0
            names.add(bytes(meter.get(1, "0.0.42.0.0.255", 2)))
            meter.close()
    assert len(names) == 1
    addresses = " ".join(site.gateway.health()["dlms"]["addresses"])
    for part in (
        f":{site.hdlc} (HDLC, TCP)",
        "direct (HDLC)",
        "optical (HDLC, mode E)",
        f":{site.wrapper} (wrapper",
    ):
        assert part in addresses


def test_the_ports_are_described_in_logical_device_1(site):
    with gurux(site, site.hdlc, server_sap=1, lower=17, octets=2) as device:
        listed = device.objects()
        setup = [device.get(23, "0.1.22.0.0.255", index) for index in range(2, 10)]
        assert setup == [9, 3, 3, 1000, 1000, 6000, 90, 17]
        assert [device.get(23, "0.2.22.0.0.255", index) for index in range(2, 10)][:5] == [6, 7, 7, 2030, 2030]
        assert device.get(23, "0.3.22.0.0.255", 2) == 5
        optical = [device.get(19, "0.3.20.0.0.255", index) for index in range(2, 7)]
        assert [*optical[:4], bytes(optical[4])] == [0, 0, 5, 1, b"4711"]
        for channel, port in ((0, site.gateway.dlms), (1, site.hdlc), (4, site.wrapper)):
            assert device.get(41, f"0.{channel}.25.0.0.255", 2) == port
            assert bytes(device.get(41, f"0.{channel}.25.0.0.255", 3)) == bytes((0, channel, 25, 1, 0, 255))
            assert device.get(42, f"0.{channel}.25.1.0.255", 3) == int.from_bytes((127, 0, 0, 1), "big")
        device.close()
    described = {(19, "0.3.20.0.0.255"), *((23, f"0.{channel}.22.0.0.255") for channel in (1, 2, 3))}
    assert described <= set(listed)
    assert (23, "0.0.22.0.0.255") not in listed


def test_flexmap_reads_over_hdlc_what_it_reads_over_the_wrapper(site):
    config, dlms, line = (
        site.folder / "site.toml",
        f"dlms://127.0.0.1:{site.gateway.dlms}",
        f"hdlc://127.0.0.1:{site.hdlc}",
    )
    who = ("--as", "reader", "--config", config)

    def read(path, url=line, *options):
        done = flexmap("read", f"{url}{path}", *who, "--device-address", 17, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert read("") == read("", dlms)
    listed = [line.split()[:3] for line in read(f"/{SAP}").splitlines()]
    assert listed == [line.split()[:3] for line in read(f"/{SAP}", dlms).splitlines()]
    assert read(f"/{SAP}/0-0:42.0.0") == read(f"/{SAP}/0-0:42.0.0", dlms)
    wrong = flexmap("read", f"{line}/99", *who, "--device-address", 17)
    assert wrong.returncode == 1
    assert "DM" in wrong.stderr
    wrong = flexmap("read", f"{dlms.replace('dlms', 'hdlc')}/{SAP}", *who)
    assert wrong.returncode == 1
    assert "hdlc://" in wrong.stderr


class Adapter:
    """A serial adapter under a name that stays, plugged in and out."""

    def __init__(self, name):
        self.name, self.far, self._descriptors = name, name.with_name("far"), []

    def plug(self):
        ends = [os.openpty() for _ in range(2)]
        for path, (_, slave) in zip((self.name, self.far), ends, strict=True):
            tty.setraw(slave)
            path.unlink(missing_ok=True)
            path.symlink_to(os.ttyname(slave))
        self._masters = [master for master, _ in ends]
        self._descriptors = [descriptor for pair in ends for descriptor in pair]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._carry, args=(self._masters, self._end), daemon=True)
        self._thread.start()

    def _carry(self, masters, end):
        while not end.is_set():
            for master in select.select(masters, [], [], 0.05)[0]:
                os.write(masters[1 - masters.index(master)], os.read(master, 4096))

    def unplug(self):
        self._end.set()
        self._thread.join(5)
        for descriptor in self._descriptors:
            os.close(descriptor)


def test_a_serial_line_that_was_unplugged_is_served_again(tmp_path):
    adapter = Adapter(tmp_path / "ttyUSB7")
    adapter.plug()
    listener = f"""
[[dlms.listener]]
transport = "hdlc-serial"
port = "serial:{adapter.name}?baud=9600"
"""
    site = Site(tmp_path, listener)
    try:
        site.wait()
        with gurux(site, str(adapter.far)) as meter:
            assert meter.get(3, ENERGY, 2) > 0
        adapter.unplug()
        site.wait(healthy=False)
        adapter.plug()
        site.wait()
        with gurux(site, str(adapter.far)) as meter:
            assert meter.get(3, ENERGY, 2) > 0
            meter.close()
        assert "ttyUSB7 has gone" in site.gateway.text()
        assert "ttyUSB7 is back" in site.gateway.text()
    finally:
        site.gateway.close()
        adapter.unplug()


def frames_of(octets):
    splitter = Splitter(1)
    splitter.add(octets, 0)
    return list(iter(splitter.next, None))


def batch(port, octets):
    """Send everything, then take what comes until there is no more."""
    received = bytearray()
    with (
        socket.create_connection(("127.0.0.1", port), 5) as connection,
        contextlib.suppress(ConnectionError, TimeoutError),
    ):
        connection.sendall(octets)
        connection.settimeout(0.05)
        while chunk := connection.recv(65536):
            received += chunk
    return bytes(received)


def hostile(chance, count, password):
    """A link and an association, then broken frames, and whole frames with broken content."""
    addresses = hdlc.encode_station(SAP, 17) + bytes((chance.choice((1, 16, 18)) << 1 | 1,))
    octets = hdlc.encode(addresses, Command.SNRM | POLL) + hdlc.encode(
        addresses, POLL, hdlc.LLC_COMMAND + lls(password)
    )
    for number in range(count):
        body = mutate(chance, hdlc.LLC_COMMAND + chance.choice(seeds()))[:128]
        frame = hdlc.encode(addresses, (number + 1 & 7) << 1 | 1 << 5 | POLL, body)
        octets += mutate(chance, frame) if chance.random() < 0.5 else frame
    return octets


def test_mutated_hdlc_frames_over_tcp(site):
    chance = random.Random(9)
    pid = site.gateway.process.pid
    for _ in range(10):
        batch(site.hdlc, hostile(chance, 50, site.password))
    before, answered = resident(pid), 0
    for _ in range(100):
        octets = batch(site.hdlc, hostile(chance, 50, site.password))
        found = frames_of(octets)
        assert sum(len(hdlc.encode(*frame[:3], segmented=frame.segmented)) for frame in found) == len(octets)
        answered += len(found)
    assert answered > 1000
    assert resident(pid) - before < 20_000_000
    with gurux(site, site.hdlc, lower=17) as meter:
        assert meter.get(3, ENERGY, 2) > 0
        meter.close()
    assert "Traceback" not in site.gateway.text()


def slow(port, source, stack):
    """A connection from an address of its own that begins a frame."""
    made = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5, source_address=(source, 0)))
    made.sendall(b"\0\1\0\x10")
    return made


def test_hundreds_of_slow_connections_from_one_address_keep_nobody_out(site):
    before, delays = resident(site.gateway.process.pid), []
    with contextlib.ExitStack() as stack:
        for _ in range(700):
            with contextlib.suppress(OSError):
                slow(site.gateway.dlms, "127.0.0.9", stack)
        end = time.monotonic() + 5
        while site.gateway.health()["dlms"]["connections_refused"] < 200 and time.monotonic() < end:
            time.sleep(0.1)
        figures = site.gateway.health()["dlms"]
        assert figures["connections"] <= 500
        assert figures["connections_refused"] >= 200
        other = Poller(site.wrapper)
        other.start()
        time.sleep(1)
        other.done.set()
        other.join(5)
        assert other.failure is None
        delays = other.delays
        grown = resident(site.gateway.process.pid) - before
    assert len(delays) > 50
    assert max(delays) < 0.5
    assert grown < 15_000_000


def test_associations_opened_again_and_again_cost_nothing_and_honest_clients_go_on(site):
    """Twelve connections that open a thousand associations each, half of them never completed."""
    half_open = bytes.fromhex(
        "6036a1090607608574050801018a0207808b0760857405080205ac12801078787878787878787878787878787878"
        "be10040e01000000065f1f040000fe1dffff"
    )
    other, before = Poller(site.gateway.dlms), resident(site.gateway.process.pid)
    other.start()
    with contextlib.ExitStack() as stack, gurux(site, site.hdlc, lower=17) as honest:
        for _ in range(12):
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", site.wrapper), 5))
            for client, opening in ((16, PUBLIC_AARQ), (2, half_open)):
                for sap in (1, SAP) * 250:
                    peer.sendall(struct.pack(">HHHH", 1, client, sap, len(opening)) + opening)
        time.sleep(1)
        assert honest.get(3, ENERGY, 2) > 0
        honest.close()
        grown = resident(site.gateway.process.pid) - before
    other.done.set()
    other.join(5)
    assert other.failure is None
    assert max(other.delays) < 2
    assert grown < 30_000_000


def test_datagrams_on_the_port_listened_on(site):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.connect(("127.0.0.1", site.gateway.dlms))
        peer.settimeout(5)
        for apdu in (PUBLIC_AARQ, GET_CLOCK):
            peer.send(struct.pack(">HHHH", 1, 16, SAP, len(apdu)) + apdu)
            answer = peer.recv(65536)
        assert answer[8:12].hex() == "c401c100"
