"""Reads references over an MMS association: whole ``LN$FC`` structures, one request for all values of a node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from flexmap.faces.mms_client import DataNode, Directory, MmsData, NodeDirectory, Reading
from flexmap.faces.mms_places import Place, find_places
from flexmap.mapping.units import UNITS
from flexmap.model import RemoteError

T = TypeVar("T")
_UNITS = {unit.si: unit.symbol for unit in UNITS}


class Association(Protocol):
    """What the reader needs of an association."""

    domains: list[str]

    def nodes(self, domain: str) -> list[str]:
        """Return the names of a logical device's nodes."""

    def specification(self, domain: str, item: str) -> DataNode:
        """Return the type of a variable as a tree."""

    def read(self, domain: str, item: str) -> MmsData:
        """Return the value of a variable; raises RemoteError if the server refuses."""

    def retry(self, request: Callable[[], T]) -> T:
        """Return the request's result, asked again if that may help."""


class Reader:
    """Reads over one association; types are asked for once."""

    def __init__(self, association: Association) -> None:
        self._association = association
        self._nodes: dict[str, list[str]] = {}
        self._types: dict[tuple[str, str], DataNode] = {}

    def browse(self) -> Directory:
        """Return everything the server has."""
        return Directory({domain: tuple(self._browse(domain)) for domain in self._association.domains})

    def read(self, references: Iterable[str]) -> list[Reading]:
        """Return the values of references, as MmsClient.read has them."""
        values: dict[tuple[str, str, str], MmsData] = {}
        return [reading for reference in references for reading in self._read(reference, values)]

    def _browse(self, domain: str) -> Iterator[NodeDirectory]:
        for node in self._names(domain):
            tree = self._type(domain, node)
            yield NodeDirectory(node, {fc.name: fc.children for fc in tree.children})

    def _names(self, domain: str) -> list[str]:
        if domain not in self._nodes:
            self._nodes[domain] = self._association.retry(lambda: self._association.nodes(domain))
        return self._nodes[domain]

    def _type(self, domain: str, node: str) -> DataNode:
        key = (domain, node)
        if key not in self._types:
            self._types[key] = self._association.retry(lambda: self._association.specification(domain, node))
        return self._types[key]

    def _read(self, reference: str, values: dict[tuple[str, str, str], MmsData]) -> Iterator[Reading]:
        try:
            yield from self._read_known(reference, values)
        except RemoteError as error:
            yield Reading(reference=reference, error=str(error))

    def _read_known(self, reference: str, values: dict[tuple[str, str, str], MmsData]) -> Iterator[Reading]:
        domain, _, rest = reference.partition("/")
        if domain not in self._association.domains:
            raise RemoteError(f"no logical device {domain}")
        name, _, path = rest.partition(".")
        nodes = [name] if name else self._names(domain)
        for node in nodes:
            if node not in self._names(domain):
                raise RemoteError(f"no logical node {domain}/{node}")
            places = find_places(self._type(domain, node), path)
            if not places and path:
                raise RemoteError(f"no value at {reference}")
            for place in places:
                yield self._reading(domain, node, place, values)

    def _reading(
        self, domain: str, node: str, place: Place, values: dict[tuple[str, str, str], MmsData]
    ) -> Reading:
        def part(fc: str, path: tuple[int, ...] | None) -> MmsData:
            if path is None:
                return None
            key = (domain, node, fc)
            if key not in values:
                values[key] = self._association.retry(lambda: self._association.read(domain, f"{node}${fc}"))
            found = values[key]
            for index in path:
                if not isinstance(found, list):
                    return None
                found = found[index]
            return found

        stamp = part(place.fc, place.time)
        milliseconds, time_quality = stamp if isinstance(stamp, list) else (None, None)
        unit = part("CF", place.unit)
        return Reading(
            reference=f"{domain}/{node}.{place.reference}",
            fc=place.fc,
            attribute=place.attribute,
            value=part(place.fc, place.value),
            type=place.type,
            quality=_whole(part(place.fc, place.quality)),
            time=_whole(milliseconds),
            time_quality=_whole(time_quality),
            unit=_UNITS.get(unit, f"SIUnit {unit}") if isinstance(unit, int) else "",
            multiplier=_whole(part("CF", place.multiplier)) or 0,
            pulse_quantity=_real(part("CF", place.pulse_quantity)),
        )


def _whole(value: MmsData) -> int | None:
    return value if isinstance(value, int) else None


def _real(value: MmsData) -> float | None:
    return value if isinstance(value, float) else None
