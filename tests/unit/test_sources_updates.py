"""Orders of firmware at a concentrator whose line is lost, whose shelf is damaged, whose users interfere."""

import hashlib

from test_concentrator_upload import IMAGE, Bench
from test_sources_concentrator import Reactor

from flexmap.model.firmware import FirmwareOrder, FirmwareStage
from flexmap.sources.concentrator.updates import Updates
from flexmap.stcomet.firmware import Binary, Image
from flexmap.stcomet.identifier import shelf_name

SENDING, VERIFIED, ACTIVATING, ACTIVE, FAILED = FirmwareStage
NAME = "SM_ID1"


class Rig:
    def __init__(self, tmp_path):
        self.bench = Bench()
        self.path = tmp_path / "image"
        self.path.write_bytes(IMAGE)
        self.reports = []
        self.updates = Updates("c", Reactor(self.bench.pan.time), self.reports.append)
        self.updates.present({"m": NAME})

    def order(self, *, octets=IMAGE, version=2, **fields):
        digest = hashlib.sha256(octets).digest()
        self.image = Image(Binary.PLC, version, len(octets), digest)
        path = str(self.path)
        self.updates.order(FirmwareOrder(meter="m", binary=2, version=version, digest=digest, path=path, **fields))

    def begin(self):
        self.updates.began(self.bench.wire.link)

    def stages(self):
        return [report.stage for report in self.reports]


def test_sent_verified_then_activated_and_the_shelf_is_empty(tmp_path):
    rig = Rig(tmp_path)
    rig.order()
    rig.bench.run(60)
    assert rig.reports == []
    rig.begin()
    rig.bench.run(120)
    assert rig.stages() == [SENDING, VERIFIED]
    rig.order(sent=True, activate=True)
    rig.bench.run(120)
    assert rig.stages()[2:] == [ACTIVATING, ACTIVE]
    assert rig.bench.core.shelf.names() == []
    assert rig.bench.pan.meters[2].firmware.versions[Binary.PLC] == 2


def test_a_line_lost_in_the_upload_and_a_meter_out_of_the_pan(tmp_path):
    rig = Rig(tmp_path)
    rig.updates.present({})
    rig.order(activate=True)
    rig.begin()
    rig.bench.run(100)
    assert rig.bench.core.shelf.names() == []
    rig.updates.present({"m": NAME})
    rig.bench.run(0.005)
    held = rig.bench.core.shelf.get(shelf_name(rig.image))
    assert 0 < len(held.octets) < len(IMAGE)
    rig.bench.wire.link.connectionLost()
    rig.updates.ended()
    rig.bench.run(100)
    assert rig.reports == []
    again = Bench.__new__(Bench)
    again.__dict__ |= rig.bench.__dict__
    again.wire = type(rig.bench.wire)(rig.bench.pan, rig.bench.core)
    rig.updates.began(again.wire.link)
    rig.bench.run(200)
    assert rig.stages() == [SENDING, ACTIVATING, ACTIVE]


def test_an_image_that_is_not_what_was_ordered_is_given_up(tmp_path):
    rig = Rig(tmp_path)
    rig.order(octets=IMAGE[:-1] + b"?")
    rig.begin()
    rig.bench.run(200)
    assert rig.stages() == [FAILED]
    assert rig.bench.core.shelf.names() == []


def test_a_file_that_is_gone_and_an_image_of_somebody_else(tmp_path):
    rig = Rig(tmp_path)
    rig.begin()
    rig.order()
    rig.bench.run(120)
    rig.path.unlink()
    rig.order(version=3)
    rig.bench.run(30)
    assert rig.reports[-1].stage is FAILED
    assert rig.reports[-1].cause == "the image is damaged, or gone"
    rig.order(version=4, sent=True, activate=True)
    rig.bench.run(60)
    assert rig.reports[-1].stage is FAILED
    assert "is being sent to it instead" in rig.reports[-1].cause


def test_an_order_taken_back_stops_the_transfer(tmp_path):
    rig = Rig(tmp_path)
    rig.begin()
    rig.order()
    rig.bench.run(0.5)
    assert rig.stages() == [SENDING]
    rig.updates.stop("m")
    rig.bench.run(60)
    (transfer,) = rig.bench.core.updates
    assert transfer.state == "stopped"
    assert rig.stages() == [SENDING]
