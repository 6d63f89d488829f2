"""Sites that the SCL tests generate files from."""

from flexmap.mapping.table import load_products
from flexmap.model import Direction, Meter, Site

TYPES = load_products()
IDENTITY = {"serial-number": "FM0001", "device-name": "FMP0000000000001", "firmware": "1.2.3"}


def site(*, ied="FLEX1", types=("three-phase", "single-phase"), directions=tuple(Direction), **changes):
    """A site with a meter of each type in each direction."""
    meters = [
        Meter(
            id=f"{name}-{direction}",
            type=name,
            ld=f"MTR{len(types) * row + column + 1:02}",
            sap=16 + len(types) * row + column,
            direction=direction,
            identity=IDENTITY,
            location="Hall 1",
        )
        for row, direction in enumerate(directions)
        for column, name in enumerate(types)
    ]
    fields = {"name": "Test site", "ied": ied, "meters": tuple(meters), "types": {t: TYPES[t] for t in types}}
    return Site(**{**fields, **changes})
