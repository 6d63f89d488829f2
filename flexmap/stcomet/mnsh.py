"""MNSH, the minishell of a concentrator: lines of a command, lines of its reply, lines that nobody asked for.

The seed document (clause 7.1.1) gives the request, ``<module> <command> <parameter 1> … <parameter N>``, with
32-bit parameters in decimal or hexadecimal and an error on a wrong number of them, and
``APP GET_DATA_STREAM 10 SM_ID1``.
The commands themselves (:mod:`flexmap.stcomet.catalogue`) and the form of replies are flexmap's own:
docs/concentrator.md.
"""

from __future__ import annotations

import binascii
import enum
import re
from collections.abc import Iterator, Sequence

import msgspec

from flexmap.model.error import RemoteError

MAX_REQUEST = 256
"""Octets of the longest request line."""
MAX_REPLY = 4096
"""Octets of the longest reply line."""
LAST_TAG = 0xFFFF


class ErrorCode(enum.StrEnum):
    """First word of an ERROR reply."""

    SYNTAX = "SYNTAX"
    """The line is too long, is not ASCII, or a quote is not closed."""
    MODULE = "MODULE"
    """No such module."""
    COMMAND = "COMMAND"
    """No such command in the module."""
    COUNT = "COUNT"
    """Wrong number of parameters."""
    PARAMETER = "PARAMETER"
    """A parameter is no 32-bit number, no name or no octets, or outside its range."""
    LOGIN = "LOGIN"
    """The session has to log in first, or the proof was wrong."""
    METER = "METER"
    """No such meter."""
    IMAGE = "IMAGE"
    """No such image, or it is not whole."""
    DROPPED = "DROPPED"
    """Its session has asked for no more answers."""
    SILENT = "SILENT"
    """The meter has not answered."""
    REFUSED = "REFUSED"
    """The meter or the PAN has refused."""
    BUSY = "BUSY"
    """Too many requests wait, or too many sessions."""


class MnshError(RemoteError):
    """A line is wrong; ``code`` tells how."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


# Lines


class LineSplitter:
    """Cuts a stream of octets into lines; CR, LF or both end one, empty lines are nothing."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._octets = bytearray()
        self._skipping = False

    def feed(self, octets: bytes) -> Iterator[str | MnshError]:
        """Return the lines that are complete; in place of a line that cannot be one, the error."""
        self._octets += octets
        *lines, rest = re.split(rb"[\r\n]", bytes(self._octets))
        for line in lines:
            if self._skipping or len(line) > self._longest:
                self._skipping = False
                yield MnshError(ErrorCode.SYNTAX, f"a line has at most {self._longest} octets")
            elif line:
                yield _text(line)
        if len(rest) > self._longest:
            self._skipping, rest = True, b""
        self._octets[:] = b"" if self._skipping else rest


def _text(line: bytes) -> str | MnshError:
    text = line.decode("ascii", "replace").replace("\t", " ")
    if not text.isascii() or not text.isprintable():
        return MnshError(ErrorCode.SYNTAX, "a line is printable ASCII")
    return text


_WORD = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))(?=\s|$)')
_ESCAPE = re.compile(r"\\(.)")


def words(line: str) -> list[str]:
    """Return the words of a line: plain, in double quotes, or in the angle brackets of the seed's example."""
    found, place = [], 0
    line = line.rstrip()
    while place < len(line):
        match = _WORD.match(line, place)
        if match is None:
            raise MnshError(ErrorCode.SYNTAX, f"a quote is not closed, or stands in a word, at column {place + 1}")
        quoted, plain = match.groups()
        if quoted is not None:
            found.append(_ESCAPE.sub(r"\1", quoted))
        else:
            found.append(plain[1:-1] if plain[0] == "<" and plain[-1] == ">" else plain)
        place = match.end()
    return found


_CHECKED = re.compile(r"(.*) \*([0-9a-fA-F]{4})", re.DOTALL)


def checked(line: str) -> str:
    """Return a request's line without its check (``… *9F2C``), where it has one; raise if it does not fit."""
    match = _CHECKED.fullmatch(line.rstrip())
    if match is None:
        return line
    if int(match[2], 16) != _crc(match[1]):
        raise MnshError(ErrorCode.SYNTAX, "the line's check is wrong: it was damaged")
    return match[1]


def _crc(text: str) -> int:
    return binascii.crc_hqx(text.encode("ascii"), 0xFFFF)


def split_tag(line: str) -> tuple[int | None, str]:
    """Return the tag of a line (``#7 APP METERS``), None without one, and what follows."""
    if not line.startswith("#"):
        return None, line
    tag, _, rest = line[1:].partition(" ")
    if not re.fullmatch(r"[0-9]{1,5}", tag) or int(tag) > LAST_TAG:
        raise MnshError(ErrorCode.SYNTAX, f"a tag is '#' and a number up to {LAST_TAG}")
    return int(tag), rest


# Replies


class Mark(enum.StrEnum):
    """What a line from the concentrator is; its first character behind the tag."""

    DATA = ":"
    END = "="
    UNASKED = "!"


class Line(msgspec.Struct, frozen=True):
    """A line from the concentrator, read."""

    mark: Mark
    words: tuple[str, ...]
    """Words that are not ``key=value``."""
    fields: dict[str, str]
    tag: int | None = None

    @property
    def done(self) -> bool:
        """Whether it ends a reply that brings what was asked for."""
        return self.mark is Mark.END and self.words[:1] == ("OK",)


def line(mark: Mark, *plain: str, tag: int | None = None, **fields: object) -> str:
    """Return a line: the mark, words, then ``key=value`` each."""
    parts = [] if tag is None else [f"#{tag}"]
    parts += [mark.value, *map(_quoted, plain)]
    parts += [f"{key}={_quoted(str(value))}" for key, value in fields.items()]
    return " ".join(parts)


def error_line(error: MnshError, tag: int | None = None) -> str:
    """Return the line that ends a reply with an error."""
    return line(Mark.END, "ERROR", error.code.value, text=str(error), tag=tag)


_BARE = re.compile(r"[!#-;?-~]+")
"""Printable, without space, quote, ``=``, ``<`` and ``>``; the backslash counts only within quotes."""


def _quoted(word: str) -> str:
    if _BARE.fullmatch(word):
        return word
    word = "".join(c if c.isascii() and c.isprintable() else "?" for c in word)
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_FIELD = re.compile(r'\s*(?:([a-z][a-z0-9_]*)=)?(?:"((?:[^"\\]|\\.)*)"|([^\s"=]+))(?=\s|$)')


def parse_line(text: str) -> Line:
    """Return a line from the concentrator, read; raise :class:`MnshError` if it is none (an echo, noise)."""
    tag, rest = split_tag(text)
    mark = rest[:1]
    if mark not in {":", "=", "!"} or rest[1:2] not in {"", " "}:
        raise MnshError(ErrorCode.SYNTAX, "no line of a reply")
    plain: list[str] = []
    fields: dict[str, str] = {}
    place, rest = 1, rest.rstrip()
    while place < len(rest):
        match = _FIELD.match(rest, place)
        if match is None:
            raise MnshError(ErrorCode.SYNTAX, f"column {place + 1} of a reply's line")
        key, quoted, bare = match.groups()
        value = bare if quoted is None else _ESCAPE.sub(r"\1", quoted)
        if key is None:
            plain.append(value)
        else:
            fields[key] = value
        place = match.end()
    return Line(Mark(mark), tuple(plain), fields, tag)


def hex_fields(octets: bytes) -> dict[str, str]:
    """Return the fields of a line that carries octets: hexadecimal, and CRC-16 (0x1021, initially 0xFFFF)."""
    return {"hex": octets.hex(), "crc": f"{binascii.crc_hqx(octets, 0xFFFF):04x}"}


def octets_of(received: Line) -> bytes:
    """Return the octets that a line carries; raise :class:`MnshError` if they are damaged."""
    try:
        octets = bytes.fromhex(received.fields["hex"])
        crc = int(received.fields["crc"], 16)
    except (KeyError, ValueError):
        raise MnshError(ErrorCode.SYNTAX, "no octets in the line") from None
    if binascii.crc_hqx(octets, 0xFFFF) != crc:
        raise MnshError(ErrorCode.SYNTAX, "CRC of the octets is wrong")
    return octets


def request_line(command: str, *arguments: int | str, tag: int | None = None) -> str:
    """Return a request's line for a command such as ``APP READ``, with its check (:func:`checked`)."""
    head: Sequence[str] = [] if tag is None else [f"#{tag}"]
    text = " ".join((*head, command, *(_quoted(str(argument)) for argument in arguments)))
    return f"{text} *{_crc(text):04x}"
