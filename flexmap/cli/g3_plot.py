"""A PAN as a picture: meters where they stand, routes to the coordinator coloured by link quality."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from flexmap.model import ConfigurationError

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

WIDTH, HEIGHT, MARGIN = 1600, 1100, 90
_SMOOTH = 2  # drawn at twice the size and reduced: Pillow does not smooth lines itself
_PAPER, _INK, _FAINT = (255, 255, 255), (40, 44, 52), (222, 226, 232)
_WEAK_LQI, _STRONG_LQI = 52, 120
_RING = ((120, 130, 145), (33, 102, 172), (27, 120, 55), (191, 91, 23), (118, 42, 131), (178, 24, 43))
"""Colours of nodes by hops: not joined, 1, 2, 3, 4, more."""

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


class PlotNode(msgspec.Struct, frozen=True):
    """A node of the picture, in metres from the transformer."""

    name: str
    x: float
    y: float
    hops: int | None
    """0 the coordinator, ``None`` not joined."""


class PlotLink(msgspec.Struct, frozen=True):
    """A line between two nodes (indexes)."""

    a: int
    b: int
    lqi: int
    route: bool
    """Whether it carries a route to the coordinator; else it is only heard."""


def quality_colour(lqi: int) -> Colour:
    """Return red for a weak link, by way of yellow to green for a strong one."""
    good = min(max((lqi - _WEAK_LQI) / (_STRONG_LQI - _WEAK_LQI), 0.0), 1.0)
    low, high = ((200, 30, 45), (240, 190, 40)) if good < 0.5 else ((240, 190, 40), (30, 150, 75))
    share = good * 2 if good < 0.5 else good * 2 - 1
    return (
        round(low[0] + (high[0] - low[0]) * share),
        round(low[1] + (high[1] - low[1]) * share),
        round(low[2] + (high[2] - low[2]) * share),
    )


def _hop_colour(hops: int | None) -> Colour:
    return _RING[0] if hops is None else _RING[min(hops, len(_RING) - 1)]


class _Frame:
    """From metres to pixels, equal on both axes."""

    def __init__(self, nodes: Sequence[PlotNode]) -> None:
        xs, ys = [n.x for n in nodes], [n.y for n in nodes]
        self._left, self._top = min(xs), max(ys)
        wide, high = max(max(xs) - self._left, 1.0), max(self._top - min(ys), 1.0)
        room = ((WIDTH - 2 * MARGIN), (HEIGHT - 2 * MARGIN - 40))
        self._scale = min(room[0] / wide, room[1] / high)
        self._dx = MARGIN + (room[0] - wide * self._scale) / 2
        self._dy = MARGIN + 40 + (room[1] - high * self._scale) / 2

    def place(self, node: PlotNode) -> tuple[float, float]:
        """Return the place of a node in the big picture."""
        x = self._dx + (node.x - self._left) * self._scale
        y = self._dy + (self._top - node.y) * self._scale
        return x * _SMOOTH, y * _SMOOTH


def draw(nodes: Sequence[PlotNode], links: Sequence[PlotLink], title: str, subtitle: str) -> bytes:
    """Return a PNG picture; raises :class:`ConfigurationError` if Pillow is not installed."""
    try:
        from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 (an extra, wanted here alone)
    except ImportError as error:
        raise ConfigurationError(
            "a plot needs Pillow, which is not installed", remedy="pip install 'flexmap[plot]'"
        ) from error
    image = Image.new("RGB", (WIDTH * _SMOOTH, HEIGHT * _SMOOTH), _PAPER)
    pen = ImageDraw.Draw(image)
    frame = _Frame(nodes)
    places = [frame.place(node) for node in nodes]
    bold = 6 if len(nodes) <= 150 else 3 if len(nodes) <= 500 else 2
    for link in sorted(links, key=lambda link: (link.route, link.lqi)):
        colour, width = (quality_colour(link.lqi), bold) if link.route else (_FAINT, 2)
        pen.line((*places[link.a], *places[link.b]), fill=colour, width=width)
    radius = _SMOOTH * max(3.0, min(11.0, 120 / math.sqrt(len(nodes))))
    small = ImageFont.load_default(size=12 * _SMOOTH)
    for node, place in sorted(zip(nodes, places, strict=True), key=lambda pair: pair[0].hops == 0):
        _node(pen, node, place, radius)
    taken = [(x - radius, y - radius, x + radius, y + radius) for x, y in places]
    for node, (x, y) in zip(nodes, places, strict=True):
        # Where meters stand close together only some have their names.
        box = pen.textbbox((x, y + radius + 2), node.name, font=small, anchor="ma")
        if node.hops != 0 and not any(_overlap(box, other) for other in taken):
            pen.text((x, y + radius + 2), node.name, fill=_INK, font=small, anchor="ma")
            taken.append(box)
    large = ImageFont.load_default(size=26 * _SMOOTH)
    middle = ImageFont.load_default(size=15 * _SMOOTH)
    pen.text((MARGIN * _SMOOTH, 22 * _SMOOTH), title, fill=_INK, font=large)
    pen.text((MARGIN * _SMOOTH, 58 * _SMOOTH), subtitle, fill=_INK, font=middle)
    most = max((node.hops or 0 for node in nodes), default=0)
    _legend(pen, middle, most, missing=any(node.hops is None for node in nodes))
    out = io.BytesIO()
    image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(out, "PNG", optimize=True)
    return out.getvalue()


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _node(pen: ImageDraw, node: PlotNode, place: tuple[float, float], radius: float) -> None:
    x, y = place
    if node.hops == 0:
        r = max(radius * 1.5, 10 * _SMOOTH)
        pen.rectangle((x - r, y - r, x + r, y + r), fill=_INK, outline=_PAPER, width=_SMOOTH)
        return
    fill = _PAPER if node.hops is None else _hop_colour(node.hops)
    box = (x - radius, y - radius, x + radius, y + radius)
    pen.ellipse(box, fill=fill, outline=_hop_colour(node.hops), width=2 * _SMOOTH)


def _legend(pen: ImageDraw, font: object, most: int, *, missing: bool) -> None:
    """Draw hops and link quality along the foot."""
    s = _SMOOTH
    x, y = MARGIN * s, (HEIGHT - 42) * s

    def label(text: str) -> None:
        nonlocal x
        pen.text((x, y), text, fill=_INK, font=font, anchor="lm")  # type: ignore[arg-type]
        x += (len(text) * 8 + 22) * s

    pen.rectangle((x - 7 * s, y - 7 * s, x + 7 * s, y + 7 * s), fill=_INK)
    x += 14 * s
    label("coordinator")
    for hops in [*range(1, min(most, len(_RING) - 1) + 1), *([None] if missing else [])]:
        colour = _hop_colour(hops)
        pen.ellipse(
            (x - 7 * s, y - 7 * s, x + 7 * s, y + 7 * s),
            fill=colour if hops else _PAPER,
            outline=colour,
            width=2 * s,
        )
        x += 14 * s
        more = " or more" if hops == len(_RING) - 1 and most > hops else ""
        label("not joined" if hops is None else f"{hops} hop{'s' if hops > 1 else ''}{more}")
    label("route, by LQI:")
    for lqi in range(_WEAK_LQI, _STRONG_LQI + 1):
        pen.line((x, y - 6 * s, x, y + 6 * s), fill=quality_colour(lqi), width=2 * s)
        x += 2 * s
    x += 8 * s
    label(f"{_WEAK_LQI} weak … {_STRONG_LQI} strong")
    pen.line((x, y, x + 26 * s, y), fill=_FAINT, width=2 * s)
    x += 34 * s
    label("heard")
