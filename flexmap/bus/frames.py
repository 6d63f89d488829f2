"""What the core and its worker processes say to each other.

Every frame is one tagged msgspec struct; :data:`VERSION` counts changes that an older peer would misread. A
worker speaks first (:class:`Hello`), so that a core never talks to a worker of another version.
"""

from __future__ import annotations

import msgspec

from flexmap.model import Command, CommandResult, Sample, Site

VERSION = 4


class Frame(msgspec.Struct, frozen=True, tag_field="frame"):
    """Base of all frames."""


class Hello(Frame, frozen=True, tag="hello"):
    """Worker → core: first frame on a connection."""

    version: int
    pid: int


class Model(Frame, frozen=True, tag="model"):
    """Core → worker: what to serve, where. Sent once, before any samples."""

    site: Site
    scl: bytes
    """The CID that clients were given; the served model is built from it."""
    host: str
    port: int
    """0 lets the system choose; the worker names the chosen one in :class:`Serving`."""
    command_timeout: float = 10.0
    """Seconds after which a command without an answer is refused (AddCause time-limit-over)."""


class Serving(Frame, frozen=True, tag="serving"):
    """Worker → core: clients can connect."""

    port: int


class Failed(Frame, frozen=True, tag="failed"):
    """Worker → core: the model cannot be served; restarting would not help."""

    what: str
    where: str = ""
    remedy: str = ""


class Samples(Frame, frozen=True, tag="samples"):
    """Core → worker: new samples, in the order they were accepted."""

    samples: tuple[Sample, ...]


class Identity(Frame, frozen=True, tag="identity"):
    """Core → worker: an identity point of a meter has a new value."""

    meter: str
    point: str
    text: str


class CommandFrame(Frame, frozen=True, tag="command"):
    """Worker → core: a client wants something done."""

    command: Command


class ResultFrame(Frame, frozen=True, tag="result"):
    """Core → worker: the meter's answer to a command of this connection."""

    result: CommandResult


class Status(Frame, frozen=True, tag="status"):
    """Worker → core, every second: the worker is alive, and how it is doing."""

    clients: int
    points: int
    """Point values written since the worker started."""
    samples: int
    """Samples applied since the worker started."""
    skipped: int
    """Samples of an unknown meter or with the wrong number of values."""
    commands: int
    """Commands received from clients since the worker started."""


class Log(Frame, frozen=True, tag="log"):
    """Worker → core: a line for the log; ``level`` is one of ``info``, ``warn``, ``error``."""

    level: str
    text: str


class Stop(Frame, frozen=True, tag="stop"):
    """Core → worker: end."""


ToWorker = Model | Samples | Identity | ResultFrame | Stop
ToCore = Hello | Serving | Failed | CommandFrame | Status | Log
