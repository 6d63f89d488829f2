"""Image transfer (class 18 version 0, IEC 62056-6-2 clause "Image transfer"): object, parameters, blocks."""

from __future__ import annotations

import enum

import msgspec

from flexmap.dlms import axdr, security
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.objects import Attribute, Method, ObjectDefinition
from flexmap.dlms.profile import AUTHENTICATED, Role

IMAGE_TRANSFER = 18
IMAGE_TRANSFER_LN = bytes((0, 0, 44, 0, 0, 255))

INITIATE, BLOCK, VERIFY, ACTIVATE = 1, 2, 3, 4
"""Methods."""
BLOCKS_STATUS, FIRST_NOT_TRANSFERRED, ENABLED, STATUS, TO_ACTIVATE = 3, 4, 5, 6, 7
"""Attributes that change."""


class ImageStatus(enum.IntEnum):
    """image_transfer_status."""

    NOT_INITIATED = 0
    INITIATED = 1
    VERIFICATION_INITIATED = 2
    VERIFICATION_SUCCESSFUL = 3
    VERIFICATION_FAILED = 4
    ACTIVATION_INITIATED = 5
    ACTIVATION_SUCCESSFUL = 6
    ACTIVATION_FAILED = 7


def image_transfer(block_size: int) -> ObjectDefinition:
    """Return the Image transfer object; slots 3 to 7.

    Its methods ask for authenticated requests.
    """
    guard = security.AUTHENTICATED
    attributes = (
        Attribute(2, AUTHENTICATED, value=axdr.encode("double-long-unsigned", block_size)),
        Attribute(BLOCKS_STATUS, AUTHENTICATED),
        Attribute(FIRST_NOT_TRANSFERRED, AUTHENTICATED),
        Attribute(ENABLED, AUTHENTICATED, Role.MANAGEMENT),
        Attribute(STATUS, AUTHENTICATED),
        Attribute(TO_ACTIVATE, AUTHENTICATED),
    )
    methods = tuple(Method(index, protection=guard) for index in (INITIATE, BLOCK, VERIFY, ACTIVATE))
    return ObjectDefinition(IMAGE_TRANSFER, 0, IMAGE_TRANSFER_LN, attributes, methods)


def to_activate(size: int, identifier: bytes, signature: bytes) -> bytes:
    """Return image_to_activate_info of one image."""
    element = axdr.structure(
        axdr.encode("double-long-unsigned", size), axdr.octet_string(identifier), axdr.octet_string(signature)
    )
    return axdr.array([element])


def initiate_parameters(data: bytes | None) -> tuple[bytes, int]:
    """Return image_identifier and image_size; raises AxdrError."""
    value = axdr.decode(data or axdr.NULL)
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], bytes) and type(value[1]) is int:
        return value[0], value[1]
    raise AxdrError("image_transfer_initiate takes an identifier and a size")


def block_parameters(data: bytes | None) -> tuple[int, bytes]:
    """Return image_block_number and image_block_value; raises AxdrError."""
    value = axdr.decode(data or axdr.NULL)
    if isinstance(value, tuple) and len(value) == 2 and type(value[0]) is int and isinstance(value[1], bytes):
        return value[0], value[1]
    raise AxdrError("image_block_transfer takes a number and octets")


class Blocks(msgspec.Struct, array_like=True):
    """Which blocks of an image are there."""

    size: int
    """Octets of the image."""
    block_size: int
    there: int = 0
    """Bit n: block n is there."""

    @property
    def count(self) -> int:
        """Number of blocks."""
        return -(-self.size // self.block_size)

    @property
    def first_missing(self) -> int:
        """Number of the first block that is not there; that of all blocks if none is missing."""
        return (~self.there & (self.there + 1)).bit_length() - 1

    @property
    def whole(self) -> bool:
        """Whether all of them are there."""
        return self.first_missing >= self.count

    def length(self, number: int) -> int | None:
        """Return how many octets a block has; ``None`` if the image has no such block."""
        if not 0 <= number < self.count:
            return None
        return min(self.block_size, self.size - number * self.block_size)

    def take(self, number: int) -> None:
        """Take note that a block is there."""
        self.there |= 1 << number

    def bits(self) -> str:
        """Return image_transferred_blocks_status, the first block first."""
        return f"{self.there:0{self.count}b}"[::-1] if self.count else ""
