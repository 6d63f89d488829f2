"""What protects the APDUs of one association, layer by layer (IEC 62056-5-3 clause 5.7).

A request can have one layer that ciphers it (service-specific or general, with global, dedicated, wrapped or
agreed key) and one that signs it, either around the other. Its response gets the same layers, and what the
response policy asks for beyond them. Within the client's layers may stand those of a third party whose messages
the client passes on: signed, under an agreed key, or both.

A message under a wrapped or agreed key, or only signed, has no invocation counter that would show a replay: its
transaction-id must rise instead, for each client, over restarts too. A third party's must rise in any case:
whoever passes its messages on could do so twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from flexmap.dlms import general
from flexmap.dlms import suite as suites
from flexmap.dlms.apdu import Tag
from flexmap.dlms.axdr import encode_length, take_octet_string
from flexmap.dlms.general import Header, KeyChoice, KeyInfo, Scheme
from flexmap.dlms.identity import Use
from flexmap.dlms.layers import DEDICATED, GLOBAL, CipheredLayer, KeyedLayer, Layer, Opened, SigningLayer
from flexmap.dlms.profile import ClientProfile
from flexmap.dlms.security import (
    AUTHENTICATED,
    AUTHENTICATED_ENCRYPTED,
    BROADCAST_KEY,
    SIGNED,
    Ciphering,
    CounterStore,
    Keys,
    SecurityError,
    ShortLivedCounterStore,
    key_id,
)
from flexmap.dlms.setup import Setups
from flexmap.dlms.suite import SUITES

_LAST_TRANSACTION = (1 << 63) - 1
_BROADCAST = KeyInfo(KeyChoice.IDENTIFIED, 1)


class _Peeled(NamedTuple):
    """A request without one layer."""

    applied: int
    plain: bytes
    layer: Layer | None
    transaction: tuple[bytes, bytes] | None
    """Key and transaction-id, which must rise under it; ``None`` where an invocation counter has."""
    broadcast: bool = False
    third_party: bytes = b""
    """System title of the third party whose layer it is; empty: it is the client's."""


class _Stack:
    """The layers of a request, as they are taken off: the client's, then those of a third party."""

    def __init__(self) -> None:
        self.own = self.third = 0
        """Protection by the client and by the third party."""
        self.layers: list[Layer] = []
        self.third_layers: list[Layer] = []
        self.transactions: list[tuple[bytes, bytes, bytes]] = []
        """System title (empty: the client's), key and transaction-id."""
        self.third_transactions: list[tuple[bytes, bytes, bytes]] = []
        self.counted = self.broadcast = False
        self._third_party = b""

    def add(self, peeled: _Peeled) -> bytes:
        """Take one more layer and return what was in it; raises SecurityError where it may not stand."""
        of_third = bool(peeled.third_party)
        if peeled.third_party != self._third_party:
            if self._third_party:
                raise SecurityError("a layer within that of a third party is not of that one")
            self._third_party = peeled.third_party
        if (self.third if of_third else self.own) & peeled.applied:
            raise SecurityError("two layers of the same kind")
        if of_third:
            self.third |= peeled.applied
        else:
            self.own |= peeled.applied
            self.counted = self.counted or peeled.transaction is None
        self.broadcast = self.broadcast or peeled.broadcast
        if peeled.layer is not None:
            (self.third_layers if of_third else self.layers).append(peeled.layer)
        if peeled.transaction is not None:
            entry = (peeled.third_party, *peeled.transaction)
            (self.third_transactions if of_third else self.transactions).append(entry)
        return peeled.plain


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
        stack = _Stack()
        while apdu and (peel := self._peeler(apdu[0])) is not None:
            apdu = stack.add(peel(apdu, required))
        # A third party's signature is as good as the client's; its ciphering protects nothing on the client's way.
        enough = stack.own | stack.third & SIGNED
        if enough & required != required:
            raise SecurityError(f"protection {enough:#05x}, at least {required:#05x} required")
        self._take_transactions(stack)
        if stack.own and self.record_each:
            self.record()
            self.verified = self.verified or not stack.broadcast
        layers = (*self._complete(stack.own, stack.layers), *stack.third_layers)
        return Opened(stack.own | stack.third, apdu, layers, stack.broadcast, bool(stack.third))

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

    def _body(
        self, ciphering: Ciphering, body: bytes, required: int, header: bytes = b"", third_party: bytes = b""
    ) -> tuple[int, bytes]:
        # Without a tag anybody could use up the counters of a client, or alter what it sends.
        least = AUTHENTICATED if third_party else required & AUTHENTICATED_ENCRYPTED | AUTHENTICATED
        return ciphering.unprotect(third_party or self.title, body, least, header)

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

    def _parties(self, header: Header) -> tuple[Header, bytes]:
        """Return the header of the response, and the title of a third party that the request is of, else none.

        Raises SecurityError if the request is not to us, or of somebody whose messages the client may not pass on.
        """
        third_party = header.originator if header.originator in self.client.third_parties else b""
        known = header.originator == self.title or third_party
        if not known or header.recipient != self._server_title:
            raise SecurityError("originator or recipient is not of this association")
        return Header(header.transaction, self._server_title, header.originator), third_party

    # --- general-ciphering

    def _keyed(self, apdu: bytes, required: int) -> _Peeled:
        request = general.decode_ciphering(apdu)
        key = request.key or KeyInfo(KeyChoice.IDENTIFIED)
        if key == _BROADCAST:
            return self._to_all(request, required)
        header, third = self._parties(request.header)
        if third and key.choice != KeyChoice.AGREED:
            raise SecurityError("a third party has no key but those that are agreed on")
        if key.choice == KeyChoice.IDENTIFIED:
            return self._identified(request, header, key, required)
        fresh = key.choice == KeyChoice.WRAPPED
        secret = self._unwrapped(key) if fresh else self._agreed(request.header, key, third)
        shown = self._shown(key, third)
        control, plain = self._body(self._short(secret), request.content, required, request.octets, third)
        # Only now: ephemeral keys are for those who have shown that they hold one.
        answer, answer_key = self._wrapped() if fresh else self._agree(header, key, third)
        layer = KeyedLayer(header, answer, self._short(answer_key), control if third else self._answered(control))
        return _Peeled(control, plain, layer, (shown, header.transaction), third_party=third)

    def _shown(self, key: KeyInfo, third: bytes) -> bytes:
        """Return the originator's lasting key that a message under a fresh one shows."""
        if key.choice == KeyChoice.WRAPPED:
            return self._kek()
        return self._public(Use.AGREEMENT if key.id == Scheme.STATIC else Use.SIGNING, third)

    def _to_all(self, request: general.GeneralCiphering, required: int) -> _Peeled:
        """Open what is under the broadcast key; no recipient is named, or we are."""
        if self.broadcast is None:
            raise SecurityError("no such key")
        if request.header.originator != self.title or request.header.recipient not in (b"", self._server_title):
            raise SecurityError("originator or recipient is not of this association")
        control, plain = self._body(self.broadcast, request.content, required, request.octets)
        return _Peeled(control, plain, None, None, broadcast=True)

    def _identified(
        self, request: general.GeneralCiphering, header: Header, key: KeyInfo, required: int
    ) -> _Peeled:
        ciphering = self._cipher(dedicated=False)
        if key.id != 0:
            raise SecurityError(f"key-id {key.id} identifies no key")
        control, plain = self._body(ciphering, request.content, required, request.octets)
        return _Peeled(control, plain, KeyedLayer(header, key, ciphering, self._answered(control)), None)

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

    def _public(self, use: Use, third: bytes) -> bytes:
        """Return the public key of a third party, or without one the client's; raises SecurityError."""
        if third:
            return self._setups.third_party_key(third, self._suite.id, use)
        return self._setups.public_key(self.client, use)

    def _agreed(self, header: Header, key: KeyInfo, third: bytes) -> bytes:
        """Return the key that a request's key-info stands for: we are party V."""
        private = self._private(Use.AGREEMENT)
        signing, static = self._public(Use.SIGNING, third), self._public(Use.AGREEMENT, third)
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

    def _agree(self, header: Header, key: KeyInfo, third: bytes) -> tuple[KeyInfo, bytes]:
        """Return key-info and key of a response: we are party U."""
        suite, static = self._suite, self._public(Use.AGREEMENT, third)
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
        header, third = self._parties(request.header)
        point = self._public(Use.SIGNING, third)
        private = self._private(Use.SIGNING)
        if not suites.verify(self._suite, point, request.signature, request.signed):
            raise SecurityError("signature is wrong")
        layer = SigningLayer(header, self._suite, private)
        return _Peeled(SIGNED, request.content, layer, (point, header.transaction), third_party=third)

    def _take_transactions(self, stack: _Stack) -> None:
        """Take the transaction-ids of a third party, and the client's if no counter of its own has risen."""
        transactions = stack.third_transactions if stack.counted else stack.transactions + stack.third_transactions
        numbers = {
            (f"transaction {key_id(key)}", title or self.title): int.from_bytes(octets, "big")
            for title, key, octets in transactions
        }
        for (name, title), number in numbers.items():
            if not self._counters.last_received(name, title) < number <= _LAST_TRANSACTION:
                raise ReplayError(f"transaction-id {number} does not rise")
        for (name, title), number in numbers.items():
            self._counters.record_received(name, title, number)

    # --- responses

    def _complete(self, applied: int, layers: list[Layer]) -> tuple[Layer, ...]:
        """Return the layers of a response, with those that the response policy asks for beyond the request's."""
        missing = self.client.response_policy & ~applied
        if missing & AUTHENTICATED_ENCRYPTED and not applied & AUTHENTICATED_ENCRYPTED:
            control = self.client.response_policy & AUTHENTICATED_ENCRYPTED | AUTHENTICATED
            layers.insert(0, CipheredLayer(self._cipher(dedicated=False), control))
        if missing & SIGNED:
            header = Header(bytes(8), self._server_title, self.title)
            layers.append(SigningLayer(header, self._suite, self._private(Use.SIGNING)))
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
