"""What a link costs (ITU-T G.9903, LOADng's composite metric; facts, confidence A)."""

from __future__ import annotations

from flexmap.g3.adp_pib import AdpPib
from flexmap.g3.interface import Link

MODULATION_COST = (3, 3, 2, 1, 0)
"""Factor of Km by modulation: ROBO, DBPSK, DQPSK, D8PSK, beyond (A)."""


def directional_cost(pib: AdpPib, lqi: int, link: Link | None) -> float:
    """Return the cost of a link in one direction: Kr, Km, Kc for what it carries, Kq for how well it is heard."""
    cost = pib.kq * min(max((pib.high_lqi - lqi) / max(pib.high_lqi - pib.low_lqi, 1), 0.0), 1.0)
    if link is None:
        return cost + pib.kr + pib.km * MODULATION_COST[0]
    unused = (link.max_tones - link.active_tones) / link.max_tones if link.max_tones else 0.0
    return cost + pib.kr * link.robo + pib.km * MODULATION_COST[link.modulation] + pib.kc * unused


def link_cost(pib: AdpPib, lqi: int, link: Link | None, load: float, told: int | None = None) -> int:
    """Return the cost of a link: the worse direction, Kh for the hop, Krt for the node's load.

    ``load`` is the share of the routing table in use, 0 to 1; ``told`` what the neighbour has told it costs the
    other way, for want of a tone map response.
    """
    forward = directional_cost(pib, lqi, link)
    if link is not None and link.reverse_lqi is not None:
        reverse = directional_cost(pib, link.reverse_lqi, link)
    else:
        reverse = forward + pib.add_reverse_link_cost if told is None else told
    return int(max(forward, reverse) + pib.krt * load) + pib.kh
