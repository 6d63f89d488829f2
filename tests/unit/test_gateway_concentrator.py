"""What a concentrator keeps over a restart, however the process ended."""

import os
import stat
import subprocess
import sys

import msgspec
import pytest

from flexmap.g3.bootstrap import Membership
from flexmap.g3.pan import PanState, Registered
from flexmap.gateway import concentrator_config as configuration
from flexmap.gateway import concentrator_files
from flexmap.gateway.concentrator_config import Section
from flexmap.gateway.concentrator_files import Files, Memory
from flexmap.gateway.street import Frame
from flexmap.gateway.street import Kept as KeptMeter
from flexmap.model import ConfigurationError
from flexmap.sources.concentrator.port import Port, parse_port
from flexmap.stcomet.firmware import Binary, Image
from flexmap.stcomet.images import Held
from flexmap.stcomet.metrology import DEPTH
from flexmap.stcomet.pan import Access
from flexmap.stcomet.record import Record
from flexmap.stcomet.record import State as MeterState
from flexmap.stcomet.updates import Kept, State

KEPT = KeptMeter(((1, 2, 3, 4, 5),), 7, 1, 2, 3, 400, Membership(0x781D, 5, ((0, bytes(16)),), 0))


def frame(second):
    record = Record(second, second, MeterState(), (1, 2, 3, 4, 5), (5000, 2300, 1, 2, 3, 4))
    return Frame(second, {"a": KEPT}, {"a": (record,)})


def test_frames_come_back_up_to_a_torn_one_and_go_on_behind_it(tmp_path):
    files = Files(tmp_path)
    frames = [frame(10 * DEPTH + number) for number in range(5)]
    for one in frames:
        files.add(one)
    (path,) = tmp_path.glob("meters-*.bin")
    path.write_bytes(path.read_bytes()[:-3])
    assert files.frames() == frames[:4]
    files.tidy(files.frames())
    files.add(frames[4])
    assert Files(tmp_path).frames() == frames


def test_every_cut_of_a_file_gives_whole_frames_only(tmp_path):
    files = Files(tmp_path)
    frames = [frame(number) for number in range(3)]
    for one in frames:
        files.add(one)
    (path,) = tmp_path.glob("meters-*.bin")
    octets = path.read_bytes()
    for length in range(len(octets)):
        path.write_bytes(octets[:length])
        found = files.frames()
        assert found == frames[: len(found)]
        assert len(found) == length * 3 // len(octets)


def test_frames_cover_the_ring_buffer_and_no_more(tmp_path):
    files = Files(tmp_path)
    for second in range(0, 5 * DEPTH, DEPTH // 2):
        files.add(frame(second))
    kept = [one.second for one in files.frames()]
    assert kept[0] <= kept[-1] - DEPTH
    assert len(list(tmp_path.glob("meters-*.bin"))) == 2


def test_memory_comes_back_and_is_its_owners_alone(tmp_path):
    files = Files(tmp_path)
    assert files.memory() is None
    pan = PanState(0x781D, ((0, bytes(16)),), 0, (Registered(bytes(8), 3, 1.5),), (9,))
    memory = Memory(pan, bytes(16), 1234, Access(("00" * 8,), None), {"00" * 8: "SM1"}, {"00" * 8: 17})
    files.keep(memory)
    assert files.memory() == memory
    assert stat.S_IMODE((tmp_path / "pan.msgpack").stat().st_mode) == 0o600
    (tmp_path / "pan.msgpack").write_bytes(b"junk")
    with pytest.raises(ConfigurationError, match="remove the folder"):
        files.memory()


def test_firmware_images_come_back_whole_or_not_at_all(tmp_path):
    files = Files(tmp_path)
    held = Held(Image(Binary.PLC, 2, 3, bytes(32)), bytearray(b"new"))
    files.keep_image("plc-2.0", held)
    files.keep_image("half", Held(Image(Binary.PLC, 2, 9, bytes(32)), bytearray(b"new")))
    (tmp_path / "image-torn.msgpack").write_bytes((tmp_path / "image-plc-2.0.msgpack").read_bytes()[:-2])
    assert Files(tmp_path).images() == {"plc-2.0": held}
    assert stat.S_IMODE((tmp_path / "image-plc-2.0.msgpack").stat().st_mode) == 0o600
    files.keep_image("plc-2.0", None)
    assert files.images() == {}


def test_a_memory_of_before_has_no_updates(tmp_path):
    files = Files(tmp_path)
    memory = Memory(
        PanState(1, (), 0), bytes(16), 1, Access((), None), {}, {}, (Kept("00" * 8, "a", State.SENDING),)
    )
    files.keep(memory)
    assert files.memory() == memory
    octets = msgspec.msgpack.decode((tmp_path / "pan.msgpack").read_bytes())
    del octets["updates"]
    (tmp_path / "pan.msgpack").write_bytes(msgspec.msgpack.encode(octets))
    assert files.memory().updates == ()


def test_a_written_configuration_is_read_back_with_paths_of_its_folder(tmp_path):
    path = tmp_path / "site" / "c.toml"
    path.parent.mkdir()
    written = Section(port=("pty:shell", "serial:/dev/ttyUSB0?baud=9600&rtscts=0", "tcp:127.0.0.1:0"), meters=3)
    secrets = configuration.write(path, written)
    section = configuration.load(path)
    folder = path.parent
    assert section.port == (f"pty:{folder}/shell", *written.port[1:])
    assert (section.state, section.secrets) == (f"{folder}/concentrator", str(secrets))
    assert (section.meters, section.band, section.sessions, section.load) == (3, "CENELEC-A", 8, "")
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    found = configuration.read_secrets(secrets)
    assert len(found.password) >= 16
    assert len(found.psk) == 16
    assert found.password not in repr(found)
    with pytest.raises(ConfigurationError, match="is there already"):
        configuration.write(path, written)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('meters = "3"', "c.toml: Expected `int`, got `str`.*meters"),
        ("meters = 1001", "c.toml: Expected `int` <= 1000.*meters"),
        ('band = "FM"', "c.toml: Invalid enum value 'FM'.*band"),
        ("metres = 3", "c.toml: .*unknown field `metres`"),
        ('port = ["usb:1"]', "c.toml: port: 'usb:1' is no port .write pty:PATH"),
        ('port = ["serial:/dev/x?baud=250001"]', "c.toml: port: .* is no port"),
        ('load = "none.csv"', "c.toml: load: there is no file .*none.csv"),
        ("meters = x", "c.toml: .*line 1"),
        ("sessions = 0", "c.toml: Expected `int` >= 1.*sessions"),
    ],
)
def test_mistakes_in_a_configuration_are_named(tmp_path, text, complaint):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=complaint):
        configuration.load(tmp_path / "c.toml")


@pytest.mark.parametrize(
    ("text", "mode", "complaint"),
    [
        ('[shell]\npassword = "short"', 0o600, r"s.toml: \[shell\]: password is shorter than 16"),
        ('[pan]\npsk = "00"', 0o600, r"s.toml: \[pan\]: psk is not 32 hexadecimal digits"),
        ('[pan]\npsk = "xx"', 0o600, r"s.toml: \[pan\]: psk is not 32 hexadecimal digits"),
        ('[pan]\nkey = "00"', 0o600, "s.toml: .*unknown field `key`"),
        ("", 0o640, "s.toml: mode 640 lets others read it .chmod 600"),
    ],
)
def test_mistakes_in_a_secrets_file_are_named_and_no_secret_is(tmp_path, text, mode, complaint):
    path = tmp_path / "s.toml"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=complaint):
        configuration.read_secrets(path)
    with pytest.raises(ConfigurationError, match="cannot read"):
        configuration.read_secrets(tmp_path / "none.toml")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gateway.example"])
def test_a_shell_that_others_can_reach_wants_a_login(host):
    ports = (parse_port("pty:/tmp/shell", ""), Port("tcp", host=host, number=0))
    with pytest.raises(ConfigurationError, match="without a login"):
        configuration.check_ports(ports, configuration.Secrets())
    configuration.check_ports(ports, configuration.Secrets(password="x" * 16))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_the_loopback_address_none_is_needed(host):
    configuration.check_ports((Port("tcp", host=host),), configuration.Secrets())


def test_a_folder_has_one_concentrator_at_a_time(tmp_path, monkeypatch):
    program = (
        "import pathlib, sys; from flexmap.gateway.concentrator_files import Files;"
        "Files(pathlib.Path(sys.argv[1])).lock(); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    monkeypatch.setattr(concentrator_files, "LOCK_SECONDS", 0.2)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ConfigurationError, match=r"--state: another process uses it .*another folder"):
            Files(tmp_path).lock()
        other.kill()
    Files(tmp_path).lock()


def test_what_takes_a_files_place_is_on_the_disk_before(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append("fsync") or fsync(descriptor))
    monkeypatch.setattr(os, "replace", lambda *paths: done.append("replace") or replace(*paths))
    files = Files(tmp_path)
    files.keep(Memory(PanState(1, (), 0), bytes(16), 1, Access((), None), {}, {}))
    assert done == ["fsync", "replace", "fsync"]
    assert [path.name for path in tmp_path.iterdir()] == ["pan.msgpack"]
