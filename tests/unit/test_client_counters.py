"""Counters of the command line's DLMS client: none twice, whatever runs at once."""

import stat
import subprocess
import sys

import pytest

from flexmap.cli.counters import ClientCounters
from flexmap.model import ConfigurationError

RESERVE = """
import sys
from pathlib import Path
from flexmap.cli.counters import ClientCounters
counters = ClientCounters(Path(sys.argv[1]))
print(counters.title.hex(), *(counters.reserve("k", b"", 3) for _ in range(50)))
"""


def test_processes_at_once_share_one_title_and_no_counter(tmp_path):
    path = tmp_path / "new" / "client.json"
    running = [
        subprocess.Popen([sys.executable, "-c", RESERVE, path], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [process.communicate(timeout=30)[0].split() for process in running]
    assert len({words[0] for words in said}) == 1
    taken = [int(word) for words in said for word in words[1:]]
    assert sorted(taken) == list(range(1, 601, 3))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_received_counters_are_kept_for_the_run_alone(tmp_path):
    """A server that was set up anew, with the keys it had, counts from 1 again and must be heard."""
    path = tmp_path / "client.json"
    counters = ClientCounters(path)
    counters.record_received("k", b"server01", 7)
    assert counters.last_received("k", b"server01") == 7
    assert counters.last_received("k", b"server02") == 0
    assert ClientCounters(path).last_received("k", b"server01") == 0


@pytest.mark.parametrize("text", ["{", '{"title": "00"}', '{"title": "xx"}', "[]"])
def test_a_damaged_file_names_the_way_out(tmp_path, text):
    path = tmp_path / "client.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="remove it"):
        ClientCounters(path).reserve("k", b"", 1)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="XDG_STATE_HOME"):
        _ = ClientCounters(tmp_path / "file" / "client.json").title
