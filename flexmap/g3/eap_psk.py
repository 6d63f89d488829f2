"""EAP-PSK (RFC 4764) as ITU-T G.9903 uses it: keys, the four messages of both sides, the protected channel.

On the line the EAP code travels shifted left by two bits (G.9903, commissioning; confidence A); keys and tags
are computed over the packet of the RFC, with the code as it is. Octets in, octets out: whoever holds a
:class:`Server` or a :class:`Peer` sends, waits and repeats.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.constant_time import bytes_eq

from flexmap.model.error import RemoteError

TYPE_EAP_PSK = 0x2F  # RFC 4764 clause 5, EAP type 47
EXT_CONFIGURATION = 0x02  # G.9903, commissioning: the extension that holds configuration parameters (A)
HEADER_SIZE = 22  # code, identifier, length 2, type, flags, RAND_S 16: what the tag covers (RFC 4764 clause 5.3)
KEY_SIZE = 16
CODE_SHIFT = 2
_FLAG_EXTENSION = 0x20


class Code(enum.IntEnum):
    """EAP code (RFC 3748 clause 4)."""

    REQUEST = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4


class Result(enum.IntEnum):
    """R of the protected channel (RFC 4764 clause 3.3.2)."""

    CONTINUE = 1
    DONE_SUCCESS = 2
    DONE_FAILURE = 3


class EapError(RemoteError):
    """A peer sent an EAP packet that does not parse or does not belong to this exchange."""


class AuthenticationError(EapError):
    """A MAC or a tag is wrong: the other side does not hold the key, or the message was changed."""


class Packet(msgspec.Struct, frozen=True):
    """An EAP packet: without a body (SUCCESS, FAILURE) or an EAP-PSK message."""

    code: Code
    identifier: int
    message: int = 0
    """T of EAP-PSK: 0 to 3 for messages 1 to 4."""
    rand_s: bytes = b""
    body: bytes = b""
    """What follows RAND_S."""

    def standard(self) -> bytes:
        """Return the packet as RFC 3748 and RFC 4764 frame it."""
        if self.code in (Code.SUCCESS, Code.FAILURE):
            return struct.pack(">BBH", self.code, self.identifier, 4)
        length = HEADER_SIZE + len(self.body)
        head = struct.pack(">BBHBB", self.code, self.identifier, length, TYPE_EAP_PSK, self.message << 6)
        return head + self.rand_s + self.body

    def wire(self) -> bytes:
        """Return the packet as G3 sends it: the code shifted left by two bits."""
        packet = self.standard()
        return bytes((packet[0] << CODE_SHIFT,)) + packet[1:]


def parse(wire: bytes) -> Packet:
    """Return the packet in G3's framing; raise :class:`EapError`."""
    if len(wire) < 4:
        raise EapError(f"EAP packet of {len(wire)} octets")
    shifted, identifier, length = struct.unpack_from(">BBH", wire)
    if shifted & 0x03 or not Code.REQUEST <= shifted >> CODE_SHIFT <= Code.FAILURE:
        raise EapError(f"EAP code octet 0x{shifted:02X}")
    if length != len(wire):
        raise EapError(f"EAP length {length}, {len(wire)} octets there")
    code = Code(shifted >> CODE_SHIFT)
    if code in (Code.SUCCESS, Code.FAILURE):
        if length != 4:
            raise EapError(f"EAP {code.name} of {length} octets")
        return Packet(code, identifier)
    if length < HEADER_SIZE:
        raise EapError(f"EAP-PSK message of {length} octets")
    if wire[4] != TYPE_EAP_PSK or wire[5] & 0x3F:
        raise EapError(f"EAP type {wire[4]}, flags 0x{wire[5]:02X}: not EAP-PSK")
    return Packet(code, identifier, wire[5] >> 6, wire[6:HEADER_SIZE], wire[HEADER_SIZE:])


# Keys


def modified_counter_mode(key: bytes, block: bytes, counters: Iterable[int]) -> list[bytes]:
    """Return one key of 16 octets for each counter (RFC 4764 clauses 3.1 and 3.2)."""
    aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 (single blocks, as the RFC defines)
    base = int.from_bytes(aes.update(block), "big")
    return [aes.update((base ^ counter).to_bytes(16, "big")) for counter in counters]


class Keys(msgspec.Struct, frozen=True):
    """What a PSK gives: the authentication key and the key-derivation key."""

    ak: bytes
    kdk: bytes


def derive_keys(psk: bytes) -> Keys:
    """Return AK and KDK of a pre-shared key of 16 octets."""
    if len(psk) != KEY_SIZE:
        raise ValueError(f"a PSK has 16 octets, not {len(psk)}")
    return Keys(*modified_counter_mode(psk, bytes(16), (1, 2)))


def session_key(kdk: bytes, rand_p: bytes) -> bytes:
    """Return TEK, the key of the protected channel."""
    return modified_counter_mode(kdk, rand_p, (1,))[0]


def cmac(key: bytes, data: bytes) -> bytes:
    """Return AES-CMAC (RFC 4493), 16 octets."""
    mac = CMAC(algorithms.AES(key))
    mac.update(data)
    return mac.finalize()


def mac_p(ak: bytes, id_p: bytes, id_s: bytes, rand_s: bytes, rand_p: bytes) -> bytes:
    """Return what proves the peer in message 2."""
    return cmac(ak, id_p + id_s + rand_s + rand_p)


def mac_s(ak: bytes, id_s: bytes, rand_p: bytes) -> bytes:
    """Return what proves the server in message 3."""
    return cmac(ak, id_s + rand_p)


# Protected channel


def _omac(key: bytes, tweak: int, data: bytes) -> bytes:
    return cmac(key, tweak.to_bytes(16, "big") + data)


def _xor(*blocks: bytes) -> bytes:
    total = 0
    for block in blocks:
        total ^= int.from_bytes(block, "big")
    return total.to_bytes(16, "big")


def _counter(key: bytes, start: bytes, data: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.CTR(start)).encryptor().update(data)


def eax_seal(key: bytes, nonce: bytes, header: bytes, plaintext: bytes) -> tuple[bytes, bytes]:
    """Return ciphertext and tag of AES-EAX (Bellare, Rogaway, Wagner 2004)."""
    start = _omac(key, 0, nonce)
    ciphertext = _counter(key, start, plaintext)
    return ciphertext, _xor(start, _omac(key, 1, header), _omac(key, 2, ciphertext))


def eax_open(key: bytes, nonce: bytes, header: bytes, ciphertext: bytes, tag: bytes) -> bytes:
    """Return the plaintext; raise :class:`AuthenticationError` before anything is decrypted."""
    start = _omac(key, 0, nonce)
    if not bytes_eq(tag, _xor(start, _omac(key, 1, header), _omac(key, 2, ciphertext))):
        raise AuthenticationError("EAX tag of the protected channel is wrong")
    return _counter(key, start, ciphertext)


def channel_seal(tek: bytes, header: bytes, nonce: int, plaintext: bytes) -> bytes:
    """Return PCHANNEL: nonce 4, tag 16, ciphertext."""
    ciphertext, tag = eax_seal(tek, nonce.to_bytes(16, "big"), header, plaintext)
    return nonce.to_bytes(4, "big") + tag + ciphertext


def channel_open(tek: bytes, header: bytes, nonce: int, channel: bytes) -> bytes:
    """Return the plaintext of a PCHANNEL that must carry this nonce."""
    if len(channel) < 21:
        raise EapError(f"PCHANNEL of {len(channel)} octets")
    if int.from_bytes(channel[:4], "big") != nonce:
        raise EapError("PCHANNEL nonce out of turn")
    return eax_open(tek, nonce.to_bytes(16, "big"), header, channel[20:], channel[4:20])


class Protected(msgspec.Struct, frozen=True):
    """Plaintext of a PCHANNEL: the result and G3's configuration parameters."""

    result: Result
    parameters: bytes = b""

    def encode(self) -> bytes:
        """Return R, E, and the extension if there are parameters."""
        if not self.parameters:
            return bytes((self.result << 6,))
        return bytes((self.result << 6 | _FLAG_EXTENSION, EXT_CONFIGURATION)) + self.parameters


def parse_protected(plaintext: bytes) -> Protected:
    """Return what a PCHANNEL held; raise :class:`EapError`."""
    flags = plaintext[0]
    if not flags >> 6 or flags & 0x1F:
        raise EapError(f"PCHANNEL flags 0x{flags:02X}")
    if not flags & _FLAG_EXTENSION:
        if len(plaintext) > 1:
            raise EapError("PCHANNEL with data but no extension")
        return Protected(Result(flags >> 6))
    if len(plaintext) < 2 or plaintext[1] != EXT_CONFIGURATION:
        raise EapError("PCHANNEL extension is not configuration parameters")
    return Protected(Result(flags >> 6), plaintext[2:])


def _with_channel(packet: Packet, tek: bytes, nonce: int, protected: Protected) -> Packet:
    """Return the packet with its PCHANNEL appended; the tag covers the header with the length it will have."""
    plaintext = protected.encode()
    sized = msgspec.structs.replace(packet, body=packet.body + bytes(20 + len(plaintext)))
    channel = channel_seal(tek, sized.standard()[:HEADER_SIZE], nonce, plaintext)
    return msgspec.structs.replace(packet, body=packet.body + channel)


def _expect(wire: bytes, code: Code, message: int, rand_s: bytes | None) -> Packet:
    packet = parse(wire)
    if packet.code != code or packet.message != message:
        raise EapError(f"EAP {packet.code.name}, message {packet.message + 1} where message {message + 1} belongs")
    if rand_s is not None and packet.rand_s != rand_s:
        raise EapError("RAND_S is of another exchange")
    return packet


class Server:
    """The authenticator's side of one exchange: :meth:`first`, :meth:`third`, :meth:`finish`, :meth:`end`."""

    __slots__ = ("_identifier", "_keys", "_tek", "id_s", "rand_s")

    def __init__(self, psk: bytes, id_s: bytes, rand_s: bytes, identifier: int = 0) -> None:
        self._keys = derive_keys(psk)
        self.rand_s = rand_s
        self._tek = b""
        self._identifier = identifier & 0xFF
        self.id_s = id_s

    def first(self) -> bytes:
        """Return message 1: RAND_S and the server's identity."""
        return Packet(Code.REQUEST, self._identifier, 0, self.rand_s, self.id_s).wire()

    def third(self, second: bytes, id_p: bytes, parameters: bytes) -> bytes:
        """Check message 2 of the peer that must be ``id_p``; return message 3 with configuration parameters."""
        packet = _expect(second, Code.RESPONSE, 1, self.rand_s)
        rand_p, proof, identity = packet.body[:16], packet.body[16:32], packet.body[32:]
        if packet.identifier != self._identifier or len(proof) != 16 or identity != id_p:
            raise EapError("message 2 does not answer message 1, or names another device")
        if not bytes_eq(proof, mac_p(self._keys.ak, id_p, self.id_s, self.rand_s, rand_p)):
            raise AuthenticationError("MAC_P is wrong: the device holds another PSK")
        self._tek = session_key(self._keys.kdk, rand_p)
        self._identifier = (self._identifier + 1) & 0xFF
        head = Packet(Code.REQUEST, self._identifier, 2, self.rand_s, mac_s(self._keys.ak, self.id_s, rand_p))
        # The PCHANNEL of message 3 follows MAC_S; its tag covers the 22 octets of the header alone.
        return _with_channel(head, self._tek, 0, Protected(Result.DONE_SUCCESS, parameters)).wire()

    def finish(self, fourth: bytes) -> Protected:
        """Check message 4; return the peer's result and parameters."""
        packet = _expect(fourth, Code.RESPONSE, 3, self.rand_s)
        if not self._tek or packet.identifier != self._identifier:
            raise EapError("message 4 does not answer message 3")
        return parse_protected(channel_open(self._tek, packet.standard()[:HEADER_SIZE], 1, packet.body))

    def end(self, *, success: bool) -> bytes:
        """Return EAP success or failure."""
        return Packet(Code.SUCCESS if success else Code.FAILURE, (self._identifier + 1) & 0xFF).wire()


class Peer:
    """The device's side of one exchange: :meth:`second`, :meth:`open_third`, :meth:`fourth`."""

    __slots__ = ("_id_s", "_identifier", "_keys", "_rand_p", "_rand_s", "_tek", "id_p")

    def __init__(self, psk: bytes, id_p: bytes, rand_p: bytes) -> None:
        self._keys = derive_keys(psk)
        self._rand_p = rand_p
        self._rand_s = b""
        self._id_s = b""
        self._tek = b""
        self._identifier = 0
        self.id_p = id_p

    def second(self, first: bytes) -> bytes:
        """Answer message 1 with message 2."""
        packet = _expect(first, Code.REQUEST, 0, None)
        self._rand_s, self._id_s = packet.rand_s, packet.body
        proof = mac_p(self._keys.ak, self.id_p, self._id_s, self._rand_s, self._rand_p)
        body = self._rand_p + proof + self.id_p
        return Packet(Code.RESPONSE, packet.identifier, 1, self._rand_s, body).wire()

    def open_third(self, third: bytes) -> Protected:
        """Check message 3; return the server's result and configuration parameters."""
        packet = _expect(third, Code.REQUEST, 2, self._rand_s)
        if not bytes_eq(packet.body[:16], mac_s(self._keys.ak, self._id_s, self._rand_p)):
            raise AuthenticationError("MAC_S is wrong: the coordinator holds another PSK")
        tek = session_key(self._keys.kdk, self._rand_p)
        protected = parse_protected(channel_open(tek, packet.standard()[:HEADER_SIZE], 0, packet.body[16:]))
        self._tek, self._identifier = tek, packet.identifier
        return protected

    def fourth(self, result: Result, parameters: bytes) -> bytes:
        """Return message 4 with the result and parameters."""
        if not self._tek:
            raise EapError("message 4 before message 3")
        packet = Packet(Code.RESPONSE, self._identifier, 3, self._rand_s)
        return _with_channel(packet, self._tek, 1, Protected(result, parameters)).wire()
