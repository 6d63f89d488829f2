"""The last row of load profile 1 as compact data: Gurux's client reads both, and decodes the compact one.

It is decoded twice: by Gurux's decoder of compact arrays, which have the same description and contents, and here
by the text of the class.
"""

import contextlib
import sqlite3
import time
from itertools import count

import gurux_client
import msgspec
import pytest
from gateway_harness import GAK, GUEK, MANAGER_GAK, MANAGER_GUEK, gateway
from remote import RemoteFailure

COMPACT, PROFILE = (62, "0.0.66.0.1.255"), (7, "1.0.99.1.0.255")
DEVICES = {"three-phase": (1000, 21, 8), "single-phase": (1001, 6, 4)}
"""SAP, and of an energy: tag of its type, octets."""
OCTETS = {6: 4, 17: 1, 21: 8}
OCTET_STRING, STRUCTURE = 9, 2
RESET, CAPTURE = 1, 2
VALUES = (70_000, 2, 300, 4)

titles = (b"CMP" + number.to_bytes(5, "big") for number in count(1))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A gateway whose meters have one row of load profile 1, of the hour before."""
    path = tmp_path_factory.mktemp("compact")
    with gateway(path, meters=1) as first:
        first.wait_read()
        for device in DEVICES.values():
            check_nothing_captured(first, device[0])
        first.stop()
    with contextlib.closing(sqlite3.connect(path / "flexmap.sqlite")) as raw:
        raw.execute("DELETE FROM profile")
        row = (int(time.time()) // 3600 * 3600 - 3600) * 1000
        for layout, points in raw.execute("SELECT id, points FROM layout").fetchall():
            if len(msgspec.json.decode(points)) == len(VALUES):
                raw.execute(
                    "INSERT OR REPLACE INTO profile SELECT id, ?, 4, 0, ?, ? FROM meter WHERE name != ''",
                    (row, layout, msgspec.msgpack.encode(VALUES)),
                )
        raw.commit()
    with gateway(path, meters=1) as running:
        running.wait_read()
        yield running


@contextlib.contextmanager
def associated(running, sap, *, manage=False):
    client_sap, keys = (1, (MANAGER_GUEK, MANAGER_GAK)) if manage else (2, (GUEK, GAK))
    meter = gurux_client.connect(
        "127.0.0.1", running.dlms, server_sap=sap, client_sap=client_sap, keys=keys, title=next(titles)
    )
    yield meter
    meter.close()


def check_nothing_captured(running, sap):
    """Before the first row there is nothing, and that is not zero."""
    with associated(running, sap) as meter:
        if not meter.get(*PROFILE, 2):
            with pytest.raises(RemoteFailure, match="error 2"):
                meter.get(*COMPACT, 2)


def decoded(description, buffer):
    """Values of a compact buffer: no tags; a length before an octet-string."""
    assert (description[0], description[1]) == (STRUCTURE, len(description) - 2)
    values, at = [], 0
    for tag in description[2:]:
        length = OCTETS.get(tag)
        if tag == OCTET_STRING:
            length, at = buffer[at], at + 1
        octets, at = buffer[at : at + length], at + length
        values.append(octets if tag == OCTET_STRING else int.from_bytes(octets, "big"))
    assert at == len(buffer)
    return values


def last_row(meter):
    (*_, row) = meter.get(*PROFILE, 2)
    return row


@pytest.mark.parametrize("device", DEVICES)
def test_compact_data_is_the_last_row(demo, device):
    sap, energy, octets = DEVICES[device]
    with associated(demo, sap) as meter:
        row, buffer = last_row(meter), meter.get(*COMPACT, 2)
        if row != last_row(meter):  # a quarter of an hour has ended just now
            row, buffer = last_row(meter), meter.get(*COMPACT, 2)
        objects, template, description, method = (meter.get(*COMPACT, index) for index in (3, 4, 5, 6))
        columns = meter.get(*PROFILE, 3)
        assert description == bytes((2, 7, 17, 9, 17, *(energy,) * 4))
        assert [each[:4] for each in objects] == [[62, bytes((0, 0, 66, 0, 1, 255)), 4, 0], *columns]
        assert all(each[4] == [0, None] for each in objects)
        assert (template, method) == (1, 0)
        assert decoded(description, buffer) == [template, *row]
        assert len(buffer) == 1 + 13 + 1 + 4 * octets
        (by_gurux,) = meter.compact(description, buffer)
        assert by_gurux == [template, *row]


@pytest.mark.parametrize("device", DEVICES)
def test_reset_and_capture(demo, device):
    sap, *_ = DEVICES[device]
    with associated(demo, sap) as meter:
        for method in (RESET, CAPTURE):
            with pytest.raises(RemoteFailure):
                meter.action(*COMPACT, method)
    with associated(demo, sap, manage=True) as meter:
        row = last_row(meter)
        meter.action(*COMPACT, RESET)
        emptied = meter.get(*COMPACT, 2)
        meter.action(*COMPACT, CAPTURE)
        captured = decoded(meter.get(*COMPACT, 5), meter.get(*COMPACT, 2))
        if row == last_row(meter):  # no quarter of an hour has ended meanwhile
            assert emptied == b""
            assert captured[1] > row[0]
            assert captured[2] == row[1]
        assert row[0] in [each[0] for each in meter.get(*PROFILE, 2)]
