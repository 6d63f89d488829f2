"""`flexmap g3 simulate`: a PAN of 132 meters, its picture, and its capture as tshark reads it."""

import io
import json
import shutil
import subprocess

import pytest
from click.testing import CliRunner
from PIL import Image

from flexmap.cli.g3_plot import PlotLink, PlotNode, draw, quality_colour
from flexmap.cli.main import cli

TSHARK = [
    "tshark",
    "-n",
    # Heuristics that claim beacons and fragments for ZigBee.
    *("--disable-protocol", "zbee_nwk", "--disable-protocol", "zbee_beacon"),
    *("-o", "6lowpan.rfc4944_short_address_format:TRUE", "-o", "6lowpan.context0:fe80::781d:0:0:0/80"),
    *("-o", "udp.check_checksum:TRUE"),
]


def simulate(*arguments):
    done = CliRunner().invoke(cli, ["g3", "simulate", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_132_meters_all_join(seed):
    """As in the field trial of the facts: a cluster of 132, every one connected."""
    report = json.loads(simulate("--meters", 132, "--duration", 2400, "--seed", seed, "--json"))
    assert report["joined"] == 132
    assert report["all_joined_at"] < 1200
    assert report["answered"] / report["reads"] > 0.999
    assert all(meter["answered"] for meter in report["each"])
    assert len({meter["short_address"] for meter in report["each"]}) == 132


def test_people_see_a_table():
    text = simulate("--meters", 10, "--duration", 300, "--band", "fcc", "--modulation", "robo")
    assert "joined             10 of 10" in text
    assert "times real time" in text


def test_a_thousand_meters_formed_are_read_once_in_about_the_time_computed():
    """Up to three hops, one read after the other: 19 minutes in ROBO (the facts' upper bound on speed)."""
    report = json.loads(
        simulate("--meters", 1000, "--duration", 1500, "--formed", "--modulation", "robo", "--json")
    )
    assert report["answered"] == report["reads"]
    seconds = 1000 / report["reads_per_minute"] * 60
    assert 13 * 60 < seconds < 25 * 60


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_capture_opens_in_tshark(tmp_path):
    path = tmp_path / "pan.pcapng"
    report = json.loads(simulate("--meters", 12, "--duration", 400, "--pcap", path, "--json"))

    def tshark(*arguments):
        done = subprocess.run(
            [*TSHARK, "-r", path, *arguments], capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.splitlines()

    assert len(tshark("-T", "fields", "-e", "frame.number")) == report["frames"]
    assert tshark("-Y", "_ws.malformed") == []
    good = tshark("-Y", "udp.checksum.status == 1", "-T", "fields", "-e", "ipv6.dst")
    assert len(good) >= 2 * report["answered"]
    assert tshark("-Y", "udp.checksum.status == 0") == []
    assert all(address.startswith("fe80::781d:ff:fe00:") for line in good for address in line.split(","))


def test_plot(tmp_path):
    path = tmp_path / "pan.png"
    simulate("--meters", 20, "--duration", 200, "--plot", path)
    image = Image.open(path)
    assert image.size == (1600, 1100)
    colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
    assert (33, 102, 172) in colours  # one hop
    assert (40, 44, 52) in colours  # the coordinator


def test_plot_of_the_edges():
    nodes = [PlotNode("c", 0, 0, 0), PlotNode("far", 0, 0, 9), PlotNode("lost", 0, 0, None)]
    picture = draw(nodes, [PlotLink(0, 1, 0, True), PlotLink(0, 2, 255, False)], "t", "s")
    assert Image.open(io.BytesIO(picture)).format == "PNG"
    assert quality_colour(0) == quality_colour(52) == (200, 30, 45)
    assert quality_colour(255) == (30, 150, 75)


def test_bad_flags_and_paths(tmp_path):
    runner = CliRunner()
    assert runner.invoke(cli, ["g3", "simulate", "--meters", "0"]).exit_code == 2
    assert runner.invoke(cli, ["g3", "simulate", "--band", "arib"]).exit_code == 2
    done = runner.invoke(cli, ["g3", "simulate", "--duration", "2", "--pcap", str(tmp_path / "no" / "such")])
    assert "cannot be written" in str(done.exception)


@pytest.mark.parametrize(("meters", "switch_on"), [(300, 0), (500, 900)])
def test_hundreds_switched_on_together_all_join(meters, switch_on):
    """Power back in a district at one instant; a roll-out within 15 minutes."""
    report = json.loads(simulate("--meters", meters, "--switch-on", switch_on, "--duration", 7200, "--json"))
    assert report["joined"] == meters
    assert report["all_joined_at"] < 3600


def test_a_thousand_meters_with_tone_maps_that_hold_are_read_in_dqpsk_in_six_minutes():
    """1,000 reads at up to four hops, 2.1 on average; 8 minutes were all at three."""
    report = json.loads(
        simulate(
            *("--meters", 1000, "--duration", 800, "--formed", "--modulation", "dqpsk"),
            *("--tone-map-minutes", 60, "--json"),
        )
    )
    assert report["answered"] == report["reads"]
    assert report["round_minutes"][0] < 6.5
    assert report["read_seconds_by_hops"]["3"] == pytest.approx(0.46, rel=0.10)
