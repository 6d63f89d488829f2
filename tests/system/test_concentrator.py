"""A concentrator as a process of its own: a person at its shell, and a gateway that misses no second."""

import signal
import time

from concentrator_harness import Terminal, catch_up, concentrator, gateway, store_of

from flexmap.model import EventCode
from flexmap.stcomet import mnsh
from flexmap.stcomet.mnsh import parse_line


def test_a_person_at_the_shell(processes, tmp_path):
    first = concentrator(processes, tmp_path)
    terminal = Terminal(tmp_path / "shell")
    assert terminal.type("SYS ECHO 1\r", "MNSH> ") == "= OK\r\nMNSH> "
    lines = terminal.type("APP METERS\r", "= OK").split("\r\n")
    assert lines[0] == "APP METERS"
    assert {parse_line(line).words[0] for line in lines if line.startswith(":")} == {
        "SUB1",
        "SM0001",
        "SM0002",
        "SM0003",
    }
    stream = terminal.type("APP GET_DATA_STREAM 10 SM0001\r", "= OK")
    records = [parse_line(line) for line in stream.split("\r\n") if line.startswith(":")]
    assert [int(record.fields["seq"]) for record in records] == list(range(10))
    times = [int(record.fields["time"]) for record in records]
    assert times == list(range(times[0], times[0] + 10))
    assert "= ERROR COUNT" in terminal.type("APP GET_DATA_STREAM 10\r", "MNSH> ")
    assert "= ERROR MODULE" in terminal.type("NONE NONE\r", "MNSH> ")
    assert "= ERROR METER" in terminal.type("APP IDENTITY SM_ID1\r", "MNSH> ")
    assert "changed=1" in terminal.type("APP BREAKER SM0002 0 0\r", "= OK changed=1")
    terminal.type("PLC BAN 02464d0000000004\r", "! LEFT meter=SM0003")
    terminal.close()
    first.end(signal.SIGKILL)

    concentrator(processes, tmp_path, "again.log")
    terminal = Terminal(tmp_path / "shell")
    access = terminal.type("PLC ACCESS\r", "= OK")
    assert "eui64=02464d0000000004" in access
    assert "meters=3" in terminal.type("APP METERS\r", "= OK meters")
    stream = terminal.type("APP GET_DATA_STREAM 2 SM0001\r", "= OK records")
    assert [int(parse_line(line).fields["seq"]) for line in stream.split("\r\n") if line.startswith(":")] == [
        10,
        11,
    ]
    latest = terminal.type("APP READ SM0002 0 0 1\r", "= OK")
    line = next(line for line in latest.split("\r\n") if line.startswith(":"))
    message = mnsh.octets_of(parse_line(line))
    assert message  # its breaker stands open still
    terminal.close()


def test_every_second_comes_once_whoever_is_killed(processes, tmp_path):
    began = concentrator(processes, tmp_path)
    core = gateway(processes, tmp_path, "core1.log")
    core.wait_for("connected to")
    catch_up(tmp_path, time.time())
    began.end(signal.SIGKILL)
    core.wait_for("the line is gone")
    time.sleep(8)
    concentrator(processes, tmp_path, "again.log")
    time.sleep(8)
    core.end(signal.SIGKILL)
    time.sleep(8)
    started = time.time()
    core = gateway(processes, tmp_path, "core2.log")
    core.wait_for("connected to")
    catch_up(tmp_path, started)
    core.end()
    store, site = store_of(tmp_path)
    counted = {}
    for meter in site.meters:
        seconds = [sample.time // 1000 for sample in store.samples(meter.id)]
        assert len(seconds) == len(set(seconds))
        missing = set(range(seconds[0], seconds[-1] + 1)) - set(seconds)
        assert not missing, (meter.id, sorted(missing)[:10], len(missing))
        assert seconds[-1] > started
        counted[meter.id] = len(seconds)
        index = site.type_of(meter).index
        energies = [sample.values[index["energy-active-import"]] for sample in store.samples(meter.id)]
        assert energies == sorted(energies)
        codes = [event.code for event in store.events(meter.id)]
        assert codes.count(EventCode.POWER_UP) <= 1
    store.close()
    # From the meters' first second, before anybody read them: the whole ring buffer has come. The run took
    # a minute, and a latest record may be 20 seconds old.
    assert min(counted.values()) > 180 + 40
