"""`flexmap concentrator`: a concentrator with simulated meters, its shell on a port."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from flexmap.cli.demo import state_home
from flexmap.cli.output import log_options
from flexmap.g3.phy import BANDS
from flexmap.gateway import concentrator_config as configuration
from flexmap.gateway.attached import READY
from flexmap.gateway.concentrator import Options, run
from flexmap.gateway.concentrator_config import Section
from flexmap.gateway.config import parse as parse_site
from flexmap.gateway.demo import DemoOptions
from flexmap.gateway.demo import write_config as write_demo
from flexmap.model import ConfigurationError
from flexmap.sources.concentrator.port import parse_port
from flexmap.sources.load import read_load, sample_load
from flexmap.sources.simulation.settings import SimulationSettings

_DEFAULT = Section()


@click.command()
@click.option(
    "--port",
    "port",
    multiple=True,
    metavar="PORT",
    help="Where a shell is: pty:PATH, tcp:HOST:PORT or serial:DEVICE?baud=230400&rtscts=1. Repeat it for more.",
)
@click.option(
    "--meters",
    default=_DEFAULT.meters,
    show_default=True,
    type=click.IntRange(0, 1000),
    help="Single-phase meters behind the substation meter.",
)
@click.option("--seed", default=_DEFAULT.seed, show_default=True, help="Seed of meters, loads and line.")
@click.option("--band", type=click.Choice(list(BANDS)), default=_DEFAULT.band, show_default=True)
@click.option(
    "--settle",
    default=_DEFAULT.settle,
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
@click.option(
    "--secrets",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE",
    help="Secrets file (mode 0600): password of TCP sessions, key of the network.",
)
@click.option(
    "--sessions",
    default=_DEFAULT.sessions,
    show_default=True,
    type=click.IntRange(1, 100),
    help="TCP sessions at a time.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE",
    help="Read these options from FILE (TOML); flags go before.",
)
@click.option(
    "--write-config",
    "new_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE",
    help="Write the options to FILE, fresh secrets beside it, and stop.",
)
@click.option("--attached", is_flag=True, hidden=True, help="End when standard input does.")
@log_options("warn")
@click.pass_context
def concentrator(
    ctx: click.Context,
    /,
    config_file: Path | None,
    new_file: Path | None,
    *,
    attached: bool,
    log_level: str,
    json_log: bool,
    **flags: Any,
) -> None:
    """Run a PAN coordinator and the meters of `flexmap demo` on a simulated power line, until interrupted.

    The shell on PORT takes commands such as `APP GET_DATA_STREAM 10 SM0001` and `HELP`.
    """
    given = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in flags.items()
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    section = msgspec.structs.replace(configuration.load(config_file) if config_file else _DEFAULT, **given)
    if new_file is not None:
        secrets = configuration.write(new_file, section)
        click.echo(f"wrote {new_file} and {secrets} (fresh secrets, mode 0600)")
        click.echo(f"run it: flexmap concentrator --config {new_file}")
        return
    # The demo's own site, so that both sides name the same meters.
    demo = write_demo(DemoOptions(meters=section.meters, seed=section.seed))
    site = parse_site(demo, Path("demo.toml")).site
    run(
        [(meter, site.type_of(meter)) for meter in site.meters],
        read_load(Path(section.load)) if section.load else sample_load(),
        _options(section, attached=attached, where=f"{config_file}: port" if config_file else "--port"),
        log_level=log_level,
        json_log=json_log,
        ready=lambda places, summary: click.echo("\n".join([summary, *(READY + place for place in places)])),
    )


def _options(section: Section, *, attached: bool, where: str) -> Options:
    if not section.port:
        raise ConfigurationError("there is no shell", where=where, remedy="such as --port pty:/tmp/shell")
    return Options(
        ports=tuple(parse_port(port, where) for port in section.port),
        state=Path(section.state) if section.state else state_home() / "concentrator",
        settings=SimulationSettings(seed=section.seed, substation="SUB1"),
        band=section.band,
        settle=section.settle,
        attached=attached,
        secrets=configuration.read_secrets(Path(section.secrets)) if section.secrets else configuration.Secrets(),
        sessions=section.sessions,
    )
