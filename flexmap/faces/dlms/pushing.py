"""Push setups of meters: what head-ends write of them, and the notifications that they make."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import msgspec
from twisted.internet.base import DelayedCall
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger

from flexmap.dlms import axdr, classes
from flexmap.dlms.apdu import ActionResult, DataAccessResult, Tag
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.notification import CONFIRMED, data_notification, general_glo
from flexmap.dlms.objects import LogicalDevice, ObjectDefinition, SlotValue, View, attribute_key
from flexmap.dlms.profile import ClientProfile
from flexmap.dlms.push_setup import (
    ALARM_SETUP_LN,
    PUSH_SETUP,
    PUSH_SETUP_LN,
    PushSetup,
    changed,
    push_setup,
    values,
)
from flexmap.dlms.security import AUTHENTICATED, AUTHENTICATED_ENCRYPTED, SIGNED, SecurityError
from flexmap.dlms.selection import CaptureObject
from flexmap.dlms.server import Server
from flexmap.faces.dlms.push import Letter, Post
from flexmap.model.error import LocalError
from flexmap.store.letters import StoredLetter

log = Logger(namespace="flexmap.dlms.push")

DESCRIPTORS = (bytes((0, 0, 97, 98, 20, 255)), bytes((0, 0, 97, 98, 21, 255)))
"""Alarm descriptors."""
_DESTINATION = 3
_INVOKE_IDS = 0xFF_FFFF
_KEPT = "push-setup"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class Keeper(Protocol):
    """Keeps what head-ends write, of each meter, over a restart."""

    def read(self, meter: str, name: str) -> bytes | None:
        """Return what was kept, ``None`` if nothing was; raises LocalError."""

    def keep(self, meter: str, name: str, octets: bytes) -> None:
        """Keep it; raises LocalError."""


class Letters(Protocol):
    """Keeps alarms until they are delivered, over a restart; each call may raise LocalError."""

    def post(self, meter: str, octets: bytes) -> int:
        """Keep a letter; return its id, which never comes twice."""

    def letters(self, meter: str) -> Sequence[StoredLetter]:
        """Return the letters of a meter that are not delivered, the oldest first."""

    def delivered(self, number: int) -> None:
        """Forget a letter."""


class _Contents(msgspec.Struct, frozen=True, array_like=True):
    """A letter as it is kept: it is ciphered when it is sent."""

    time: int
    """When it was made, epoch ms."""
    values: list[bytes]


class PushSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What all push setups have in common."""

    setup: PushSetup
    """What holds until a head-end writes something else."""
    client: int
    """SAP of the client that notifications go to, and under whose rights and keys."""
    interval: float = 0.0
    """Seconds from a push to the next, counted from the full hour on; 0: only on request."""
    version: int = 0
    name: bytes = PUSH_SETUP_LN
    """Logical name of the setup."""
    allowed: tuple[Network, ...] = LOOPBACK
    """Where a destination that is written may be."""

    def for_alarms(self) -> PushSettings:
        """Return the settings of the setup that pushes alarms: at once, and only when there are any."""
        columns = [
            CaptureObject(PUSH_SETUP, ALARM_SETUP_LN, 1),
            CaptureObject(classes.DATA, classes.LOGICAL_DEVICE_NAME_LN, 2),
            CaptureObject(classes.CLOCK, classes.CLOCK_LN, 2),
            *(CaptureObject(classes.DATA, name, 2) for name in DESCRIPTORS),
        ]
        setup = msgspec.structs.replace(self.setup, objects=tuple(columns), randomisation=0)
        return msgspec.structs.replace(self, setup=setup, interval=0.0, name=ALARM_SETUP_LN)


class Way(NamedTuple):
    """What push setups send with."""

    reactor: PosixReactorBase
    server: Server
    post: Post
    keeper: Keeper | None = None
    """Without one, what head-ends write is forgotten at the end."""
    letters: Letters | None = None
    """Without one, alarms wait in memory alone."""


class PushObject:
    """Class 40 of one meter (implements flexmap.faces.dlms.live.LiveObject)."""

    def __init__(self, meter: str, device: LogicalDevice, settings: PushSettings, way: Way) -> None:
        self.definition: ObjectDefinition = push_setup(settings.version, settings.client, settings.name)
        self._file = _KEPT if settings.name == PUSH_SETUP_LN else f"{_KEPT}-{settings.name.hex()}"
        self._meter = meter
        self._device = device
        self._settings = settings
        self._way = way
        self._setup = self._kept()
        self._invoke = 0
        self._confirmed_at: int | None = None
        self._later: DelayedCall | None = None

    def _kept(self) -> PushSetup:
        keeper = self._way.keeper
        try:
            octets = None if keeper is None else keeper.read(self._meter, self._file)
            return self._settings.setup if octets is None else msgspec.msgpack.decode(octets, type=PushSetup)
        except (LocalError, msgspec.DecodeError) as error:
            log.warn("{meter}: push setup: {error}; as configured", meter=self._meter, error=str(error))
            return self._settings.setup

    def begin(self) -> None:
        """Push at every interval from now on, and what was not delivered before the end."""
        if self._settings.name == ALARM_SETUP_LN:
            self._resume()
        self._arm()

    def _arm(self) -> None:
        if self._settings.interval:
            now, interval = self._way.reactor.seconds(), self._settings.interval
            self._later = self._way.reactor.callLater(interval - now % interval, self._on_time)

    def _on_time(self) -> None:
        self.push()
        self._arm()

    def stop(self) -> None:
        """Push no more."""
        if self._later is not None and self._later.active():
            self._later.cancel()

    def slots(self) -> Mapping[int, SlotValue]:
        """Return what stands in the slots of its attributes."""
        computed = {attribute.index for attribute in self.definition.attributes if attribute.value is None}
        return {index: partial(self._shown, index) for index in computed}

    def _shown(self, index: int) -> bytes:
        return values(self._setup, self._settings.version, self._confirmed_at)[index]

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Write an attribute: it is on disk before it is answered."""
        try:
            setup = changed(self._setup, attribute, data)
        except AxdrError:
            return DataAccessResult.TYPE_UNMATCHED
        if attribute == _DESTINATION and not self._allowed(setup.destination.host):
            log.warn("{meter}: push to {host} is not allowed", meter=self._meter, host=setup.destination.host)
            return DataAccessResult.READ_WRITE_DENIED
        try:
            if self._way.keeper is not None:
                self._way.keeper.keep(self._meter, self._file, msgspec.msgpack.encode(setup))
        except LocalError as error:
            log.warn("{meter}: push setup: {error}", meter=self._meter, error=str(error))
            return DataAccessResult.TEMPORARY_FAILURE
        self._setup = setup
        return DataAccessResult.SUCCESS

    def _allowed(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False  # a name could be made to mean another address
        return any(address in network for network in self._settings.allowed)

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult:
        """Push now."""
        del method, data, client
        return ActionResult.SUCCESS if self.push() else ActionResult.OTHER_REASON

    def push(self) -> bool:
        """Send a notification of the objects as they now are; False if the client cannot have one."""
        client = self._way.server.clients.get(self._settings.client)
        if client is None:
            return False
        now = int(self._way.reactor.seconds() * 1000)
        view = self._device.schema.view(client.role, client.scope)
        shown = [
            self._value(view, attribute_key(each.class_id, each.logical_name, each.attribute))
            for each in self._setup.objects
        ]
        letters = self._way.letters
        if self._settings.name != ALARM_SETUP_LN or letters is None:
            self._invoke = self._invoke % _INVOKE_IDS + 1
            return self._send(client, self._invoke, now, shown, None)
        try:
            number = letters.post(self._meter, msgspec.msgpack.encode(_Contents(now, shown)))
        except LocalError as error:
            log.warn("{meter}: alarm is not kept: {error}", meter=self._meter, error=str(error))
            return False
        return self._send(client, number, now, shown, partial(self._delivered, letters, number))

    def _resume(self) -> None:
        """Send what the end of flexmap kept from being delivered."""
        client = self._way.server.clients.get(self._settings.client)
        letters = self._way.letters
        if client is None or letters is None:
            return
        try:
            waiting = letters.letters(self._meter)
        except LocalError as error:
            log.warn("{meter}: alarms: {error}", meter=self._meter, error=str(error))
            return
        for number, octets in waiting:
            try:
                contents = msgspec.msgpack.decode(octets, type=_Contents)
            except msgspec.DecodeError as error:
                log.warn("{meter}: alarm {number}: {error}", meter=self._meter, number=number, error=str(error))
                continue
            self._send(client, number, contents.time, contents.values, partial(self._delivered, letters, number))

    def _delivered(self, letters: Letters, number: int) -> None:
        try:
            letters.delivered(number)
        except LocalError as error:
            log.warn("{meter}: alarm is delivered, but stays: {error}", meter=self._meter, error=str(error))

    def _send(
        self,
        client: ClientProfile,
        number: int,
        time: int,
        shown: list[bytes],
        delivered: Callable[[], None] | None,
    ) -> bool:
        setup, invoke = self._setup, number & _INVOKE_IDS
        flags = CONFIRMED if setup.confirmed else 0
        try:
            apdu = self._protected(client, data_notification(invoke | flags, time, shown))
        except LocalError as error:
            log.warn("{meter}: push: {error}", meter=self._meter, error=str(error))
            return False
        opened = partial(self._opened, client)
        self._way.post.put(
            Letter(apdu, self._device.sap, client.sap, invoke, setup, opened, self._note_confirmation, delivered)
        )
        return True

    def _note_confirmation(self) -> None:
        self._confirmed_at = int(self._way.reactor.seconds() * 1000)

    def _value(self, view: View, key: bytes) -> bytes:
        """Return what the client may read, null-data if there is none; of attribute 0 the whole object."""
        if not key[8]:
            count = self._device.schema.attribute_count(key)
            keys = [key[:8] + bytes((index,)) for index in range(1, count + 1)]
            return axdr.structure(*(self._value(view, each) for each in keys)) if keys else axdr.NULL
        found: Any = view.readable.get(key)
        if isinstance(found, int):
            found = self._device.values[found]
            if callable(found):
                found = found()
        return found if isinstance(found, bytes) and not view.guards.get(key) else axdr.NULL

    def _protected(self, client: ClientProfile, apdu: bytes) -> bytes:
        policy = client.policy | client.response_policy
        if policy & SIGNED:
            raise LocalError(f"client '{client.name}' takes signed messages alone, notifications are not signed")
        control = policy & AUTHENTICATED_ENCRYPTED
        if not control or client.keys is None:
            return apdu
        return general_glo(self._way.server.ciphering(client.keys), control | AUTHENTICATED, apdu)

    def _opened(self, client: ClientProfile, apdu: bytes) -> bytes:
        """Return the plain APDU of a head-end's answer, which must be protected as its requests are."""
        required = client.policy & AUTHENTICATED_ENCRYPTED
        if apdu[:1] != bytes((Tag.GENERAL_GLO_CIPHERING,)) or client.keys is None:
            if required:
                raise SecurityError("the head-end's answer is not protected")
            return apdu
        title, at = axdr.take_octet_string(apdu, 1)
        if title == self._way.server.title or client.system_title not in (None, title):
            raise SecurityError("the head-end's answer has another system title")
        body, _ = axdr.take_octet_string(apdu, at)
        ciphering = self._way.server.ciphering(client.keys)
        return ciphering.unprotect(title, body, required | AUTHENTICATED)[1]
