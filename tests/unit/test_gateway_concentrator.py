"""What a concentrator keeps over a restart, however the process ended."""

import stat

import pytest

from flexmap.g3.bootstrap import Membership
from flexmap.g3.pan import PanState, Registered
from flexmap.gateway.concentrator import Files, Memory
from flexmap.gateway.street import Frame, Kept
from flexmap.model import ConfigurationError
from flexmap.stcomet.metrology import DEPTH
from flexmap.stcomet.pan import Access
from flexmap.stcomet.record import Record, State

KEPT = Kept(((1, 2, 3, 4, 5),), 7, 1, 2, 3, 400, Membership(0x781D, 5, ((0, bytes(16)),), 0))


def frame(second):
    record = Record(second, second, State(), (1, 2, 3, 4, 5), (5000, 2300, 1, 2, 3, 4))
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
