"""LINE commands on the simulated line: what they do is heard on the line."""

from random import Random

import pytest
from stcomet_pan import DelayPan

from flexmap.g3.kernel import VirtualTime
from flexmap.g3.line import Line, Place
from flexmap.g3.medium import Medium
from flexmap.g3.node import Connection, Node
from flexmap.g3.phy import BANDS
from flexmap.gateway.power_line import SimulatedLine
from flexmap.model import LocalError
from flexmap.stcomet.concentrator import Concentrator
from flexmap.stcomet.mnsh import parse_line
from flexmap.stcomet.shell import Shell

SPOTS = {"A": ("1", 100.0, 0), "B": ("1", 50.0, 3), "C": ("2", 10.0, 2)}


class Bench:
    def __init__(self):
        self.time = VirtualTime(0.0)
        self.medium = Medium(self.time, Random(1), BANDS["CENELEC-A"], Line())
        self.nodes = {
            name: Node.device(
                self.medium,
                name.encode() * 8,
                Random(1),
                bytes(16),
                at=Connection(Place(feeder, metres, 5.0, phase)),
            )
            for name, (feeder, metres, phase) in SPOTS.items()
        }
        self.pressed, self.covers = [], []
        pan = DelayPan()
        self.core = Concentrator(pan, pan.time, 0)
        self.output = bytearray()
        self.shell = Shell(self.core, self.output.extend)

    def type(self, line):
        self.output.clear()
        self.shell.feed(line.encode() + b"\r")
        return [parse_line(text) for text in self.output.decode().splitlines()]

    def press(self, meter, *, close):
        self.pressed.append((meter, close))
        if not close:
            raise LocalError("control mode 6 allows no manual disconnect from state connected")

    def cover(self, meter, *, opened):
        self.covers.append((meter, opened))

    def live(self):
        *spots, _ = self.type("LINE SHOW")
        return {spot.words[0] for spot in spots if spot.fields["live"] == "1"}


@pytest.fixture
def bench():
    made = Bench()
    made.core.line = SimulatedLine(made.medium, made.nodes, made)
    return made


def test_meters_are_shown_feeder_by_feeder_and_outwards(bench):
    *spots, end = bench.type("LINE SHOW")
    assert [(spot.words[0], *spot.fields.values()) for spot in spots] == [
        ("B", "1", "50", "all", "1"),
        ("A", "1", "100", "L1", "1"),
        ("C", "2", "10", "L3", "1"),
    ]
    assert end.fields == {"meters": "3", "cut_off": "0"}


def test_behind_an_open_circuit_nobody_hears_until_it_is_closed(bench):
    ports = {name: node.line for name, node in bench.nodes.items()}
    (end,) = bench.type("LINE CUT A")
    assert end.fields["cut_off"] == "1"
    assert bench.live() == {"B", "C"}
    assert bench.medium.snr(ports["B"], ports["A"]) is None
    (end,) = bench.type("LINE CUT B")
    assert end.fields["cut_off"] == "2"
    (end,) = bench.type("LINE MEND A")
    assert end.fields["cut_off"] == "0"
    assert bench.medium.snr(ports["B"], ports["A"]) is not None


def test_noise_is_on_the_feeder_of_a_meter_and_ends(bench):
    (end,) = bench.type("LINE NOISE A 40 60")
    assert end.done
    (burst,) = bench.medium._bursts
    assert (burst.feeder, burst.level_db, burst.end - burst.start) == ("1", 40, 60)
    bench.time.run(70.0)
    assert not bench.medium._bursts


def test_somebody_at_a_meter_presses_the_button_and_opens_the_cover(bench):
    (end,) = bench.type("LINE PRESS A 1")
    assert end.done
    (end,) = bench.type("LINE PRESS B 0")
    assert end.words == ("ERROR", "REFUSED")
    (end,) = bench.type("LINE COVER C 1")
    assert end.done
    assert (bench.pressed, bench.covers) == ([("A", True), ("B", False)], [("C", True)])


@pytest.mark.parametrize(
    "line", ["LINE PRESS X 1", "LINE COVER X 1", "LINE CUT X", "LINE MEND X", "LINE NOISE X 40 60"]
)
def test_who_is_not_on_the_line_is_told_so(bench, line):
    (end,) = bench.type(line)
    assert end.words == ("ERROR", "METER")
    assert bench.live() == set(SPOTS)


def test_a_line_that_is_not_simulated_is_not_cut():
    (end,) = Bench().type("LINE CUT A")
    assert end.words == ("ERROR", "REFUSED")
