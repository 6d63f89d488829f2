"""Information base of the MAC: attributes by name, with their identifiers, ranges and defaults (G.9903).

Names, identifiers and defaults are A (two vendors' public headers agree) unless a letter says otherwise.
"""

from __future__ import annotations

import msgspec

from flexmap.model.error import LocalError


class Attribute(msgspec.Struct, frozen=True):
    """An attribute of the information base."""

    name: str
    code: int
    """Attribute identifier."""
    field: str
    """Where it stands: a field of :class:`MacPib`, of :class:`Counters`, or of the MAC itself."""
    low: int = 0
    high: int = 0
    default: int = 0
    unit: str = ""

    def check(self, value: int) -> int:
        """Return the value; raises :class:`LocalError` outside the range."""
        if not self.low <= value <= self.high:
            raise LocalError(f"{self.name} is {self.low} to {self.high}, not {value}")
        return value


SETTINGS = (
    Attribute("macMaxBE", 0x47, "max_be", 0, 14, 8),
    Attribute("macMaxCSMABackoffs", 0x4E, "max_csma_backoffs", 0, 255, 50),
    Attribute("macMinBE", 0x4F, "min_be", 0, 14, 3),
    Attribute("macMaxFrameRetries", 0x59, "max_frame_retries", 0, 10, 5),
    Attribute("macDuplicateDetectionTTL", 0x78, "duplicate_ttl", 0, 255, 3, "s"),
    Attribute("macHighPriorityWindowSize", 0x100, "high_priority_window", 1, 7, 7, "slots"),
    Attribute("macCSMAFairnessLimit", 0x10C, "fairness_limit", 1, 255, 25),
    Attribute("macTMRTTL", 0x10D, "tmr_ttl", 0, 255, 10, "min"),
    Attribute("macPOSTableEntryTTL", 0x10E, "pos_ttl", 0, 255, 255, "min"),
    Attribute("macBeaconRandomizationWindowLength", 0x111, "beacon_window", 1, 254, 12, "s"),
    Attribute("macA", 0x112, "a", 3, 20, 8),
    Attribute("macK", 0x113, "k", 1, 255, 5),
    Attribute("macBroadcastMaxCWEnable", 0x11E, "broadcast_max_cw", 0, 1, 0),
)
"""What can be set."""

COUNTERS = (
    Attribute("macTxDataPacketCount", 0x101, "tx_data"),
    Attribute("macRxDataPacketCount", 0x102, "rx_data"),
    Attribute("macTxCmdPacketCount", 0x103, "tx_command"),
    Attribute("macRxCmdPacketCount", 0x104, "rx_command"),
    Attribute("macCSMAFailCount", 0x105, "csma_fail"),
    Attribute("macCSMANoACKCount", 0x106, "csma_no_ack"),
    Attribute("macRxDataBroadcastCount", 0x107, "rx_broadcast"),
    Attribute("macTxDataBroadcastCount", 0x108, "tx_broadcast"),
    Attribute("macBadCRCCount", 0x109, "bad_crc"),
)
"""What COSEM's class 90 (G3-PLC MAC layer counters) shows."""

DIAGNOSTICS = (
    Attribute("macUnknownKeyCount", 0x8000_0001, "unknown_key"),
    Attribute("macWrongMICCount", 0x8000_0002, "wrong_mic"),
    Attribute("macOldCounterCount", 0x8000_0003, "old_counter"),
    Attribute("macDuplicateCount", 0x8000_0004, "duplicates"),
    Attribute("macMalformedCount", 0x8000_0005, "malformed"),
    Attribute("macRetryCount", 0x8000_0006, "retries"),
    Attribute("macNACKCount", 0x8000_0007, "nack"),
)
"""Counters that the recommendation has no attributes for; names and identifiers are ours."""

COUNTING = (*COUNTERS, *DIAGNOSTICS)
"""What can be set to 0."""

IDENTITY = (
    Attribute("macPANId", 0x50, "pan_id", 0, 0xFFFF, 0xFFFF),
    Attribute("macShortAddress", 0x53, "short_address", 0, 0xFFFF, 0xFFFF),
)
"""What stands in the MAC itself and can be set."""

READ_ONLY = (
    Attribute("macFrameCounter", 0x77, "frame_counter"),
    Attribute("macNeighbourTable", 0x10A, "neighbour_table"),
    Attribute("macToneMask", 0x110, "tone_mask"),
    Attribute("macPOSTable", 0x120, "pos_table"),
)

ATTRIBUTES = {a.name: a for a in (*SETTINGS, *COUNTING, *IDENTITY, *READ_ONLY)}


class MacPib(msgspec.Struct, gc=False):
    """The settings of a MAC, with their defaults."""

    max_be: int = 8
    max_csma_backoffs: int = 50
    min_be: int = 3
    max_frame_retries: int = 5
    duplicate_ttl: int = 3
    high_priority_window: int = 7
    fairness_limit: int = 25
    tmr_ttl: int = 10
    pos_ttl: int = 255
    beacon_window: int = 12
    a: int = 8
    k: int = 5
    broadcast_max_cw: int = 0


class Counters(msgspec.Struct, gc=False):
    """What a MAC has counted since it was made or its counters were reset."""

    tx_data: int = 0
    """Unicast MSDUs sent and acknowledged."""
    rx_data: int = 0
    """Unicast MSDUs taken."""
    tx_command: int = 0
    rx_command: int = 0
    csma_fail: int = 0
    """Frames given up because the line was never free."""
    csma_no_ack: int = 0
    """Frames that were sent and not acknowledged, each try counted."""
    rx_broadcast: int = 0
    tx_broadcast: int = 0
    bad_crc: int = 0
    retries: int = 0
    nack: int = 0
    """Negative acknowledgements received."""
    duplicates: int = 0
    malformed: int = 0
    """Frames with a good check sequence that are none of G3-PLC, or do not fit what came before."""
    security: int = 0
    """Frames that failed their protection: unknown key, wrong integrity code, old counter."""
    unknown_key: int = 0
    """Those of them under a key index that there is no key at …"""
    wrong_mic: int = 0
    """… with a wrong integrity code …"""
    old_counter: int = 0
    """… and with a counter that did not rise."""
