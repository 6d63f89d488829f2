"""The LCD: a welcome until P1 or P2 is pressed, then six pages of metrology, refreshed each second (seed, 6.3)."""

from __future__ import annotations

from flexmap.stcomet.record import ACTIVE, APPARENT, REACTIVE, TOTAL_ACTIVE, Layout, Record

WELCOME = "flexmap meter"
PAGES = (
    ("Active energy", "Wh"),
    ("Reactive energy", "VARh"),
    ("Apparent energy", "VAh"),
    ("Active power", "W"),
    ("Reactive power", "VAR"),
    ("Apparent power", "VA"),
)


class Display:
    """Two lines of text."""

    def __init__(self, layout: Layout) -> None:
        self._powers = (ACTIVE, REACTIVE, APPARENT)
        if layout is Layout.THREE_PHASE:
            self._powers = (TOTAL_ACTIVE, TOTAL_ACTIVE + 1, TOTAL_ACTIVE + 2)
        self._page: int | None = None
        self._record: Record | None = None

    def press(self, step: int) -> None:
        """Scroll: +1 for P1 (up), -1 for P2 (down). The first press ends the welcome."""
        self._page = 0 if self._page is None else (self._page + step) % len(PAGES)

    def refresh(self, record: Record) -> None:
        """Take the newest second."""
        self._record = record

    def lines(self) -> tuple[str, str]:
        """Return what stands on the LCD."""
        if self._page is None:
            return WELCOME, ""
        title, unit = PAGES[self._page]
        value = self._value(self._page)
        return title, "---" if value is None else f"{value} {unit}"

    def _value(self, page: int) -> int | None:
        record = self._record
        if record is None:
            return None
        if page < 3:
            return record.energies[2 * page]  # import, as the registers of bills; export has no page in the seed
        return record.measured[self._powers[page - 3]] if record.measured else None
