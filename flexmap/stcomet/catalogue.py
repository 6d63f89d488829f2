"""Commands of the minishell: their parameters, what they do, and the request that a line makes.

``COMMANDS`` serves the shell, its HELP and docs/concentrator.md.
"""

from __future__ import annotations

import enum
import re

import msgspec

from flexmap.model.breaker import MOST_MODE
from flexmap.stcomet.mnsh import ErrorCode, MnshError, words

LONGEST_NAME = 64
BLOCK = 96
"""Octets of an image in one line: their hexadecimal digits fit into the longest line."""


class Kind(enum.Enum):
    """What a parameter is."""

    NUMBER = "number"
    NAME = "name"
    OCTETS = "octets"


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a command."""

    name: str
    help: str
    kind: Kind = Kind.NUMBER
    most: int = 0xFFFFFFFF
    """Of a number its greatest value, of a name its characters, of octets their number."""
    least: int = 0

    @property
    def form(self) -> str:
        """Return what is to be written."""
        if self.kind is Kind.NAME:
            return f"name, 1 to {self.most} characters"
        if self.kind is Kind.OCTETS:
            digits = f"{2 * self.most}" if self.least == self.most else f"up to {2 * self.most}"
            return f"octets, {digits} hexadecimal digits"
        return "32-bit number" if self.most == 0xFFFFFFFF else f"number, {self.least} to {self.most}"


class Command(msgspec.Struct, frozen=True):
    """One command of the shell."""

    module: str
    name: str
    parameters: tuple[Parameter, ...]
    help: str

    @property
    def usage(self) -> str:
        """Return the form of a request."""
        return " ".join((self.module, self.name, *(f"<{parameter.name}>" for parameter in self.parameters)))


_METER = Parameter("meter", "its name, or its EUI-64 as APP METERS shows it", Kind.NAME, LONGEST_NAME)
_SPOT = Parameter("meter", "its name, as LINE SHOW shows it; it need not be in the PAN", Kind.NAME, LONGEST_NAME)
_EUI64 = Parameter("eui64", "EUI-64 of a device, 16 hexadecimal digits", Kind.NAME, LONGEST_NAME)
_ATTRIBUTE = Parameter("attribute", "as PIB LIST shows it, such as adpMaxHops", Kind.NAME, LONGEST_NAME)
_IMAGE = Parameter("image", "a name for it: letters, digits, '.', '_', '-'", Kind.NAME, 16)


def _digest(name: str, help_text: str) -> Parameter:
    return Parameter(name, help_text, Kind.OCTETS, 32, 32)


COMMANDS: tuple[Command, ...] = (
    Command("SYS", "VERSION", (), "Version of the shell, and whether a login is due."),
    Command(
        "SYS",
        "ECHO",
        (Parameter("on", "1 or 0", most=1),),
        "Echo what is typed, and prompt (1), or not (0).",
    ),
    Command("SYS", "CHALLENGE", (), "Begin a login: gives the nonce that the next SYS LOGIN must answer."),
    Command(
        "SYS",
        "LOGIN",
        (_digest("proof", "HMAC-SHA-256 of the nonce's text with the password as key"),),
        "Log in, where the shell is reached over TCP and has a password.",
    ),
    Command("SYS", "DROP", (), "End the requests of this session that are still to be answered, reads and all."),
    Command("SYS", "OPEN", (), "Tags of this session's requests that are still to be answered."),
    Command("SYS", "TIME", (), "The concentrator's clock, in seconds since 1970."),
    Command("SYS", "STATS", (), "Counters of the shell, the requests to meters and the PAN."),
    Command("APP", "METERS", (), "Meters of the PAN."),
    Command("APP", "IDENTITY", (_METER,), "Ask a meter who it is."),
    Command(
        "APP",
        "GET_DATA_STREAM",
        (Parameter("count", "records", most=3600), _METER),
        "Read the oldest records not yet read; they count as read.",
    ),
    Command(
        "APP",
        "READ",
        (
            _METER,
            Parameter("origin", "where to begin: 0 the latest, 1 a time, 2 a sequence number, 3 the tail", most=3),
            Parameter("start", "that time or sequence number; what was read, for the tail; 0 for the latest"),
            Parameter("count", "records", most=0xFFFF),
        ),
        "Read records in the coded form; origin: 0 the latest, 1 a time, 2 a sequence number, 3 the tail.",
    ),
    Command(
        "APP",
        "EVENTS",
        (_METER, Parameter("start", "number of the first event")),
        "Read a meter's events from a number on.",
    ),
    Command(
        "APP",
        "BREAKER",
        (
            _METER,
            Parameter("close", "1 closes, 0 opens; 3 and 2 do so as a limiter does", most=3),
            Parameter("valid_until", "seconds since 1970 by the meter's clock, 0 for ever"),
        ),
        "Open (0) or close (1) the line breaker; not after a time of the meter's clock (0: whenever).",
    ),
    Command(
        "APP",
        "CONTROL_MODE",
        (
            _METER,
            Parameter("mode", "of class 70: who may open and close the breaker", most=MOST_MODE),
            Parameter("valid_until", "seconds since 1970 by the meter's clock, 0 for ever"),
        ),
        "Set the control mode of the line breaker.",
    ),
    Command(
        "APP",
        "CLOCK",
        (
            _METER,
            Parameter("time", "seconds since 1970"),
            Parameter("milliseconds", "and of that second", most=999),
            Parameter("at", "time_ms of SYS TIME (its low 32 bits) when it was that time; 0 for now"),
        ),
        "Measure how far a meter's clock is off a time, and adjust it if it is.",
    ),
    Command("PLC", "TOPOLOGY", (), "Each meter's route: hops, next hop, route cost."),
    Command("PLC", "STATUS", (_METER,), "Link and requests of one meter: LQI, hops, route cost, retries."),
    Command("PLC", "PATH", (_METER,), "Ask the nodes on the way to a meter and back, and what each link costs."),
    Command("PLC", "KICK", (_METER,), "Put a meter out of the PAN, and tell it; it may join again."),
    Command(
        "PLC", "REMOVE", (_METER,), "Strike a meter off the PAN without a word to it: one that is gone for good."
    ),
    Command("PLC", "ACCESS", (), "Show the black list and the white list."),
    Command("PLC", "BAN", (_EUI64,), "Put a device on the black list, and out of the PAN."),
    Command("PLC", "UNBAN", (_EUI64,), "Take a device off the black list."),
    Command("PLC", "ALLOW", (_EUI64,), "Put a device on the white list: from then on no others join."),
    Command("PLC", "ALLOW_ALL", (), "Drop the white list."),
    Command("PLC", "REKEY", (), "Begin to give all devices a new group master key; traffic goes on."),
    Command("PLC", "REKEY_STATUS", (), "How the last re-keying stands, and who has to join again."),
    Command("PIB", "LIST", (), "Attributes of the coordinator's information base, and their values."),
    Command("PIB", "GET", (_ATTRIBUTE,), "Read an attribute, or a table row by row."),
    Command("PIB", "SET", (_ATTRIBUTE, Parameter("value", "its new value")), "Write an attribute."),
    Command("FW", "IMAGES", (), "Firmware images that the concentrator holds, and how much of each."),
    Command(
        "FW",
        "IMAGE",
        (
            _IMAGE,
            Parameter("binary", "2 PLC, 3 NON LEGAL; the others are the legal part", most=3),
            Parameter("version", "of the new binary"),
            Parameter("size", "octets"),
            _digest("sha256", "of the whole image"),
        ),
        "Announce an image, or go on with it: the reply says how many octets are there.",
    ),
    Command(
        "FW",
        "BLOCK",
        (
            _IMAGE,
            Parameter("offset", "of the first octet; what is there already is taken again without harm"),
            Parameter("crc", "CRC-16 of the block's octets, as in replies", most=0xFFFF),
            Parameter("octets", "the block", Kind.OCTETS, BLOCK, 1),
        ),
        "Give the next octets of an image; the reply says how many are there now.",
    ),
    Command("FW", "DROP", (_IMAGE,), "Forget an image that no meter is being sent."),
    Command("FW", "SEND", (_IMAGE, _METER), "Send an image to a meter, in the background; it is checked there."),
    Command("FW", "TRANSFERS", (), "How each meter's update stands."),
    Command("FW", "STATUS", (_METER,), "How one meter's update stands."),
    Command("FW", "ACTIVATE", (_METER,), "Put the image that a meter has into operation there."),
    Command("FW", "STOP", (_METER,), "Send a meter no more; what it has, it keeps."),
    Command("LINE", "SHOW", (), "Where meters stand on the simulated power line, and whether they are cut off."),
    Command("LINE", "CUT", (_SPOT,), "Open the circuit before a meter: it and all behind it fall silent."),
    Command("LINE", "MEND", (_SPOT,), "Close the circuit of a meter's feeder again."),
    Command(
        "LINE",
        "NOISE",
        (
            _SPOT,
            Parameter("decibels", "above the usual noise; 40 leaves few frames", most=100),
            Parameter("seconds", "how long", most=86400),
        ),
        "Make noise on a meter's feeder for a while.",
    ),
    Command(
        "LINE",
        "PRESS",
        (_SPOT, Parameter("close", "1 closes, 0 opens", most=1)),
        "Press the breaker's button at a simulated meter, as somebody standing there does.",
    ),
    Command(
        "LINE",
        "COVER",
        (_SPOT, Parameter("open", "1 opens, 0 closes", most=1)),
        "Open or close the cover of a simulated meter; it shows within a second.",
    ),
)
_TABLE = {(command.module, command.name): command for command in COMMANDS}
MODULES = tuple(dict.fromkeys(command.module for command in COMMANDS))

Argument = int | str | bytes


class Request(msgspec.Struct, frozen=True):
    """A request that is right in form."""

    command: Command
    arguments: tuple[Argument, ...]


def parse(line: str) -> Request:
    """Return the request of a line (without its tag); raise :class:`MnshError` with the code to answer."""
    module, *rest = words(line) or [""]
    command = _find(module, rest[0] if rest else "")
    given = rest[1:]
    if len(given) != len(command.parameters):
        raise MnshError(
            ErrorCode.COUNT,
            f"wrong number of parameters: {len(given)}, where {len(command.parameters)} are due: {command.usage}",
        )
    pairs = zip(command.parameters, given, strict=True)
    return Request(command, tuple(_argument(parameter, word) for parameter, word in pairs))


def _find(module: str, name: str) -> Command:
    module, name = module.upper(), name.upper()
    _check_module(module)
    command = _TABLE.get((module, name))
    if command is None:
        wrong = f"no command {name[:32]} in {module}" if name else f"{module} wants a command"
        raise MnshError(ErrorCode.COMMAND, f"{wrong}: see HELP {module}")
    return command


def _check_module(module: str) -> None:
    if module not in MODULES:
        raise MnshError(ErrorCode.MODULE, f"no module {module[:32]}: there are {', '.join(MODULES)}, and HELP")


def _argument(parameter: Parameter, word: str) -> Argument:
    if parameter.kind is Kind.NAME:
        if not 0 < len(word) <= parameter.most:
            raise MnshError(ErrorCode.PARAMETER, f"{parameter.name} is a name of 1 to {parameter.most} characters")
        return word
    if parameter.kind is Kind.OCTETS:
        if (
            not re.fullmatch(r"(?:[0-9a-fA-F]{2})*", word)
            or not parameter.least <= len(word) // 2 <= parameter.most
        ):
            raise MnshError(ErrorCode.PARAMETER, f"{parameter.name}: {parameter.form}")
        return bytes.fromhex(word)
    return number(word, parameter.name, parameter.most)


def number(word: str, name: str, most: int = 0xFFFFFFFF) -> int:
    """Return a parameter's value: decimal, or hexadecimal behind ``0x``."""
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}", word):
        value = int(word, 16)
    elif re.fullmatch(r"[0-9]{1,10}", word):
        value = int(word)
    else:
        raise MnshError(ErrorCode.PARAMETER, f"{name} is a 32-bit number, decimal or 0x...")
    if value > most:
        raise MnshError(ErrorCode.PARAMETER, f"{name} is at most {most}")
    return value


def help_lines(module: str = "", name: str = "") -> list[str]:
    """Return what HELP answers: all commands, those of a module, or one with its parameters.

    Raises :class:`MnshError` if there is none of that name.
    """
    if name:
        return _help_of(_find(module, name))
    if module:
        _check_module(module.upper())
    chosen = [command for command in COMMANDS if module.upper() in {"", command.module}]
    width = max(len(command.usage) for command in chosen)
    return [f"{command.usage:{width}}  {command.help}" for command in chosen]


def _help_of(command: Command) -> list[str]:
    lines = [command.usage, command.help]
    width = max((len(parameter.name) for parameter in command.parameters), default=0)
    lines += [f"  {p.name:{width}}  {p.help} ({p.form})" for p in command.parameters]
    return lines
