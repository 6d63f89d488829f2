"""What holds for every test."""

import pytest

REAL_LINES = {
    "test_concentrator",
    "test_concentrator_ports",
    "test_demo",
    "test_demo_plc",
    "test_dlms_attack_list",
    "test_dlms_hdlc_clients",
    "test_dlms_listeners",
    "test_image_transfer_demo",
    "test_plc_health",
}
"""Files of tests that wait in real time for processes on pseudo-terminals, beside others that do the same."""


def pytest_collection_modifyitems(items):
    """What waits in real time is tried again: a crowded machine is late, and gives freed terminals to others."""
    for item in items:
        if item.path.stem in REAL_LINES:
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=3))


@pytest.fixture(scope="session", autouse=True)
def _own_state_home(tmp_path_factory):
    """Keep commands under test out of the user's own state folder, in processes of their own too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state-home")))
        yield
