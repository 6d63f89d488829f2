"""Kinds of frames, as the simulation adds up their airtime."""

import pytest

from flexmap.g3 import sixlowpan
from flexmap.g3.command import BEACON_REQUEST
from flexmap.g3.frame import FrameKind
from flexmap.g3.lbp import Kind, Message
from flexmap.g3.traffic import Traffic, kind_of

MESH = sixlowpan.mesh_header(8, 5, 0)
JOINING = sixlowpan.escape(2, Message(Kind.JOINING, bytes(8)).encode())
ANSWER = sixlowpan.escape(2, Message(Kind.JOINING, bytes(8), b"EAP").encode())


@pytest.mark.parametrize(
    ("frame", "msdu", "kind"),
    [
        (FrameKind.BEACON, b"\x00", "beacon"),
        (FrameKind.COMMAND, BEACON_REQUEST, "beacon request"),
        (FrameKind.COMMAND, b"\x0a" + bytes(9), "tone map"),
        (FrameKind.DATA, JOINING, "JOINING"),
        (FrameKind.DATA, MESH + JOINING, "JOINING"),
        (FrameKind.DATA, MESH + ANSWER, "LBP exchange"),
        (FrameKind.DATA, sixlowpan.escape(1, bytes(12)), "RREQ"),
        (FrameKind.DATA, sixlowpan.escape(1, b"\x01" + bytes(11)), "RREP"),
        (FrameKind.DATA, sixlowpan.escape(1, b"\x02" + bytes(9)), "LOADng, other"),
        (FrameKind.DATA, MESH + b"\x60" + bytes(20), "data"),
        (FrameKind.DATA, b"\x80", "data"),
    ],
)
def test_kinds(frame, msdu, kind):
    assert kind_of(frame, msdu) == kind


def test_seconds_add_up():
    traffic = Traffic()
    traffic.tap(FrameKind.BEACON, b"", 1.0)
    before = dict(traffic.seconds)
    traffic.tap(FrameKind.BEACON, b"", 0.5)
    assert traffic.seconds == {"beacon": 1.5}
    assert traffic.since(before) == {"beacon": 0.5}
