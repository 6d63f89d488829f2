"""What protects the APDUs of one association, layer by layer (IEC 62056-5-3 clause 5.7).

A request can have one layer that ciphers it (service-specific or general, with global, dedicated, wrapped or
agreed key) and one that signs it, either around the other. Its response gets the same layers, and what the
response policy asks for beyond them.

A message under a wrapped or agreed key, or only signed, has no invocation counter that would show a replay: its
transaction-id must rise instead, for each client, over restarts too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from flexmap.dlms import general
from flexmap.dlms import suite as suites
from flexmap.dlms.apdu import Tag
from flexmap.dlms.axdr import encode_length, take_octet_string
from flexmap.dlms.general import Header, KeyChoice, KeyInfo, Scheme
from flexmap.dlms.identity import Use
from flexmap.dlms.profile import ClientProfile
from flexmap.dlms.security import (
    AUTHENTICATED,
    AUTHENTICATED_ENCRYPTED,
    BROADCAST_KEY,
    OVERHEAD,
    SIGNED,
    Ciphering,
    CounterStore,
    Keys,
    SecurityError,
    ShortLivedCounterStore,
    key_id,
)
from flexmap.dlms.setup import Setups
from flexmap.dlms.suite import SUITES, Suite

_SERVICES = (0x01, 0x05, 0x06, 0x08, 0x0C, 0x0D, 0x0E, 0x16, 0x18)
_LN_SERVICES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC7)
GLOBAL = {tag + 0x20: tag for tag in _SERVICES} | {tag + 0x08: tag for tag in _LN_SERVICES}
"""Tag of an APDU ciphered with the global key → tag of what it must carry."""
DEDICATED = {tag + 0x40: tag for tag in _SERVICES} | {tag + 0x10: tag for tag in _LN_SERVICES}
"""The same with the dedicated key."""
GLOBAL_TAGS = {plain: ciphered for ciphered, plain in GLOBAL.items()}
DEDICATED_TAGS = {plain: ciphered for ciphered, plain in DEDICATED.items()}
_GLOBAL_TAG = {plain: bytes((ciphered,)) for plain, ciphered in GLOBAL_TAGS.items()}
_DEDICATED_TAG = {plain: bytes((ciphered,)) for plain, ciphered in DEDICATED_TAGS.items()}
_LAST_TRANSACTION = (1 << 63) - 1
SERVICE_ROOM = 4 + OVERHEAD
"""Octets that a service-specific layer adds, at most."""


class Layer(Protocol):
    """What one layer of a response is made with."""

    room: int
    """Octets that it adds, at most."""

    def wrap(self, response: bytes) -> bytes:
        """Return the response within this layer."""


class CipheredLayer:
    """A ciphered tag of the service's own, glo- or ded-; or general-glo- or general-ded-ciphering.

    The general form takes the place of the other where ``general`` says so or a response has no ciphered tag.
    """

    __slots__ = ("_control", "_general", "_protect", "_tags", "room")

    def __init__(
        self, ciphering: Ciphering, control: int, *, dedicated: bool = False, general: bool = False
    ) -> None:
        tag = Tag.GENERAL_DED_CIPHERING if dedicated else Tag.GENERAL_GLO_CIPHERING
        self._general = bytes((tag, len(ciphering.title))) + ciphering.title
        self._protect = ciphering.protect
        self._control = control
        self._tags = {} if general else _DEDICATED_TAG if dedicated else _GLOBAL_TAG
        self.room = SERVICE_ROOM + len(self._general) - 1

    def wrap(self, response: bytes) -> bytes:
        """Return the ciphered response."""
        body = self._protect(self._control, response)
        return self._tags.get(response[0], self._general) + encode_length(len(body)) + body


class _KeyedLayer:
    """general-ciphering."""

    def __init__(self, header: Header, key: KeyInfo, ciphering: Ciphering, control: int) -> None:
        self._header = header
        self._key = key
        self._ciphering = ciphering
        self._control = control
        self.room = SERVICE_ROOM + len(header.encode()) + len(key.encode())

    def wrap(self, response: bytes) -> bytes:
        body = self._ciphering.protect(self._control, response, self._header.encode())
        return general.encode_ciphering(self._header, self._key, body)


class _SigningLayer:
    """general-signing."""

    def __init__(self, header: Header, suite: Suite, private: bytes) -> None:
        self._header = header
        self._suite = suite
        self._private = private
        self.room = 8 + len(header.encode()) + 2 * suite.coordinate

    def wrap(self, response: bytes) -> bytes:
        signature = suites.sign(self._suite, self._private, general.signed_part(self._header, response))
        return general.encode_signing(self._header, response, signature)


class Opened(NamedTuple):
    """A request without its layers."""

    applied: int
    """Protection that it had: bits of security control, and SIGNED."""
    plain: bytes
    layers: tuple[Layer, ...]
    """What its response gets, outermost first."""
    broadcast: bool = False
    """It was under the broadcast key: whoever holds that one can have sent it, and no response is due."""

    def wrap(self, response: bytes) -> bytes:
        """Return the response in its layers; an exception response goes out plain."""
        if response[0] != Tag.EXCEPTION_RESPONSE:
            for layer in reversed(self.layers):
                response = layer.wrap(response)
        return response


class _Peeled(NamedTuple):
    """A request without one layer."""

    applied: int
    plain: bytes
    layer: Layer | None
    transaction: tuple[bytes, bytes] | None
    """Key and transaction-id, which must rise under it; ``None`` where an invocation counter has."""
    broadcast: bool = False


class Shared(msgspec.Struct, frozen=True):
    """What all associations of a server have in common."""

    title: bytes
    """The server's system title."""
    ciphering: Callable[[Keys, bool], Ciphering]
    """Gives the one ciphering of keys: under the unicast key or, if true, the broadcast key."""
    counters: CounterStore
    setups: Setups
    """Security setups of all clients, and the server's key pairs."""
    random: Callable[[int], bytes]
    lookup: Callable[[int], ClientProfile | None]
    """Gives the client of a SAP as it now is."""
    layers: dict[tuple[int, int], CipheredLayer] = {}
    """What responses under global keys get, by ciphering and security control: the same for all associations."""


class Protection:
    """The keys of one association on the server's side."""

    __slots__ = (
        "_counters",
        "_layers",
        "_make",
        "_random",
        "_server_title",
        "_setups",
        "_suite",
        "broadcast",
        "ciphering",
        "client",
        "dedicated",
        "record_each",
        "title",
        "verified",
    )

    def __init__(self, client: ClientProfile, title: bytes, shared: Shared) -> None:
        self.title = title
        """The client's system title."""
        self.dedicated: Ciphering | None = None
        self.record_each = False
        """Each counter is made durable before its request is answered: a restart would let it in again."""
        self.verified = False
        """A request has been verified where ``record_each``."""
        self._server_title = shared.title
        self._make = shared.ciphering
        self._setups = shared.setups
        self._counters = shared.counters
        self._random = shared.random
        self._layers = shared.layers
        self._suite = SUITES[client.suite]
        self.use(client)

    def common_layer(self, control: int) -> CipheredLayer:
        """Return what responses under the global key get that answer requests of that security control."""
        return self._layer(self._cipher(dedicated=False), self._answered(control))

    def _layer(self, ciphering: Ciphering, control: int) -> CipheredLayer:
        key = (id(ciphering), control)
        layer = self._layers.get(key)
        if layer is None:
            layer = self._layers[key] = CipheredLayer(ciphering, control)
        return layer

    def use(self, client: ClientProfile) -> None:
        """Take the keys of the client as it now is."""
        self.client = client
        self.ciphering = None if client.keys is None else self._make(client.keys, False)
        """Under the global unicast key."""
        self.broadcast = self._make(client.keys, True) if client.keys is not None and client.keys.gbek else None
        """Under the global broadcast key."""

    def dedicate(self, key: bytes) -> None:
        """Take a dedicated key; raises SecurityError if it is not of the suite."""
        keys = self.client.keys
        if self.ciphering is None or keys is None or len(key) != self._suite.key_octets:
            raise SecurityError("dedicated key does not fit the security suite")
        if key in (keys.guek, keys.gak, keys.gbek, keys.kek):
            raise SecurityError("dedicated key is another key of the client")
        self.dedicated = self.ciphering.dedicate(key)

    def record(self) -> None:
        """Make the client's highest counter durable."""
        for ciphering in (self.ciphering, self.broadcast):
            if ciphering is not None:
                ciphering.record(self.title)

    def unasked(self, control: int) -> Opened:
        """Return what protects a message that answers no request; ``control``: its least protection."""
        control |= self.client.response_policy & AUTHENTICATED_ENCRYPTED
        layers: list[Layer] = []
        if control & AUTHENTICATED_ENCRYPTED:
            ciphering = self._cipher(dedicated=self.dedicated is not None)
            control |= AUTHENTICATED
            layers.append(CipheredLayer(ciphering, control, dedicated=self.dedicated is not None))
        return Opened(control, b"", self._complete(control, layers))

    # --- requests

    def open(self, apdu: bytes, required: int) -> Opened:
        """Return a request without its layers.

        Raises SecurityError (CounterError) where a layer does not verify or all of them are less than
        ``required``, AxdrError where one is malformed. Nothing changes then but counters of layers that verified.
        """
        applied = 0
        broadcast = False
        layers: list[Layer] = []
        transactions: list[tuple[bytes, bytes]] = []
        counted = False
        while apdu and (peel := self._peeler(apdu[0])) is not None:
            peeled = peel(apdu, required)
            if applied & peeled.applied:
                raise SecurityError("two layers of the same kind")
            applied |= peeled.applied
            broadcast = broadcast or peeled.broadcast
            counted = counted or peeled.transaction is None
            if peeled.transaction is not None:
                transactions.append(peeled.transaction)
            if peeled.layer is not None:
                layers.append(peeled.layer)
            apdu = peeled.plain
        if applied & required != required:
            raise SecurityError(f"protection {applied:#05x}, at least {required:#05x} required")
        if transactions and not counted:
            self._take_transactions(transactions)
        if applied and self.record_each:
            self.record()
            self.verified = self.verified or not broadcast
        return Opened(applied, apdu, self._complete(applied, layers), broadcast)

    def _peeler(self, tag: int) -> Callable[[bytes, int], _Peeled] | None:
        if tag in GLOBAL or tag in DEDICATED:
            return self._service
        if tag in (Tag.GENERAL_GLO_CIPHERING, Tag.GENERAL_DED_CIPHERING):
            return self._general
        if tag == Tag.GENERAL_CIPHERING:
            return self._keyed
        return self._signed if tag == Tag.GENERAL_SIGNING else None

    def _cipher(self, *, dedicated: bool) -> Ciphering:
        ciphering = self.dedicated if dedicated else self.ciphering
        if ciphering is None:
            raise SecurityError("no such key")
        return ciphering

    def _of(self, body: bytes, *, dedicated: bool) -> tuple[Ciphering, bool]:
        """Return the ciphering of a body, and whether it is that of the broadcast key."""
        if not dedicated and self.broadcast is not None and body[:1] and body[0] & BROADCAST_KEY:
            return self.broadcast, True
        return self._cipher(dedicated=dedicated), False

    def _body(self, ciphering: Ciphering, body: bytes, required: int, header: bytes = b"") -> tuple[int, bytes]:
        # Without a tag anybody could use up the counters of a client, or alter what it sends.
        least = required & AUTHENTICATED_ENCRYPTED | AUTHENTICATED
        return ciphering.unprotect(self.title, body, least, header)

    def _answered(self, control: int) -> int:
        return control | self.client.response_policy & AUTHENTICATED_ENCRYPTED

    def _service(self, apdu: bytes, required: int) -> _Peeled:
        dedicated = apdu[0] in DEDICATED
        body, end = take_octet_string(apdu, 1)
        _at_end(apdu, end)
        ciphering, broadcast = self._of(body, dedicated=dedicated)
        control, plain = self._body(ciphering, body, required)
        if plain[:1] != bytes(((DEDICATED if dedicated else GLOBAL)[apdu[0]],)):
            raise SecurityError("a ciphered APDU carries another service than its tag says")
        layer = CipheredLayer(ciphering, self._answered(control), dedicated=dedicated)
        return _Peeled(control, plain, layer, None, broadcast)

    def _general(self, apdu: bytes, required: int) -> _Peeled:
        sender, at = take_octet_string(apdu, 1)
        if sender not in (self.title, b""):
            raise SecurityError("system title is not the association's")
        body, end = take_octet_string(apdu, at)
        _at_end(apdu, end)
        dedicated = apdu[0] == Tag.GENERAL_DED_CIPHERING
        ciphering, broadcast = self._of(body, dedicated=dedicated)
        control, plain = self._body(ciphering, body, required)
        layer = CipheredLayer(ciphering, self._answered(control), dedicated=dedicated, general=True)
        return _Peeled(control, plain, layer, None, broadcast)

    def _parties(self, header: Header) -> Header:
        """Return the header of the response; raises SecurityError if the request's is not between us two."""
        if header.originator != self.title or header.recipient != self._server_title:
            raise SecurityError("originator or recipient is not of this association")
        return Header(header.transaction, self._server_title, self.title)

    # --- general-ciphering

    def _keyed(self, apdu: bytes, required: int) -> _Peeled:
        request = general.decode_ciphering(apdu)
        header = self._parties(request.header)
        key = request.key or KeyInfo(KeyChoice.IDENTIFIED)
        if key.choice == KeyChoice.IDENTIFIED:
            return self._identified(request, header, key, required)
        fresh = key.choice == KeyChoice.WRAPPED
        secret = self._unwrapped(key) if fresh else self._agreed(request.header, key)
        shown = self._shown(key)
        control, plain = self._body(self._short(secret), request.content, required, request.octets)
        # Only now: ephemeral keys are for those who have shown that they hold one.
        answer, answer_key = self._wrapped() if fresh else self._agree(header, key)
        layer = _KeyedLayer(header, answer, self._short(answer_key), self._answered(control))
        return _Peeled(control, plain, layer, (shown, header.transaction))

    def _shown(self, key: KeyInfo) -> bytes:
        """Return the client's lasting key that a message under a fresh one shows."""
        if key.choice == KeyChoice.WRAPPED:
            return self._kek()
        return self._public(Use.AGREEMENT if key.id == Scheme.STATIC else Use.SIGNING)

    def _identified(
        self, request: general.GeneralCiphering, header: Header, key: KeyInfo, required: int
    ) -> _Peeled:
        ciphering = self._cipher(dedicated=False)
        if key.id != 0:
            # Whoever holds the broadcast key, any meter, could pass for the client.
            raise SecurityError("the broadcast key is not for requests that are answered")
        control, plain = self._body(ciphering, request.content, required, request.octets)
        return _Peeled(control, plain, _KeyedLayer(header, key, ciphering, self._answered(control)), None)

    def _short(self, secret: bytes) -> Ciphering:
        """Return the ciphering of a key made for one message."""
        keys = self.client.keys
        if keys is None:
            raise SecurityError("there is no authentication key")
        short = Keys(secret, keys.gak, self._suite.id)
        return Ciphering(short, self._server_title, ShortLivedCounterStore(first=0))

    def _kek(self) -> bytes:
        keys = self.client.keys
        if keys is None or not keys.kek:
            raise SecurityError("there is no master key")
        return keys.kek

    def _unwrapped(self, key: KeyInfo) -> bytes:
        if key.id != 0:
            raise SecurityError(f"key {key.id} is not the master key")
        return _or_refuse(lambda: suites.unwrap(self._kek(), key.data, self._suite.key_octets))

    def _wrapped(self) -> tuple[KeyInfo, bytes]:
        secret = self._random(self._suite.key_octets)
        return KeyInfo(KeyChoice.WRAPPED, 0, suites.wrap(self._kek(), secret)), secret

    def _private(self, use: Use) -> bytes:
        private = self._setups.identity.keys.get((use, self._suite.id))
        if private is None:
            raise SecurityError(f"the server has no {use.name.lower()} key of suite {self._suite.id}")
        return private

    def _public(self, use: Use) -> bytes:
        return self._setups.public_key(self.client, use)

    def _agreed(self, header: Header, key: KeyInfo) -> bytes:
        """Return the key that a request's key-info stands for: we are party V."""
        private = self._private(Use.AGREEMENT)
        signing, static = self._public(Use.SIGNING), self._public(Use.AGREEMENT)
        if key.id == Scheme.STATIC and not key.data:
            nonce = encode_length(len(header.transaction)) + header.transaction
            info = header.originator + nonce + header.recipient
            return _or_refuse(lambda: suites.agree(self._suite, private, static, info))
        half = 2 * self._suite.coordinate
        ephemeral, signature = key.data[:half], key.data[half:]
        if key.id != Scheme.ONE_PASS or not suites.verify(self._suite, signing, signature, ephemeral):
            raise SecurityError("agreed key: unknown scheme, or the ephemeral key is not signed by the client")
        self._private(Use.SIGNING)  # the answer needs it
        info = header.originator + header.recipient
        return _or_refuse(lambda: suites.agree(self._suite, private, ephemeral, info))

    def _agree(self, header: Header, key: KeyInfo) -> tuple[KeyInfo, bytes]:
        """Return key-info and key of a response: we are party U."""
        suite, static = self._suite, self._public(Use.AGREEMENT)
        if key.id == Scheme.STATIC:
            nonce = encode_length(len(header.transaction)) + header.transaction
            info = header.originator + nonce + header.recipient
            return KeyInfo(KeyChoice.AGREED, Scheme.STATIC), suites.agree(
                suite, self._private(Use.AGREEMENT), static, info
            )
        ephemeral = suites.generate(suite, self._random)
        point = suites.public_of(suite, ephemeral)
        data = point + suites.sign(suite, self._private(Use.SIGNING), point)
        secret = suites.agree(suite, ephemeral, static, header.originator + header.recipient)
        return KeyInfo(KeyChoice.AGREED, Scheme.ONE_PASS, data), secret

    # --- general-signing

    def _signed(self, apdu: bytes, required: int) -> _Peeled:
        del required
        request = general.decode_signing(apdu)
        header = self._parties(request.header)
        point = self._public(Use.SIGNING)
        private = self._private(Use.SIGNING)
        if not suites.verify(self._suite, point, request.signature, request.signed):
            raise SecurityError("signature is wrong")
        layer = _SigningLayer(header, self._suite, private)
        return _Peeled(SIGNED, request.content, layer, (point, header.transaction))

    def _take_transactions(self, transactions: list[tuple[bytes, bytes]]) -> None:
        numbers = {f"transaction {key_id(key)}": int.from_bytes(octets, "big") for key, octets in transactions}
        for name, number in numbers.items():
            if not self._counters.last_received(name, self.title) < number <= _LAST_TRANSACTION:
                raise ReplayError(f"transaction-id {number} does not rise")
        for name, number in numbers.items():
            self._counters.record_received(name, self.title, number)

    # --- responses

    def _complete(self, applied: int, layers: list[Layer]) -> tuple[Layer, ...]:
        """Return the layers of a response, with those that the response policy asks for beyond the request's."""
        missing = self.client.response_policy & ~applied
        if missing & AUTHENTICATED_ENCRYPTED and not applied & AUTHENTICATED_ENCRYPTED:
            control = self.client.response_policy & AUTHENTICATED_ENCRYPTED | AUTHENTICATED
            layers.insert(0, CipheredLayer(self._cipher(dedicated=False), control))
        if missing & SIGNED:
            header = Header(bytes(8), self._server_title, self.title)
            layers.append(_SigningLayer(header, self._suite, self._private(Use.SIGNING)))
        return tuple(layers)


class ReplayError(SecurityError):
    """A transaction-id did not rise."""


def _or_refuse(derive: Callable[[], bytes]) -> bytes:
    try:
        return derive()
    except suites.KeyAgreementError as error:
        raise SecurityError(str(error)) from None


def _at_end(apdu: bytes, end: int) -> None:
    if end != len(apdu):
        raise SecurityError("octets behind the ciphered APDU")
