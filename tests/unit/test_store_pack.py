from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexmap.mapping.table import load_builtin
from flexmap.model import LocalError, Meter, Sample
from flexmap.sources.load import sample_load
from flexmap.sources.simulation.settings import SimulationSettings
from flexmap.sources.simulation.site import SiteModel, replay
from flexmap.store.pack import pack, unpack

KINDS = {
    "energy": st.integers(0, 2**64 - 1),
    "small": st.integers(0, 5),
    "grid": st.integers(-(10**9), 10**9).map(lambda raw: raw / 1000),
    "float": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "text": st.text(max_size=5),
    "mixed": st.one_of(st.none(), st.integers(-10, 10), st.floats(allow_nan=False), st.booleans()),
}


@st.composite
def blocks(draw):
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=6))
    count = draw(st.integers(1, 70))
    times = draw(st.lists(st.integers(0, 2**45), min_size=count, max_size=count, unique=True))
    good = draw(st.booleans())
    marks = st.just(0) if good else st.integers(0, 8191)
    return [
        Sample(
            "A",
            time,
            tuple(draw(KINDS[kind]) for kind in kinds),
            tuple(draw(marks) for _ in kinds),
            draw(st.integers(0, 255)),
        )
        for time in sorted(times)
    ]


@settings(deadline=None)
@given(blocks())
def test_a_block_comes_back_equal_and_of_the_same_types(samples):
    again = unpack("A", pack(samples))
    assert again == samples
    for one, other in zip(again, samples, strict=True):
        assert [type(value) for value in one.values] == [type(value) for value in other.values]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_a_damaged_block_is_a_clear_error(data):
    with pytest.raises(LocalError, match="damaged"):
        unpack("A", data)


@settings(deadline=None)
@given(blocks(), st.data())
def test_a_cut_block_is_a_clear_error(samples, data):
    block = pack(samples)
    with pytest.raises(LocalError, match="damaged"):
        unpack("A", block[: data.draw(st.integers(0, len(block) - 1))])


def test_a_minute_of_a_real_meter_is_small():
    meter_type = load_builtin()["single-phase"]
    model = SiteModel(
        [(Meter(id="A", type=meter_type.id, ld="A", sap=16), meter_type)], sample_load(), SimulationSettings()
    )
    samples = [sample for batch in replay(model, 1_795_392_000, 1_795_392_060) for sample in batch]
    assert unpack("A", pack(samples)) == samples
    assert len(pack(samples)) < 60 * 17 * 1.0
