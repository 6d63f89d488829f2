"""Control as its client: the four models with what a server answers (IEC 61850-7-2 clause 20, 8-1 clause 20)."""

from __future__ import annotations

import time

import msgspec

from flexmap.faces.mms_client import DataNode, MmsData
from flexmap.faces.native.client import NativeAssociation
from flexmap.faces.native.client_data import plain
from flexmap.mms import data
from flexmap.model import ConfigurationError, RemoteError

STATUS_ONLY, DIRECT, SBO, DIRECT_ENHANCED, SBO_ENHANCED = range(5)
MODELS = ("status-only", "direct-normal", "sbo-normal", "direct-enhanced", "sbo-enhanced")
CATEGORIES = {
    "not-supported": 0, "bay-control": 1, "station-control": 2, "remote-control": 3, "automatic-bay": 4,
    "automatic-station": 5, "automatic-remote": 6, "maintenance": 7, "process": 8,
}  # fmt: skip
"""orCat by name (IEC 61850-7-3)."""
ADD_CAUSES = (
    "unknown", "not-supported", "blocked-by-switching-hierarchy", "select-failed", "invalid-position",
    "position-reached", "parameter-change-in-execution", "step-limit", "blocked-by-mode", "blocked-by-process",
    "blocked-by-interlocking", "blocked-by-synchrocheck", "command-already-in-execution", "blocked-by-health",
    "1-of-n-control", "abortion-by-cancel", "time-limit-over", "abortion-by-trip", "object-not-selected",
    "object-already-selected", "no-access-authority", "ended-with-overshoot", "abortion-due-to-deviation",
    "abortion-by-communication-loss", "blocked-by-command", "none", "inconsistent-parameters",
    "locked-by-other-client",
)  # fmt: skip
_SWITCHED = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
_TERMINATION = 30.0
"""Seconds to wait for a command termination."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted."""

    value: str
    category: int = CATEGORIES["remote-control"]
    identity: str = "flexmap"
    test: bool = False
    interlock: bool = False
    synchrocheck: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it."""

    model: str
    done: bool
    stage: str
    """Where it ended: select, operate, termination."""
    cause: str = ""
    """Data access error, or AddCause."""
    seconds: float = 0.0


def control(association: NativeAssociation, domain: str, path: str, order: Order) -> Outcome:
    """Select where the model asks for it, operate, wait for the end; raises RemoteError."""
    node, _, name = path.partition(".")
    name = name.replace(".", "$")
    model = association.read(domain, f"{node}$CF${name}$ctlModel")
    if not isinstance(model, int) or not 0 <= model < len(MODELS):
        raise RemoteError(f"{domain}/{path}: ctlModel {model}")
    if model == STATUS_ONLY:
        raise RemoteError(f"{domain}/{path} takes no commands (status-only)")
    return _Command(association, domain, f"{node}$CO${name}", model, order).run()


class _Command:
    def __init__(self, association: NativeAssociation, domain: str, item: str, model: int, order: Order) -> None:
        self._association = association
        self._domain = domain
        self._item = item
        self._model = model
        self._order = order
        self._began = time.monotonic()

    def run(self) -> Outcome:
        kind = self._association.specification(self._domain, self._item)
        operate = next((child for child in kind.children if child.name == "Oper"), None)
        if operate is None:
            raise RemoteError(f"{self._domain}/{self._item} has no Oper")
        value = self._structure(operate)
        if self._model == SBO:
            if not self._association.read(self._domain, f"{self._item}$SBO"):
                return self._outcome("select", self._told(0.2) or "select-failed")
        elif self._model == SBO_ENHANCED and (cause := self._written("SBOw", value)):
            return self._outcome("select", cause)
        if cause := self._written("Oper", value):
            return self._outcome("operate", cause)
        if self._model in {DIRECT_ENHANCED, SBO_ENHANCED}:
            return self._outcome("termination", self._terminated())
        return self._outcome("operate", "")

    def _outcome(self, stage: str, cause: str) -> Outcome:
        seconds = round(time.monotonic() - self._began, 3)
        return Outcome(model=MODELS[self._model], done=not cause, stage=stage, cause=cause, seconds=seconds)

    def _written(self, component: str, value: bytes) -> str:
        """Return why a write was refused, empty if it was not."""
        try:
            self._association.write(self._domain, f"{self._item}${component}", value)
        except RemoteError as error:
            return self._told(0.2) or str(error)
        return ""

    def _terminated(self) -> str:
        """Return why the command failed, empty if it was carried out."""
        end, cause = time.monotonic() + _TERMINATION, ""
        while (left := end - time.monotonic()) > 0:
            report = self._association.report(left)
            if report is None or report.listed:
                continue
            cause = _add_cause([plain(result) for result in report.results]) or cause
            if (self._domain, f"{self._item}$Oper") in report.names:
                return cause
        return cause or "no command termination came"

    def _told(self, seconds: float) -> str:
        """Return the AddCause of a LastApplError that came, empty if none did."""
        report = self._association.report(seconds)
        return "" if report is None or report.listed else _add_cause([plain(each) for each in report.results])

    def _structure(self, operate: DataNode) -> bytes:
        """Return Oper, or SBOw, with the components that the server's type has."""
        order = self._order
        now = data.utc_time(int(time.time() * 1000), 0x0A)
        known = {
            "operTm": data.utc_time(0, 0),
            "origin": data.structure(data.integer(order.category), data.octet_string(order.identity.encode())),
            "ctlNum": data.unsigned(1),
            "T": now,
            "Test": data.boolean(order.test),
            "Check": data.bit_string(order.synchrocheck << 1 | order.interlock, 2),
        }
        parts = [
            _value(child, order.value) if child.name == "ctlVal" else known[child.name]
            for child in operate.children
            if child.name == "ctlVal" or child.name in known
        ]
        if len(parts) != len(operate.children):
            raise RemoteError(f"{self._item}$Oper has components that are not known")
        return data.structure(*parts)


def _value(kind: DataNode, text: str) -> bytes:
    """Return a ctlVal of the server's type; raises ConfigurationError if the text is none."""
    try:
        if kind.type == "BOOLEAN":
            return data.boolean(
                {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}[text]
            )
        if kind.type == "INTEGER":
            return data.integer(int(text))
        if kind.type == "STRUCTURE" and kind.children:  # AnalogueValue
            if kind.children[0].type == "FLOAT":
                return data.structure(data.float32(float(text)))
            return data.structure(data.integer(int(text)))
        if kind.type == "Dbpos":  # Tcmd
            return data.bit_string({"stop": 0, "lower": 1, "higher": 2, "reserved": 3}[text], 2)
    except (KeyError, ValueError):
        pass
    remedy = "write on or off for switches, a number for settings, lower or higher for steps"
    raise ConfigurationError(f"'{text}' is no value for {kind.type}", where="VALUE", remedy=remedy)


def _add_cause(results: list[MmsData]) -> str:
    """Return the AddCause of a LastApplError, empty if it is none or means success."""
    for result in results:
        if isinstance(result, list) and len(result) == 5 and isinstance(result[0], str):
            code = result[4]
            if isinstance(code, int) and (result[1] or code):
                return ADD_CAUSES[code] if 0 <= code < len(ADD_CAUSES) else f"AddCause {code}"
    return ""
