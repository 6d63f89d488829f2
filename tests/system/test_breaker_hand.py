"""Somebody at a simulated meter presses the button of its breaker and opens its cover."""

import pytest
from concentrator_harness import Terminal
from gateway_harness import gateway
from mms_harness import until
from remote import RemoteFailure
from test_demo_plc import BREAKER, action_over_hops, manager, position

from flexmap.mapping import cdc

DISCONNECT_LOG, FRAUD_LOG, DESCRIPTOR = "0.0.99.98.2.255", "0.0.99.98.1.255", "0.0.97.98.20.255"
MANUAL_OFF, MANUAL_ON, COVER_OPENED, FRAUD = 60, 61, 40, 1 << 13
METER = "SM0001"
SECONDS = 60


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with gateway(tmp_path_factory.mktemp("hand"), source="concentrator", meters=2) as running:
        running.wait_read()
        yield running


def shell(demo, line, end):
    terminal = Terminal(demo.state / "shell")
    try:
        return terminal.type(f"{line}\r", end)
    finally:
        terminal.close()


def rows(client, log):
    return client.rows_by_entry(log, 1, 1000) or []


def test_the_button_and_the_cover(demo):
    assert "blocked-by-mode" in shell(demo, f"LINE PRESS {METER} 0", "= ERROR")
    with manager(demo.dlms, METER, b"GRXHANDS") as client:
        client.set_enum(70, BREAKER, 4, 2)  # the customer may open and close
        until(lambda: client.get(70, BREAKER, 4) == 2, SECONDS)
        shell(demo, f"LINE PRESS {METER} 0", "= OK")
        until(lambda: client.get(70, BREAKER, 3) == 2, SECONDS)
        assert client.get(70, BREAKER, 2) is False
        until(lambda: position(demo.mms, METER) == cdc.DPC_OFF, SECONDS)
        until(lambda: any(row[1] == MANUAL_OFF for row in rows(client, DISCONNECT_LOG)), SECONDS)
        assert bytes(rows(client, DISCONNECT_LOG)[-1][2]) == b"by hand at the meter"
        shell(demo, f"LINE PRESS {METER} 1", "= OK")
        until(lambda: client.get(70, BREAKER, 3) == 1, SECONDS)
        until(lambda: position(demo.mms, METER) == cdc.DPC_ON, SECONDS)
        until(lambda: any(row[1] == MANUAL_ON for row in rows(client, DISCONNECT_LOG)), SECONDS)

        client.set_enum(70, BREAKER, 4, 0)
        until(lambda: client.get(70, BREAKER, 4) == 0, SECONDS)
        with pytest.raises(RemoteFailure, match=r"error 3$"):  # read-write-denied, at once
            action_over_hops(client, 1)
        client.set_enum(70, BREAKER, 4, 4)
        until(lambda: client.get(70, BREAKER, 4) == 4, SECONDS)
        action_over_hops(client, 1)
        until(lambda: client.get(70, BREAKER, 3) == 0, SECONDS)
        assert "REFUSED" in shell(demo, f"LINE PRESS {METER} 1", "= ERROR"), "only the head-end may close now"

        assert not client.get(1, DESCRIPTOR, 2) & FRAUD
        shell(demo, f"LINE COVER {METER} 1", "= OK")
        until(lambda: any(row[1] == COVER_OPENED for row in rows(client, FRAUD_LOG)), SECONDS)
        until(lambda: client.get(1, DESCRIPTOR, 2) & FRAUD, SECONDS)
        shell(demo, f"LINE COVER {METER} 0", "= OK")
        client.set_number(1, DESCRIPTOR, 2, 0, 32)
        assert client.get(1, DESCRIPTOR, 2) == 0
        client.close()
