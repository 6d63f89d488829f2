"""What head-ends write of tariff objects: mutated, it is refused as a whole or can be followed and read again."""

import random

import pytest

from flexmap.dlms import axdr, schedule_table
from flexmap.dlms import tariff_classes as kinds
from flexmap.dlms.axdr import AxdrError
from flexmap.mapping.tariff import TARIFF_SCRIPTS, Calendar, Day, DayAction, Program, Season, SpecialDay, Week
from flexmap.mapping.zone import Zone

ZONE = Zone("Europe/Vienna")
NOW = 1_795_392_000
DATE = b"\xff\xff\x04\x01\xff"
MIDNIGHT = b"\x00\x00\x00\x00\x80\x00\xff"
CALENDAR = Calendar(
    b"NAME",
    (Season(b"a", DATE + MIDNIGHT, b"w"), Season(b"b", b"\xff\xff\xfe\xff\xff" + MIDNIGHT, b"w")),
    (Week(b"w", (1, 1, 2, 1, 1, 2, 1)),),
    (Day(1, (DayAction(0, TARIFF_SCRIPTS, 1), DayAction(9000, TARIFF_SCRIPTS, 2))), Day(2, ())),
)
SPECIAL = (SpecialDay(1, DATE, 2), SpecialDay(7, b"\x07\xea\x0c\xfe\xff", 1))
ENTRY = schedule_table.Entry(1, True, TARIFF_SCRIPTS, 3, 3600, 0xFFFF, "1111100", "01", DATE, b"\xff" * 5)
PARTS = [
    *zip(
        ("name", "seasons", "weeks", "days"),
        kinds.calendar_values(CALENDAR).values(),
        (kinds.decode_name, kinds.decode_seasons, kinds.decode_weeks, kinds.decode_days),
        strict=True,
    ),
    ("special", kinds.special_days(SPECIAL), kinds.decode_special_days),
    ("entries", schedule_table.encode_entries([ENTRY]), schedule_table.decode_entries),
]


@pytest.mark.parametrize(("name", "octets", "decode"), PARTS, ids=[part[0] for part in PARTS])
def test_what_is_encoded_is_decoded(name, octets, decode):
    wanted = {"special": SPECIAL, "entries": (ENTRY,)}
    assert decode(octets) == (wanted[name] if name in wanted else getattr(CALENDAR, name))


@pytest.mark.parametrize(("name", "octets", "decode"), PARTS, ids=[part[0] for part in PARTS])
def test_mutated_it_is_refused_or_can_be_followed(name, octets, decode):
    draw = random.Random(name)
    taken = 0
    for _ in range(3000):
        mutant = bytearray(octets)
        for _ in range(draw.randrange(1, 4)):
            place = draw.randrange(len(mutant))
            mutant[place] = draw.choice((0, 1, 0x7F, 0xFD, 0xFE, 0xFF, mutant[place] ^ 1 << draw.randrange(8)))
        if draw.random() < 0.2:
            del mutant[draw.randrange(len(mutant)) :]
        try:
            found = decode(bytes(mutant))
        except AxdrError:
            continue
        taken += 1
        if name == "entries":
            assert decode(schedule_table.encode_entries(found)) == found
            continue
        calendar, special = CALENDAR, ()
        if name == "special":
            special = found
            assert decode(kinds.special_days(found)) == found
        else:
            fields = {field: getattr(CALENDAR, field) for field in ("name", "seasons", "weeks", "days")}
            calendar = Calendar(**{**fields, name: found})
            again = dict(zip(fields, kinds.calendar_values(calendar).values(), strict=True))
            assert decode(again[name]) == found
        program = Program(calendar, special, ZONE)
        program.at(NOW)
        program.following(NOW)
        list(program.executions(NOW, NOW + 86_400))
    assert 30 < taken < 2900


@pytest.mark.parametrize(
    "octets",
    [
        axdr.array([axdr.structure(axdr.encode("boolean", True), axdr.array([]))]),
        axdr.array([axdr.structure(axdr.encode("double-long-unsigned", 256), axdr.array([]))]),
        axdr.array([axdr.structure(axdr.encode("enum", 1), axdr.array([]))]),
        axdr.array([axdr.structure(axdr.encode("unsigned", 1), axdr.array([]))] * 65),
    ],
)
def test_days_with_ids_that_are_none_and_too_many_days_are_refused(octets):
    with pytest.raises(AxdrError):
        kinds.decode_days(octets)
