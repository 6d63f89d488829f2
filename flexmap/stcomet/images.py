"""Firmware images that a concentrator holds: given by a host line by line, sent to meters over the power line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping

import msgspec

from flexmap.stcomet.firmware import LARGEST, Binary, Image
from flexmap.stcomet.mnsh import ErrorCode, MnshError

MOST_IMAGES = 8
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,15}")


class Held(msgspec.Struct):
    """An image, as far as it is there."""

    image: Image
    octets: bytearray

    @property
    def whole(self) -> bool:
        """Whether all of it is there; its digest was right then."""
        return len(self.octets) == self.image.size


class Shelf:
    """Images by name; ``changed`` is called with the name of one that is whole, or gone."""

    def __init__(self, held: Mapping[str, Held] | None = None) -> None:
        self._held = dict(held or {})
        self.changed: Callable[[str], object] = lambda _name: None

    def names(self) -> list[str]:
        """Return the names of all images."""
        return sorted(self._held)

    def get(self, name: str) -> Held | None:
        """Return an image."""
        return self._held.get(name)

    def find(self, name: str) -> Held:
        """Return an image; raise :class:`MnshError` if there is none of this name."""
        held = self._held.get(name)
        if held is None:
            raise MnshError(ErrorCode.IMAGE, f"no image {name}: see FW IMAGES")
        return held

    def whole(self, name: str) -> Held:
        """Return an image that is whole; raise :class:`MnshError` if it is not."""
        held = self.find(name)
        if not held.whole:
            raise MnshError(ErrorCode.IMAGE, f"of {name} there are {len(held.octets)} of {held.image.size} octets")
        return held

    def announce(self, name: str, image: Image) -> int:
        """Expect an image, or go on with it; return how many octets are there."""
        held = self._held.get(name)
        if held is not None and held.image == image:
            return len(held.octets)
        if held is not None:
            raise MnshError(ErrorCode.REFUSED, f"{name} is another image: FW DROP it, or take another name")
        if not _NAME.fullmatch(name):
            raise MnshError(
                ErrorCode.PARAMETER, "image: 1 to 16 letters, digits, '.', '_', '-', no '.' or '-' first"
            )
        if not image.binary.replaceable:
            raise MnshError(ErrorCode.REFUSED, f"{image.binary.name} belongs to the legal part")
        if not 0 < image.size <= LARGEST:
            raise MnshError(ErrorCode.PARAMETER, f"size is 1 to {LARGEST}")
        if len(self._held) >= MOST_IMAGES:
            raise MnshError(ErrorCode.BUSY, f"there are {MOST_IMAGES} images: FW DROP one")
        self._held[name] = Held(image, bytearray())
        return 0

    def block(self, name: str, offset: int, octets: bytes) -> int:
        """Take octets; return how many are there, which is where the next block begins.

        A block beyond that, or unlike what is there, is not taken. An image that is all there but not the one that
        was announced is emptied, and :class:`MnshError` raised.
        """
        held = self.find(name)
        there = len(held.octets)
        new = octets[there - offset :]
        if offset > there or not new or held.octets[offset:] != octets[: there - offset]:
            return there
        if there + len(new) > held.image.size:
            raise MnshError(ErrorCode.PARAMETER, f"the image ends at {held.image.size}")
        held.octets += new
        if held.whole:
            self._check(name, held)
        return len(held.octets)

    def _check(self, name: str, held: Held) -> None:
        if hashlib.sha256(held.octets).digest() != held.image.digest:
            held.octets.clear()
            raise MnshError(ErrorCode.IMAGE, f"{name} is not what was announced (SHA-256): begin again at 0")
        self.changed(name)

    def drop(self, name: str) -> None:
        """Forget an image; raise :class:`MnshError` if there is none of this name."""
        self.find(name)
        del self._held[name]
        self.changed(name)


def image(binary: int, version: int, size: int, digest: bytes) -> Image:
    """Return an image as its announcement tells."""
    return Image(Binary(binary), version, size, digest)
