"""HDLC on a serial line or pseudo-terminal, behind the optical port's sign-on where there is one."""

from __future__ import annotations

from typing import cast

from twisted.internet.base import DelayedCall, ReactorBase
from twisted.logger import Logger
from twisted.python.failure import Failure

from flexmap.dlms.hdlc_server import HdlcSettings
from flexmap.dlms.optical import Phase, SignOn, Step
from flexmap.dlms.server import Server
from flexmap.faces.tcp import Talk
from flexmap.lines.terminal import TerminalTransport

log = Logger(namespace="flexmap.dlms")
TICK = 1.0
"""Seconds between two looks at time limits."""
_BITS = 10
"""Of a character on the line, with start and stop bit."""


class SerialTalk(Talk):
    """Answers on one line for as long as it is open."""

    def __init__(
        self, reactor: ReactorBase, server: Server, name: str, settings: HdlcSettings, sign_on: SignOn | None
    ) -> None:
        super().__init__(reactor)
        self._server = server
        self._name = name
        self._settings = settings
        self._sign_on = sign_on
        self._was_up = False
        """A data link connection has been open since the sign-on."""
        self._watch: DelayedCall | None = None
        self._step: DelayedCall | None = None

    def connectionMade(self) -> None:
        """Begin to listen."""
        self._terminal = cast("TerminalTransport", self.transport)
        self._hdlc = self._server.line(self._settings, self._send, self.reactor.seconds, self._name)
        self.begin(self._hdlc)
        if self._sign_on is not None:
            self._go(self._sign_on.leave())
        self._tick()

    def dataReceived(self, data: bytes) -> None:
        """Answer what has come, by the sign-on or by HDLC."""
        try:
            if self._sign_on is not None and self._sign_on.phase is not Phase.BINARY:
                self._go(self._sign_on.receive(data, self.reactor.seconds()))
                return
            self.answer(data)
        except Exception:  # noqa: BLE001 (out of a device: the line is there for the next client)
            log.failure("{line}: request not answered", line=self._name)
            self._hdlc.close()
        self._follow()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """End the line's associations."""
        del reason
        for call in (self._watch, self._step):
            if call is not None and call.active():
                call.cancel()
        if self._sign_on is not None:
            self._sign_on.leave()
        self.end()

    def _send(self, octets: bytes) -> None:
        self._terminal.write(octets)

    def _follow(self) -> None:
        """Leave the binary mode when its data link connections have ended."""
        sign_on = self._sign_on
        if sign_on is None or sign_on.phase is not Phase.BINARY:
            return
        if self._hdlc.links:
            self._was_up = True
            sign_on.set_up()
        elif self._was_up:
            # The acknowledgement of the disconnection, 12 octets at most, goes out at the old speed.
            self._go(sign_on.leave(), 12 * _BITS / self._speed + 0.05)

    def _go(self, step: Step | None, wait: float = 0.0) -> None:
        if step is None:
            return
        if self._step is not None and self._step.active():
            self._step.cancel()
        self._was_up = False
        if step.wait + wait:
            self._step = self.reactor.callLater(step.wait + wait, self._do, step)
        else:
            self._do(step)

    def _do(self, step: Step) -> None:
        self._speed = step.speed
        self._terminal.set_speed(step.speed)
        if step.octets:
            self._terminal.write(step.octets)

    def _tick(self) -> None:
        self._hdlc.expire()
        self._follow()
        if self._sign_on is not None:
            self._go(self._sign_on.expire(self.reactor.seconds()))
        self._watch = self.reactor.callLater(TICK, self._tick)
