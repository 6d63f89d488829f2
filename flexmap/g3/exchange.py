"""The device's side of one EAP-PSK exchange inside LBP: a join or a re-keying."""

from __future__ import annotations

from collections.abc import Callable

from flexmap.g3 import lbp
from flexmap.g3.eap_psk import Code, EapError, Packet, Peer, Result
from flexmap.g3.eap_psk import parse as parse_eap
from flexmap.g3.interface import Random
from flexmap.g3.lbp import Outcome, ParameterError, ParameterId, ParameterResult, Parameters
from flexmap.g3.pan import FIRST_SHORT_ADDRESS, LAST_SHORT_ADDRESS


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
    """Answers requests, repeats what was asked twice, keeps parameters until they are accepted."""

    __slots__ = ("_eui64", "_peer", "_psk", "_random", "_request", "_response", "staged")

    def __init__(self, psk: bytes, eui64: bytes, random: Random) -> None:
        self._psk = psk
        self._eui64 = eui64
        self._random = random
        self._peer: Peer | None = None
        self._request = self._response = b""
        self.staged: Parameters | None = None

    def answer(self, request: bytes, check: Callable[[Parameters], object]) -> bytes:
        """Return the response to a request; raise :class:`EapError`.

        The same request again gets the same response again (RFC 3748 clause 4.1).
        """
        if request == self._request:
            return self._response
        packet = parse_eap(request)
        response = self._second(request) if packet.message == 0 else self._fourth(packet, request, check)
        self._request, self._response = request, response
        return response

    def _second(self, request: bytes) -> bytes:
        self.staged = None
        self._peer = Peer(self._psk, self._eui64, self._random.randbytes(16))
        return self._peer.second(request)

    def _fourth(self, packet: Packet, request: bytes, check: Callable[[Parameters], object]) -> bytes:
        if self._peer is None:
            raise EapError(f"message {packet.message + 1} before message 1")
        protected = self._peer.open_third(request)
        try:
            parameters = lbp.parse_parameters(protected.parameters)
            check(parameters)
        except ParameterError as error:
            outcome = Outcome(error.result, error.parameter)
            return self._peer.fourth(Result.DONE_FAILURE, Parameters(outcome=outcome).encode())
        self.staged = parameters
        return self._peer.fourth(
            Result.DONE_SUCCESS, Parameters(outcome=Outcome(ParameterResult.SUCCESS)).encode()
        )
