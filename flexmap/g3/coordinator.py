"""PAN management of a G3 coordinator: who may join, EAP-PSK server, short addresses, keys, kick and leave.

ITU-T G.9903 leaves access control and the assignment of addresses to the application; the messages are its own.
Times and numbers of attempts are choices (confidence C) near those of field stacks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from flexmap.g3 import lbp
from flexmap.g3.eap_psk import AuthenticationError, EapError, Protected, Result, Server
from flexmap.g3.eap_psk import parse as parse_eap
from flexmap.g3.interface import Address, LbpLink, Mac, MacStatus, Random, Scheduler, Timer
from flexmap.g3.lbp import Kind, LbpError, Message, ParameterResult, Parameters
from flexmap.g3.pan import AccessList, Counters, PanState, Psks, Registered, Registry
from flexmap.model.error import LocalError

_MESSAGE_2, _MESSAGE_4, _OUTCOME = 1, 3, -1
MOST_WAITING = 1024
"""Devices whose JOINING waits; anybody can send one, of any EUI-64."""


class Settings(msgspec.Struct, frozen=True):
    """How a coordinator runs its exchanges; times in seconds."""

    sessions: int = 5
    """Exchanges at a time: more would only collide on the line. Further devices wait their turn."""
    queue_ttl: float = 80.0
    """How long a JOINING may wait; the device gives up after adpMaxJoinWaitTime (90 s)."""
    message_timeout: float = 10.0
    """Silence after a message has left, before it is repeated."""
    send_timeout: float = 40.0
    """Longest time to hear from the layer below that a message has left (route discovery included)."""
    attempts: int = 2
    """Times a message is sent."""


class _Session:
    """One exchange with one device."""

    __slots__ = ("done", "eui64", "expects", "octets", "parameters", "server", "short", "timer", "tries", "via")

    def __init__(self, eui64: bytes, via: Address, expects: int, parameters: Parameters) -> None:
        self.eui64 = eui64
        self.via = via
        self.expects = expects
        self.parameters = parameters
        self.server: Server | None = None
        self.short: int | None = None
        self.done: Callable[[bool], object] | None = None
        self.octets = b""
        self.tries = 0
        self.timer: Timer | None = None

    def owns(self, response: bytes) -> bool:
        """Return whether a response belongs to this exchange, by its RAND_S."""
        try:
            return self.server is not None and parse_eap(response).rand_s == self.server.rand_s
        except EapError:
            return False


class Coordinator:
    """PAN management over the MAC and an :class:`LbpLink`; :meth:`start`, then LBP messages do the rest."""

    __slots__ = (
        "_active",
        "_identifier",
        "_keys",
        "_link",
        "_mac",
        "_psks",
        "_random",
        "_rivals",
        "_scheduler",
        "_sessions",
        "_waiting",
        "access",
        "counters",
        "on_joined",
        "on_left",
        "registry",
        "settings",
    )

    def __init__(  # noqa: PLR0917 (the seams, then what is the coordinator's own)
        self,
        mac: Mac,
        link: LbpLink,
        scheduler: Scheduler,
        random: Random,
        psks: Psks,
        access: AccessList | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._mac = mac
        self._link = link
        self._scheduler = scheduler
        self._random = random
        self._psks = psks
        self.settings = settings or Settings()
        self._keys: dict[int, bytes] = {}
        self._active = 0
        self._identifier = 0
        self._sessions: dict[bytes, _Session] = {}
        self._rivals: dict[bytes, _Session] = {}
        """Exchanges with devices that seem to have begun anew. A JOINING is plain and may be forged: the exchange
        under way goes on until its rival has been completed, which takes the device's PSK."""
        self._waiting: dict[bytes, tuple[Address, float]] = {}
        self.access = access or AccessList()
        self.registry = Registry()
        self.counters = Counters()
        self.on_joined: Callable[[Registered], object] = lambda _device: None
        self.on_left: Callable[[Registered, str], object] = lambda _device, _reason: None
        """Called with ``left``, ``kicked`` or ``removed``."""

    # The PAN

    def start(self, pan_id: int, gmk: bytes | None = None) -> None:
        """Start a new PAN with a group master key, by default a random one."""
        key = self._random.randbytes(16) if gmk is None else gmk
        self.resume(PanState(pan_id, ((0, key),), 0))

    def resume(self, state: PanState) -> None:
        """Go on with a PAN as :meth:`state` gave it: devices stay joined."""
        self.registry = Registry(state.devices, state.spent)
        self._mac.start(state.pan_id)
        for index, key in state.keys:
            self.add_key(index, key)
        self.switch_key(state.active)

    def state(self) -> PanState:
        """Return what to keep for :meth:`resume`. It holds keys."""
        keys = tuple(sorted(self._keys.items()))
        return PanState(self._mac.pan_id, keys, self._active, self.registry.devices(), self.registry.spent())

    @property
    def active_key(self) -> int:
        """Index of the key in use."""
        return self._active

    @property
    def keys(self) -> Mapping[int, bytes]:
        """Group master keys by index, as they are at any time."""
        return self._keys

    def add_key(self, index: int, key: bytes) -> None:
        """Take a group master key; devices that join from now on get it."""
        self._keys[index] = key
        self._mac.set_key(index, key)

    def switch_key(self, index: int) -> None:
        """Secure with this key from now on."""
        self._active = index
        self._mac.activate_key(index)

    def later(self, delay: float, call: Callable[[], object]) -> None:
        """Call after so many seconds."""
        self._scheduler.callLater(delay, call)

    def drop_key(self, index: int) -> None:
        """Forget the key not in use."""
        if self._keys.pop(index, None) is not None:
            self._mac.remove_key(index)

    # Removal

    def kick(self, eui64: bytes) -> None:
        """Put a device out of the PAN; it keeps its key until the next re-keying. Raise if it is not in."""
        self.recall(eui64)
        self._forget(eui64, "kicked")

    def recall(self, eui64: bytes) -> None:
        """Tell a device to join again; it stays in the PAN. Raise if it is not in."""
        self._send(self._device(eui64).short_address, Message(Kind.KICK, eui64))

    def remove(self, eui64: bytes) -> None:
        """Strike a device off without telling it: one that has gone for good. Raise if it is not in."""
        self._forget(self._device(eui64).eui64, "removed")

    def ban(self, eui64: bytes) -> None:
        """Put a device on the black list, and out of the PAN if it is in."""
        self.access.black.add(eui64)
        if self.registry.by_eui64(eui64) is not None:
            self.kick(eui64)

    def _device(self, eui64: bytes) -> Registered:
        device = self.registry.by_eui64(eui64)
        if device is None:
            raise LocalError(f"no device {eui64.hex()} in the PAN")
        return device

    def _forget(self, eui64: bytes, reason: str) -> None:
        for session in self._exchanges(eui64):
            self._end(session, success=False)
        device = self.registry.remove(eui64)
        if device is not None:
            self.counters.count(reason)
            self.on_left(device, reason)

    # What arrives

    def lbp_message(self, source: Address, message: bytes, *, secured: bool) -> None:
        """Take an LBP message of a device: from itself, or through its agent."""
        try:
            parsed = lbp.parse(message)
        except LbpError:
            self.counters.count("malformed")
            return
        if parsed.kind is Kind.LEAVE and self._is_itself(source, parsed.eui64, secured):
            self._forget(parsed.eui64, "left")
        elif parsed.kind is not Kind.JOINING or not self._admissible(source, parsed.eui64, secured):
            self.counters.count("unexpected")
        elif parsed.data:
            self._response(parsed)
        else:
            self._joining(parsed.eui64, source)

    def _is_itself(self, source: Address, eui64: bytes, secured: bool) -> bool:
        device = self.registry.by_eui64(eui64)
        return secured and device is not None and device.short_address == source

    def _admissible(self, source: Address, eui64: bytes, secured: bool) -> bool:
        """Return whether it comes from the device itself, in plain, or protected from a device of the PAN."""
        if isinstance(source, bytes):
            return source == eui64
        return secured and self.registry.by_short(source) is not None

    # Join

    def _joining(self, eui64: bytes, via: Address) -> None:
        refusal = self.access.refusal(eui64)
        psk = self._psks.find(eui64)
        if refusal is None and psk is None:
            refusal = "declined_no_psk"
        if refusal is not None or psk is None:
            self.counters.count(refusal or "declined_no_psk")
            self._send(via, Message(Kind.DECLINE, eui64))
            return
        running, rival = self._sessions.get(eui64), self._rivals.get(eui64)
        if running is not None and running.via == via and running.expects == _MESSAGE_2:
            return  # message 1 is on its way, and will be repeated
        if rival is not None:
            self._end(rival, success=False)
        if not self._free():
            self.counters.count("postponed")
            self._waiting.pop(eui64, None)
            if len(self._waiting) >= MOST_WAITING:
                del self._waiting[next(iter(self._waiting))]
            self._waiting[eui64] = via, self._scheduler.seconds()
            return
        short = self.registry.promise(eui64)
        if short is None:
            self.counters.count("declined_full")
            self._send(via, Message(Kind.DECLINE, eui64))
            return
        parameters = Parameters(short, tuple(sorted(self._keys.items())), self._active)
        session = _Session(eui64, via, _MESSAGE_2, parameters)
        session.short = short
        self._challenge(session, psk)

    def _challenge(self, session: _Session, psk: bytes) -> None:
        self._identifier = (self._identifier + 2) & 0xFF
        session.server = Server(psk, self._mac.eui64, self._random.randbytes(16), self._identifier)
        beside = self._rivals if session.eui64 in self._sessions else self._sessions
        beside[session.eui64] = session
        self._transmit(session, Message(Kind.CHALLENGE, session.eui64, session.server.first()).encode())

    def _free(self) -> bool:
        return len(self._sessions) + len(self._rivals) < self.settings.sessions

    def _next_waiting(self) -> None:
        """Give a free session to the device that has asked last.

        Who has waited for long may have given up: with hundreds of them, exchanges would all begin too late.
        """
        oldest = self._scheduler.seconds() - self.settings.queue_ttl
        while self._waiting and self._free():
            eui64 = next(reversed(self._waiting))
            via, since = self._waiting.pop(eui64)
            if since >= oldest:
                self._joining(eui64, via)

    # Exchanges with devices of the PAN

    def distribute(self, eui64: bytes, parameters: Parameters, done: Callable[[bool], object]) -> None:
        """Give a device parameters inside EAP-PSK (keys); call back whether it took them."""
        psk = self._psks.find(eui64)
        device = self.registry.by_eui64(eui64)
        if device is None or psk is None or eui64 in self._sessions:
            done(False)
            return
        session = _Session(eui64, device.short_address, _MESSAGE_2, parameters)
        session.done = done
        self._challenge(session, psk)

    def configure(self, eui64: bytes, parameters: Parameters, done: Callable[[bool], object]) -> None:
        """Give a device parameters under the group's key (activation, removal); call back whether it took them."""
        device = self.registry.by_eui64(eui64)
        if device is None or eui64 in self._sessions:
            done(False)
            return
        session = _Session(eui64, device.short_address, _OUTCOME, parameters)
        session.done = done
        self._sessions[eui64] = session
        self._transmit(session, Message(Kind.ACCEPTED, eui64, parameters.encode()).encode())

    # One exchange

    def _transmit(self, session: _Session, octets: bytes) -> None:
        session.octets = octets
        session.tries = 0
        self._repeat(session)

    def _repeat(self, session: _Session) -> None:
        if session.tries >= self.settings.attempts:
            self.counters.count("timeouts")
            self._end(session, success=False)
            return
        session.tries += 1
        octets = session.octets

        def confirm(status: MacStatus) -> None:
            if session in self._exchanges(session.eui64) and session.octets is octets:
                wait = self.settings.message_timeout if status is MacStatus.SUCCESS else 0.0
                self._arm(session, wait)

        self._arm(session, self.settings.send_timeout)
        self._link.send_lbp(session.via, octets, confirm)

    def _arm(self, session: _Session, delay: float) -> None:
        if session.timer is not None and session.timer.active():
            session.timer.cancel()
        session.timer = self._scheduler.callLater(delay, self._repeat, session)

    def _exchanges(self, eui64: bytes) -> list[_Session]:
        """Return the exchange with a device and its rival, as far as there are any."""
        return [found for of in (self._sessions, self._rivals) if (found := of.get(eui64)) is not None]

    def _end(self, session: _Session, *, success: bool) -> None:
        """End an exchange; its rival takes its place, or has lost with its success."""
        eui64 = session.eui64
        others = [other for other in self._exchanges(eui64) if other is not session]
        self._sessions.pop(eui64, None)
        self._rivals.pop(eui64, None)
        ended = [session, *others] if success else [session]
        if others and not success:
            self._sessions[eui64] = others[0]
        for each in ended:
            if each.timer is not None and each.timer.active():
                each.timer.cancel()
            if each.done is not None:
                each.done(success and each is session)
        self._next_waiting()

    def _send(self, destination: Address, message: Message) -> None:
        self._link.send_lbp(destination, message.encode(), lambda _status: None)

    def _response(self, message: Message) -> None:
        exchanges = self._exchanges(message.eui64)
        if not exchanges:
            self.counters.count("unexpected")
            return
        session = next((each for each in exchanges if each.owns(message.data)), exchanges[0])
        try:
            if session.expects == _OUTCOME:
                self._configured(session, message.data)
            elif parse_eap(message.data).message != session.expects:
                self.counters.count("unexpected")  # a repetition: the timer repeats what is wanted
            elif session.expects == _MESSAGE_2:
                self._third(session, message.data)
            else:
                self._finish(session, message.data)
        except AuthenticationError:
            self.counters.count("authentication_failures")
            self._refuse(session)
        except (EapError, LbpError):
            self.counters.count("malformed")

    def _third(self, session: _Session, data: bytes) -> None:
        if session.server is None:
            return
        third = session.server.third(data, session.eui64, session.parameters.encode())
        session.expects = _MESSAGE_4
        self._transmit(session, Message(Kind.CHALLENGE, session.eui64, third).encode())

    def _finish(self, session: _Session, data: bytes) -> None:
        server = session.server
        if server is None:
            return
        if not _obeyed(server.finish(data)):
            self.counters.count("parameter_refusals")
            self._refuse(session)
            return
        self._send(session.via, Message(Kind.ACCEPTED, session.eui64, server.end(success=True)))
        if session.short is not None:
            self._register(session.eui64, session.short)
        self._end(session, success=True)

    def _configured(self, session: _Session, data: bytes) -> None:
        outcome = lbp.parse_parameters(data).outcome
        success = outcome is not None and outcome.result is ParameterResult.SUCCESS
        if not success:
            self.counters.count("parameter_refusals")
        self._end(session, success=success)

    def _refuse(self, session: _Session) -> None:
        """End an exchange; tell a device that wanted to join."""
        if session.short is not None and session.server is not None:
            self._send(session.via, Message(Kind.DECLINE, session.eui64, session.server.end(success=False)))
        self._end(session, success=False)

    def _register(self, eui64: bytes, short: int) -> None:
        self.counters.count("joined" if self.registry.by_eui64(eui64) is None else "rejoined")
        device = Registered(eui64, short, self._scheduler.seconds())
        self.registry.register(device)
        self._waiting.pop(eui64, None)
        self.on_joined(device)


def _obeyed(protected: Protected) -> bool:
    """Return whether message 4 says that the device took all parameters."""
    if protected.result is not Result.DONE_SUCCESS:
        return False
    outcome = lbp.parse_parameters(protected.parameters).outcome
    return outcome is not None and outcome.result is ParameterResult.SUCCESS
