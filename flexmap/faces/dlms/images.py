"""The Image transfer object of one meter: blocks are kept on disk, the image goes to the meter in the background.

What the object says of verification and activation is what the meter has said. Its state outlives a restart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import msgspec
from twisted.logger import Logger

from flexmap.dlms import axdr, image_transfer
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.image_transfer import Blocks, ImageStatus
from flexmap.dlms.objects import SlotValue
from flexmap.dlms.profile import ClientProfile
from flexmap.faces.interface import FirmwareWay
from flexmap.model import Event, EventCode, EventLog, LocalError, RemoteError
from flexmap.model.firmware import FirmwareOrder, FirmwareReport, FirmwareStage
from flexmap.stcomet import identifier as identifiers
from flexmap.stcomet.firmware import LARGEST, Image
from flexmap.store.files import MeterFiles

log = Logger(namespace="flexmap.dlms")

BLOCK_SIZE = 512
"""image_block_size: what even small PDUs of head-ends hold beside their protection."""
DEFINITION = image_transfer.image_transfer(BLOCK_SIZE)
_FILE = "image-transfer"


class _Kept(msgspec.Struct):
    """What outlives a restart."""

    status: ImageStatus = ImageStatus.NOT_INITIATED
    enabled: bool = True
    identifier: bytes = b""
    size: int = 0
    there: bytes = b""
    """Bits of the blocks that are there, as Blocks has them, little-endian."""
    sent: bool = False
    activate: bool = False


class ImageTransfer:
    """Class 18 of one meter (implements flexmap.faces.dlms.live.LiveObject)."""

    definition = DEFINITION

    def __init__(self, meter: str, files: MeterFiles, way: FirmwareWay, now: Callable[[], float]) -> None:
        """``now`` gives seconds since 1970. Raises LocalError if what was kept cannot be read."""
        self._meter = meter
        self._files = files
        self._way = way
        self._now = now
        octets = files.read(meter, _FILE)
        try:
            self._state = msgspec.msgpack.decode(octets, type=_Kept) if octets else _Kept()
        except msgspec.DecodeError as error:
            raise LocalError(f"image transfer of {meter} is damaged: {error}") from None
        self._blocks = Blocks(self._state.size, BLOCK_SIZE, int.from_bytes(self._state.there, "little"))

    @property
    def status(self) -> ImageStatus:
        """image_transfer_status."""
        return self._state.status

    def begin(self) -> None:
        """Go on with an image that is on its way."""
        if self.status in {ImageStatus.VERIFICATION_INITIATED, ImageStatus.ACTIVATION_INITIATED}:
            self._order()

    def stop(self) -> None:
        """Do nothing: it does nothing by itself."""

    def slots(self) -> Mapping[int, SlotValue]:
        """Return functions that encode its attributes."""
        return {
            image_transfer.BLOCKS_STATUS: lambda: axdr.encode("bit-string", self._blocks.bits()),
            image_transfer.FIRST_NOT_TRANSFERRED: lambda: axdr.encode(
                "double-long-unsigned", self._blocks.first_missing
            ),
            image_transfer.ENABLED: lambda: axdr.encode("boolean", self._state.enabled),
            image_transfer.STATUS: lambda: axdr.encode("enum", self.status),
            image_transfer.TO_ACTIVATE: self._to_activate,
        }

    def _to_activate(self) -> bytes:
        if self.status not in {ImageStatus.VERIFICATION_SUCCESSFUL, ImageStatus.ACTIVATION_INITIATED}:
            return axdr.array([])
        return image_transfer.to_activate(self._state.size, self._state.identifier, self._image().digest)

    def write(self, attribute: int, data: bytes) -> DataAccessResult:
        """Write image_transfer_enabled, the only attribute that can be written."""
        value = axdr.decode(data)
        if attribute != image_transfer.ENABLED or not isinstance(value, bool):
            return DataAccessResult.TYPE_UNMATCHED
        self._state.enabled = value
        return DataAccessResult.SUCCESS if self._keep() else DataAccessResult.TEMPORARY_FAILURE

    def act(self, method: int, data: bytes | None, client: ClientProfile) -> ActionResult:
        """Call a method."""
        if not self._state.enabled:
            return ActionResult.OTHER_REASON
        try:
            if method == image_transfer.INITIATE:
                return self._initiate(*image_transfer.initiate_parameters(data), client)
            if method == image_transfer.BLOCK:
                return self._block(*image_transfer.block_parameters(data))
        except AxdrError:
            return ActionResult.TYPE_UNMATCHED
        except LocalError as error:
            log.warn("image of {meter}: {error}", meter=self._meter, error=error)
            return ActionResult.TEMPORARY_FAILURE
        return self._verify() if method == image_transfer.VERIFY else self._activate()

    # --- the image comes

    def _initiate(self, identifier: bytes, size: int, client: ClientProfile) -> ActionResult:
        if self.status is ImageStatus.ACTIVATION_INITIATED:
            return ActionResult.TEMPORARY_FAILURE  # the meter is just putting one into operation
        self._way.stop(self._meter)
        self._state = _Kept(enabled=self._state.enabled, identifier=identifier)
        self._blocks = Blocks(0, BLOCK_SIZE)
        try:
            image = identifiers.parse(identifier, size)
        except RemoteError as error:
            return self._refused(ActionResult.OTHER_REASON, str(error))
        if not image.binary.replaceable:
            return self._refused(ActionResult.READ_WRITE_DENIED, f"{image.binary.name} belongs to the legal part")
        if not 0 < size <= LARGEST:
            return self._refused(ActionResult.OTHER_REASON, f"{size} octets are no image")
        self._files.make_image(self._meter, size)
        self._state.size = size
        self._state.status = ImageStatus.INITIATED
        self._blocks = Blocks(size, BLOCK_SIZE)
        log.info(
            "{meter}: image {identifier} from DLMS client {client}",
            meter=self._meter,
            identifier=identifier.decode(),
            client=client.name,
        )
        return self._kept(ActionResult.SUCCESS)

    def _block(self, number: int, octets: bytes) -> ActionResult:
        if self.status in {ImageStatus.VERIFICATION_INITIATED, ImageStatus.ACTIVATION_INITIATED}:
            return ActionResult.TEMPORARY_FAILURE
        if self.status is not ImageStatus.INITIATED or len(octets) != self._blocks.length(number):
            return ActionResult.OTHER_REASON
        self._files.write_image(self._meter, number * BLOCK_SIZE, octets)
        self._blocks.take(number)
        return self._kept(ActionResult.SUCCESS)

    # --- the image goes

    def _verify(self) -> ActionResult:
        if self.status is ImageStatus.VERIFICATION_SUCCESSFUL:
            return ActionResult.SUCCESS
        if self.status in {ImageStatus.VERIFICATION_INITIATED, ImageStatus.ACTIVATION_INITIATED}:
            return ActionResult.TEMPORARY_FAILURE
        if self.status is not ImageStatus.INITIATED or not self._blocks.whole:
            return ActionResult.OTHER_REASON
        if hashlib.sha256(self._files.read_image(self._meter)).digest() != self._image().digest:
            return self._refused(ActionResult.OTHER_REASON, "it is not what its identifier says (SHA-256)")
        self._state.status = ImageStatus.VERIFICATION_INITIATED
        return self._ordered()

    def _activate(self) -> ActionResult:
        if self.status is ImageStatus.INITIATED:
            result = self._verify()
            if result is not ActionResult.TEMPORARY_FAILURE:
                return result
        if self.status is ImageStatus.ACTIVATION_SUCCESSFUL:
            return ActionResult.SUCCESS
        if self.status is ImageStatus.ACTIVATION_INITIATED:
            return ActionResult.TEMPORARY_FAILURE
        if self.status is ImageStatus.VERIFICATION_SUCCESSFUL:
            self._state.status = ImageStatus.ACTIVATION_INITIATED
        elif self.status is not ImageStatus.VERIFICATION_INITIATED:
            return ActionResult.OTHER_REASON
        self._state.activate = True
        return self._ordered()

    def _ordered(self) -> ActionResult:
        """Keep, then order: what is ordered is known after a restart too."""
        if self._keep():
            self._order()
        return ActionResult.TEMPORARY_FAILURE

    def _order(self) -> None:
        image = self._image()
        self._way.order(
            FirmwareOrder(
                meter=self._meter,
                binary=image.binary,
                version=image.version,
                digest=image.digest,
                path=str(self._files.image(self._meter)),
                sent=self._state.sent,
                activate=self._state.activate,
            )
        )

    def report(self, report: FirmwareReport) -> None:
        """Take what the way to the meter says."""
        before = self.status
        if before not in {ImageStatus.VERIFICATION_INITIATED, ImageStatus.ACTIVATION_INITIATED}:
            return
        if report.stage is FirmwareStage.SENDING:
            self._state.sent = True
        elif report.stage is FirmwareStage.VERIFIED and not self._state.activate:
            self._state.status = ImageStatus.VERIFICATION_SUCCESSFUL
        elif report.stage in {FirmwareStage.VERIFIED, FirmwareStage.ACTIVATING}:
            self._state.status = ImageStatus.ACTIVATION_INITIATED
        elif report.stage is FirmwareStage.ACTIVE:
            self._state.status = ImageStatus.ACTIVATION_SUCCESSFUL
            self._files.drop_image(self._meter)
        else:
            verifying = before is ImageStatus.VERIFICATION_INITIATED
            self._state.status = ImageStatus.VERIFICATION_FAILED if verifying else ImageStatus.ACTIVATION_FAILED
            self._files.drop_image(self._meter)
            log.warn("{meter}: firmware: {cause}", meter=self._meter, cause=report.cause)
        self._keep()

    # --- what is kept

    def _image(self) -> Image:
        return identifiers.parse(self._state.identifier, self._state.size)

    def _refused(self, result: ActionResult, cause: str) -> ActionResult:
        """Refuse an image before it goes to the meter, as a verification that has failed."""
        log.warn("{meter}: image refused: {cause}", meter=self._meter, cause=cause)
        self._state.status = ImageStatus.VERIFICATION_FAILED
        self._files.drop_image(self._meter)
        code = EventCode.FIRMWARE_VERIFICATION_FAILED
        self._way.event(Event(self._meter, int(self._now() * 1000), EventLog.STANDARD, code, cause))
        return self._kept(result)

    def _kept(self, result: ActionResult) -> ActionResult:
        return result if self._keep() else ActionResult.TEMPORARY_FAILURE

    def _keep(self) -> bool:
        there = self._blocks.there
        self._state.there = there.to_bytes((there.bit_length() + 7) // 8, "little")
        try:
            self._files.keep(self._meter, _FILE, msgspec.msgpack.encode(self._state))
        except LocalError as error:
            log.warn("image transfer of {meter}: {error}", meter=self._meter, error=error)
            return False
        return True
