"""The information base of the ADP by the names of ITU-T G.9903 (adpMaxHops, …)."""

from __future__ import annotations

import msgspec

from flexmap.model.error import LocalError

Value = int | bool | tuple[int, ...]


class Attribute(msgspec.Struct, frozen=True, gc=False):
    """An attribute that can be set: its field here, identifier, limits, and how sure its default is."""

    field: str
    identifier: int
    low: int
    high: int
    confidence: str


class AdpPib:
    """Values of one node; what is never set is the default, shared by all nodes.

    Identifiers as two vendors' public headers have them (A); defaults with their confidence in :data:`ATTRIBUTES`.
    """

    security_level: int = 5
    """5 (ENC-MIC-32): what is unsecured is dropped, except LBP. 0: it is taken, and sent."""
    broadcast_log_ttl: int = 2
    """Minutes."""
    metric_type: int = 0x0F
    low_lqi: int = 0
    high_lqi: int = 255
    """Between these the cost of quality falls from Kq to 0."""
    rrep_wait: int = 4
    """Seconds between the first RREQ and the RREP."""
    rlc_enabled: bool = False
    """Whether a neighbour of whose hearing nothing is known is asked what the link costs the other way."""
    add_reverse_link_cost: int = 0
    """Reverse cost above the forward cost where nothing is known of the reverse."""
    unicast_rreq: bool = True
    """Whether RREQs may follow routes that are known on the way."""
    groups: tuple[int, ...] = (0x8001,)
    """Multicast groups the node belongs to."""
    max_hops: int = 8
    net_traversal_time: int = 20
    """Seconds; a discovery has twice this time."""
    routing_ttl: int = 360
    """Minutes."""
    kr: int = 0
    km: int = 0
    kc: int = 0
    kq: int = 10
    kh: int = 4
    krt: int = 0
    rreq_retries: int = 0
    rreq_wait: int = 30
    """Seconds between two RREQs for the same destination, and between two RERRs."""
    weak_lqi: int = 52
    blacklist_ttl: int = 10
    """Minutes."""
    path_discovery_time: int = 40
    """Seconds."""
    default_coordinator_route: bool = True
    """Whether a joined node starts with a route to the coordinator through its agent, and tells it along the way.

    The recommendation has it off: then the first packet either way costs a flood of RREQs for every meter.
    """
    delay_low_lqi: int = 1500
    delay_high_lqi: int = 100
    """Milliseconds by which an RREQ is passed on later, over bad links and over good ones …"""
    jitter_low_lqi: int = 52
    jitter_high_lqi: int = 108
    """… which these tell apart; between them the delay falls evenly."""
    cluster_trickle: bool = True
    """Whether an RREQ is not passed on if so many neighbours near by have done it (on, as in field profiles)."""
    cluster_min_lqi: int = 100
    """How well a neighbour must be heard to be near."""
    cluster_k: int = 2
    """How many of them."""

    def get(self, name: str) -> Value:
        """Return the value of an attribute; :class:`LocalError` if there is none of this name."""
        value: Value = getattr(self, _attribute(name).field)
        return value

    def set(self, name: str, value: Value) -> None:
        """Set an attribute; :class:`LocalError` if it does not exist or the value does not fit."""
        attribute = _attribute(name)
        default = getattr(AdpPib, attribute.field)
        values = value if isinstance(value, tuple) else (value,)
        fits = all(attribute.low <= entry <= attribute.high for entry in values)
        if isinstance(default, tuple) != isinstance(value, tuple) or not fits or len(values) > MAX_GROUPS:
            raise LocalError(f"{name} takes {attribute.low} to {attribute.high}, not {value}")
        setattr(self, attribute.field, bool(value) if isinstance(default, bool) else value)


MAX_GROUPS = 16

ATTRIBUTES: dict[str, Attribute] = {
    "adpSecurityLevel": Attribute("security_level", 0x00, 0, 5, "A"),
    "adpBroadcastLogTableEntryTTL": Attribute("broadcast_log_ttl", 0x02, 0, 3600, "A"),
    "adpMetricType": Attribute("metric_type", 0x03, 0, 0x0F, "A"),
    "adpLowLQIValue": Attribute("low_lqi", 0x04, 0, 255, "C"),
    "adpHighLQIValue": Attribute("high_lqi", 0x05, 0, 255, "C"),
    "adpRREPWait": Attribute("rrep_wait", 0x06, 0, 255, "A"),
    "adpRLCEnabled": Attribute("rlc_enabled", 0x09, 0, 1, "A"),
    "adpAddRevLinkCost": Attribute("add_reverse_link_cost", 0x0A, 0, 255, "C"),
    "adpUnicastRREQGenEnable": Attribute("unicast_rreq", 0x0D, 0, 1, "C"),
    "adpGroupTable": Attribute("groups", 0x0E, 0x8000, 0x9FFF, "A"),
    "adpMaxHops": Attribute("max_hops", 0x0F, 1, 14, "A"),
    "adpNetTraversalTime": Attribute("net_traversal_time", 0x11, 0, 255, "A"),
    "adpRoutingTableEntryTTL": Attribute("routing_ttl", 0x12, 0, 3600, "A"),
    "adpKr": Attribute("kr", 0x13, 0, 31, "A"),
    "adpKm": Attribute("km", 0x14, 0, 31, "A"),
    "adpKc": Attribute("kc", 0x15, 0, 31, "A"),
    "adpKq": Attribute("kq", 0x16, 0, 50, "A"),
    "adpKh": Attribute("kh", 0x17, 0, 31, "A"),
    "adpRREQRetries": Attribute("rreq_retries", 0x18, 0, 255, "A"),
    "adpRREQWait": Attribute("rreq_wait", 0x19, 0, 255, "A"),
    "adpWeakLQIValue": Attribute("weak_lqi", 0x1A, 0, 255, "A"),
    "adpKrt": Attribute("krt", 0x1B, 0, 31, "A"),
    "adpBlacklistTableEntryTTL": Attribute("blacklist_ttl", 0x1F, 0, 3600, "A"),
    "adpPathDiscoveryTime": Attribute("path_discovery_time", 0x21, 0, 255, "A"),
    "adpDefaultCoordRouteEnabled": Attribute("default_coordinator_route", 0x24, 0, 1, "B"),
    "adpDelayLowLQI": Attribute("delay_low_lqi", 0x25, 0, 0xFFFF, "B"),
    "adpDelayHighLQI": Attribute("delay_high_lqi", 0x26, 0, 0xFFFF, "B"),
    "adpRREQJitterLowLQI": Attribute("jitter_low_lqi", 0x27, 0, 255, "C"),
    "adpRREQJitterHighLQI": Attribute("jitter_high_lqi", 0x28, 0, 255, "C"),
    "adpClusterTrickleEnabled": Attribute("cluster_trickle", 0x31, 0, 1, "B"),
    "adpClusterMinLQI": Attribute("cluster_min_lqi", 0x32, 0, 255, "C"),
    "adpClusterTrickleK": Attribute("cluster_k", 0x33, 1, 255, "C"),
}


def _attribute(name: str) -> Attribute:
    attribute = ATTRIBUTES.get(name)
    if attribute is None:
        raise LocalError(f"the ADP has no attribute {name} (it has {', '.join(ATTRIBUTES)})")
    return attribute
