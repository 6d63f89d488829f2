"""Buffered reports of the native engine over kill -9: every event exactly once and in order, EntryIDs rising."""

import itertools

import pytest
import report_kills


@pytest.mark.parametrize("seed", [1])
def test_no_event_is_lost_or_told_twice(tmp_path, seed):
    events = 400
    subscriber, kills = report_kills.run(tmp_path, events, seed)
    subscriber.close()
    assert kills >= 3
    assert subscriber.events == [float(number) for number in range(1, events + 1)]
    assert all(earlier < later for earlier, later in itertools.pairwise(subscriber.numbers))
