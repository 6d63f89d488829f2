"""Identifiers, blocks, files, scripts and schedules: the parts of a head-end's firmware replacement."""

import calendar
import hashlib

import msgspec
import pytest
from click.testing import CliRunner
from twisted.internet.task import Clock

from flexmap.cli.main import cli
from flexmap.dlms import axdr
from flexmap.dlms.apdu import ActionResult, DataAccessResult
from flexmap.dlms.axdr import AxdrError
from flexmap.dlms.image_transfer import ACTIVATE, VERIFY, Blocks, ImageStatus
from flexmap.dlms.objects import ActionReply, Pending
from flexmap.dlms.profile import ClientProfile, Role
from flexmap.dlms.schedule import Execution, decode_executions, following
from flexmap.dlms.scripts import ScriptAction, Service
from flexmap.faces.dlms.images import BLOCK_SIZE, ImageTransfer
from flexmap.faces.dlms.scripts import IMAGE_SCHEDULE_LN, ActionSchedule, ScriptTable
from flexmap.gateway.firmware import firmware_text
from flexmap.model import LocalError, RemoteError
from flexmap.model.firmware import FirmwareReport, FirmwareStage
from flexmap.stcomet import identifier
from flexmap.stcomet.firmware import Binary, Image
from flexmap.store.files import MeterFiles

DIGEST = hashlib.sha256(b"image").digest()
CLIENT = ClientProfile(sap=1, name="m", role=Role.MANAGEMENT)
OPEN = 0xFF


def test_an_identifier_names_what_the_command_line_names(tmp_path):
    path = tmp_path / "image.bin"
    path.write_bytes(b"image")
    said = (
        CliRunner()
        .invoke(cli, ["firmware", str(path), "--binary", "non-legal", "--version", "7", "--identifier"])
        .output
    )
    assert said == f"non-legal/7/{DIGEST.hex()}\n"
    image = Image(Binary.NON_LEGAL, 7, 5, DIGEST)
    assert identifier.parse(said.strip().encode(), 5) == image
    assert identifier.identifier(image) == said.strip().encode()
    others = [
        Image(Binary.PLC, 7, 5, DIGEST),
        Image(Binary.NON_LEGAL, 8, 5, DIGEST),
        Image(Binary.NON_LEGAL, 7, 5, bytes(32)),
    ]
    names = {identifier.shelf_name(each) for each in (image, *others)}
    assert len(names) == 4
    assert all(len(name) == 16 for name in names)


@pytest.mark.parametrize(
    "text",
    ["", "plc", f"plc/0/{DIGEST.hex()}", f"plc/01/{DIGEST.hex()}", f"plc/1/{DIGEST.hex()[:-1]}",
     f"plc/1/{DIGEST.hex().upper()}", f"plc/4294967296/{DIGEST.hex()}", f"plx/1/{DIGEST.hex()}",
     f"plc/1/{DIGEST.hex()}\n", f" plc/1/{DIGEST.hex()}"],
)  # fmt: skip
def test_what_is_no_identifier(text):
    with pytest.raises(RemoteError):
        identifier.parse(text.encode(), 1)


def test_blocks():
    blocks = Blocks(1025, 512)
    assert (blocks.count, blocks.bits(), blocks.first_missing, blocks.whole) == (3, "000", 0, False)
    assert [blocks.length(number) for number in (-1, 0, 1, 2, 3)] == [None, 512, 512, 1, None]
    for number, bits, missing in ((2, "001", 0), (0, "101", 1), (0, "101", 1), (1, "111", 3)):
        blocks.take(number)
        assert (blocks.bits(), blocks.first_missing) == (bits, missing)
    assert blocks.whole


def test_images_take_no_more_of_the_disk_than_allowed_and_files_are_private(tmp_path):
    files = MeterFiles(tmp_path / "meters", most=1000)
    files.make_image("a/../b", 600)
    with pytest.raises(LocalError, match="600 of 1000"):
        files.make_image("c", 401)
    files.make_image("a/../b", 1000)  # in place of the first
    files.write_image("a/../b", 998, b"xy")
    assert files.read_image("a/../b") == bytes(998) + b"xy"
    files.keep("a/../b", "state", b"1")
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {tmp_path / "meters"}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "meters").iterdir()} == {0o600}
    files.drop_image("a/../b")
    assert (files.read_image("a/../b"), files.read("a/../b", "state"), files.read("c", "x")) == (b"", b"1", None)


class Way:
    """Notes what an Image transfer object asks for."""

    def __init__(self):
        self.orders, self.stopped, self.events = [], [], []
        self.order, self.stop, self.event = self.orders.append, self.stopped.append, self.events.append


def initiate(images, octets, size=None):
    name = identifier.identifier(Image(Binary.PLC, 2, len(octets), hashlib.sha256(octets).digest()))
    size = len(octets) if size is None else size
    data = axdr.structure(axdr.octet_string(name), axdr.encode("double-long-unsigned", size))
    return images.act(1, data, CLIENT)


def send(images, octets):
    for number, at in enumerate(range(0, len(octets), BLOCK_SIZE)):
        data = axdr.structure(
            axdr.encode("double-long-unsigned", number), axdr.octet_string(octets[at : at + BLOCK_SIZE])
        )
        assert images.act(2, data, CLIENT) is ActionResult.SUCCESS


def act(images, method):
    return images.act(method, axdr.encode("integer", 0), CLIENT)


def test_the_object_says_what_the_meter_says_over_restarts(tmp_path):
    way, octets = Way(), bytes(700)
    files = MeterFiles(tmp_path)

    def fresh():
        return ImageTransfer("m", files, way, lambda: 0.0)

    images = fresh()
    initiate(images, octets)
    send(images, octets)
    assert act(images, VERIFY) is ActionResult.TEMPORARY_FAILURE
    (order,) = way.orders
    assert (order.version, order.sent, order.activate) == (2, False, False)
    images.report(FirmwareReport("m", FirmwareStage.SENDING))
    images = fresh()
    images.begin()
    assert way.orders[-1].sent
    images.report(FirmwareReport("m", FirmwareStage.VERIFIED))
    images = fresh()
    images.begin()
    assert (images.status, len(way.orders)) == (ImageStatus.VERIFICATION_SUCCESSFUL, 2)
    assert act(images, ACTIVATE) is ActionResult.TEMPORARY_FAILURE
    assert (way.orders[-1].sent, way.orders[-1].activate) == (True, True)
    # Nothing else can begin while the meter copies.
    assert initiate(images, octets) is ActionResult.TEMPORARY_FAILURE
    images.report(FirmwareReport("m", FirmwareStage.FAILED, "version 1 runs in the meter"))
    assert fresh().status is ImageStatus.ACTIVATION_FAILED
    assert files.read_image("m") == b""
    images.report(FirmwareReport("m", FirmwareStage.ACTIVE))  # too late
    assert images.status is ImageStatus.ACTIVATION_FAILED


def test_a_meter_that_refuses_the_image_and_a_disk_that_is_full(tmp_path):
    way = Way()
    images = ImageTransfer("m", MeterFiles(tmp_path, most=600), way, lambda: 0.0)
    assert initiate(images, bytes(601)) is ActionResult.TEMPORARY_FAILURE
    assert images.status is ImageStatus.NOT_INITIATED
    initiate(images, bytes(600))
    send(images, bytes(600))
    assert act(images, ACTIVATE) is ActionResult.TEMPORARY_FAILURE
    assert images.status is ImageStatus.VERIFICATION_INITIATED
    images.report(FirmwareReport("m", FirmwareStage.FAILED, "the meter refuses: digest"))
    assert images.status is ImageStatus.VERIFICATION_FAILED
    for data in (None, axdr.encode("integer", 0), axdr.structure(), b"\x02\x02\x09\x01"):
        assert images.act(1, data, CLIENT) is ActionResult.TYPE_UNMATCHED
        assert images.act(2, data, CLIENT) is ActionResult.TYPE_UNMATCHED
    assert images.write(5, axdr.encode("integer", 1)) is DataAccessResult.TYPE_UNMATCHED


def at(text):
    date, time = text.split()
    return calendar.timegm((*map(int, date.split("-")), *map(int, time.split(":"))))


def execution(time, year=0xFFFF, month=OPEN, day=OPEN, weekday=OPEN):
    clock = bytes(map(int, time.split(":"))) + b"\0"
    return Execution(clock, year.to_bytes(2, "big") + bytes((month, day, weekday)))


@pytest.mark.parametrize(
    ("due", "after", "expected"),
    [
        (execution("03:00:00"), "2026-11-23 02:59:59", "2026-11-23 03:00:00"),
        (execution("03:00:00"), "2026-11-23 03:00:00", "2026-11-24 03:00:00"),
        (execution("03:00:00", 2026, 12, 24), "2026-11-23 05:00:00", "2026-12-24 03:00:00"),
        (execution("03:00:00", 2025, 12, 24), "2026-11-23 05:00:00", None),
        (execution("00:00:00", month=2, day=29), "2096-03-01 00:00:00", "2104-02-29 00:00:00"),
        (execution("23:59:59", day=0xFE), "2027-02-01 00:00:00", "2027-02-28 23:59:59"),
        (execution("23:59:59", day=0xFD), "2028-02-28 00:00:00", "2028-02-28 23:59:59"),
        (execution("12:00:00", weekday=1), "2026-11-23 12:00:00", "2026-11-30 12:00:00"),
        (execution("12:00:00", 2026, 2, 30), "2026-01-01 00:00:00", None),
        (execution("12:00:00", 2040, 1, 1), "2026-01-01 00:00:00", "2040-01-01 12:00:00"),
    ],
)
def test_when_an_execution_is_due(due, after, expected):
    assert following([due], at(after)) == (None if expected is None else at(expected))
    assert decode_executions(axdr.array([due.encode()])) == (due,)


@pytest.mark.parametrize(
    "wrong",
    [execution("24:00:00"), execution("00:60:00"), execution("00:00:60"), execution("255:00:00"),
     execution("00:00:00", year=0), execution("00:00:00", month=13), execution("00:00:00", day=32),
     execution("00:00:00", weekday=8)],
)  # fmt: skip
def test_times_and_dates_that_there_are_not(wrong):
    with pytest.raises(AxdrError):
        decode_executions(axdr.array([wrong.encode()]))
    with pytest.raises(AxdrError):
        decode_executions(axdr.array([execution("01:00:00").encode()] * 2))


def test_a_script_waits_for_each_answer_and_tells_the_first_failure():
    waiting, asked = [], []

    def perform(action, _client):
        asked.append(action.index)
        if action.index == 4:
            return ActionReply(ActionResult.SUCCESS).result
        waiting.append(Pending())
        return waiting[-1]

    actions = tuple(ScriptAction(Service.EXECUTE, 70, bytes(6), index, axdr.NULL) for index in (1, 4, 2, 3))
    table = ScriptTable(bytes(6), {1: actions, 2: ()}, perform)
    done = table.act(1, axdr.encode("long-unsigned", 1), CLIENT)
    assert asked == [1]
    waiting[0].answer(ActionResult.HARDWARE_FAULT)
    assert asked == [1, 4, 2]
    waiting[1].answer(ActionResult.OTHER_REASON)
    assert done.reply is None
    waiting[2].answer(ActionResult.SUCCESS)
    assert done.reply.result is ActionResult.HARDWARE_FAULT
    assert table.act(1, axdr.encode("long-unsigned", 2), CLIENT) is ActionResult.SUCCESS
    assert table.act(1, axdr.encode("long-unsigned", 3), CLIENT) is ActionResult.OTHER_REASON
    assert table.act(1, axdr.octet_string(b""), CLIENT) is ActionResult.TYPE_UNMATCHED


def test_a_schedule_calls_once_for_each_time_and_makes_up_once_for_what_was_missed(tmp_path):
    clock, called = Clock(), []
    clock.advance(at("2026-11-23 00:00:00"))
    table = ScriptTable(bytes(6), {1: (ScriptAction(Service.EXECUTE, 18, bytes(6), 4, axdr.NULL),)}, None)
    table._perform = lambda _action, _client: called.append(clock.seconds()) or ActionResult.SUCCESS

    def fresh():
        return ActionSchedule("m", IMAGE_SCHEDULE_LN, (table, 1), MeterFiles(tmp_path), clock)

    schedule = fresh()
    schedule.begin()
    daily = axdr.array([execution("03:00:00").encode()])
    assert schedule.write(4, daily) is DataAccessResult.SUCCESS
    assert schedule.slots()[4]() == daily
    clock.pump([600.0] * 6 * 51)
    assert called == [at("2026-11-23 03:00:00"), at("2026-11-24 03:00:00"), at("2026-11-25 03:00:00")]
    schedule.stop()
    clock.advance(4 * 86_400)
    assert len(called) == 3
    schedule = fresh()
    schedule.begin()
    clock.advance(0)
    assert len(called) == 4
    clock.pump([600.0] * 6 * 24)
    assert called[4:] == [at("2026-11-30 03:00:00")]
    assert schedule.write(4, axdr.array([])) is DataAccessResult.SUCCESS
    clock.pump([3600.0] * 48)
    assert len(called) == 5
    assert schedule.write(4, axdr.NULL) is DataAccessResult.TYPE_UNMATCHED
    assert fresh().slots()[4]() == axdr.array([])


def test_what_was_kept_and_is_damaged_is_named(tmp_path):
    files = MeterFiles(tmp_path)
    files.keep("m", "image-transfer", msgspec.msgpack.encode("x"))
    with pytest.raises(LocalError, match="image transfer of m"):
        ImageTransfer("m", files, Way(), lambda: 0.0)


def test_the_firmware_in_words():
    assert firmware_text("1.4.2", {}) == "1.4.2"
    assert firmware_text("1.4.2", {3: 7, 2: 1}) == "1.4.2+plc.1+non-legal.7"
