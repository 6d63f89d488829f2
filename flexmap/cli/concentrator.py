"""`flexmap concentrator`: a concentrator with simulated meters, its shell on a port."""

from __future__ import annotations

from pathlib import Path

import click

from flexmap.cli.demo import state_home
from flexmap.cli.output import log_options
from flexmap.g3.phy import BANDS
from flexmap.gateway import config as configuration
from flexmap.gateway.attached import READY
from flexmap.gateway.concentrator import Options, run
from flexmap.gateway.demo import DemoOptions, write_config
from flexmap.sources.concentrator.port import parse_port
from flexmap.sources.load import read_load, sample_load
from flexmap.sources.simulation.settings import SimulationSettings


@click.command()
@click.option(
    "--port",
    "ports",
    required=True,
    multiple=True,
    metavar="PORT",
    help="Where a shell is: pty:PATH, tcp:HOST:PORT or serial:DEVICE?baud=230400&rtscts=1. Repeat it for more.",
)
@click.option(
    "--meters",
    default=20,
    show_default=True,
    type=click.IntRange(0, 1000),
    help="Single-phase meters behind the substation meter.",
)
@click.option("--seed", default=1, show_default=True, help="Seed of meters, loads and line.")
@click.option("--band", type=click.Choice(list(BANDS)), default="CENELEC-A", show_default=True)
@click.option(
    "--settle",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 86_400),
    metavar="SECONDS",
    help="How long a new PAN has been there already: joins and ring buffers are simulated up to now.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder of what outlives a restart.  [default: ~/.local/state/flexmap/concentrator]",
)
@click.option(
    "--load",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=None,
    help="Load data to replay (CSV) instead of the shipped sample.",
)
@click.option("--attached", is_flag=True, hidden=True, help="End when standard input does.")
@log_options("warn")
def concentrator(
    *,
    ports: tuple[str, ...],
    meters: int,
    seed: int,
    band: str,
    settle: float,
    state: Path | None,
    load: Path | None,
    attached: bool,
    log_level: str,
    json_log: bool,
) -> None:
    """Run a PAN coordinator and the meters of `flexmap demo` on a simulated power line, until interrupted.

    The shell on PORT takes commands such as `APP GET_DATA_STREAM 10 SM0001` and `HELP`.
    """
    # The demo's own site, so that both sides name the same meters.
    site = configuration.parse(write_config(DemoOptions(meters=meters, seed=seed)), Path("demo.toml")).site
    options = Options(
        ports=tuple(parse_port(port, "--port") for port in ports),
        state=state or state_home() / "concentrator",
        settings=SimulationSettings(seed=seed, substation="SUB1"),
        band=band,
        settle=settle,
        attached=attached,
    )
    run(
        [(meter, site.type_of(meter)) for meter in site.meters],
        read_load(load) if load else sample_load(),
        options,
        log_level=log_level,
        json_log=json_log,
        ready=lambda places, summary: click.echo("\n".join([summary, *(READY + place for place in places)])),
    )
