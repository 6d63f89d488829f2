"""What holds for every test."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_state_home(tmp_path_factory):
    """Keep commands under test out of the user's own state folder, in processes of their own too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state-home")))
        yield
