"""The airtime sum behind docs/flexmeter-payload.md, against the G3 layers' own encoders."""

import importlib.util
from pathlib import Path

import pytest

from flexmap.g3 import frame, iphc, ipv6, sixlowpan
from flexmap.g3.phy import CENELEC_A, Modulation
from flexmap.stcomet.app import DATA_PORT
from flexmap.stcomet.payload import ROBO_FRAME

_PATH = Path(__file__).parents[2] / "tools" / "bench" / "flexmeter_airtime.py"
_SPEC = importlib.util.spec_from_file_location("flexmeter_airtime", _PATH)
bench = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bench)

PAN = 0x781D


def psdu(octets: int, hops: int) -> bytes:
    """The frame that carries a meter's datagram to the coordinator."""
    here, there = ipv6.link_local(PAN, 5), ipv6.link_local(PAN, 0)
    packet = ipv6.build_udp(ipv6.Datagram(here, there, DATA_PORT, DATA_PORT, bytes(range(octets))))
    head, done = iphc.compress(packet, iphc.Link(5, 0, PAN, (iphc.pan_context(PAN),)))
    payload = head + packet[done:]
    if hops > 1:
        payload = sixlowpan.mesh_header(8, 5, 0) + payload
    return frame.encode(
        frame.Frame(
            frame.FrameKind.DATA,
            7,
            payload,
            destination=3 if hops > 1 else 0,
            destination_pan=PAN,
            source=5,
            source_pan=PAN,
            ack_request=True,
            counter=9,
            mic=bytes(4),
        )
    )


def test_a_robo_frame_carries_what_the_payload_counts_on():
    limit = CENELEC_A.max_psdu[Modulation.ROBO]
    assert limit == 133
    assert len(psdu(ROBO_FRAME, 3)) == limit
    assert len(psdu(ROBO_FRAME + bench.MESH, 1)) == limit
    assert len(psdu(40, 1)) == 40 + bench.HEADERS + bench.MAC


@pytest.mark.parametrize(
    ("modulation", "hops", "seconds"),
    [
        (Modulation.ROBO, 1, 0.373),
        (Modulation.ROBO, 3, 1.14),
        (Modulation.DQPSK, 1, 0.154),
        (Modulation.DQPSK, 3, 0.46),
    ],
)
def test_a_read_of_29_and_98_octets_takes_what_it_should(modulation, hops, seconds):
    taken = sum(bench.datagram_time(CENELEC_A, modulation, octets, hops) for octets in (29, ROBO_FRAME))
    assert taken == pytest.approx(seconds, rel=0.1)
