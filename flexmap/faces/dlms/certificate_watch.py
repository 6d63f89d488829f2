"""Says in the log, day by day, which clients' certificates end soon: without one they are refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from twisted.internet.base import DelayedCall, ReactorBase
from twisted.logger import Logger

from flexmap.dlms.identity import Use
from flexmap.dlms.profile import ClientProfile

log = Logger(namespace="flexmap.dlms")

DAY = 86_400.0
SOON = 30 * DAY
"""Seconds before its end from which on a certificate is spoken of."""


class CertificateWatch:
    """Looks at the certificates of all clients once a day."""

    def __init__(self, reactor: ReactorBase, clients: Mapping[int, ClientProfile]) -> None:
        self._reactor = reactor
        self._clients = clients
        self._later: DelayedCall | None = None

    def begin(self) -> None:
        """Look now, and every day from now on."""
        now = self._reactor.seconds()
        for client in self._clients.values():
            for use in Use:
                # The first of a use is valid longest.
                ends = next((c.not_after for c in client.certificates if c.use == use), None)
                if ends is not None and ends - now < SOON:
                    text = "certificate of client '{client}' for {use} {ends} {date}"
                    log.warn(
                        text,
                        client=client.name,
                        use=use.name.lower(),
                        ends="ends on" if ends > now else "has ended on",
                        date=f"{dt.datetime.fromtimestamp(ends, dt.UTC):%Y-%m-%d}",
                    )
        self._later = self._reactor.callLater(DAY, self.begin)

    def stop(self) -> None:
        """Look no more."""
        if self._later is not None and self._later.active():
            self._later.cancel()
