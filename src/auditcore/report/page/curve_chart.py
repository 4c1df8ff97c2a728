"""Mean curves with the bands of their intervals as inline SVG; the curves of an explainer are a group of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from auditcore.contracts.report import Curve
from auditcore.report.page.charts import SHAPES, Point, round_ticks, svg

WIDTH_PX, HEIGHT_PX = 640, 300
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 44, 12, 10, 40
TICKS = 5
MARKS = 4
"""Marks along a curve, so that it can be told from others by its shape too."""


@dataclass(frozen=True)
class Series:
    """One curve of a chart.

    Attributes:
        name: Its tooltip, such as `grad_cam: least relevant first`.
        color: CSS class that gives its color: one of `COLORS`, or `reference`.
        dash: CSS class that gives its stroke: style of its metric's line.
        curve: Mean and bounds over a shared axis.
        number: Number of its explainer, from 0, by which it is shown or hidden; None if it is always shown.
    """

    name: str
    color: str
    dash: str
    curve: Curve
    number: int | None = None


def curve_chart(title: str, axis: str, series: Sequence[Series]) -> Markup:
    """Curves with the bands of their intervals.

    Args:
        title: Read by screen readers and shown as a tooltip.
        axis: What runs from left to right.
        series: At least one curve; later ones are drawn above.

    Returns:
        One `<svg>`; gaps where a mean is missing. The vertical axis holds 0 and 1 and all bounds. The curves of
        explainer number 3 have the class `e3`.
    """
    heights = [v for one in series for v in (*one.curve.mean, *one.curve.lo, *one.curve.hi) if v is not None]
    xs = [x for one in series for x in one.curve.x]
    plot = _Plot(min(xs), max(xs), min(0.0, *heights), max(1.0, *heights))
    parts = [*plot.frame(axis), *(_group(plot, one) for one in series)]
    return svg(title, WIDTH_PX, HEIGHT_PX, parts)


def _group(plot: _Plot, series: Series) -> Markup:
    own = "" if series.number is None else f" e{series.number}"
    drawn = Markup("").join([_band(plot, series), _line(plot, series), *_marks(plot, series)])
    return Markup('<g class="{}{}"><title>{}</title>{}</g>').format(series.color, own, series.name, drawn)


@dataclass(frozen=True)
class _Plot:
    """From data to pixels."""

    left: float
    right: float
    low: float
    high: float

    def at(self, x: float, y: float) -> Point:
        across = (x - self.left) / (self.right - self.left or 1)
        up = (y - self.low) / (self.high - self.low)
        return (
            LEFT_PX + across * (WIDTH_PX - LEFT_PX - RIGHT_PX),
            HEIGHT_PX - BOTTOM_PX - up * (HEIGHT_PX - TOP_PX - BOTTOM_PX),
        )

    def frame(self, axis: str) -> Iterator[Markup]:
        """Grid lines, the numbers beside them, and the name of the axis."""
        for tick in round_ticks(self.low, self.high):
            x, y = self.at(self.left, tick)
            yield Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                LEFT_PX, WIDTH_PX - RIGHT_PX, y, y
            )
            yield Markup('<text class="tick end" x="{:.1f}" y="{:.1f}">{:g}</text>').format(x - 6, y + 4, tick)
        for number in range(TICKS):
            value = self.left + (self.right - self.left) * number / (TICKS - 1)
            x, _ = self.at(value, self.low)
            side = "start" if number == 0 else "end" if number == TICKS - 1 else "middle"
            # + 0 turns -0 into 0
            yield Markup('<text class="tick {}" x="{:.1f}" y="{}">{:g}</text>').format(
                side, x, HEIGHT_PX - BOTTOM_PX + 15, round(value, 3) + 0
            )
        middle = (LEFT_PX + WIDTH_PX - RIGHT_PX) / 2
        yield Markup('<text class="tick middle" x="{:.1f}" y="{}">{} →</text>').format(middle, HEIGHT_PX - 6, axis)


def _line(plot: _Plot, series: Series) -> Markup:
    path = ""
    points = zip(series.curve.x, series.curve.mean, strict=True)
    for present, run in groupby(points, key=lambda point: point[1] is not None):
        if present:
            path += "M" + " ".join("{:.1f},{:.1f}".format(*plot.at(x, y)) for x, y in run if y is not None)
    return Markup('<path class="line dash-{}" d="{}"/>').format(series.dash, path)


def _marks(plot: _Plot, series: Series) -> Iterator[Markup]:
    """A few marks in the shape of the explainer; curves that are always shown have none."""
    if series.number is None:
        return
    known = [(x, y) for x, y in zip(series.curve.x, series.curve.mean, strict=True) if y is not None]
    for place in sorted({round(step * (len(known) - 1) / (MARKS - 1)) for step in range(MARKS)}):
        x, y = plot.at(*known[place])
        yield Markup('<path class="dot" d="M{:.1f},{:.1f}{}"/>').format(x, y, SHAPES[series.number % len(SHAPES)])


def _band(plot: _Plot, series: Series) -> Markup:
    path = ""
    curve = series.curve
    bounds = zip(curve.x, curve.lo, curve.hi, strict=True)
    for present, run in groupby(bounds, key=lambda bound: bound[1] is not None and bound[2] is not None):
        if present:
            kept = [(x, low, high) for x, low, high in run if low is not None and high is not None]
            above = [plot.at(x, high) for x, _, high in kept]
            below = [plot.at(x, low) for x, low, _ in reversed(kept)]
            path += "M" + " ".join(f"{x:.1f},{y:.1f}" for x, y in (*above, *below)) + "Z"
    return Markup('<path class="band" d="{}"/>').format(path)
