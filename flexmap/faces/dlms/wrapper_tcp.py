"""The wrapper over TCP (IEC 62056-47) on Twisted."""

from __future__ import annotations

from collections.abc import Hashable

from flexmap.dlms.wrapper_server import Connection
from flexmap.faces.tcp import TcpFactory, TcpTalk


class WrapperFactory(TcpFactory):
    """Accepts TCP connections that speak the wrapper."""

    def talk(self, origin: Hashable) -> WrapperTalk:
        """Return a connection's protocol."""
        return WrapperTalk(self, origin)


class WrapperTalk(TcpTalk):
    """One TCP connection: it is told nothing unasked while it does not take what is written."""

    def pauseProducing(self) -> None:
        """Read no more requests until the peer has taken its replies."""
        self._tell_nothing(True)
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """Answer what was left waiting, and read on."""
        self._tell_nothing(False)
        super().resumeProducing()

    def _tell_nothing(self, paused: bool) -> None:
        if isinstance(self.conversation, Connection):
            self.conversation.paused = paused
