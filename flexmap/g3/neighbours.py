"""What a node knows of those it hears: one table, seen as macNeighbourTable and as macPOSTable."""

from __future__ import annotations

from flexmap.g3 import phy
from flexmap.g3.command import ToneMapResponse
from flexmap.g3.information import MINUTE, minutes, tone_map
from flexmap.g3.interface import Link, Row
from flexmap.g3.phy import Band, Modulation
from flexmap.g3.pib import MacPib

MOST_NEIGHBOURS = 512
"""The entry heard longest ago makes room (an implementation limit)."""


class Neighbour:
    """One neighbour; times are those of the scheduler."""

    __slots__ = ("heard", "modulation", "reverse_lqi", "snr", "tone_map", "tone_map_until", "tones")

    def __init__(self, snr: float, now: float) -> None:
        self.snr = snr
        """SNR in dB of what arrives from it, smoothed."""
        self.heard = now
        self.modulation = Modulation.ROBO
        self.tone_map = 0
        self.tones: int | None = None
        """Active carriers of what is sent to it."""
        self.reverse_lqi: int | None = None
        self.tone_map_until = 0.0

    @property
    def lqi(self) -> int:
        """Return the link quality of what arrives from it."""
        return phy.lqi(self.snr)


class Neighbours:
    """The table of one node, by short address."""

    __slots__ = ("_band", "_pib", "_table")

    def __init__(self, band: Band, pib: MacPib) -> None:
        self._band = band
        self._pib = pib
        self._table: dict[int, Neighbour] = {}

    def heard(self, address: int, snr: float, now: float) -> Neighbour:
        """Take note of a frame from a neighbour."""
        neighbour = self._table.get(address)
        if neighbour is None:
            if len(self._table) >= MOST_NEIGHBOURS:
                del self._table[min(self._table, key=lambda a: self._table[a].heard)]
            neighbour = self._table[address] = Neighbour(snr, now)
        else:
            neighbour.snr += (snr - neighbour.snr) / 4
            neighbour.heard = now
        return neighbour

    def tone_map(self, address: int, response: ToneMapResponse, now: float) -> None:
        """Take a neighbour's tone map response: what to send to it with, from now until the TTL is over."""
        neighbour = self._table.get(address)
        if neighbour is None:
            return
        neighbour.modulation = response.modulation
        neighbour.tone_map = response.tone_map
        neighbour.tones = phy.active_tones(self._band, response.tone_map)
        neighbour.reverse_lqi = response.lqi
        neighbour.tone_map_until = now + self._pib.tmr_ttl * MINUTE

    def sending(self, address: int, now: float) -> tuple[Modulation, int | None, bool]:
        """Return modulation and carriers to send to a neighbour with, and whether to ask for a tone map."""
        neighbour = self._table.get(address)
        if neighbour is None:
            return Modulation.ROBO, None, True
        if neighbour.tone_map_until <= now:
            return Modulation.ROBO, None, True
        return neighbour.modulation, neighbour.tones, False

    def lost(self, address: int) -> None:
        """Take note that a neighbour did not answer: its tone map holds no longer."""
        neighbour = self._table.get(address)
        if neighbour is not None:
            neighbour.tone_map_until = 0.0

    def link(self, address: int, now: float) -> Link | None:
        """Return what is known of a neighbour heard within macPOSTableEntryTTL."""
        neighbour = self._table.get(address)
        if neighbour is None or self._until(neighbour) < now:
            return None
        carriers = self._band.carriers
        known = neighbour.tone_map_until > now
        modulation = neighbour.modulation if known else Modulation.ROBO
        return Link(
            lqi=neighbour.lqi,
            modulation=int(modulation),
            robo=modulation is Modulation.ROBO,
            active_tones=(neighbour.tones or carriers) if known else carriers,
            max_tones=carriers,
            reverse_lqi=neighbour.reverse_lqi if known else None,
        )

    def neighbour_table(self, now: float) -> list[Row]:
        """Return macNeighbourTable: neighbours with a valid tone map; ``lqi`` is that of what is sent to them."""
        return [
            {
                "short": address,
                "tone_map": tone_map(self._band, neighbour.tone_map),
                "modulation": int(neighbour.modulation),
                "lqi": neighbour.reverse_lqi or 0,
                "tmr_valid": minutes(neighbour.tone_map_until, now),
                "valid": minutes(self._until(neighbour), now),
            }
            for address, neighbour in self._table.items()
            if neighbour.tone_map_until > now
        ]

    def pos_table(self, now: float) -> list[Row]:
        """Return macPOSTable: everyone heard within macPOSTableEntryTTL; ``lqi`` is that of what comes from it."""
        return [
            {"short": address, "lqi": neighbour.lqi, "valid": minutes(self._until(neighbour), now)}
            for address, neighbour in self._table.items()
            if self._until(neighbour) >= now
        ]

    def _until(self, neighbour: Neighbour) -> float:
        return neighbour.heard + self._pib.pos_ttl * MINUTE

    def clear(self) -> None:
        """Forget everyone."""
        self._table.clear()
