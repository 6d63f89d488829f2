"""The gateway's own channel on MMS, by a clock set by hand."""

from flexmap.faces.libiec61850.values import _Channel
from flexmap.model import quality


class Target:
    def __init__(self):
        self.written = []

    def write(self, _changes, reading, time, _clock):
        self.written.append((*reading, time))


def test_the_gateways_channel_is_live_between_the_turns_of_few_meters_and_false_after_a_minute():
    target = Target()
    channel = _Channel(target)
    assert not channel.is_silent(1000.0), "it has never been live"
    for turn in range(3):
        channel.heard(None, 100.0 + 12 * turn, 5000 + turn, 0)
        assert not channel.is_silent(100.0 + 12 * turn + 11.9)
    assert target.written == [(True, quality.GOOD, 5000)]
    assert channel.is_silent(124.0 + 61)
    channel.silence(None, 9000)
    assert target.written[-1] == (False, quality.GOOD, 9000)
    assert not channel.is_silent(2000.0), "it is said once"
    channel.heard(None, 2000.0, 9001, 0)
    assert target.written[-1] == (True, quality.GOOD, 9001)
