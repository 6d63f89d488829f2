"""`flexmap demo`: a substation and its meters, served on both faces."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path

import click
from msgspec.structs import replace

from flexmap.cli import output
from flexmap.cli.output import log_options
from flexmap.gateway import config as configuration
from flexmap.gateway import secrets
from flexmap.gateway.attached import AttachedConcentrator
from flexmap.gateway.config import Config
from flexmap.gateway.demo import CLIENTS, SECRETS, SETTLED, SUBSTATION_SAP, DemoOptions, write_config
from flexmap.gateway.run import run
from flexmap.gateway.sections import parse_endpoint
from flexmap.model import ConfigurationError
from flexmap.scl.abilities import ENGINES

CONFIG_NAME = "demo.toml"
SHELL = "shell"
"""The concentrator's shell for people; the gateway has one of its own."""
GATEWAY_SHELL = "gateway-shell"
_DEFAULT = DemoOptions()


def state_home() -> Path:
    """Return the folder of the user's state: ``$XDG_STATE_HOME/flexmap``."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "flexmap"


def default_state() -> Path:
    """Return the folder of the demo's state."""
    return state_home() / "demo"


@click.command()
@click.option(
    "--meters",
    default=_DEFAULT.meters,
    show_default=True,
    type=click.IntRange(0, 5000),
    help="Single-phase meters behind the substation meter; the MMS engine libiec61850 holds 98.",
)
@click.option(
    "--engine",
    type=click.Choice(sorted(ENGINES)),
    default=_DEFAULT.engine,
    show_default=True,
    help="Engine of the MMS face: the field's reference library, or flexmap's own for many meters and clients.",
)
@click.option("--mms", default=_DEFAULT.mms, show_default=True, metavar="HOST:PORT", help="Where MMS listens.")
@click.option(
    "--dlms",
    default=_DEFAULT.dlms,
    show_default=True,
    metavar="HOST:PORT",
    help="Where the DLMS wrapper listens, TCP and UDP.",
)
@click.option(
    "--web",
    default=_DEFAULT.web,
    show_default=True,
    metavar="HOST:PORT",
    help="Where /metrics and /healthz listen.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder of the demo's state and configuration.  [default: ~/.local/state/flexmap/demo]",
)
@click.option("--seed", default=_DEFAULT.seed, show_default=True, help="Seed of the meter model.")
@click.option(
    "--load",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=None,
    help="Load data to replay (CSV) instead of the shipped sample.",
)
@click.option(
    "--source",
    type=click.Choice(["concentrator", "model"]),
    default="concentrator",
    show_default=True,
    help="Meters read through a concentrator, a process of its own, on a simulated power line; or simulated in "
    "the gateway.",
)
@click.option(
    "--write-config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE",
    help="Write the demo's configuration to FILE, fresh keys beside it, and stop.",
)
@log_options("warn")
def demo(
    *,
    meters: int,
    engine: str,
    mms: str,
    dlms: str,
    web: str,
    state: Path | None,
    seed: int,
    load: Path | None,
    source: str,
    config_file: Path | None,
    log_level: str,
    json_log: bool,
) -> None:
    """Run a demo substation: one three-phase substation meter and METERS single-phase meters at 1 Hz."""
    for flag, address in (("--mms", mms), ("--dlms", dlms), ("--web", web)):
        parse_endpoint(address, flag)
    options = DemoOptions(
        meters=meters,
        engine=engine,
        mms=mms,
        dlms=dlms,
        web=web,
        seed=seed,
        load=str(load.resolve()) if load else "",
        port=f"pty:{GATEWAY_SHELL}" if source == "concentrator" else "",
    )
    if config_file is not None:
        _write(config_file, options)
        return
    text = write_config(replace(options, state="."))
    # Meters of the two sources are not the same ones: each has its own registers, and its own folder.
    folder = state or (default_state() if options.port else state_home() / "demo-model")
    config = configuration.parse(text, folder.absolute() / CONFIG_NAME)
    check_source(config)
    beside = _concentrator(config, options) if options.port else None

    def ready() -> None:
        _keep(config, text)
        click.echo(banner(config, beside.said if beside else ()))

    run(config, SECRETS, log_level=log_level, json_log=json_log, beside=beside, ready=ready)


def check_source(config: Config) -> None:
    """Raise ConfigurationError if meters of the other source, with other registers, have run in the folder."""
    try:
        before = tomllib.loads(config.path.read_text(encoding="utf-8"))
        kinds = [section["kind"] for section in before["source"]]
    except (OSError, ValueError, LookupError, TypeError):
        return  # the folder is new
    if kinds != [section.__struct_config__.tag for section in config.sources]:
        raise ConfigurationError(
            f"holds the registers of other meters, of a source of kind '{', '.join(kinds)}'",
            where=f"{config.path.parent}: --state",
            remedy="name another folder, or the --source that has run there",
        )


def _concentrator(config: Config, options: DemoOptions) -> AttachedConcentrator:
    folder = config.path.parent
    flags = ["--meters", str(options.meters), "--seed", str(options.seed), "--state", str(folder / "concentrator")]
    flags += ["--settle", str(SETTLED)]
    if options.load:
        flags += ["--load", options.load]
    return AttachedConcentrator([folder / GATEWAY_SHELL, folder / SHELL], flags)


def _keep(config: Config, text: str) -> None:
    """Leave the configuration and the well-known keys in the state folder, for `read` and `verify`.

    Only once the demo serves: until then the files may be those of another one that runs.
    """
    secrets_file = config.resolve(config.dlms.secrets)
    try:
        config.path.write_text(text, encoding="utf-8")
        secrets_file.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write: {error.strerror}", where=str(config.path), remedy="name another folder with --state"
        ) from None
    secrets.write(secrets_file, SECRETS)


def _write(path: Path, options: DemoOptions) -> None:
    if path.exists():
        raise ConfigurationError("is there already", where=str(path), remedy="remove it or name another")
    secrets_file = path.with_name(f"{path.stem}.secrets.toml")
    text = write_config(replace(options, secrets=secrets_file.name))
    configuration.parse(text, path)
    secrets.write(
        secrets_file,
        {client.name: secrets.fresh(client) for client in CLIENTS if client.authentication != "none"},
    )
    output.write(path, text.encode())
    click.echo(f"wrote {path} and {secrets_file} (fresh keys, mode 0600)")
    if options.port:
        click.echo(f"its meters: see [[source]] in {path}")
    click.echo(f"run it: flexmap serve {path}")


def banner(config: Config, network: Sequence[str] = ()) -> str:
    """Return what runs and is served where, and what to try next; ``network`` tells of the power line."""
    site, mms, dlms, web = config.site, config.mms.endpoint, config.dlms.endpoint, config.web.endpoint
    clients = ENGINES[config.mms.engine].max_clients
    last, shown = site.meters[-1], site.meters[:2][-1]
    reference = "MMXN1.Watt" if shown.type.startswith("single-phase") else "MMXU1.TotW"
    folder = config.path.parent
    named, option = (f" {config.path}", f" --config {config.path}") if folder != default_state() else ("", "")
    running = "".join(f"\n  PLC    {line}" for line in network)
    shell = f"\n  shell  {folder / SHELL}   of the concentrator, a process of its own" if network else ""
    ask = f"\n  pyserial-miniterm --raw --eol CR {folder / SHELL}   (type HELP; Ctrl-] leaves)" if network else ""
    return f"""
{site.name}: {len(site.meters)} meters, 1 Hz{running}
  MMS    {mms}   IED {site.ied}, logical devices {site.meters[0].ld} … {last.ld} (up to {clients} clients)
  DLMS   {dlms}   TCP and UDP wrapper, server addresses 1 (management), {SUBSTATION_SAP} … {last.sap}
  web    http://{web}/metrics and http://{web}/healthz{shell}
  state  {folder}

Try in another terminal (. .venv/bin/activate):
  flexmap read mms://{mms}/{site.ied}{shown.ld}/{reference}
  flexmap read dlms://{dlms}/{shown.sap}/1-0:1.8.0 --as reader{option}
  flexmap verify{named}{ask}
  flexmap scl export {config.path} -o substation.scd
Ctrl-C stops it.
"""
