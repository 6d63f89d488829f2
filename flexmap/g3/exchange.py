"""The device's side of one EAP-PSK exchange inside LBP: a join or a re-keying."""

from __future__ import annotations

from collections.abc import Callable

from flexmap.g3 import lbp
from flexmap.g3.eap_psk import Code, EapError, Packet, Peer, Result
from flexmap.g3.eap_psk import parse as parse_eap
from flexmap.g3.interface import Random
from flexmap.g3.lbp import Outcome, ParameterError, ParameterId, ParameterResult, Parameters
from flexmap.g3.pan import FIRST_SHORT_ADDRESS, LAST_SHORT_ADDRESS

ANSWERS = 4
"""Answers kept for requests that come again."""


def is_eap_success(data: bytes) -> bool:
    """Return whether the data of ACCEPTED is EAP success (else configuration parameters)."""
    try:
        return parse_eap(data).code is Code.SUCCESS
    except EapError:
        return False


def check_parameters(parameters: Parameters, *, joined: bool, held: set[int], active: int | None) -> None:
    """Raise :class:`ParameterError` if parameters are missing or cannot be obeyed.

    ``held`` are the key indexes a device has, ``active`` the one it sends with. A join needs short address, key
    and activation; a joined device needs at least one of key, activation, removal (G.9903, commissioning).
    """
    short = parameters.short_address
    if not joined and short is None:
        raise ParameterError(ParameterResult.MISSING, ParameterId.SHORT_ADDRESS)
    if short is not None and not FIRST_SHORT_ADDRESS <= short <= LAST_SHORT_ADDRESS:
        raise ParameterError(ParameterResult.INVALID, ParameterId.SHORT_ADDRESS)
    if not joined and not parameters.keys:
        raise ParameterError(ParameterResult.MISSING, ParameterId.GMK)
    if parameters.activate is None and (not joined or (not parameters.keys and parameters.remove is None)):
        raise ParameterError(ParameterResult.MISSING, ParameterId.GMK_ACTIVATION)
    if parameters.activate is not None and parameters.activate not in held | {
        index for index, _ in parameters.keys
    }:
        raise ParameterError(ParameterResult.INVALID, ParameterId.GMK_ACTIVATION)
    if parameters.remove is not None and parameters.remove == (
        active if parameters.activate is None else parameters.activate
    ):
        raise ParameterError(ParameterResult.INVALID, ParameterId.GMK_REMOVAL)


class PeerExchange:
    """Answers requests, repeats what was asked twice, keeps parameters until they are accepted.

    Message 1 proves nothing and may be forged: an exchange that it seems to replace goes on beside the new one.
    """

    __slots__ = ("_answered", "_eui64", "_peers", "_psk", "_random", "staged")

    def __init__(self, psk: bytes, eui64: bytes, random: Random) -> None:
        self._psk = psk
        self._eui64 = eui64
        self._random = random
        self._peers: dict[bytes, Peer] = {}
        """By RAND_S: the first, and the last that has come since."""
        self._answered: dict[bytes, bytes] = {}
        self.staged: Parameters | None = None

    def answer(self, request: bytes, check: Callable[[Parameters], object]) -> bytes:
        """Return the response to a request; raise :class:`EapError`.

        The same request again gets the same response again (RFC 3748 clause 4.1).
        """
        known = self._answered.get(request)
        if known is not None:
            return known
        packet = parse_eap(request)
        response = self._second(packet, request) if packet.message == 0 else self._fourth(packet, request, check)
        if len(self._answered) >= ANSWERS:
            del self._answered[next(iter(self._answered))]
        self._answered[request] = response
        return response

    def _second(self, packet: Packet, request: bytes) -> bytes:
        peer = Peer(self._psk, self._eui64, self._random.randbytes(16))
        response = peer.second(request)
        if len(self._peers) > 1:
            self._peers.popitem()
        self._peers[packet.rand_s] = peer
        return response

    def _fourth(self, packet: Packet, request: bytes, check: Callable[[Parameters], object]) -> bytes:
        peer = self._peers.get(packet.rand_s)
        if peer is None:
            raise EapError(f"message {packet.message + 1} before message 1")
        protected = peer.open_third(request)
        try:
            parameters = lbp.parse_parameters(protected.parameters)
            check(parameters)
        except ParameterError as error:
            outcome = Outcome(error.result, error.parameter)
            return peer.fourth(Result.DONE_FAILURE, Parameters(outcome=outcome).encode())
        self.staged = parameters
        return peer.fourth(Result.DONE_SUCCESS, Parameters(outcome=Outcome(ParameterResult.SUCCESS)).encode())
