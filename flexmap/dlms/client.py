"""The DLMS/COSEM client core, sans-io: an operation is a generator that yields requests and is sent responses.

::

    client = Client(ClientSettings(client_sap=2, server_sap=16, mechanism=Mechanism.LLS, secret=b"..."),
                    random=os.urandom)
    drive(client.connect(), transceive)                     # transceive: APDU -> response APDU
    value = drive(client.get(3, ENERGY, 2), transceive)

With HLS-GMAC or protection, give the :class:`~flexmap.dlms.security.Ciphering` of the keys and the client's
system title too; all clients with the same keys and title must share it, so that no counter comes twice. A client
that keeps no counters between runs takes a random system title for each: a new title's counters start at 1. With
other mechanisms of high level security give the :class:`~flexmap.dlms.authentication.Proof`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from flexmap.dlms import acse, axdr
from flexmap.dlms import apdu as pdu
from flexmap.dlms.acse import Aare, Aarq, Context, Diagnostic, Mechanism, Result
from flexmap.dlms.apdu import (
    CONFORMANCE_LN,
    ActionResult,
    ApduError,
    Conformance,
    DataAccessResult,
    InitiateRequest,
    Tag,
)
from flexmap.dlms.authentication import GmacProof, Proof, Side, acceptable, challenge_octets
from flexmap.dlms.axdr import Value
from flexmap.dlms.layers import DEDICATED_TAGS, GLOBAL_TAGS
from flexmap.dlms.objects import ASSOCIATION_LN, ActionReply, attribute_key
from flexmap.dlms.security import Ciphering, SecurityError
from flexmap.dlms.selection import BY_ENTRY, BY_RANGE, RangeSelection, Selection
from flexmap.model.error import LocalError, RemoteError

T = TypeVar("T")
Exchange = Generator[bytes, bytes, T]
"""Yields request APDUs, is sent response APDUs, returns the result."""

MAX_VALUE = 1 << 26
"""Octets of a value in blocks that a client takes."""

_REQUESTS = (Tag.GET_REQUEST, Tag.SET_REQUEST, Tag.ACTION_REQUEST)


class AssociationError(RemoteError):
    """The server does not open the association."""


class ExceptionResponseError(RemoteError):
    """The server answered a request with an exception response."""

    def __init__(self, octets: bytes) -> None:
        super().__init__(f"exception response {octets.hex()}")
        self.service_error = octets[2] if len(octets) > 2 else 0
        self.counter = int.from_bytes(octets[3:7], "big") if len(octets) >= 7 else None
        """The invocation counter that the server expects, if it says so."""


class ResultError(RemoteError):
    """A request came back with a result other than success."""

    def __init__(self, result: int) -> None:
        names = {int(member): member.name for member in DataAccessResult}
        super().__init__(names.get(result, f"RESULT_{result}").lower().replace("_", "-"))
        self.result = result


_NOT_OURS = (
    Conformance.GENERAL_BLOCK_TRANSFER
    | Conformance.ACCESS
    | Conformance.PRIORITY_MANAGEMENT
    | Conformance.ATTRIBUTE_0_WITH_GET
    | Conformance.ATTRIBUTE_0_WITH_SET
)


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to associate."""

    client_sap: int
    server_sap: int
    mechanism: Mechanism = Mechanism.NONE
    secret: bytes = b""
    """LLS secret."""
    title: bytes = b""
    """System title of a client without ciphering, where the mechanism takes it in."""
    dedicated_key: bytes = b""
    """Cipher with this key, made for the association, from its opening on."""
    general: bool = False
    """Cipher with general-glo- or general-ded-ciphering, not with the services' own ciphered tags."""
    protection: int = 0
    """Security control: security.AUTHENTICATED, ENCRYPTED, both, or 0 for plain APDUs."""
    max_pdu: int = 0xFFFF
    conformance: int = CONFORMANCE_LN & ~_NOT_OURS
    """What is proposed; by default what this client does."""

    def __repr__(self) -> str:
        """Never show a secret."""
        return f"ClientSettings({self.client_sap}, {self.server_sap})"


class AttributeReference(NamedTuple):
    """An attribute to read, all of it or chosen rows."""

    class_id: int
    logical_name: bytes
    attribute: int
    selection: Selection | None = None

    def encode(self) -> bytes:
        """Return the attribute descriptor with its access selection."""
        key = attribute_key(self.class_id, self.logical_name, self.attribute)
        if self.selection is None:
            return key + b"\x00"
        selector = BY_RANGE if isinstance(self.selection, RangeSelection) else BY_ENTRY
        return key + bytes((1, selector)) + self.selection.encode()


def drive(exchange: Exchange[T], transceive: Callable[[bytes], bytes]) -> T:
    """Run an exchange with a blocking ``transceive`` and return its result."""
    try:
        request = next(exchange)
        while True:
            request = exchange.send(transceive(request))
    except StopIteration as end:
        result: T = end.value
        return result


class Client:
    """One association on the client's side."""

    def __init__(
        self,
        settings: ClientSettings,
        *,
        random: Callable[[int], bytes],
        ciphering: Ciphering | None = None,
        proof: Proof | None = None,
    ) -> None:
        if ciphering is None and (settings.mechanism == Mechanism.HLS_GMAC or settings.protection):
            raise LocalError("HLS-GMAC and protection need keys")
        if ciphering is not None and settings.mechanism == Mechanism.HLS_GMAC:
            proof = GmacProof(ciphering)
        if proof is None and settings.mechanism >= Mechanism.HLS:
            raise LocalError(f"{settings.mechanism.name} needs a proof")
        self.settings = settings
        self.conformance = 0
        """Conformance as negotiated."""
        self.server_title = b""
        self._random = random
        self._ciphering = ciphering
        self._title = settings.title if ciphering is None else ciphering.title
        self._proof = proof
        self._dedicated = _dedicated(settings, ciphering)
        self._invoke = 0
        self._max_send = pdu.MIN_PDU

    # --- association

    def connect(self) -> Exchange[None]:
        """Open the association; raises AssociationError."""
        settings = self.settings
        high = settings.mechanism >= Mechanism.HLS
        challenge = self._random(challenge_octets(settings.mechanism)) if high else settings.secret
        request = InitiateRequest(
            conformance=settings.conformance,
            max_pdu=settings.max_pdu,
            dedicated_key=settings.dedicated_key or None,
        )
        initiate = pdu.encode_initiate_request(request)
        ciphering = self._ciphering
        if ciphering is not None and settings.protection:
            body = ciphering.protect(settings.protection, initiate)
            initiate = bytes((Tag.GLO_INITIATE_REQUEST,)) + axdr.encode_length(len(body)) + body
        aarq = Aarq(
            context=Context.LN_CIPHERED if settings.protection else Context.LN,
            mechanism=settings.mechanism,
            calling_title=self._title or None,
            authentication=challenge,
            user_information=initiate,
        )
        aare = acse.decode_aare((yield acse.encode_aarq(aarq)))
        self._accept(aare)
        if self._proof is not None:
            yield from self._prove(self._proof, challenge, aare.authentication or b"")

    def _accept(self, aare: Aare) -> None:
        if aare.result != Result.ACCEPTED:
            raise AssociationError(f"association refused: {_reason(aare)}")
        self.server_title = aare.responding_title or b""
        octets = aare.user_information
        if self.settings.protection:
            octets = self._open_body(octets, bytes((Tag.GLO_INITIATE_RESPONSE,)))
        response = pdu.decode_initiate_response(octets)
        self.conformance = response.conformance
        self._max_send = response.max_pdu or 0xFFFF

    def _prove(self, proof: Proof, ours: bytes, theirs: bytes) -> Exchange[None]:
        """Do passes 3 and 4 of HLS: each side answers the other's challenge."""
        if not acceptable(self.settings.mechanism, ours, theirs) or len(self.server_title) != 8:
            raise AssociationError("the server's challenge or system title is missing or malformed")
        own, server = Side(self._title, ours), Side(self.server_title, theirs)
        answer = axdr.octet_string(proof.answer(own, server))
        reply = yield from self.action(15, ASSOCIATION_LN, 1, answer)
        returned = axdr.decode(reply.returned or axdr.NULL)
        proven = isinstance(returned, bytes) and proof.check(own, server, returned)
        if reply.result != ActionResult.SUCCESS or not proven:
            raise AssociationError("authentication failed")

    def release(self) -> Exchange[None]:
        """Close the association."""
        information = b""
        if self._ciphering is not None and self.settings.protection:
            initiate = pdu.encode_initiate_request(
                InitiateRequest(conformance=self.settings.conformance, max_pdu=self.settings.max_pdu)
            )
            body = self._ciphering.protect(self.settings.protection, initiate)
            information = bytes((Tag.GLO_INITIATE_REQUEST,)) + axdr.encode_length(len(body)) + body
        response = yield acse.encode_release(acse.Release(reason=0, user_information=information))
        acse.decode_release(response, acse.RLRE)

    # --- services

    def get(
        self, class_id: int, logical_name: bytes, attribute: int, selection: Selection | None = None
    ) -> Exchange[Value]:
        """Read one attribute; raises ResultError."""
        encoded = yield from self.get_encoded(class_id, logical_name, attribute, selection)
        return axdr.decode(encoded)

    def get_encoded(
        self, class_id: int, logical_name: bytes, attribute: int, selection: Selection | None = None
    ) -> Exchange[bytes]:
        """Read one attribute, left encoded; raises ResultError."""
        reference = AttributeReference(class_id, logical_name, attribute, selection)
        response = yield from self._request(bytes((Tag.GET_REQUEST, 1, self._next())) + reference.encode())
        kind, at = _kind(response, Tag.GET_RESPONSE)
        if kind == pdu.NORMAL:
            choice, at = axdr.take_octets(response, at, 2)
            if choice[0] != 0:
                raise ResultError(choice[1])
            return response[at - 1 :]
        return (yield from self._blocks(response))

    def get_with_list(self, references: Sequence[AttributeReference]) -> Exchange[list[Value | DataAccessResult]]:
        """Read several attributes in one request; a failure stands in its place as DataAccessResult."""
        head = bytes((Tag.GET_REQUEST, 3, self._next())) + axdr.encode_length(len(references))
        request = head + b"".join(reference.encode() for reference in references)
        response = yield from self._request(request)
        kind, at = _kind(response, Tag.GET_RESPONSE)
        octets = response[at:] if kind == pdu.WITH_LIST else (yield from self._blocks(response))
        count, at = axdr.decode_length(octets, 0)
        if count != len(references):
            raise ApduError(f"{len(references)} attributes asked for, {count} answered")
        values: list[Value | DataAccessResult] = []
        for _ in range(count):
            choice, at = axdr.take_octets(octets, at, 1)
            if choice == b"\x00":
                value, at = axdr.decode_from(octets, at)
                values.append(value)
            else:
                code, at = axdr.take_octets(octets, at, 1)
                values.append(_result(code[0]))
        return values

    def _blocks(self, response: bytes) -> Exchange[bytes]:
        """Fetch the rest of a value whose first block is here; raises ResultError."""
        raw = bytearray()
        expected = 1
        while True:
            kind, at = _kind(response, Tag.GET_RESPONSE)
            if kind == pdu.NORMAL:
                raise ResultError(response[-1])
            head, at = axdr.take_octets(response, at, 6)
            number = int.from_bytes(head[1:5], "big")
            if head[5] != 0:
                raise ResultError(response[-1])
            block, end = axdr.take_octet_string(response, at)
            raw += block
            endless = not block and not head[0]
            if number != expected or end != len(response) or len(raw) > MAX_VALUE or endless:
                raise ApduError(f"block {number} is out of order, malformed or too much")
            if head[0]:
                return bytes(raw)
            expected += 1
            response = yield from self._request(bytes((Tag.GET_REQUEST, 2, response[2])) + head[1:5])

    def set(self, class_id: int, logical_name: bytes, attribute: int, encoded: bytes) -> Exchange[None]:
        """Write one attribute, in blocks when it is long; raises ResultError."""
        descriptor = attribute_key(class_id, logical_name, attribute) + b"\x00"
        invoke = self._next()
        room = self._max_send - 32
        if len(descriptor) + len(encoded) <= room:
            response = yield from self._request(bytes((Tag.SET_REQUEST, 1, invoke)) + descriptor + encoded)
        else:
            room -= len(descriptor) + 12
            count = -(-len(encoded) // room)
            response = b""
            for number in range(1, count + 1):
                raw = encoded[(number - 1) * room : number * room]
                block = pdu.data_block(last=number == count, number=number, raw=raw)
                head = bytes((Tag.SET_REQUEST, 2 if number == 1 else 3, invoke))
                response = yield from self._request(head + (descriptor if number == 1 else b"") + block)
                kind, _ = _kind(response, Tag.SET_RESPONSE)
                if kind != 2 and number < count:
                    break
        kind, at = _kind(response, Tag.SET_RESPONSE)
        result, _ = axdr.take_octets(response, at, 1)
        if kind not in (1, 3) or result != b"\x00":
            raise ResultError(result[0])

    def action(
        self, class_id: int, logical_name: bytes, method: int, encoded: bytes | None = None
    ) -> Exchange[ActionReply]:
        """Call a method; the reply carries its result, whatever it is."""
        parameter = b"\x00" if encoded is None else b"\x01" + encoded
        key = attribute_key(class_id, logical_name, method)
        response = yield from self._request(bytes((Tag.ACTION_REQUEST, 1, self._next())) + key + parameter)
        kind, at = _kind(response, Tag.ACTION_RESPONSE)
        if kind != pdu.NORMAL:
            raise ApduError(f"action response {kind}")
        head, at = axdr.take_octets(response, at, 2)
        result = _action_result(head[0])
        if head[1] == 0:
            return ActionReply(result)
        choice, at = axdr.take_octets(response, at, 1)
        return ActionReply(result, response[at:] if choice == b"\x00" else None)

    # --- protection

    def _next(self) -> int:
        self._invoke = self._invoke % 15 + 1
        return 0xC0 | self._invoke

    def _request(self, plain: bytes) -> Exchange[bytes]:
        ciphering, protection = self._ciphering, self.settings.protection
        request = plain
        if ciphering is not None and protection:
            body = (self._dedicated or ciphering).protect(protection, plain)
            request = self._head(plain[0]) + axdr.encode_length(len(body)) + body
        if len(request) > self._max_send:
            raise LocalError(f"request of {len(request)} octets, the server takes {self._max_send}")
        response = yield request
        if not response:
            raise ApduError("empty response")
        if response[0] == Tag.EXCEPTION_RESPONSE:
            raise ExceptionResponseError(response)
        expected = Tag(plain[0] + 4)  # a response's tag stands four above its request's
        if protection:
            response = self._open_body(response, self._head(expected))
        if response[0] != expected or len(response) < 3 or response[2] & 0x0F != plain[2] & 0x0F:
            raise ApduError(f"response {response[:3].hex()} to request {plain[:3].hex()}")
        return response

    def _head(self, plain: int) -> bytes:
        """Return what stands before the ciphered body of a service."""
        dedicated = self._dedicated is not None
        if not self.settings.general:
            return bytes(((DEDICATED_TAGS if dedicated else GLOBAL_TAGS)[plain],))
        tag = Tag.GENERAL_DED_CIPHERING if dedicated else Tag.GENERAL_GLO_CIPHERING
        title = self._title if plain in _REQUESTS else self.server_title
        return bytes((tag, len(title))) + title

    def _open_body(self, octets: bytes, head: bytes) -> bytes:
        ciphering = self._ciphering
        if self._dedicated is not None and head[0] != Tag.GLO_INITIATE_RESPONSE:
            ciphering = self._dedicated
        if ciphering is None or not octets.startswith(head):
            raise SecurityError("the server's answer is not protected")
        body, end = axdr.take_octet_string(octets, len(head))
        if end != len(octets):
            raise ApduError("octets behind the ciphered APDU")
        return ciphering.unprotect(self.server_title, body, self.settings.protection)[1]


def _dedicated(settings: ClientSettings, ciphering: Ciphering | None) -> Ciphering | None:
    if not settings.dedicated_key or ciphering is None:
        return None
    return ciphering.dedicate(settings.dedicated_key)


def _reason(aare: Aare) -> str:
    """Return why the server refused, in the standard's words where it has some."""
    if not aare.provider and aare.diagnostic in Diagnostic.__members__.values():
        return Diagnostic(aare.diagnostic).name.lower().replace("_", " ")
    origin = "provider" if aare.provider else "user"
    return f"result {aare.result}, diagnostic {aare.diagnostic} of the service {origin}"


def _kind(response: bytes, tag: Tag) -> tuple[int, int]:
    """Return the choice of a response and the offset of what stands behind the invoke-id."""
    if len(response) < 4 or response[0] != tag:
        raise ApduError(f"unexpected response {response[:3].hex()}")
    return response[1], 3


def _result(code: int) -> DataAccessResult:
    try:
        return DataAccessResult(code)
    except ValueError:
        return DataAccessResult.OTHER_REASON


def _action_result(code: int) -> ActionResult:
    try:
        return ActionResult(code)
    except ValueError:
        return ActionResult.OTHER_REASON
