"""`flexmap demo`: a substation and its meters, served on both faces."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from msgspec.structs import replace

from flexmap.cli import output
from flexmap.cli.output import log_options
from flexmap.gateway import config as configuration
from flexmap.gateway import secrets
from flexmap.gateway.config import Config
from flexmap.gateway.demo import CLIENTS, SECRETS, SUBSTATION_SAP, DemoOptions, write_config
from flexmap.gateway.run import run
from flexmap.model import ConfigurationError

CONFIG_NAME = "demo.toml"
SETTLED = 300
"""Seconds that the demo's power line network has been there when it starts: all meters have joined."""
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
    help="Single-phase meters behind the substation meter; the MMS engine holds 98.",
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
    type=click.Choice(["model", "concentrator"]),
    default="model",
    show_default=True,
    help="Meters simulated in the gateway, or read through a concentrator, a process of its own, on a simulated "
    "power line.",
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
        configuration.parse_endpoint(address, flag)
    options = DemoOptions(
        meters=meters,
        mms=mms,
        dlms=dlms,
        web=web,
        seed=seed,
        load=str(load.resolve()) if load else "",
        port="pty:shell" if source == "concentrator" else "",
    )
    if config_file is not None:
        _write(config_file, options)
        return
    text = write_config(replace(options, state="."))
    # Meters of the two sources are not the same ones: each has its own registers, and its own folder.
    folder = state or (state_home() / "demo-concentrator" if options.port else default_state())
    config = configuration.parse(text, folder.absolute() / CONFIG_NAME)
    with contextlib.ExitStack() as children:

        def ready() -> None:
            _keep(config, text)
            if options.port:
                children.enter_context(_concentrator(config, options))
            click.echo(banner(config))

        run(config, SECRETS, log_level=log_level, json_log=json_log, ready=ready)


@contextlib.contextmanager
def _concentrator(config: Config, options: DemoOptions) -> Iterator[None]:
    """Run the concentrator beside the demo; it ends with it, however that ends."""
    folder = config.path.parent
    flags = ["--port", f"pty:{folder / 'shell'}", "--meters", str(options.meters), "--seed", str(options.seed)]
    flags += ["--state", str(folder / "concentrator"), "--settle", str(SETTLED), "--attached"]
    if options.load:
        flags += ["--load", options.load]
    program = [sys.executable, "-c", "from flexmap.cli.main import main; main()", "concentrator", *flags]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        yield
        process.terminate()


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
    click.echo(f"wrote {path} and {secrets_file} (fresh keys, mode 0600)\nrun it: flexmap serve {path}")


def banner(config: Config) -> str:
    """Return what is served where, and what to try next."""
    site, mms, dlms, web = config.site, config.mms.endpoint, config.dlms.endpoint, config.web.endpoint
    last = site.meters[-1]
    reference = "MMXN1.Watt" if last.type == "single-phase" else "MMXU1.TotW"
    own = config.path.parent != default_state()
    named, option = (f" {config.path}", f" --config {config.path}") if own else ("", "")
    return f"""
{site.name}: {len(site.meters)} meters, 1 Hz
  MMS    {mms}   IED {site.ied}, logical devices {site.meters[0].ld} … {last.ld} (up to 5 clients)
  DLMS   {dlms}   TCP and UDP wrapper, server addresses 1 (management), {SUBSTATION_SAP} … {last.sap}
  web    http://{web}/metrics and http://{web}/healthz
  state  {config.path.parent}

Try in another terminal (. .venv/bin/activate):
  flexmap read mms://{mms}/{site.ied}{last.ld}/{reference}
  flexmap read dlms://{dlms}/{last.sap}/1-0:1.8.0 --as reader{option}
  flexmap verify{named}
  flexmap scl export {config.path} -o substation.scd
Ctrl-C stops it.
"""
