"""Intervals of explainers as inline SVG, and the marks, axes and frame of all charts: no fonts, no network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup, escape

STYLES = ("one", "two", "three", "four")
"""CSS classes of colors that differ in hue and lightness."""

SHAPES = (
    "m-4,0a4,4 0 1 0 8,0a4,4 0 1 0 -8,0",
    "m-3.6,-3.6h7.2v7.2h-7.2z",
    "m0,-5l5,5l-5,5l-5,-5z",
    "m0,-4.6l4.8,8.4h-9.6z",
)
"""Circle, square, diamond and triangle around a point, as SVG path data."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Interval:
    """One dot with its whisker.

    Attributes:
        name: Label of the row; neighbors of the same name share it.
        mean: Position of the dot.
        ci: Ends of the whisker; None draws only the dot.
        muted: Drawn in gray, for controls.
        number: Which of several models it belongs to, from 0; gives color and shape.
        model: Name of that model; None where there is only one.
    """

    name: str
    mean: float
    ci: tuple[float, float] | None
    muted: bool
    number: int = 0
    model: str | None = None


def interval_chart(title: str, rows: Sequence[Interval]) -> Markup:
    """Means as dots with their intervals as whiskers, one row an explainer, with the models close together.

    Args:
        title: Read by screen readers and shown as a tooltip.
        rows: At least one row; those of one name stand together.

    Returns:
        One `<svg>` whose axis holds 0.
    """
    label_px, width_px, gap_px, close_px = 190, 460, 20, 11
    ends: list[float] = [value for row in rows for value in (row.mean, *(row.ci or ()))]
    margin = 0.04 * (max(0.0, *ends) - min(0.0, *ends) or 1)
    low, high = min(0.0, *ends) - margin, max(0.0, *ends) + margin

    def place(value: float) -> float:
        return label_px + (value - low) / (high - low) * (width_px - label_px - 12)

    parts = []
    y = 14 - gap_px
    for name, same in groupby(rows, key=lambda row: row.name):
        own = list(same)
        y += gap_px
        middle = y + close_px * (len(own) - 1) / 2
        parts.append(Markup('<text class="label" x="{}" y="{:g}">{}</text>').format(label_px - 10, middle + 4, name))
        for position, row in enumerate(own):
            y += close_px if position else 0
            parts.append(_whisker(row, place, y))
    bottom = y + 12
    zero = Markup('<line class="zero" x1="{0:.1f}" x2="{0:.1f}" y1="2" y2="{1}"/>').format(place(0), bottom)
    ticks = [
        Markup('<text class="tick middle" x="{:.1f}" y="{}">{:g}</text>').format(place(tick), bottom + 14, tick)
        for tick in round_ticks(low, high)
    ]
    return svg(title, width_px, bottom + 20, [zero, *parts, *ticks])


def _whisker(row: Interval, place: Callable[[float], float], y: float) -> Markup:
    style = "muted" if row.muted else style_of(row.number)
    line = Markup("")
    if row.ci is not None:
        line = Markup('<line class="whisker {}" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(
            style, place(row.ci[0]), place(row.ci[1]), y, y
        )
    name = row.name if row.model is None else f"{row.name}, {row.model}"
    return line + mark(row.number, style, place(row.mean), y, f"{name}: {row.mean:.4g}")


def style_of(number: int) -> str:
    """CSS class of the model or curve with this number; together with its shape it is unique up to 16."""
    return STYLES[(number + number // len(SHAPES)) % len(STYLES)]


def mark(number: int, style: str, x: float, y: float, title: str) -> Markup:
    """A dot in the shape of the model with this number.

    Args:
        number: From 0; models differ in shape and color, so that no reader depends on color.
        style: CSS class of its color.
        x: Its middle from the left, in pixels.
        y: Its middle from the top, in pixels.
        title: Shown as a tooltip.
    """
    return Markup('<path class="dot {}" d="M{:.1f},{:.1f}{}"><title>{}</title></path>').format(
        style, x, y, SHAPES[number % len(SHAPES)], title
    )


def round_ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers between two values."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def svg(title: str, width: float, height: float, parts: Sequence[Markup]) -> Markup:
    """A drawing that screen readers can name."""
    return Markup('<svg viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img"><title>{2}</title>{3}</svg>').format(
        width, height, escape(title), Markup("").join(parts)
    )
