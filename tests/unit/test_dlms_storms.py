"""Mutated frames on every port, before and within every kind of association: all answers are valid APDUs.

``FLEXMAP_FUZZ=210000 tools/test -s tests/unit/test_dlms_storms.py`` is the long run.
"""

import os
from itertools import product

import pytest
from dlms_grammar import GrammarError, check
from dlms_storm import PORTS, SIDES, storm
from twisted.logger import LogLevel, globalLogPublisher

COUNT = int(os.environ.get("FLEXMAP_FUZZ", "7000"))
CELLS = list(product(PORTS, SIDES))


@pytest.fixture
def failures():
    """What was caught and logged with its traceback is an escaping exception too."""
    seen = []

    def observe(event):
        if "log_failure" in event or event.get("log_level", LogLevel.info) >= LogLevel.error:
            seen.append(event)

    globalLogPublisher.addObserver(observe)
    yield seen
    globalLogPublisher.removeObserver(observe)


@pytest.mark.parametrize(("port", "side"), CELLS)
def test_every_answer_is_valid_and_nothing_escapes(port, side, failures):
    each = -(-COUNT // len(CELLS))
    seed = 1000 * CELLS.index((port, side))
    answered = sum(storm(PORTS[port], SIDES[side], seed + at // 1000, min(1000, each - at))[0]
                   for at in range(0, each, 1000))  # fmt: skip
    print(f"{port:12} {side:24} {each} frames, {answered} answered")
    assert answered > each // 4
    assert not failures


@pytest.mark.parametrize(
    "octets", ["", "c4", "c401c100", "c401c102", "c401c1000600", "d80301", "d8010701", "c501c1ff", "6105aa", "00"]
)
def test_what_is_no_answer(octets):
    with pytest.raises(GrammarError):
        check(bytes.fromhex(octets))
