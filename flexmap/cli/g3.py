"""flexmap g3: the power line network in virtual time."""

from __future__ import annotations

import random
import time
from pathlib import Path

import click

from flexmap.cli import output
from flexmap.cli.g3_plot import PlotLink, PlotNode, draw
from flexmap.g3.capture import Capture
from flexmap.g3.phy import BANDS, Modulation
from flexmap.g3.simulate import PAN_ID, MeterReport, Report, Settings, Simulation, Spread, spread_of
from flexmap.model import ConfigurationError

_MODULATIONS = {m.name.lower(): m for m in (Modulation.ROBO, Modulation.DBPSK, Modulation.DQPSK, Modulation.D8PSK)}
_MOST_METERS = 5000


@click.group()
def g3() -> None:
    """G3-PLC: the network between concentrator and meters."""


@g3.command()
@click.option("--meters", type=click.IntRange(1, _MOST_METERS), default=20, show_default=True, help="How many.")
@click.option(
    "--band",
    type=click.Choice(sorted(BANDS), case_sensitive=False),
    default="CENELEC-A",
    show_default=True,
    help="Band plan of the line.",
)
@click.option(
    "--duration", type=click.FloatRange(1), default=3600.0, show_default=True, help="Seconds of virtual time."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same run.")
@click.option(
    "--modulation",
    type=click.Choice(list(_MODULATIONS)),
    default="d8psk",
    show_default=True,
    help="The fastest that nodes ask each other for; weak links take a slower one.",
)
@click.option("--formed", is_flag=True, help="Begin with a PAN that is formed already, instead of with joins.")
@click.option(
    "--switch-on",
    type=click.FloatRange(0),
    help="Seconds within which meters are switched on; 0: all at once.  [default: 3 for each, 900 at most]",
)
@click.option(
    "--tone-map-minutes",
    type=click.IntRange(0, 255),
    default=10,
    show_default=True,
    help="How long a tone map holds (macTMRTTL).",
)
@click.option(
    "--parallel", type=click.IntRange(1, 64), default=1, show_default=True, help="Reads under way at a time."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, each meter included.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the PAN into this PNG file.")
@click.option(
    "--pcap",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all frames, opened, to this pcapng file; Wireshark needs its ZigBee guesses off.",
)
def simulate(  # noqa: PLR0917 (click gives them by name)
    meters: int,
    band: str,
    duration: float,
    seed: int,
    modulation: str,
    formed: bool,
    switch_on: float | None,
    tone_map_minutes: int,
    parallel: int,
    as_json: bool,
    plot: Path | None,
    pcap: Path | None,
) -> None:
    """Let meters join a PAN and be read, in virtual time.

    Meters stand on feeders of 750 to 1,100 m, up to several hops from the coordinator at the transformer. They are
    switched on one after the other, join (scan, LBP, EAP-PSK), and when all are in, or after half of the duration,
    the coordinator reads one after the other: 29 octets asked, 100 answered, behind the MAC header.
    """
    settings = Settings(
        meters,
        BANDS[band],
        duration,
        _MODULATIONS[modulation],
        formed,
        parallel=parallel,
        switch_on=switch_on,
        tone_map_minutes=tone_map_minutes,
    )
    began = time.perf_counter()
    simulation = Simulation(settings, random.Random(seed))  # noqa: S311 (a simulation that can be repeated)
    _run(simulation, pcap)
    seconds = time.perf_counter() - began
    report = simulation.report()
    if plot is not None:
        output.write(plot, _picture(simulation, report, seed))
    if as_json:
        click.echo(output.json(report))
    else:
        _show(report, seconds)


def _run(simulation: Simulation, pcap: Path | None) -> None:
    if pcap is None:
        simulation.run()
        return
    try:
        with pcap.open("wb") as stream:
            Capture(stream, simulation.coordinator.manager.keys).line(simulation.medium)
            simulation.run()
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", where=str(pcap)) from error


def _seconds(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    return f"{spread.median:.2f} median, {spread.p95:.2f} for 95 %, {spread.least:.2f} to {spread.most:.2f}"


def _kinds(shares: dict[str, float]) -> str:
    return ", ".join(f"{kind} {share:.1%}" for kind, share in shares.items() if share >= 0.0005) or "-"


def _show(report: Report, seconds: float) -> None:
    joined = f"{report.joined} of {report.meters}"
    if report.all_joined_at:
        joined += f", all after {report.all_joined_at:.0f} s"
    ratio = f"{100 * report.answered / report.reads:.2f} %" if report.reads else "-"
    by_hops = ", ".join(f"{hops}: {value:.2f}" for hops, value in report.read_seconds_by_hops.items())
    rows = [
        ("joined", joined),
        ("join, s", _seconds(report.join_seconds)),
        ("hops", ", ".join(f"{count} at {hops}" for hops, count in report.hops.items()) or "-"),
        ("reads", f"{report.reads}, {ratio} answered, {report.reads_per_minute:.1f} a minute"),
        ("read, s", _seconds(report.read_seconds)),
        ("read by hops, s", by_hops or "-"),
        ("rounds, min", _seconds(spread_of(list(report.round_minutes)))),
        ("airtime", f"{report.airtime_joining:.0%} while joining, {report.airtime_polling:.0%} while reading"),
        *((f"  {phase}", _kinds(shares)) for phase, shares in report.airtime_by_kind.items()),
        ("frames", f"{report.frames}, {report.collisions} receptions collided, {report.losses} lost to noise"),
        ("route discoveries", f"{report.discoveries}, {report.failed_discoveries} without an answer"),
        ("PAN management", ", ".join(f"{name} {count}" for name, count in report.refusals.items()) or "-"),
        (
            "virtual time",
            f"{report.seconds:.0f} s in {seconds:.1f} s: {report.seconds / seconds:.0f} times real time",
        ),
    ]
    click.echo(output.table(("What", f"{report.band}, {report.meters} meters"), rows))


def _picture(simulation: Simulation, report: Report, seed: int) -> bytes:
    nodes = [PlotNode("coordinator", 0.0, 0.0, 0)]
    nodes += [PlotNode(meter.name, meter.x, meter.y, meter.hops) for meter in report.each]
    routes = [_route(index, meter) for index, meter in enumerate(report.each, start=1) if meter.hops is not None]
    taken = {frozenset((link.a, link.b)) for link in routes}
    title = f"PAN 0x{PAN_ID:04X}: {report.joined} of {report.meters} meters joined"
    hops = ", ".join(f"{count} at {hops}" for hops, count in report.hops.items())
    subtitle = f"{report.band}, {report.seconds:.0f} s, seed {seed}; hops: {hops or '-'}; "
    subtitle += f"{report.reads_per_minute:.0f} reads a minute"
    heard = [link for link in _heard(simulation) if frozenset((link.a, link.b)) not in taken]
    return draw(nodes, [*heard, *routes], title, subtitle)


def _route(index: int, meter: MeterReport) -> PlotLink:
    return PlotLink((meter.next_hop if meter.next_hop is not None else -1) + 1, index, meter.lqi or 0, route=True)


def _heard(simulation: Simulation) -> list[PlotLink]:
    """Return links that are heard, each once; for a readable picture only the four best of each node."""
    lines = [node.line for node in (simulation.coordinator, *simulation.devices)]
    found: dict[frozenset[int], PlotLink] = {}
    for line in lines:
        near = sorted(simulation.medium.neighbours(line).items(), key=lambda pair: -pair[1])[:4]
        for other, _ in near:
            pair = frozenset((line.number, other.number))
            found.setdefault(pair, PlotLink(line.number, other.number, 0, route=False))
    return list(found.values())
