"""What holds for every test."""

import signal

import pytest
from hypothesis import HealthCheck, settings


def pytest_configure():
    """Let child processes hear Ctrl-C also where a shell runs the tests in the background, which ignores it.

    On a crowded machine an example may take its time: that is no failure.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def _own_state_home(tmp_path_factory):
    """Keep commands under test out of the user's own state folder, in processes of their own too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state-home")))
        yield
