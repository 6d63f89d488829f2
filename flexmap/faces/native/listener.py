"""MMS connections on Twisted."""

from __future__ import annotations

import socket
from collections.abc import Hashable
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.interfaces import IHandshakeListener
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from flexmap.faces.native.tls import fingerprint, why_refused
from flexmap.faces.tcp import Conversation, Gate, TcpFactory, TcpTalk
from flexmap.faces.throttle import Throttle
from flexmap.mms.connection import Connection
from flexmap.mms.server import Server

log = Logger(namespace="flexmap.mms")

OPENING_TIMEOUT = 20.0
"""Seconds in which a peer must have an association."""
MOST_UNSENT = 4 * 1024 * 1024
"""Octets that a peer may leave unread before it is cut off."""
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4))
"""A peer that is gone without a word is found out within 70 seconds."""


class MmsFactory(TcpFactory):
    """Accepts MMS clients."""

    def __init__(self, server: Server, reactor: ReactorBase, *, gate: Gate, idle_timeout: float) -> None:
        """Make a factory; ``idle_timeout`` in seconds, 0: an association may be silent for as long as it likes."""
        super().__init__(
            lambda deliver, origin: server.connection(deliver, str(origin)),
            reactor,
            Throttle(reactor),
            log,
            gate=gate,
            idle_timeout=idle_timeout or float("inf"),
        )
        self.server = server

    def talk(self, origin: Hashable) -> MmsTalk:
        """Return a connection's protocol."""
        return MmsTalk(self, origin)


class MmsTalk(TcpTalk):
    """One MMS connection."""

    def __init__(self, factory: MmsFactory, origin: Hashable) -> None:
        super().__init__(factory, origin)
        self._server = factory.server
        self._mms: Connection | None = None
        self._unsent = 0

    @property
    def patience(self) -> float:
        """Seconds that the peer may be silent: few without an association."""
        trusted = self.conversation is not None and self.conversation.trusted
        return super().patience if trusted else OPENING_TIMEOUT

    def converse(self) -> Conversation:
        """Return the protocol core's side of the connection."""
        self._socket.setTcpKeepAlive(True)
        handle = self.wire().getHandle()
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        peer = cast("Any", self._socket.getPeer())
        self._mms = self._server.connection(self._late, f"{peer.host}:{peer.port}")
        return self._mms

    def wire(self) -> Any:
        """Return the TCP connection."""
        return self._socket

    def answer(self, data: bytes) -> None:
        """Answer what has come; raises RemoteError."""
        mms = self._mms
        if mms is None or mms.ended:
            return
        reply = mms.receive(data)
        if reply:
            self.answered = self.reactor.seconds()
            self.write(reply)
        if mms.ended:
            self._socket.loseConnection()
        elif mms.backlog:
            self.put_off()

    def _late(self, octets: bytes) -> None:
        """Send what comes by itself; a peer that does not take it is cut off."""
        if self._paused:
            self._unsent += len(octets)
            if self._unsent > MOST_UNSENT:
                self.abort(f"{self._unsent} octets left unread", warn=True)
                return
        self.write(octets)

    def resumeProducing(self) -> None:
        """Read on: the peer has taken what was written."""
        self._unsent = 0
        super().resumeProducing()


class TlsFactory(MmsFactory):
    """Accepts MMS clients over TLS; a connection ends after ``session`` seconds, so that keys are renewed."""

    def __init__(self, *arguments: Any, session: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.session = session

    def talk(self, origin: Hashable) -> TlsTalk:
        """Return a connection's protocol."""
        return TlsTalk(self, origin)


@implementer(IHandshakeListener)
class TlsTalk(MmsTalk):
    """One MMS connection over TLS. A handshake has as long as an association has to come."""

    def __init__(self, factory: TlsFactory, origin: Hashable) -> None:
        super().__init__(factory, origin)
        self._session = factory.session
        self._renewal: DelayedCall | None = None

    def wire(self) -> Any:
        """Return the TCP connection below TLS."""
        return cast("Any", self._socket).transport

    def handshakeCompleted(self) -> None:
        """Tell who the client is."""
        certificate = cast("Any", self._socket).getPeerCertificate().to_cryptography()
        log.info(
            "MMS client {peer}: TLS as {subject}, certificate {print}",
            peer=self._peer,
            subject=certificate.subject.rfc4514_string(),
            print=fingerprint(certificate),
        )
        self._renewal = self.reactor.callLater(self._session, self.abort, "time for new keys")

    def connectionLost(self, reason: Failure | None = None) -> None:
        """End the association; tell why a handshake failed."""
        if self._renewal is not None and self._renewal.active():
            self._renewal.cancel()
        if reason is not None and reason.check(SSL.Error):
            self._factory.tell(
                log.warn, "MMS client {peer}: TLS: {why}", peer=self._peer, why=why_refused(reason.value)
            )
        super().connectionLost(reason)
