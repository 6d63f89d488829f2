"""Firmware between faces and sources: orders go to the meter's source; which versions run is kept and shown."""

from __future__ import annotations

import msgspec
from twisted.logger import Logger

from flexmap.gateway.service import Gateway
from flexmap.model import Event, LocalError, Site
from flexmap.model.firmware import FirmwareOrder, FirmwareReport, FirmwareStage
from flexmap.sources.interface import UpdatingSource
from flexmap.stcomet.firmware import Binary
from flexmap.stcomet.identifier import BINARIES
from flexmap.store.files import MeterFiles

log = Logger(namespace="flexmap.gateway")

FIRMWARE = "firmware"
"""Identity point that names the firmware; also the file in which the versions are kept."""
_NAMES = {binary: name for name, binary in BINARIES.items()}


def firmware_text(configured: str, versions: dict[int, int]) -> str:
    """Return the firmware of a meter in words: as configured, then what has replaced parts of it.

    ``1.4.2+plc.2+non-legal.3``: binary and version of each image that was activated.
    """
    parts = [f"{_NAMES[Binary(binary)]}.{version}" for binary, version in sorted(versions.items())]
    return "+".join([configured, *parts])


class FirmwareDesk:
    """Implements flexmap.faces.interface.FirmwareWay."""

    def __init__(self, gateway: Gateway, site: Site, files: MeterFiles) -> None:
        self._gateway = gateway
        self._meters = {meter.id: meter for meter in site.meters}
        self._files = files
        self._orders: dict[str, FirmwareOrder] = {}
        gateway.on_firmware = self._reported

    def resume(self) -> None:
        """Show the versions that run, as far as they were activated through here."""
        for meter in self._meters:
            versions = self._versions(meter)
            if versions:
                self._show(meter, versions)

    def order(self, order: FirmwareOrder) -> None:
        """Hand an order to the meter's source."""
        source = self._gateway.source_of(order.meter)
        if isinstance(source, UpdatingSource):
            self._orders[order.meter] = order
            source.update(order)

    def stop(self, meter: str) -> None:
        """Have a meter's source forget its order."""
        source = self._gateway.source_of(meter)
        if self._orders.pop(meter, None) is not None and isinstance(source, UpdatingSource):
            source.stop_update(meter)

    def event(self, event: Event) -> None:
        """Write an event into a meter's log."""
        self._gateway.event(event)

    def _reported(self, report: FirmwareReport) -> None:
        if report.stage not in {FirmwareStage.ACTIVE, FirmwareStage.FAILED}:
            return
        order = self._orders.pop(report.meter, None)
        if order is None or report.stage is FirmwareStage.FAILED:
            return
        versions = self._versions(report.meter) | {order.binary: order.version}
        try:
            self._files.keep(report.meter, FIRMWARE, msgspec.msgpack.encode(versions))
        except LocalError as error:
            log.warn("versions of {meter} are not kept: {error}", meter=report.meter, error=error)
        self._show(report.meter, versions)

    def _show(self, meter: str, versions: dict[int, int]) -> None:
        text = firmware_text(self._meters[meter].identity.get(FIRMWARE, ""), versions)
        self._gateway.identity(meter, FIRMWARE, text)

    def _versions(self, meter: str) -> dict[int, int]:
        octets = self._files.read(meter, FIRMWARE)
        try:
            return msgspec.msgpack.decode(octets, type=dict[int, int]) if octets else {}
        except msgspec.DecodeError:
            log.warn("versions of {meter} are damaged", meter=meter)
            return {}
