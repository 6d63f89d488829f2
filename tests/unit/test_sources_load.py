from __future__ import annotations

from pathlib import Path

import pytest

from flexmap.model import ConfigurationError
from flexmap.sources.load import DAY, MISSING, read_load, sample_load

HEAD = "date;time;active_power_kw;reactive_power_kvar;voltage_v;current_a\n"
ROW = "1/2/2007;00:00:00;0.326;0.128;243.150;1.400\n"


def written(path: Path, text: str) -> Path:
    file = path / "load.csv"
    file.write_text(text)
    return file


def test_sample_data_are_four_whole_days():
    load = sample_load()
    assert [day - 13545 for day in load.days] == [0, 1, 4, 5]  # 2007-02-01 is day 13545
    assert load.step == 60
    assert len(load.active) == 4 * 1440
    assert MISSING not in load.active
    assert (load.active[0], load.reactive[0], load.voltage[0], load.current[0]) == (
        326_000,
        128_000,
        243_150,
        1_400,
    )


def test_dates_of_the_file_play_themselves_and_others_keep_the_time_of_day():
    load = sample_load()
    assert load.row(13549 * DAY + 61) == 2 * 1440 + 1
    assert load.row(20000 * DAY + 7 * 3600) % 1440 == 7 * 60


def test_missing_values_and_missing_rows_are_gaps_not_zero(tmp_path):
    text = HEAD + ROW + "1/2/2007;00:01:00;?;0.1;;1\n1/2/2007;00:03:00;0.0;0.1;240;1\n"
    load = read_load(written(tmp_path, text))
    assert list(load.active[:4]) == [326_000, MISSING, MISSING, 0]
    assert load.voltage[1] == MISSING
    assert load.active[1439] == MISSING


def test_commas_and_iso_times_and_quarter_hours(tmp_path):
    text = "datetime,active_power_kw,reactive_power_kvar\n"
    text += "".join(f"2024-03-01T{i // 4:02}:{i % 4 * 15:02}:00,{i / 10},0\n" for i in range(96))
    load = read_load(written(tmp_path, text))
    assert load.step == 900
    assert load.rows_per_day == 96
    assert load.active[95] == 9_500_000
    assert set(load.voltage) == {MISSING}


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ("a;b\n", 1, "date"),
        ("date;time;voltage_v\n", 1, "active_power_kw"),
        (HEAD, 1, "date"),
        (HEAD + "1/2/2007;00:00:00;x;0.1;240;1\n", 2, "active_power_kw"),
        (HEAD + "1/2/2007;00:00:00;inf;0.1;240;1\n", 2, "active_power_kw"),
        (HEAD + ROW + "1/2/2007;00:61:00;1;0.1;240;1\n", 3, "time"),
        (HEAD + "31/2/2007;00:01:00;1;0.1;240;1\n", 2, "date"),
        (HEAD + "1/2/2007;00:01:00;1;0.1\n", 2, "row"),
        (HEAD + ROW + "\n" + ROW, 4, "time"),
        (HEAD + ROW + "1/2/2007;00:00:35;1;0.1;240;1\n", 3, "time"),
        ("datetime;active_power_kw;reactive_power_kvar\n2024-01-01T00:00:00+01:00;1;1\n", 2, "datetime"),
    ],
)
def test_errors_name_file_line_field_and_way_out(tmp_path, text, line, field):
    file = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        read_load(file)
    assert caught.value.where == f"{file}: line {line}, field '{field}'"
    assert caught.value.remedy


def test_unreadable_and_binary_files(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        read_load(tmp_path / "none.csv")
    file = tmp_path / "load.csv"
    file.write_bytes(HEAD.encode() + b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        read_load(file)
