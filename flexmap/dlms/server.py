"""The DLMS/COSEM server core: feed it octets, write what it returns.

::

    server = Server(devices, clients, title=b"FLX...", counters=store, random=os.urandom, on_event=log)
    connection = server.connection(deliver=transport.write)     # one per TCP connection
    transport.write(connection.receive(octets))                 # raises WrapperError: close the connection
    connection.close()                                          # when it is lost
    datagrams = server.datagrams(deliver=lambda peer, octets: port.write(octets, peer))
    reply = datagrams.receive(peer, octets)                     # UDP: one frame in, at most one out
    line = server.line(settings, deliver=..., clock=...)        # HDLC: flexmap.dlms.hdlc_server

An exception out of a device (``on_set``, ``on_action``, a callable value) passes through ``receive``: log it and
close the connection.

``devices`` maps server SAP to LogicalDevice and ``clients`` client SAP to ClientProfile; both may change while
the server runs. Open associations keep the rights that they opened with; new keys and a stronger policy hold from
their next request on.

State is per connection, client SAP and server SAP. Choices the standard leaves open: an AARQ to an unknown
server or client SAP is refused by an AARE, any other APDU without association gets an exception response, frames
to the broadcast address 127 are dropped, and an AARQ that is accepted replaces the association that is open (one
that is refused leaves it).

A client may ask for far more than it sends. ``receive`` therefore stops after ``Limits.max_replies`` octets of
replies or ``Limits.max_requests`` requests, and ``connection.backlog`` is true: once the replies are written, call
``receive(b"")``, and do not read from the peer meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from flexmap.dlms import acse
from flexmap.dlms.acse import AcseError, Diagnostic
from flexmap.dlms.association import Association
from flexmap.dlms.audience import Audience
from flexmap.dlms.hdlc_server import HdlcSettings, Line
from flexmap.dlms.identity import Identity
from flexmap.dlms.lockout import Lockout
from flexmap.dlms.objects import LogicalDevice
from flexmap.dlms.opening import Opening, RefusalError
from flexmap.dlms.peer import Pool
from flexmap.dlms.profile import AssociationEvent, ClientProfile, EventKind, Limits, Threat
from flexmap.dlms.protection import Shared
from flexmap.dlms.security import Ciphering, CounterStore, Keys
from flexmap.dlms.setup import Forgetful, Keystore, Setups
from flexmap.dlms.wrapper_server import Connection, Datagrams


class Server:
    """Logical devices, clients and keys: what all connections share."""

    def __init__(
        self,
        devices: dict[int, LogicalDevice],
        clients: dict[int, ClientProfile],
        *,
        title: bytes,
        counters: CounterStore,
        random: Callable[[int], bytes],
        on_event: Callable[[AssociationEvent], None] = lambda _: None,
        limits: Limits | None = None,
        identity: Identity | None = None,
        keystore: Keystore | None = None,
        now: Callable[[], float] | None = None,
        tolerance: float = 0.0,
    ) -> None:
        """Make a server; ``now`` gives seconds since 1970.

        ``tolerance``: seconds for which certificates are valid before and behind their period.

        Without ``now`` nobody is locked out after failed authentications, and no certificate is valid.
        """
        self.devices = devices
        self.clients = clients
        self.title = title
        """The server's system title, eight octets."""
        self.limits = limits or Limits()
        self._on_event = on_event
        self._counters = counters
        self._ciphering: dict[tuple[Keys, bool], Ciphering] = {}
        self._lockout = None if now is None else Lockout(now)
        self.audience = Audience(now)
        """Associations that are told of changes: ``audience.tell``."""
        self._pool = Pool(self.limits.max_all_associations, self.limits.max_unproven_associations)
        self.setups = Setups(
            clients,
            title,
            identity or Identity(),
            keystore or Forgetful(),
            random=random,
            now=now or (lambda: 0.0),
            changed=self._changed,
            tolerance=tolerance,
        )
        """Security setups of the clients, key pairs and certificates."""
        self._shared = Shared(title, self.ciphering, counters, self.setups, random, self._client)

    def connection(self, deliver: Callable[[bytes], None], origin: Hashable = None) -> Connection:
        """Return the state of one TCP connection; ``deliver`` takes frames that come late (pending actions).

        ``origin``, the peer's host, is who is locked out after failed authentications.
        """
        return Connection(self, deliver, self._pool, self.limits, origin)

    def datagrams(self, deliver: Callable[[Hashable, bytes], None]) -> Datagrams:
        """Return the state of one UDP port; ``deliver`` takes a peer and a frame that comes late."""
        return Datagrams(self, deliver)

    def line(
        self,
        settings: HdlcSettings,
        deliver: Callable[[bytes], None],
        clock: Callable[[], float],
        origin: Hashable = None,
    ) -> Line:
        """Return the state of one HDLC line; ``deliver`` takes frames that come late, ``clock`` gives seconds.

        ``origin``, the line, is who is locked out after failed authentications.
        """
        return Line(
            self, settings, pool=self._pool, limits=self.limits, deliver=deliver, clock=clock, origin=origin
        )

    def ciphering(self, keys: Keys, broadcast: bool = False) -> Ciphering:
        """Return the one ciphering of these keys, so that their counters are one sequence."""
        ciphering = self._ciphering.get((keys, broadcast))
        if ciphering is None:
            for (
                old
            ) in self._ciphering.values():  # if another key of the set is new, what was received stays received
                old.record_all()
            ciphering = Ciphering(keys, self.title, self._counters, broadcast=broadcast)
            self._ciphering[keys, broadcast] = ciphering
        return ciphering

    def open(
        self,
        client_sap: int,
        server_sap: int,
        apdu: bytes,
        *,
        limits: Limits,
        full: bool,
        origin: Hashable = None,
    ) -> tuple[Association | None, bytes]:
        """Return the association that an AARQ asks for, or none, and the AARE; ``full``: there is no room."""

        def report(kind: EventKind, reason: str, threat: Threat = Threat.NONE) -> None:
            self.report(kind, client_sap, server_sap, reason, threat)

        context: int | None = None
        try:
            aarq = acse.decode_aarq(apdu)
            context = aarq.context
            device, client = self._parties(client_sap, server_sap, full=full)
            opening = self._opening(device, client, limits=limits, origin=origin)
            association, aare = opening.open(aarq)
        except AcseError as error:
            refusal = RefusalError(f"malformed AARQ: {error}", 1, provider=True)
            report(EventKind.REFUSED, str(refusal))
            return None, refusal.aare()
        except RefusalError as refusal:
            report(EventKind.REFUSED, str(refusal), refusal.threat)
            return None, refusal.aare(context)
        if client.mechanism < acse.Mechanism.HLS:
            report(EventKind.OPENED, "")
        return association, aare

    def pre_established(self, client_sap: int, server_sap: int, *, limits: Limits) -> Association | None:
        """Return the association that a client has without asking for it, if it has one."""
        device, client = self.devices.get(server_sap), self.clients.get(client_sap)
        if device is None or client is None or not client.pre_established:
            return None
        return self._opening(device, client, limits=limits, origin=None).pre_established()

    def _opening(
        self, device: LogicalDevice, client: ClientProfile, *, limits: Limits, origin: Hashable
    ) -> Opening:
        report = _Reporter(self, client.sap, device.sap)
        lockout, who = self._lockout, (client.sap, origin)
        if lockout is None:
            return Opening(device, client, self._shared, limits=limits, report=report)
        wait = lockout.wait(who)
        if wait:
            raise RefusalError(f"locked out for {wait:.0f} s", Diagnostic.AUTHENTICATION_FAILURE, transient=True)
        return Opening(
            device,
            client,
            self._shared,
            limits=limits,
            report=report,
            outcome=lambda right: lockout.count(who, right=right),
            wait=lambda: lockout.wait(who),
        )

    def _changed(self, sap: int, what: str) -> None:
        self.report(EventKind.CHANGED, sap, 0, what, Threat.KEYS_CHANGED)

    def _client(self, sap: int) -> ClientProfile | None:
        return self.clients.get(sap)

    def _parties(self, client_sap: int, server_sap: int, *, full: bool) -> tuple[LogicalDevice, ClientProfile]:
        device, client = self.devices.get(server_sap), self.clients.get(client_sap)
        if device is None:
            raise RefusalError("no such logical device", Diagnostic.CALLED_AP_TITLE_NOT_RECOGNIZED)
        if client is None:
            raise RefusalError("no such client")
        if full:
            raise RefusalError("too many associations", transient=True)
        return device, client

    def report(
        self, kind: EventKind, client_sap: int, server_sap: int, reason: str, threat: Threat = Threat.NONE
    ) -> None:
        """Pass an event on to the logs."""
        self._on_event(AssociationEvent(kind, client_sap, server_sap, reason, threat))


class _Reporter:
    """Reports of one association: smaller than a closure, for there are thousands."""

    __slots__ = ("_client_sap", "_server", "_server_sap")

    def __init__(self, server: Server, client_sap: int, server_sap: int) -> None:
        self._server = server
        self._client_sap = client_sap
        self._server_sap = server_sap

    def __call__(self, kind: EventKind, reason: str, threat: Threat = Threat.NONE) -> None:
        self._server.report(kind, self._client_sap, self._server_sap, reason, threat)
