"""A head-end (Gurux's client) sets meters' clocks: it reaches the meter, holds, is logged, loses nothing."""

import time
from itertools import count, product

import gurux_client
import pytest
from gateway_harness import MANAGER_GAK, MANAGER_GUEK, flexmap, gateway
from remote import RemoteFailure

from flexmap.dlms import cosem_time

CLOCK = (8, "0.0.1.0.0.255")
SAP = 1001
REGISTER_TIME = (4, "1.0.1.8.0.255", 5)
titles = (b"CLK" + number.to_bytes(5, "big") for number in count(1))


def connect(running, sap=SAP):
    keys = {"keys": (MANAGER_GUEK, MANAGER_GAK), "title": next(titles)}
    return gurux_client.connect("127.0.0.1", running.dlms, client_sap=1, server_sap=sap, **keys)


def ahead(meter):
    """Seconds that the clock is ahead of ours, to some hundredths and what the way takes."""
    return cosem_time.to_epoch_ms(meter.get(*CLOCK, 2)) / 1000 - time.time()


def sampled(meter):
    return cosem_time.to_epoch_ms(meter.get(*REGISTER_TIME)) / 1000


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.5)


def codes(meter):
    return [(code, cosem_time.to_epoch_ms(when) / 1000) for when, code in meter.get(7, "0.0.99.98.0.255", 2)]


@pytest.mark.parametrize("source", ["model", "concentrator"])
def test_settings_reach_the_meter_and_hold_over_a_kill(tmp_path, source):
    with gateway(tmp_path, meters=2, source=source) as running:
        running.wait_read(180)
        with connect(running) as meter:
            assert abs(ahead(meter)) < 3
            meter.set_time(int(time.time()) + 300)
            assert 296 < ahead(meter) < 304
            meter.clock_method("shiftTime", -100)
            assert 196 < ahead(meter) < 204
            now = time.time() + ahead(meter)
            meter.clock_method("adjustToMinute")
            moved = ahead(meter) + time.time() - now
            assert min(now % 60, 60 - now % 60) < abs(moved) + 4
            with pytest.raises(RemoteFailure, match="error 250"):
                meter.set_time(int(time.time()) + 100_000)
            with pytest.raises(RemoteFailure, match="error 12"):
                meter.set_time(None, cosem_time.NOT_SPECIFIED)
            kept = ahead(meter)
            wait_for(lambda: abs(sampled(meter) - time.time() - kept) < 15)
            told = [code for code, _ in codes(meter)]
            assert told.count(4) == told.count(5) >= 3
            old, new = ([when for code, when in codes(meter) if code == each] for each in (4, 5))
            by = [after - before for before, after in product(old, new)]
            assert any(295 < each < 305 for each in by)
            assert any(-105 < each < -95 for each in by)
            meter.close()
        with connect(running, 1002) as other:
            assert abs(ahead(other)) < 3
            other.close()
        told = flexmap("verify", running.config)
        assert not told.returncode, told.stdout
        running.kill()
        running.close()
    with gateway(tmp_path, meters=2, source=source) as running:
        running.wait_read(180)
        with connect(running) as meter:
            wait_for(lambda: abs(ahead(meter) - kept) < 3)  # a meter that is not read yet shows its last sample's
            wait_for(lambda: abs(sampled(meter) - time.time() - kept) < 15)
            meter.close()


def test_where_flexmap_keeps_the_clocks_nobody_else_can(tmp_path):
    with gateway(tmp_path, meters=1) as running:
        running.stop()
    text = (tmp_path / "demo.toml").read_text()
    assert 'clock = "head-end"' in text
    (tmp_path / "demo.toml").write_text(text.replace('clock = "head-end"', 'clock = "gateway"'))
    with (
        gateway(
            tmp_path, "serve", tmp_path / "demo.toml", command="serve", ports=(0, running.dlms, running.web)
        ) as own,
        connect(own) as meter,
    ):
        listed = next(o for o in meter.get(15, "0.0.40.0.0.255", 2) if o[0] == 8)
        attributes, methods = listed[3]
        assert [mode for _, mode, *_ in attributes] == [1] * 9
        assert methods == []
        with pytest.raises(RemoteFailure, match="error 3"):
            meter.set_time(int(time.time()) + 300)
        with pytest.raises(RemoteFailure, match="error 3"):
            meter.clock_method("shiftTime", 10)
        meter.close()
