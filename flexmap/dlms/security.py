"""Ciphering of all suites: AES-GCM with a 12-octet tag (IEC 62056-5-3 clause 5).

A ciphered APDU's body is: security control (1), invocation counter (4), cipher text, tag (12, when authenticated).
The nonce is the sender's system title and the counter, so a counter must never come twice under one key: counters
are reserved ahead from a :class:`CounterStore` that the shell persists, and a received counter must rise.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from typing import Protocol

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from flexmap.dlms.suite import SUITES
from flexmap.model.error import ConfigurationError, LocalError, RemoteError

AUTHENTICATED = 0x10
ENCRYPTED = 0x20
AUTHENTICATED_ENCRYPTED = 0x30
"""Bits of security control: what protects an APDU."""
SIGNED = 0x100
"""The APDU is in a general-signing APDU: no bit of security control, but used along with them."""
BROADCAST_KEY = 0x40
"""Bit of security control: the global broadcast encryption key, not the unicast one."""
COMPRESSED = 0x80
"""Bit of security control: the plain text was compressed (ITU-T V.44). It is refused."""
_KEY_SET = 0xCF
"""Bits of security control for compression, key and suite."""

TAG_OCTETS = 12
OVERHEAD = 5 + TAG_OCTETS
"""Octets that protection adds to an APDU, without tag and length of the ciphered APDU."""

_RESERVE = 1024
_RECORD_EVERY = 64
_MOST_PEERS = 1024
_MOST_DEDICATED = 256
_COUNTERS_END = 1 << 32


class SecurityError(RemoteError):
    """A peer's APDU fails its protection."""


class CounterError(SecurityError):
    """A peer's invocation counter did not rise."""

    def __init__(self, received: int, last: int) -> None:
        super().__init__(f"invocation counter {received} is not above {last}")
        self.lowest = min(last + 1, _COUNTERS_END - 1)
        """Lowest counter that would be accepted."""


class Keys(msgspec.Struct, frozen=True):
    """The symmetric keys of a suite: 16 octets each in suites 0 and 1, 32 in suite 2."""

    guek: bytes
    """Global unicast encryption key (or the key that takes its place: dedicated, wrapped, agreed)."""
    gak: bytes
    """Global authentication key."""
    suite: int = 0
    gbek: bytes = b""
    """Global broadcast encryption key; empty if there is none."""
    kek: bytes = b""
    """Master key, which wraps the others; empty if there is none."""

    def __post_init__(self) -> None:
        """Refuse keys of another length."""
        octets = SUITES[self.suite].key_octets
        lengths = {len(self.guek), len(self.gak), len(self.gbek) or octets, len(self.kek) or octets}
        if lengths != {octets}:
            what = f"a suite {self.suite} key has {octets} octets"
            raise ConfigurationError(what, remedy=f"give {2 * octets} hexadecimal digits")

    def __repr__(self) -> str:
        """Never show a key."""
        return f"Keys({self.id})"

    @property
    def id(self) -> str:
        """Name of the unicast key in a counter store; tells nothing about the key."""
        return key_id(self.guek)


def key_id(key: bytes) -> str:
    """Return the name of a key in counter stores, and its fingerprint; tells nothing about the key."""
    return hashlib.sha256(b"flexmap key id" + key).hexdigest()[:16]


class CounterStore(Protocol):
    """Where invocation counters outlive the process. ``key`` is the :func:`key_id` of a key."""

    def reserve(self, key: str, title: bytes, count: int) -> int:
        """Durably reserve ``count`` counters to send with under that key and own system title; return the first.

        The first one ever is 1.
        """

    def last_received(self, key: str, title: bytes) -> int:
        """Return the highest counter recorded of that peer under that key, 0 if none."""

    def record_received(self, key: str, title: bytes, counter: int) -> None:
        """Durably record the highest counter received of that peer."""


class MemoryCounterStore:
    """A counter store that forgets with the process: for tests and for keys that live as short."""

    def __init__(self, first: int = 1) -> None:
        self._first = first
        self._sent: dict[tuple[str, bytes], int] = {}
        self._received: dict[tuple[str, bytes], int] = {}

    def reserve(self, key: str, title: bytes, count: int) -> int:
        """Reserve counters; see :class:`CounterStore`."""
        first = self._sent.get((key, title), self._first)
        self._sent[key, title] = first + count
        return first

    def last_received(self, key: str, title: bytes) -> int:
        """Return the highest counter of a peer; see :class:`CounterStore`."""
        return self._received.get((key, title), 0)

    def record_received(self, key: str, title: bytes, counter: int) -> None:
        """Record the highest counter of a peer; see :class:`CounterStore`."""
        self._received[key, title] = counter


class ShortLivedCounterStore(MemoryCounterStore):
    """Counters of a key made for one association or message: they begin anew, and a peer's may begin with 0."""

    def last_received(self, key: str, title: bytes) -> int:
        """Return the highest counter of a peer, −1 if none."""
        return self._received.get((key, title), -1)


class _Peer:
    """Highest counter received of one peer, and the highest that is recorded durably."""

    __slots__ = ("last", "recorded")

    def __init__(self, recorded: int) -> None:
        self.last = self.recorded = recorded


class Ciphering:
    """One pair of keys in the hands of one side; shared by all its associations under these keys.

    Received counters are held per peer system title. They are recorded durably when an association opens and
    every 64th time after that, so a recorded session cannot be replayed to a restarted server: its AARQ is
    refused.
    """

    __slots__ = (
        *("_aad", "_aes", "_counters", "_dedicated", "_gak", "_general_aad", "_general_set"),
        *("_key", "_key_set", "_limit", "_next", "_peers"),
        "title",
    )

    def __init__(self, keys: Keys, title: bytes, counters: CounterStore, *, broadcast: bool = False) -> None:
        if len(title) != 8:
            raise ConfigurationError("a system title has 8 octets", remedy="give 16 hexadecimal digits")
        self.title = title
        self._key_set = keys.suite | (BROADCAST_KEY if broadcast else 0)
        """Bits of security control that say which suite and key."""
        key = keys.gbek if broadcast else keys.guek
        self._aes = AESGCM(key)
        self._aad = {control: bytes((control | self._key_set,)) + keys.gak for control in (0x10, 0x30)}
        # general-ciphering names the key itself and leaves that bit 0.
        self._general_set = keys.suite
        self._general_aad = {control: bytes((control | keys.suite,)) + keys.gak for control in (0x10, 0x30)}
        self._key = key_id(key)
        self._gak = keys.gak
        self._counters = counters
        self._next = self._limit = 0
        self._peers: dict[bytes, _Peer] = {}
        self._dedicated: OrderedDict[str, Ciphering] = OrderedDict()

    def dedicate(self, key: bytes) -> Ciphering:
        """Return the ciphering with a key that was made for one association.

        Clients may use one for all associations instead: a nonce must not come twice then, nor a request.
        """
        name = key_id(key)
        found = self._dedicated.pop(name, None)
        if found is None:
            keys = Keys(key, self._gak, self._key_set & 0x0F)
            found = _DedicatedCiphering(keys, self.title, ShortLivedCounterStore(), self)
        self._dedicated[name] = found
        if len(self._dedicated) > _MOST_DEDICATED:
            self._dedicated.popitem(last=False)
        return found

    # --- sending

    def _take_counter(self) -> bytes:
        counter = self._next
        if counter >= self._limit:
            counter = self._counters.reserve(self._key, self.title, _RESERVE)
            self._limit = min(counter + _RESERVE, _COUNTERS_END)
            if counter >= _COUNTERS_END:
                raise LocalError("invocation counters are used up: change the global unicast encryption key")
        self._next = counter + 1
        return counter.to_bytes(4, "big")

    def protect(self, control: int, plain: bytes, header: bytes = b"") -> bytes:
        """Return the body that carries ``plain`` under AUTHENTICATED, ENCRYPTED or both; uses up one counter.

        ``header``: further octets that the tag covers (general-ciphering).
        """
        counter = self._take_counter()
        nonce = self.title + counter
        head = bytes((control | (self._general_set if header else self._key_set),)) + counter
        aad = self._general_aad if header else self._aad
        if control == AUTHENTICATED_ENCRYPTED:
            return head + self._aes.encrypt(nonce, plain, aad[0x30] + header)[:-4]
        if control == AUTHENTICATED:
            tag = self._aes.encrypt(nonce, b"", aad[0x10] + header + plain)[:TAG_OCTETS]
            return head + plain + tag
        if control == ENCRYPTED:
            return head + self._aes.encrypt(nonce, plain, None)[:-16]
        raise LocalError(f"security control {control:#04x} protects nothing")

    # --- receiving

    def unprotect(self, peer: bytes, body: bytes, required: int = 0, header: bytes = b"") -> tuple[int, bytes]:
        """Return the protection and the plain APDU of a body that the peer with that system title sent.

        ``header`` as in :meth:`protect`. Raises SecurityError where the protection is less than ``required``, of
        another suite or key, or does not verify; CounterError where the counter did not rise. Nothing changes
        then.
        """
        if len(body) < 5:
            raise SecurityError(f"ciphered body of {len(body)} octets")
        control = body[0]
        if control & required != required:
            raise SecurityError(f"security control {control:#04x}, at least {required:#04x} required")
        if control & _KEY_SET != (self._general_set if header else self._key_set):
            what = "compression" if control & COMPRESSED else "another suite or key"
            raise SecurityError(f"security control {control:#04x}: {what}")
        control &= AUTHENTICATED_ENCRYPTED
        octets = body[1:5]
        counter = int.from_bytes(octets, "big")
        state = self._peers.get(peer) or _Peer(self._counters.last_received(self._key, peer))
        if counter <= state.last:
            raise CounterError(counter, state.last)
        plain = self._open(control, peer + octets, body[5:], header)
        if peer not in self._peers:
            self._hold(peer, state)
        state.last = counter
        if counter - state.recorded >= _RECORD_EVERY:
            self.record(peer)
        return control, plain

    def _hold(self, peer: bytes, state: _Peer) -> None:
        """Hold one more peer in memory; the one held longest makes room, once its counter is recorded."""
        if len(self._peers) >= _MOST_PEERS:
            oldest = next(iter(self._peers))
            self.record(oldest)
            del self._peers[oldest]
        self._peers[peer] = state

    def _open(self, control: int, nonce: bytes, text: bytes, header: bytes) -> bytes:
        # GCM is its own inverse but for the tag, and AESGCM knows no 12-octet tags: encrypting the cipher text
        # gives the plain text, encrypting that gives the tag. Twice as fast as a fresh Cipher each time.
        if control == AUTHENTICATED_ENCRYPTED:
            if len(text) < TAG_OCTETS:
                raise SecurityError("tag is missing")
            encrypt = self._aes.encrypt
            plain = encrypt(nonce, text[:-TAG_OCTETS], None)[:-16]
            aad = self._general_aad if header else self._aad
            expected = encrypt(nonce, plain, aad[0x30] + header)[-16:-4]
            if not hmac.compare_digest(expected, text[-TAG_OCTETS:]):
                raise SecurityError("authentication tag is wrong")
            return plain
        if control == AUTHENTICATED:
            plain = text[:-TAG_OCTETS]
            aad = self._general_aad if header else self._aad
            expected = self._aes.encrypt(nonce, b"", aad[0x10] + header + plain)[:TAG_OCTETS]
            if not hmac.compare_digest(expected, text[-TAG_OCTETS:]):
                raise SecurityError("authentication tag is wrong")
            return plain
        if control == ENCRYPTED:
            return self._aes.encrypt(nonce, text, None)[:-16]
        raise SecurityError(f"security control {control:#04x} protects nothing")

    def last_received(self, peer: bytes) -> int:
        """Return the highest counter accepted of that peer, 0 if none."""
        state = self._peers.get(peer)
        return self._counters.last_received(self._key, peer) if state is None else state.last

    def record(self, peer: bytes) -> None:
        """Make the peer's highest counter durable."""
        state = self._peers.get(peer)
        if state is not None and state.last > state.recorded:
            self._counters.record_received(self._key, peer, state.last)
            state.recorded = state.last

    def record_all(self) -> None:
        """Make the highest counters of all peers durable."""
        for peer in self._peers:
            self.record(peer)

    # --- HLS with GMAC (IEC 62056-5-3 clause 5.3.3)

    def answer_challenge(self, challenge: bytes) -> bytes:
        """Return f(challenge): control, counter and tag of the peer's challenge; uses up one counter."""
        body = self.protect(AUTHENTICATED, challenge)
        return body[:5] + body[-TAG_OCTETS:]

    def check_answer(self, peer: bytes, challenge: bytes, answer: bytes) -> bool:
        """Tell whether ``answer`` is the peer's f(challenge); our challenge is fresh, so it is no replay."""
        if len(answer) != OVERHEAD or answer[0] != AUTHENTICATED | self._key_set:
            return False
        expected = self._aes.encrypt(peer + answer[1:5], b"", self._aad[0x10] + challenge)[:TAG_OCTETS]
        return hmac.compare_digest(expected, answer[5:])


class _DedicatedCiphering(Ciphering):
    """Ciphering with a dedicated key; what it sends has the counters of the global key, which never come twice."""

    __slots__ = ("_parent",)

    def __init__(self, keys: Keys, title: bytes, counters: CounterStore, parent: Ciphering) -> None:
        super().__init__(keys, title, counters)
        self._parent = parent

    def _take_counter(self) -> bytes:
        return self._parent._take_counter()  # noqa: SLF001 (of its own kind)
