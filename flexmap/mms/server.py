"""The MMS server core: feed it octets, write what it returns.

::

    server = Server(variables, identity=("flexmap", "gateway", "1"))
    connection = server.connection(deliver=transport.write, peer="192.0.2.7:40112")
    transport.write(connection.receive(octets))      # raises RemoteError: close the connection
    connection.close()                               # when it is lost

``deliver`` takes what comes by itself (reports, answers to commands). ``receive`` stops after
``Limits.max_replies`` octets of replies; ``connection.backlog`` is true then: once they are written, call
``receive(b"")``, and do not read from the peer meanwhile. ``connection.ended`` is true when the client is to be
disconnected after what was returned is written.

What more a server can do is put in from outside: writers and readers of components
(:mod:`flexmap.mms.variables`), handlers of further services (``server.handlers``: journals, files),
``association.on_close`` for what an association holds.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from flexmap.mms import pdu
from flexmap.mms.association import HANDLERS, Association, Handler
from flexmap.mms.connection import Connection
from flexmap.mms.pdu import Initiate, Name, Service
from flexmap.mms.variables import VariableList, Variables


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a server holds."""

    max_pdu: int = 65_000
    """Octets of the largest PDU, either way; a client may ask for less."""
    min_pdu: int = 512
    max_outstanding: int = 5
    """Requests of an association whose answer is still to come."""
    nesting: int = 10
    """Data structure nesting level."""
    max_replies: int = 256 * 1024
    """Octets of replies that are made at once."""
    max_plans: int = 256 * 1024
    """Octets that a connection may keep, about, to answer repeated requests without parsing them."""
    max_lists: int = 16
    """Data sets that clients may define, in each domain, the VMD and each association."""
    max_members: int = 500
    max_name: int = 32
    """Characters of a data set's name, node included, as clients define it."""


class Selectors(msgspec.Struct, frozen=True):
    """Called selectors of the OSI layers that are answered; None: whatever a client calls."""

    transport: bytes | None = None
    session: bytes | None = None
    presentation: bytes | None = None


Authenticate = Callable[[bytes | None], str | None]
"""Takes the password of an association request (None: there is none); returns whose it is, None to refuse."""


def anybody(_password: bytes | None) -> str | None:
    """Let everybody in."""
    return ""


class Server:
    """Variables and services: what all connections share."""

    def __init__(
        self,
        variables: Variables,
        *,
        identity: tuple[str, str, str],
        limits: Limits | None = None,
        selectors: Selectors | None = None,
        authenticate: Authenticate = anybody,
        on_event: Callable[[str, str], None] = lambda _peer, _text: None,
    ) -> None:
        """Make a server; ``identity`` is vendor, model and revision, ``on_event`` takes a peer and what it did."""
        self.variables = variables
        self.identity = identity
        self.limits = limits or Limits()
        self.selectors = selectors or Selectors()
        self.authenticate = authenticate
        self.handlers: dict[int, Handler] = dict(HANDLERS)
        self.associations: set[Association] = set()
        self.list_users: list[Callable[[Name], bool]] = []
        """Each tells whether a data set is in use: it cannot be deleted then."""
        self._on_event = on_event

    def connection(self, deliver: Callable[[bytes], None], peer: str = "") -> Connection:
        """Return the state of one TCP connection."""
        return Connection(self, deliver, peer)

    def associate(
        self, proposed: Initiate, send: Callable[[bytes], None], *, peer: str, user: str
    ) -> tuple[Association, bytes]:
        """Return a new association and its initiate response."""
        limits = self.limits
        negotiated = Initiate(
            max(limits.min_pdu, min(limits.max_pdu, proposed.max_pdu)),
            max(1, min(limits.max_outstanding, proposed.calling)),
            max(1, min(limits.max_outstanding, proposed.called)),
            limits.nesting if proposed.nesting == 0 else min(limits.nesting, proposed.nesting),
        )
        association = Association(self, negotiated, send, peer=peer, user=user)
        self.associations.add(association)
        association.on_close(self.associations.discard)
        bits = {Service(tag).bit for tag in self.handlers} | {Service.READ.bit, Service.WRITE.bit}
        bits |= {pdu.INFORMATION_REPORT_BIT, pdu.CONCLUDE_BIT, pdu.CANCEL_BIT}
        return association, pdu.encode_initiate(negotiated, pdu.supported(bits))

    def in_use(self, name: Name) -> bool:
        """Tell whether a data set is in use."""
        return any(uses(name) for uses in self.list_users)

    @staticmethod
    def defined(table: dict[str, VariableList]) -> int:
        """Return how many data sets of a table clients have defined."""
        return sum(1 for each in table.values() if each.deletable)

    def report(self, association: Association, text: str) -> None:
        """Tell the log of something that a client did."""
        self._on_event(association.peer, text)

    def refused(self, peer: str, text: str) -> None:
        """Tell the log of a client that was not let in."""
        self._on_event(peer, text)
