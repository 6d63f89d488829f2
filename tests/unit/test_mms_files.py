"""File services of MMS: what a folder shows, and that nothing outside of it is reached."""

import os
from pathlib import Path

import pytest
from mms_toy import Toy

from flexmap.faces.native.folder import Folder
from flexmap.mms import ber, pdu
from flexmap.mms.files import DENIED, NOT_THERE, OTHER, POSITION, SYNTAX, Files
from flexmap.mms.server import Limits


def name(path):
    return ber.tlv(0x19, path.encode())


def directory(path=None, after=None):
    wanted = b"" if path is None else ber.tlv(0xA0, name(path))
    return ber.tlv(0xBF4D, wanted, b"" if after is None else ber.tlv(0xA1, name(after)))


def open_(path, position=0):
    return ber.tlv(0xBF48, ber.tlv(0xA0, name(path)), ber.tlv(0x81, ber.integer_octets(position)))


def read(number):
    return ber.tlv(0x9F49, bytes((number,)))


def close(number):
    return ber.tlv(0x9F4A, bytes((number,)))


def delete(path):
    return ber.tlv(0xBF4C, name(path))


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


class Site:
    def __init__(self, folder, *, deletable=True, **limits):
        self.root = folder / "files"
        (self.root / "log").mkdir(parents=True)
        (self.root / "site.cid").write_bytes(b"<SCL/>")
        (self.root / "log" / "a.txt").write_bytes(bytes(range(256)) * 300)
        (self.root / ".hidden").write_bytes(b"x")
        (folder / "secret").write_bytes(b"secret")
        (folder / "outside").mkdir()
        (folder / "outside" / "secret").write_bytes(b"secret")
        (self.root / "link").symlink_to(folder / "secret")
        (self.root / "linked").symlink_to(folder / "outside")
        os.mkfifo(self.root / "pipe")
        os.utime(self.root / "site.cid", (1_750_000_000, 1_750_000_000))
        self.toy = Toy(limits=Limits(**limits))
        Files(self.toy.server, Folder(self.root, deletable=deletable))
        self.client = self.toy.client()

    def ask(self, service):
        """The answer's element behind the invoke identifier."""
        response = self.client.ask(service)
        return response[0], response[response.index(b"\x01\x01") + 2 :]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def error(code):
    return pdu.CONFIRMED_ERROR, ber.tlv(0xA2, ber.tlv(0xA0, bytes((0x8B, 1, code))))


def names(element):
    return [part[1 : 1 + part[0]].decode() for part in element.split(b"\xa0")[2:] for part in [part[2:]]]


def test_a_folder_shows_files_and_folders_and_no_links(site):
    _, element = site.ask(directory())
    entry = ber.tlv(0x30, ber.tlv(0xA0, name("site.cid")), ber.tlv(0xA1, b"\x80\x01\x06\x81\x0f20250615150640Z"))
    assert entry in element
    assert b"log/" in element
    for absent in (b"hidden", b"link", b"pipe", b"secret"):
        assert absent not in element
    assert b"log/a.txt" in site.ask(directory("log"))[1]
    assert b"log/a.txt" in site.ask(directory("/log/a.txt"))[1]


def test_a_file_is_read_to_its_end_in_pieces(tmp_path):
    site = Site(tmp_path, max_pdu=2000)
    _, element = site.ask(open_("log/a.txt"))
    assert element == ber.tlv(0xBF48, b"\x80\x01\x01", element[element.index(b"\xa1") :])
    octets, more = b"", True
    while more:
        _, element = site.ask(read(1))
        start, stop = ber.expect(element, 0, len(element), 0xBF49)
        a, b = ber.expect(element, start, stop, 0x80)
        octets += element[a:b]
        more = element[b:] == b"\x81\x01\xff"
    assert octets == (site.root / "log" / "a.txt").read_bytes()
    assert site.ask(close(1))[1] == b"\x9f\x4a\x00"
    assert site.ask(read(1)) == error(OTHER)


def test_a_file_is_read_from_a_position_on(site):
    site.ask(open_("site.cid", 4))
    assert site.ask(read(1))[1] == ber.tlv(0xBF49, ber.tlv(0x80, b"/>"), b"\x81\x01\x00")
    assert site.ask(open_("site.cid", 7)) == error(POSITION)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../secret", SYNTAX),
        ("log/../../secret", SYNTAX),
        ("..\\secret", SYNTAX),
        ("/etc/passwd", NOT_THERE),
        (".hidden", SYNTAX),
        ("a\0b", SYNTAX),
        ("x" * 300, SYNTAX),
        ("linked/secret", DENIED),
        ("nothing", NOT_THERE),
        ("site.cid/x", NOT_THERE),
    ],
)
def test_nothing_outside_of_the_folder_is_reached(site, path, code):
    for service in (open_(path), delete(path), directory(path)):
        assert site.ask(service) == error(code)


@pytest.mark.parametrize("path", ["link", "pipe", "log", ""])
def test_what_is_no_file_is_not_opened_or_deleted(site, path):
    for service in (open_(path), delete(path)):
        assert site.ask(service)[0] == pdu.CONFIRMED_ERROR
    assert (site.root.parent / "secret").exists()
    assert (site.root / "log").is_dir()


def test_a_file_is_deleted_where_that_is_allowed(tmp_path):
    for allowed in (False, True):
        folder = tmp_path / str(allowed)
        site = Site(folder, deletable=allowed)
        answer = site.ask(delete("site.cid"))
        assert answer == ((pdu.CONFIRMED_RESPONSE, b"\x9f\x4c\x00") if allowed else error(DENIED))
        assert (site.root / "site.cid").exists() != allowed


def test_a_client_has_few_files_open_and_they_are_closed_with_it(site):
    before = open_files()
    answers = [site.ask(open_("site.cid"))[0] for _ in range(9)]
    assert answers == [pdu.CONFIRMED_RESPONSE] * 8 + [pdu.CONFIRMED_ERROR]
    assert site.ask(close(3))[0] == pdu.CONFIRMED_RESPONSE
    assert site.ask(open_("site.cid"))[1][3:6] == b"\x80\x01\x03"
    assert open_files() == before + 8
    site.client.connection.close()
    assert open_files() == before


def test_a_long_directory_goes_on_behind_a_name(tmp_path):
    site = Site(tmp_path, max_pdu=700)
    for number in range(60):
        (site.root / "log" / f"event-{number:03}.txt").touch()
    found, after, more = [], None, True
    while more:
        response = site.client.ask(directory("log", after))
        assert len(response) <= 700
        page = [part.split(b"\xa1")[0] for part in response.split(b"\x19")[1:]]
        found += [part[1 : 1 + part[0]].decode() for part in page]
        after = found[-1]
        more = response.endswith(b"\x81\x01\xff")
    assert found == ["log/a.txt", *(f"log/event-{number:03}.txt" for number in range(60))]


def test_without_a_folder_there_are_no_file_services(tmp_path):
    assert Toy().client().ask(directory())[0] == pdu.REJECT
    offered = {each: toy.client().accepted for each, toy in (("none", Toy()), ("files", Site(tmp_path).toy))}
    bits = {each: accepted[accepted.index(b"\x82\x0c\x03") + 3 :] for each, accepted in offered.items()}
    # fileOpen, fileRead and fileClose are bits 72 to 74, fileDelete and fileDirectory 76 and 77.
    assert (bits["none"][9], bits["files"][9]) == (0b00000001, 0b11101101)
