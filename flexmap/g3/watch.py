"""Notices that a joined device has lost its PAN: the others have a new key, or there is nobody any more.

A device that was out of reach during a re-keying holds the old key: it acknowledges what it is sent, for that asks
for no key, and opens nothing of it. The recommendation leaves to the stack how it finds out; this is ours. A doubt
alone puts nobody out, for frames can be forged: the coordinator is looked for first, and left if it is not found.
"""

from __future__ import annotations

from flexmap.g3.bootstrap import Device, State
from flexmap.g3.discovery import cancel
from flexmap.g3.interface import COORDINATOR, Scheduler, SecurityFailure, Timer
from flexmap.g3.loadng import Loadng

REFUSED = 2
"""Frames that no key opens, without a word from the coordinator in between, that make a device doubt."""
_FOREIGN = (SecurityFailure.UNKNOWN_KEY, SecurityFailure.WRONG_MIC)


class Watch:
    """Over one device, from its joining to its leaving."""

    __slots__ = ("_device", "_heard", "_loadng", "_probing", "_refused", "_round", "_scheduler", "_timer")

    def __init__(self, device: Device, loadng: Loadng, scheduler: Scheduler) -> None:
        self._device = device
        self._loadng = loadng
        self._scheduler = scheduler
        self._heard = 0.0
        self._refused = 0
        self._probing = False
        self._round = 0
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Take note that the device is a member now."""
        self.end()
        self._heard = self._scheduler.seconds()
        self._timer = self._scheduler.callLater(self._device.settings.silence, self._silent)

    def end(self) -> None:
        """Take note that it is none any more."""
        cancel(self._timer)
        self._round += 1
        self._refused = 0
        self._probing = False

    def heard(self) -> None:
        """Take note of a frame that the coordinator has sent and a key of the PAN has opened."""
        self._heard = self._scheduler.seconds()
        self._refused = 0

    def refused(self, failure: SecurityFailure) -> None:
        """Take note of a frame that failed its protection."""
        if failure in _FOREIGN:
            self._refused += 1
            quiet = self._scheduler.seconds() - self._heard
            if self._refused >= REFUSED and quiet >= self._device.settings.lost_after:
                self._probe()

    def _silent(self) -> None:
        """Doubt once nothing has come for long, whatever the reason."""
        left = self._heard + self._device.settings.silence - self._scheduler.seconds()
        if left <= 0:
            self._probe()
        self._timer = self._scheduler.callLater(left if left > 0 else self._device.settings.silence, self._silent)

    def _probe(self) -> None:
        """Look for the coordinator, anew: its answer comes under the key of those on the way."""
        if self._probing or self._device.state is not State.JOINED:
            return
        self._probing = True
        round_ = self._round
        self._loadng.table.remove(COORDINATOR)
        self._loadng.discover(COORDINATOR, lambda found: self._probed(found, round_))

    def _probed(self, found: bool, round_: int) -> None:
        if round_ != self._round:
            return
        self._probing = False
        if found:
            self.heard()
        else:
            self._device.counters.lost += 1
            self._device.rejoin()
