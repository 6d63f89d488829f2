"""What the line carries, by kind: seconds on the air of every sender's frames."""

from __future__ import annotations

from flexmap.g3 import sixlowpan
from flexmap.g3.command import BEACON_REQUEST
from flexmap.g3.frame import FrameKind
from flexmap.g3.lbp import is_first_joining
from flexmap.g3.loadng_message import Kind
from flexmap.model.error import RemoteError

_LOADNG: dict[int, str] = {Kind.RREQ: "RREQ", Kind.RREP: "RREP"}


def kind_of(frame: FrameKind, msdu: bytes) -> str:
    """Return what a frame is, from its kind and its MSDU in clear."""
    if frame is FrameKind.BEACON:
        return "beacon"
    if frame is FrameKind.COMMAND:
        return "beacon request" if msdu == BEACON_REQUEST else "tone map"
    try:
        payload = msdu[sixlowpan.parse_headers(msdu).offset :]
    except RemoteError:
        return "data"
    if payload[0] != sixlowpan.DISPATCH_ESC or len(payload) < 3:
        return "data"
    if payload[1] == sixlowpan.COMMAND_LOADNG:
        return _LOADNG.get(payload[2], "LOADng, other")
    return "JOINING" if is_first_joining(payload[2:]) else "LBP exchange"


class Traffic:
    """Seconds on the air by kind; :meth:`tap` goes into every node's MAC."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def tap(self, frame: FrameKind, msdu: bytes, seconds: float) -> None:
        """Take note of a transmission."""
        kind = kind_of(frame, msdu)
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds

    def since(self, before: dict[str, float]) -> dict[str, float]:
        """Return what has come since an earlier state."""
        return {kind: seconds - before.get(kind, 0.0) for kind, seconds in self.seconds.items()}
