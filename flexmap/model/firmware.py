"""Firmware on its way to a meter: what is wanted, and how far it has come."""

from __future__ import annotations

import enum

import msgspec


class FirmwareOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An image that a meter is to get."""

    meter: str
    binary: int
    """Place of the binary that it replaces, as flexmap.stcomet.firmware.Binary."""
    version: int
    digest: bytes
    """SHA-256 of its octets."""
    path: str
    """File that holds its octets, all of them and nothing else."""
    sent: bool = False
    """The way to the meter has begun (a report has said so): go on with it, do not begin anew."""
    activate: bool = False
    """Put it into operation once it is verified."""


class FirmwareStage(enum.StrEnum):
    """How far it has come, as the meter and the way to it say."""

    SENDING = "sending"
    VERIFIED = "verified"
    """The meter has the whole image, has checked it, and waits to be told to put it into operation."""
    ACTIVATING = "activating"
    ACTIVE = "active"
    """The version runs in the meter."""
    FAILED = "failed"


class FirmwareReport(msgspec.Struct, frozen=True):
    """What a source says of an order."""

    meter: str
    stage: FirmwareStage
    cause: str = ""
    """Why it has failed."""
