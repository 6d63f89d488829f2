"""How many meters' 1 Hz records a power line carries: the figures of docs/flexmeter-payload.md.

Density is measured on the demo's load (20 meters and the substation, the first minutes of each hour of a day); air
time is computed frame by frame for an idle line without losses, one exchange at a time:

    tools/bench/flexmeter_airtime.py [--minutes 5]
"""

from __future__ import annotations

import argparse
import math

from flexmap.g3.phy import CENELEC_A, FCC, Band, Modulation, airtime
from flexmap.mapping.table import load_builtin
from flexmap.model import Meter
from flexmap.sources.load import sample_load
from flexmap.sources.simulation.feed import SiteFeed
from flexmap.sources.simulation.settings import SimulationSettings
from flexmap.sources.simulation.site import SiteModel
from flexmap.stcomet.metrology import Metrology
from flexmap.stcomet.payload import DATAGRAM, ROBO_FRAME, Origin, ReadRequest, encode, records_reply
from flexmap.stcomet.record import Layout, Record, raw_size

START = 1_795_392_000
MAC = 24  # SegCtl 3, FCF 2, sequence 1, PAN 2, addresses 4, security 6, MIC 4, FCS 2
MESH = 5
FRAGMENT = 5
HEADERS = 6  # IPHC 2, NHC 4: link-local addresses from the PAN, ports of four bits, checksum
MSDU = 400
REQUEST = len(encode(ReadRequest(1, Origin.SEQUENCE, 2**31, 65535, DATAGRAM)))


def runs(minutes: int) -> dict[str, list[list[Record]]]:
    """Records of each meter, hour by hour."""
    types = load_builtin()
    ids = ["SUB", *(f"M{number:02}" for number in range(1, 21))]
    kinds = {name: types["three-phase" if name == "SUB" else "single-phase"] for name in ids}
    meters = [(Meter(id=name, type=kinds[name].id, ld=name, sap=16), kinds[name]) for name in ids]
    feed = SiteFeed(SiteModel(meters, sample_load(), SimulationSettings(substation="SUB")))
    metrologies = {}
    for name in ids:
        layout = Layout.THREE_PHASE if name == "SUB" else Layout.SINGLE_PHASE
        own = feed.meter(name)
        metrologies[name] = Metrology(layout, own, registers=own.registers())
    made: dict[str, list[list[Record]]] = {name: [] for name in ids}
    for hour in range(24):
        seconds = range(START + hour * 3600, START + hour * 3600 + 60 * minutes)
        for blocks in made.values():
            blocks.append([])
        for second in seconds:
            for name, metrology in metrologies.items():
                made[name][-1].append(metrology.second(second))
    return made


def density(blocks: list[list[Record]], layout: Layout, octets: int) -> float:
    """Octets of UDP payload a second, when all is fetched in replies of a size."""
    sent = count = 0
    for block in blocks:
        at = 0
        while at < len(block):
            request = ReadRequest(1, Origin.SEQUENCE, 0, 65535, octets)
            reply = records_reply(request, layout, block[at:], lost=False, next_event=0)
            sent += len(reply)
            at += int.from_bytes(reply[11:13], "big")
        count += len(block)
    return sent / count


CONTENTION = 1 + 7 + 3.5  # slots: contention-free, high priority, half of the smallest normal window


def frame_time(band: Band, modulation: Modulation, psdu: int, *, first: bool) -> float:
    """Seconds of one acknowledged frame: CIFS, contention (not before further segments), frame, RIFS, ACK."""
    waiting = band.ifs + CONTENTION * band.slot * first
    return waiting + airtime(band, modulation, psdu) + band.ifs + band.fch_time


def datagram_time(band: Band, modulation: Modulation, octets: int, hops: int) -> float:
    """Seconds of a UDP datagram: 6LoWPAN fragments, MAC segments, each hop anew."""
    mesh = MESH if hops > 1 else 0
    whole = octets + HEADERS
    room = MSDU - mesh
    if whole <= room:
        msdus = [whole + mesh]
    else:
        part = (room - FRAGMENT) // 8 * 8
        msdus = [min(part, whole - at) + FRAGMENT + mesh for at in range(0, whole, part)]
    segment = band.max_psdu[modulation] - MAC
    total = 0.0
    for msdu in msdus:
        count = math.ceil(msdu / segment)
        sizes = [segment] * (count - 1) + [msdu - segment * (count - 1)]
        total += sum(frame_time(band, modulation, size + MAC, first=not place) for place, size in enumerate(sizes))
    return total * hops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=5)
    made = runs(parser.parse_args().minutes)
    single = [block for name, blocks in made.items() if name != "SUB" for block in blocks]
    sizes = (ROBO_FRAME, 380, DATAGRAM)
    measured = {octets: density(single, Layout.SINGLE_PHASE, octets) for octets in sizes}
    three = {octets: density(made["SUB"], Layout.THREE_PHASE, octets) for octets in sizes}
    print("reply octets | single-phase o/s | × raw | three-phase o/s | × raw")
    for octets in sizes:
        one, two = measured[octets], three[octets]
        ratios = raw_size(Layout.SINGLE_PHASE) / one, raw_size(Layout.THREE_PHASE) / two
        print(f"{octets:4} | {one:.2f} | {ratios[0]:.1f} | {two:.2f} | {ratios[1]:.1f}")
    for layout, names in ((Layout.SINGLE_PHASE, set(made) - {"SUB"}), (Layout.THREE_PHASE, {"SUB"})):
        latest = [
            len(records_reply(ReadRequest(1), layout, block[:1], lost=False, next_event=0))
            for name in names
            for block in made[name]
        ]
        print(f"latest record, {layout.name}: {min(latest)} to {max(latest)} octets")
    print("\nband | modulation | 1 hop | 3 hops | raw 1 hop | raw 3 hops | latest/s 1 hop | latest/s 3 hops")
    for band in (CENELEC_A, FCC):
        for modulation in (Modulation.ROBO, Modulation.DBPSK, Modulation.DQPSK, Modulation.D8PSK):
            cells = []
            for rate in (measured[DATAGRAM], float(raw_size(Layout.SINGLE_PHASE))):
                for hops in (1, 3):
                    exchange = datagram_time(band, modulation, REQUEST, hops)
                    exchange += datagram_time(band, modulation, DATAGRAM, hops)
                    cells.append(f"{int(DATAGRAM / rate / exchange)}")
            for hops in (1, 3):
                exchange = datagram_time(band, modulation, REQUEST, hops) + datagram_time(
                    band, modulation, 47, hops
                )
                cells.append(f"{1 / exchange:.1f}")
            print(" | ".join((band.name, modulation.name, *cells)))


if __name__ == "__main__":
    main()
