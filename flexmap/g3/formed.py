"""A PAN that is formed already: members with addresses, key and routes, as after joins and discoveries long past.

For simulations whose subject is what comes after: a thousand joins and route discoveries take hours on the line.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import pairwise

from flexmap.g3.bootstrap import Membership
from flexmap.g3.interface import COORDINATOR
from flexmap.g3.medium import Medium, Port
from flexmap.g3.node import Node
from flexmap.g3.pan import FIRST_SHORT_ADDRESS, PanState, Registered
from flexmap.g3.phy import lqi

KQ, KH = 10, 4
"""LOADng's weights of quality and hop at their defaults (A)."""
STEADY_LQI = 68
"""Links below this carry no route: 4 dB above what LOADng calls weak (C)."""


def form(medium: Medium, coordinator: Node, devices: Sequence[Node], pan_id: int, key: bytes) -> None:
    """Make devices members with short addresses from 1 on; give nodes the routes of least cost and tone maps."""
    registered = tuple(
        Registered(device.eui64, FIRST_SHORT_ADDRESS + index, 0.0) for index, device in enumerate(devices)
    )
    coordinator.manager.resume(PanState(pan_id, ((0, key),), 0, registered))
    for device, entry in zip(devices, registered, strict=True):
        device.boot.resume(Membership(pan_id, entry.short_address, ((0, key),), 0))
    nodes = {node.line: node for node in (coordinator, *devices)}
    towards, cost = _tree(medium, coordinator.line)
    for port, before in towards.items():
        _routes(port, towards, cost, nodes)
        _link(medium, port, before, nodes)


def _link(medium: Medium, one: Port, other: Port, nodes: dict[Port, Node]) -> None:
    """Let two neighbours on a route know each other's tone maps, fresh ones as after a round of reads."""
    there, back = medium.snr(one, other), medium.snr(other, one)
    if there is not None and back is not None:
        nodes[one].learn_link(nodes[other].short_address, back, there)
        nodes[other].learn_link(nodes[one].short_address, there, back)


def _tree(medium: Medium, root: Port) -> tuple[dict[Port, Port], dict[Port, int]]:
    """Return each port's next hop towards the root, and the cost of its route (Dijkstra over LOADng's costs)."""
    cost = {root: 0}
    towards: dict[Port, Port] = {}
    heap = [(0, root.number, root)]
    while heap:
        so_far, _, port = heapq.heappop(heap)
        if so_far > cost[port]:
            continue
        for other, snr in medium.neighbours(port).items():
            quality = min(lqi(snr), lqi(medium.snr(other, port) or -10.0))
            total = so_far + KH + round(KQ * (255 - quality) / 255)
            if quality >= STEADY_LQI and total < cost.get(other, 0xFFFF):
                cost[other], towards[other] = total, port
                heapq.heappush(heap, (total, other.number, other))
    return towards, cost


def _routes(port: Port, towards: dict[Port, Port], cost: dict[Port, int], nodes: dict[Port, Node]) -> None:
    """Give a node its route to the coordinator, and every node on the way a route to it."""
    way = [port]
    while way[-1] in towards:
        way.append(towards[way[-1]])
    address = nodes[port].short_address
    hops = len(way) - 1
    nodes[port].adp.loadng.add_route(COORDINATOR, nodes[way[1]].short_address, cost[port], hops)
    nodes[port].adp.uplink.resume(cost[port], STEADY_LQI)
    for distance, (near, far) in enumerate(pairwise(way), start=1):
        next_hop = nodes[near].short_address
        nodes[far].adp.loadng.add_route(address, next_hop, cost[port] - cost[far], distance)
