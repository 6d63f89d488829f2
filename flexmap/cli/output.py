"""How commands print: a table for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from flexmap.model import ConfigurationError

FC = TypeVar("FC", bound=Callable[..., Any])


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows as text columns under their heads; numbers are set to the right."""
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(head), *cells]) for column in range(len(head))]
    right = [all(isinstance(row[column], int | float) for row in rows) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def json(value: Any) -> str:
    """Return a value as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def time_text(milliseconds: int | None) -> str:
    """Return a time stamp in ISO 8601 with milliseconds, UTC; empty if there is none."""
    if not milliseconds:
        return ""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def show(head: Sequence[str], rows: Sequence[Sequence[object]], as_json: bool) -> None:
    """Print rows as a table, or as a JSON list of objects named by the heads."""
    if as_json:
        click.echo(
            json([dict(zip((name.lower().replace(" ", "_") for name in head), row, strict=True)) for row in rows])
        )
    else:
        click.echo(table(head, rows))


def write(path: Path, content: bytes) -> None:
    """Write a file; raises ConfigurationError if it cannot be."""
    try:
        path.write_bytes(content)
    except OSError as error:
        remedy = "name a file in a folder that is there and can be written"
        raise ConfigurationError(f"cannot write: {error.strerror}", where=str(path), remedy=remedy) from None


def log_options(level: str) -> Callable[[FC], FC]:
    """Return the decorator that adds ``--log-level``, ``level`` by default, and ``--json-log`` to a command."""
    levels = click.Choice(["debug", "info", "warn", "error"])

    def add(command: FC) -> FC:
        command = click.option("--json-log", is_flag=True, help="Write the log as JSON, one event a line.")(
            command
        )
        return click.option("--log-level", type=levels, default=level, show_default=True)(command)

    return add


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:.7g}"  # as many digits as a FLOAT32 has
    return "" if cell is None else str(cell)
