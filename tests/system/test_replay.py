"""A day of measured load, replayed: the energies that clients read are the data set's own sums."""

import csv
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from gateway_harness import free_ports
from mms_harness import until

from flexmap.faces.dlms.client import Credentials, DlmsConnection
from flexmap.faces.mms_client import MmsClient
from flexmap.gateway import secrets
from flexmap.gateway.demo import SECRETS, DemoOptions, write_config
from flexmap.mapping.data import data_folder
from flexmap.model import RemoteError

START = 1_170_288_000  # 2007-02-01T00:00:00Z
DATE = "1/2/2007"
ACTIVE, REACTIVE = bytes((1, 0, 1, 8, 0, 255)), bytes((1, 0, 3, 8, 0, 255))
PROFILE = bytes((1, 0, 99, 1, 0, 255))
READER = Credentials(18, 1, b"flexmap-demo")


def data_set_energy(column):
    """Wh or varh of the day, from the file itself."""
    with (data_folder("data") / "household-2007-02.csv").open() as file:
        rows = [row for row in csv.reader(file, delimiter=";") if row[0] == DATE]
    assert len(rows) == 1440
    return sum((Fraction(row[column]) for row in rows), Fraction(0)) * 1000 / 60


@pytest.fixture
def replay(tmp_path):
    mms, dlms, web = free_ports(3)
    text = write_config(
        DemoOptions(meters=1, mms=f"127.0.0.1:{mms}", dlms=f"127.0.0.1:{dlms}", web=f"127.0.0.1:{web}")
    )
    # The substation meter is left out: alone, the meter behind it takes the load as it was measured.
    head, _, rest = text.partition("[[meter]]")
    single = rest.partition("[[meter]]")[2]
    (tmp_path / "site.toml").write_text(head.replace('substation = "SUB1"', "") + "[[meter]]" + single)
    secrets.write(tmp_path / "secrets.toml", SECRETS)
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("replay_core.py"), tmp_path / "site.toml", str(START)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "first\n"
        yield process, mms, dlms, tmp_path
    finally:
        process.kill()
        process.wait(5)


def read(mms, dlms):
    """Active and reactive energy as both faces show them, once they are of the same instant."""

    def both():
        with DlmsConnection("127.0.0.1", dlms, READER) as connection:
            cosem = [connection.get(1001, 4, name, 2) for name in (ACTIVE, REACTIVE)]
        try:
            with MmsClient.open("127.0.0.1", mms) as client:
                found = client.read(["FLEXGWSM0001/MMTR1.DmdWh", "FLEXGWSM0001/MMTR1.DmdVArh"])
        except RemoteError:
            return None
        return cosem if cosem == [reading.value for reading in found] else None

    return until(both, 10)


def test_a_day_replayed_is_the_data_sets_sum_on_both_faces(replay):
    process, mms, dlms, folder = replay
    before = read(mms, dlms)
    (folder / "go").touch()
    assert process.stdout.readline() == "done\n"
    after = read(mms, dlms)
    for name, unit, column, counted in (
        ("active", "Wh", 2, after[0] - before[0]),
        ("reactive", "varh", 3, after[1] - before[1]),
    ):
        told = data_set_energy(column)
        deviation = float(counted - told)
        print(
            f"{name}: read {counted} {unit}, data set {float(told):.3f} {unit}, deviation {deviation:+.3f} {unit}"
        )
        assert abs(deviation) < 1
    with DlmsConnection("127.0.0.1", dlms, READER) as connection:
        rows = connection.get(1001, 7, PROFILE, 2)
    assert len(rows) in (96, 97)
    assert rows[-1][2] == after[0]
    assert [row[2] for row in rows] == sorted(row[2] for row in rows)
